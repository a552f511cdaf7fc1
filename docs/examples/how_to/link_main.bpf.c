// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int count_packet(__u32 length); /* in link_count.bpf.c, as is the next */
extern __u64 total;

SEC("tc")
int count(struct __sk_buff *skb)
{
	int packets = count_packet(skb->len);

	return total > 100 ? packets : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
