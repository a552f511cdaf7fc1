// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

enum kind { STARTED = 1, ENDED };

struct started {
	enum kind kind;
	uid_t uid;
	char comm[COMM_LEN];
};

struct ended {
	enum kind kind;
	uid_t uid;
	pid_t pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} lives SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int tell_start(void *ctx)
{
	struct started started = { .kind = STARTED, .uid = bpf_get_current_uid_gid() };

	bpf_get_current_comm(started.comm, sizeof(started.comm));
	bpf_ringbuf_output(&lives, &started, sizeof(started), 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int tell_end(void *ctx)
{
	struct ended ended = { .kind = ENDED, .uid = bpf_get_current_uid_gid() };
	__u64 both = bpf_get_current_pid_tgid();

	ended.pid = both >> 32;
	if (ended.pid == (pid_t)both) /* the thread that the process began with */
		bpf_ringbuf_output(&lives, &ended, sizeof(ended), 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
