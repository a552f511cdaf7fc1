// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

typedef __s32 stack_id; /* negative: why there is none */

const volatile pid_t only_pid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 64 * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, stack_id);
	__type(value, count_t);
} counts SEC(".maps");

SEC("raw_tp/task_rename")
int count_stack(void *ctx)
{
	count_t one = 1, *count;
	stack_id id;

	if ((pid_t)(bpf_get_current_pid_tgid() >> 32) != only_pid)
		return 0;
	id = bpf_get_stackid(ctx, &stacks, 0); /* BPF_F_USER_STACK: that of user space */
	count = bpf_map_lookup_elem(&counts, &id);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&counts, &id, &one, BPF_NOEXIST);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
