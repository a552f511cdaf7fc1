// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	int tgid;
	int color;
} __attribute__((preserve_access_index));

int number;

SEC("raw_tp/sched_switch")
int process(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	number = BPF_CORE_READ(task, tgid);
	if (bpf_core_field_exists(task->color))
		number = BPF_CORE_READ(task, color);
	return 0;
}

SEC("?raw_tp/sched_switch")
int unguarded(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	number = BPF_CORE_READ(task, color);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
