// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * process_count - how many files did each process open?
 *
 *	rawbpf run bpf/process_count.bpf.o
 *
 * open_count	hash, pid -> count of calls of openat(2)
 * dropped	calls that were not counted because open_count was full
 *
 * pid is what user space calls so, the kernel's tgid: all threads of a process count together. What
 * was counted for a process stays after its end, so the map fills up in the long run: watch dropped,
 * or remove what you have read. Calls that fail are counted too; openat2(2) and open(2) are not.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "count.h"

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, pid_t);
	__type(value, count_t);
} open_count SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int count_openat(void *ctx)
{
	pid_t pid = bpf_get_current_pid_tgid() >> 32;

	if (count_one(&open_count, &pid))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
