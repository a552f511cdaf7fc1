// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 sizes[16]; /* packets by their length, in steps of 128 bytes */

SEC("xdp")
int count_size(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data;

	__sync_fetch_and_add(&sizes[length / 128 % 16], 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
