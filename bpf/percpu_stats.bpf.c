// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * percpu_stats - calls of write(2) by user: how many, how many bytes, how many failed
 *
 *	rawbpf run bpf/percpu_stats.bpf.o
 *
 * write_stats	per-CPU hash, uid -> struct write_stats { calls, bytes, errors } for each possible CPU;
 *		the sum over all CPUs is the answer
 * dropped	calls that were not counted because write_stats was full
 *
 * Each CPU adds to values of its own, so no atomic instruction and no shared cache line is needed.
 * Nothing comes between the additions: the program runs with preemption off, and the kernel does
 * not run a second tracepoint program on a CPU that is already in one.
 *
 * The layout of the tracepoint's record is that of 64-bit kernels.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

/* events/syscalls/sys_exit_write/format in tracefs */
struct sys_exit_args {
	__u64 common;
	__s64 nr; /* an int with padding behind it */
	__s64 ret;
};

struct write_stats {
	count_t calls;
	__u64 bytes;
	count_t errors;
};

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, uid_t);
	__type(value, struct write_stats);
} write_stats SEC(".maps");

SEC("tracepoint/syscalls/sys_exit_write")
int count_write(struct sys_exit_args *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();
	struct write_stats *stats = bpf_map_lookup_elem(&write_stats, &uid);

	if (!stats) {
		struct write_stats zero = {};

		/* when another CPU was first this is -EEXIST, and its element has zeroes for us too */
		bpf_map_update_elem(&write_stats, &uid, &zero, BPF_NOEXIST);
		stats = bpf_map_lookup_elem(&write_stats, &uid);
		if (!stats) {
			__sync_fetch_and_add(&dropped, 1);
			return 0;
		}
	}
	stats->calls++;
	if (ctx->ret < 0)
		stats->errors++;
	else
		stats->bytes += ctx->ret;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
