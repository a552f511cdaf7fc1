// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * last_seen - when did each user last start a program?
 *
 *	rawbpf run bpf/last_seen.bpf.o
 *
 * last_seen	hash, uid -> bpf_ktime_get_ns() of the last program
 * dropped	programs that were not recorded because last_seen was full
 *
 * The kernel's time is CLOCK_MONOTONIC in nanoseconds; the BTF name ktime_ns tells user space, which
 * knows the offset to the wall clock (rawbpf.clock.wall).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

typedef ktime_ns last_seen_t;

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, uid_t);
	__type(value, last_seen_t);
} last_seen SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int record_time(void *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();
	last_seen_t now = bpf_ktime_get_ns();

	if (bpf_map_update_elem(&last_seen, &uid, &now, BPF_ANY))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
