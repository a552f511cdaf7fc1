// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct taken {
	__u32 port;
	__u32 length;
};

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 64);
	__type(value, __u32);
} free_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 64);
	__type(value, struct taken);
} in_use SEC(".maps");

SEC("xdp")
int take_port(struct xdp_md *ctx)
{
	struct taken taken = { .length = ctx->data_end - ctx->data };

	if (bpf_map_pop_elem(&free_ports, &taken.port))
		return XDP_DROP; /* there is none */
	/* where nobody reads, the oldest is lost */
	bpf_map_push_elem(&in_use, &taken, BPF_EXIST);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
