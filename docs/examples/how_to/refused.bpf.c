// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, uid_t);
	__type(value, count_t);
} counts SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpid")
int count(void *ctx)
{
	uid_t uid = bpf_get_current_uid_gid();
	count_t *found = bpf_map_lookup_elem(&counts, &uid);

	*found += 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
