// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Tables of functions: with members that are left out, functions in common, and data; and programs of many kinds. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct tcp_congestion_ops {
	unsigned int (*ssthresh)(void *sk);
	void (*cong_avoid)(void *sk, __u32 ack, __u32 acked);
	void (*init)(void *sk);
	__u32 (*undo_cwnd)(void *sk);
	char name[16];
	__u32 flags;
};

int level = 3;

static __noinline int shared(int x)
{
	return x + level;
}

SEC("struct_ops/ssthresh")
unsigned int threshold(__u64 *ctx)
{
	return shared(2);
}

SEC("struct_ops")
void avoid(__u64 *ctx)
{
	level = shared(level);
}

SEC("struct_ops/undo_cwnd")
__u32 undo(__u64 *ctx)
{
	return shared(1) + shared(4);
}

SEC(".struct_ops")
struct tcp_congestion_ops first = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.init = 0,
	.name = "rawbpf_first",
};

SEC(".struct_ops")
struct tcp_congestion_ops second = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "rawbpf_second",
};

char LICENSE[] SEC("license") = "GPL";
