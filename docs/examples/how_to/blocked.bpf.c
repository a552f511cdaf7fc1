// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

typedef __u32 host_id;

count_t looked_up = 0;

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 1000);
	__uint(map_extra, 7); /* hash functions */
	__type(value, host_id);
} perhaps_blocked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__type(key, host_id);
	__type(value, count_t);
} blocked SEC(".maps");

SEC("xdp")
int drop_blocked(struct xdp_md *ctx)
{
	host_id *start = (void *)(long)ctx->data;
	host_id host;
	count_t *dropped;

	if ((void *)(start + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	host = *start;
	if (bpf_map_peek_elem(&perhaps_blocked, &host))
		return XDP_PASS; /* certainly not */
	__sync_fetch_and_add(&looked_up, 1);
	dropped = bpf_map_lookup_elem(&blocked, &host);
	if (!dropped)
		return XDP_PASS; /* the filter was wrong */
	__sync_fetch_and_add(dropped, 1);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
