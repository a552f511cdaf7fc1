// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * queue_latency - how long do threads that were woken up wait for a CPU?
 *
 *	rawbpf run bpf/queue_latency.bpf.o --map queue_latency
 *
 * queue_latency	hash, struct { comm, slot } -> count of waits of the thread's name, by the power
 *		of two of their microseconds: a log2 histogram for each name
 * woken_ns	LRU hash, thread -> when it was woken up, until it runs
 * dropped	waits that were not counted because queue_latency was full
 *
 * A thread waits in the run queue of a CPU from its wakeup, or from its creation, to the moment at
 * which the scheduler switches to it. Threads that were preempted wait too; they are not counted.
 *
 * The layout of the tracepoints' records is that of 64-bit kernels.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "count.h"
#include "log2.h"

/* events/sched/sched_wakeup/format in tracefs; sched_wakeup_new has the same */
struct wakeup_args {
	__u64 common;
	char comm[COMM_LEN];
	pid_t pid; /* of the thread */
};

/* events/sched/sched_switch/format in tracefs */
struct switch_args {
	__u64 common;
	char prev_comm[COMM_LEN];
	pid_t prev_pid;
	__s32 prev_prio;
	__s64 prev_state;
	char next_comm[COMM_LEN];
	pid_t next_pid;
};

/* no padding: what a program leaves uninitialised would make keys differ */
struct latency_key {
	char comm[COMM_LEN];
	slot_t slot;
};

count_t dropped = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, struct latency_key);
	__type(value, count_t);
} queue_latency SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, pid_t);
	__type(value, ktime_ns);
} woken_ns SEC(".maps");

static __always_inline int remember(pid_t pid)
{
	ktime_ns now = bpf_ktime_get_ns();

	bpf_map_update_elem(&woken_ns, &pid, &now, BPF_ANY);
	return 0;
}

SEC("tracepoint/sched/sched_wakeup")
int remember_wakeup(struct wakeup_args *ctx)
{
	return remember(ctx->pid);
}

SEC("tracepoint/sched/sched_wakeup_new")
int remember_new(struct wakeup_args *ctx)
{
	return remember(ctx->pid);
}

SEC("tracepoint/sched/sched_switch")
int count_wait(struct switch_args *ctx)
{
	pid_t pid = ctx->next_pid;
	ktime_ns *woken = bpf_map_lookup_elem(&woken_ns, &pid);
	struct latency_key key __attribute__((aligned(8))); /* for a name that is copied in two words */

	if (!woken)
		return 0;
	key.slot = log2_slot((bpf_ktime_get_ns() - *woken) / 1000);
	__builtin_memcpy(key.comm, ctx->next_comm, sizeof(key.comm));
	bpf_map_delete_elem(&woken_ns, &pid);
	if (count_one(&queue_latency, &key))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
