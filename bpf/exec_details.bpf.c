// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * exec_details - which program did each user start last, when, and how many were there?
 *
 *	rawbpf run bpf/exec_details.bpf.o
 *
 * exec_details	hash, uid -> struct exec_details { count, last_ns, comm }
 * dropped	programs that were not counted because exec_details was full
 *
 * The hook is sched_process_exec, which fires in the new program: at sys_enter_execve the task
 * still has the comm of its caller (the shell's, say), whether or not the call will succeed. So
 * only programs that really started are counted, by execve(2) or execveat(2), also those that the
 * kernel starts itself. uid is the real one, also for a set-user-ID program.
 *
 * count is exact. last_ns and comm are two more writes: a reader may see those of two programs that
 * one user started at the same moment on two CPUs.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

struct exec_details {
	count_t count;
	ktime_ns last_ns;
	char comm[COMM_LEN];
};

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, uid_t);
	__type(value, struct exec_details);
} exec_details SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int record_exec(void *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();
	struct exec_details *details;
	struct exec_details now = {
		.count = 1,
		.last_ns = bpf_ktime_get_ns(),
	};

	/*
	 * By way of the zeroed stack: the helpers of some kernels write nothing after the name's
	 * NUL, and the rest of a longer name would stay behind in the map.
	 */
	bpf_get_current_comm(now.comm, sizeof(now.comm));

	details = bpf_map_lookup_elem(&exec_details, &uid);
	if (!details) {
		/* BPF_NOEXIST, and a second look: see count.h */
		if (!bpf_map_update_elem(&exec_details, &uid, &now, BPF_NOEXIST))
			return 0;
		details = bpf_map_lookup_elem(&exec_details, &uid);
		if (!details) {
			__sync_fetch_and_add(&dropped, 1);
			return 0;
		}
	}
	__sync_fetch_and_add(&details->count, 1);
	details->last_ns = now.last_ns;
	__builtin_memcpy(details->comm, now.comm, sizeof(now.comm));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
