// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * uid_filter - count execve(2) of the users that a second map names, while it runs
 *
 *	rawbpf run bpf/uid_filter.bpf.o
 *
 * counted_uids	hash, uid -> counted: user space writes it, before attaching or at any time after
 * exec_count	hash, uid -> count
 * dropped	calls that were not counted because exec_count was full
 *
 * A user is counted while counted_uids has its uid with the value true. A uid that is missing, or
 * there with false, is not counted; an empty counted_uids counts nobody. A change is seen by the
 * next execve. What was counted stays in exec_count when a user is switched off.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "count.h"

typedef _Bool counted_t;

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, uid_t);
	__type(value, counted_t);
} counted_uids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, uid_t);
	__type(value, count_t);
} exec_count SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_execve")
int count_filtered(void *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();
	counted_t *counted = bpf_map_lookup_elem(&counted_uids, &uid);

	if (!counted || !*counted)
		return 0;
	if (count_one(&exec_count, &uid))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
