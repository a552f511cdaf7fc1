// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct request {
	__u32 user;
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

static long add(struct bpf_dynptr *record, void *context)
{
	struct request request;
	__u64 *total, first;

	if (bpf_dynptr_read(&request, sizeof(request), record, 0, 0))
		return 0; /* shorter than a request */
	total = bpf_map_lookup_elem(&totals, &request.user);
	if (total) {
		*total += request.bytes;
	} else {
		first = request.bytes;
		bpf_map_update_elem(&totals, &request.user, &first, BPF_ANY);
	}
	return 0; /* 1 leaves further records for the next time */
}

SEC("syscall")
int add_up(void *ctx)
{
	return bpf_user_ringbuf_drain(&requests, add, 0, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
