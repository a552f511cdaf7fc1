// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct calls {
	__u64 count;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct calls);
} calls SEC(".maps");

SEC("tp_btf/sys_enter")
int count_call(unsigned long long *args)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct calls *mine = bpf_task_storage_get(&calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (mine) {
		mine->count++;	/* a task is on one CPU at a time: nobody else writes here */
		mine->last = args[1];
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
