// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What exec_events and exec_events_perf tell of each program that starts, and how they come to know it.
 */
#ifndef RAWBPF_EXEC_EVENT_H
#define RAWBPF_EXEC_EVENT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

#define FILENAME_LEN 128 /* what is longer is cut */
#define CLONE_THREAD 0x10000 /* include/uapi/linux/sched.h */

typedef pid_t ppid_t;

/* no padding: what a program leaves uninitialised would be read */
struct exec_event {
	pid_t pid;
	ppid_t ppid; /* the process that made it; 0 if that was before the programs were attached */
	uid_t uid;
	char comm[COMM_LEN];
	char filename[FILENAME_LEN];
};

/* Of a struct that only functions use clang tells nothing in BTF; of a variable's it does. */
struct exec_event *unused_exec_event __attribute__((unused));

/* events/task/task_newtask/format in tracefs */
struct newtask_args {
	__u64 common;
	pid_t pid; /* of the new thread */
	char comm[COMM_LEN];
	__u64 clone_flags;
};

/* events/sched/sched_process_exec/format in tracefs */
struct exec_args {
	__u64 common;
	__u32 filename; /* __data_loc: where it is from the record's start on, and in the upper half its length */
	pid_t pid;
	pid_t old_pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10240);
	__type(key, pid_t);
	__type(value, ppid_t);
} parents SEC(".maps");

/*
 * The hook fires in the process that makes another one. The parent of a process is in no tracepoint
 * that fires when it executes a program, and where the kernel has it differs between kernels.
 */
SEC("tracepoint/task/task_newtask")
int remember_parent(struct newtask_args *ctx)
{
	pid_t pid = ctx->pid;
	ppid_t parent = bpf_get_current_pid_tgid() >> 32;

	if (!(ctx->clone_flags & CLONE_THREAD))
		bpf_map_update_elem(&parents, &pid, &parent, BPF_ANY);
	return 0;
}

/* `event` is zeroed: of texts, the helpers write no more than what ends with the NUL. */
static __always_inline void describe(struct exec_event *event, struct exec_args *ctx)
{
	pid_t pid = bpf_get_current_pid_tgid() >> 32;
	ppid_t *parent = bpf_map_lookup_elem(&parents, &pid);

	event->pid = pid;
	event->ppid = parent ? *parent : 0;
	event->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->filename, sizeof(event->filename), (void *)ctx + (ctx->filename & 0xffff));
}

#endif
