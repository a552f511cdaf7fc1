// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct limits {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct limits);
} current SEC(".maps");

SEC("syscall")
int first_limit(void *ctx)
{
	__u32 zero = 0;
	void *limits = bpf_map_lookup_elem(&current, &zero);
	__u64 *limit = limits ? bpf_map_lookup_elem(limits, &zero) : 0;

	return limit ? *limit : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
