// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * exec_events - every program that is started, by whom, and from which file: an event for each.
 *
 *	rawbpf run bpf/exec_events.bpf.o
 *
 * exec_events	ring buffer of struct exec_event { pid, ppid, uid, comm, filename }
 * parents	LRU hash, pid -> pid of the process that made it
 * dropped	programs that are not told of because the ring was full
 *
 * As exec_details, it hooks sched_process_exec, which fires in the new program: only programs that
 * really started are told of, by execve(2) or execveat(2). Events of all CPUs are in one order.
 */
#include "exec_event.h"

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} exec_events SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int tell_exec(struct exec_args *ctx)
{
	struct exec_event *event = bpf_ringbuf_reserve(&exec_events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	*event = (struct exec_event){};
	describe(event, ctx);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
