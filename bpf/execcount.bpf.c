// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * execcount - how often did each user call execve(2)?
 *
 *	rawbpf run bpf/execcount.bpf.o
 *	rawbpf run bpf/execcount.bpf.o --set min_uid=1000
 *
 * exec_count	hash, uid -> count
 * min_uid	set before loading: only users from this uid on are counted
 * dropped	calls that were not counted because exec_count was full
 *
 * A call is counted when it is made: also one that fails (a shell that tries each directory of PATH
 * makes several) and under the uid that the process has before the new program starts. execveat(2)
 * and calls of 32-bit programs have tracepoints of their own and are not counted here.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "count.h"

const volatile uid_t min_uid = 0;
count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, uid_t);
	__type(value, count_t);
} exec_count SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_execve")
int count_execve(void *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();

	if (uid < min_uid)
		return 0;
	if (count_one(&exec_count, &uid))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
