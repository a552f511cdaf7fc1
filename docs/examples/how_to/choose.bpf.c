// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} workers SEC(".maps");

SEC("sk_reuseport")
int by_first_byte(struct sk_reuseport_md *md)
{
	__u8 *first = md->data + 8; /* behind the UDP header */
	__u32 slot;

	if ((void *)(first + 1) > md->data_end)
		return SK_DROP;
	slot = *first & 1;
	return bpf_sk_select_reuseport(md, &workers, &slot, 0) ? SK_DROP : SK_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
