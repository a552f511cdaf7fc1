// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * exec_events_perf - exec_events by way of a perf event array, as kernels before 5.8 have it.
 *
 *	rawbpf run bpf/exec_events_perf.bpf.o
 *
 * exec_events	perf event array of struct exec_event { pid, ppid, uid, comm, filename }
 * parents	LRU hash, pid -> pid of the process that made it
 *
 * Each CPU has a buffer of its own, which user space makes: events are in order for each CPU only.
 * What finds no room is counted by the kernel, and its reader is told.
 */
#include "exec_event.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} exec_events SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int tell_exec(struct exec_args *ctx)
{
	struct exec_event event = {};

	describe(&event, ctx);
	bpf_perf_event_output(ctx, &exec_events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
