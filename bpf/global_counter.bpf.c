// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * global_counter - how many processes and threads were created since this was attached?
 *
 *	rawbpf run bpf/global_counter.bpf.o
 *
 * fork_count	array of one element: the count
 *
 * An array's elements are always there, so a count needs no insertion: one lookup, one addition.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, count_t);
} fork_count SEC(".maps");

SEC("tracepoint/sched/sched_process_fork")
int count_fork(void *ctx)
{
	__u32 only = 0;
	count_t *count = bpf_map_lookup_elem(&fork_count, &only);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
