// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 total;
static int packets;

int count_packet(__u32 length)
{
	total += length;
	return ++packets;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
