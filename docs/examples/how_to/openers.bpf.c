// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

struct opener {
	count_t count;
	ktime_ns last_ns;
	char comm[COMM_LEN];
};

const volatile uid_t only_uid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, pid_t);
	__type(value, struct opener);
} openers SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int count_open(void *ctx)
{
	pid_t pid = bpf_get_current_pid_tgid() >> 32;
	struct opener new = {}, *old;

	if ((uid_t)bpf_get_current_uid_gid() != only_uid)
		return 0;
	old = bpf_map_lookup_elem(&openers, &pid);
	if (old) {
		__sync_fetch_and_add(&old->count, 1);
		old->last_ns = bpf_ktime_get_ns();
		return 0;
	}
	new.count = 1;
	new.last_ns = bpf_ktime_get_ns();
	bpf_get_current_comm(new.comm, sizeof(new.comm));
	bpf_map_update_elem(&openers, &pid, &new, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
