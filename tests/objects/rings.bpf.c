// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * A ring in each direction, both of sizes that no kernel takes: programs that add up what user space
 * writes to `requests` and answer each request in `answers`.
 *
 * rings.bpf.o and rings.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c rings.bpf.c -o rings.bpf.o && llvm-strip -g rings.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 5000);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 9000);
} answers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} events SEC(".maps");

static long answer(struct bpf_dynptr *request, void *context)
{
	__u64 number;

	if (bpf_dynptr_read(&number, sizeof(number), request, 0, 0))
		return 1; /* too short: no further ones are taken */
	number *= 2;
	bpf_ringbuf_output(&answers, &number, sizeof(number), 0);
	return 0;
}

SEC("syscall")
int drain(void *context)
{
	return bpf_user_ringbuf_drain(&requests, answer, 0, 0);
}

char LICENSE[] SEC("license") = "GPL";
