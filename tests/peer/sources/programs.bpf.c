// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Programs: several in a section, weak and hidden ones, some that wait to be asked for, and variables between them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct pair {
	char pad[3];
	long second;
};

__weak int weak = 1;
__hidden int hidden[3] = { 1, 2, 3 };
struct pair pairs[4] SEC(".data.pairs") = { [2] = { .second = 5 } };
static volatile const struct pair constants[2] SEC(".rodata.pairs") = { [1] = { .second = 7 } };
int aligned __attribute__((aligned(128))) = 9;
int *pointer = &aligned;

static __noinline int odd(int x);

static __noinline int even(int x)
{
	return x > 0 ? odd(x - 1) : weak;
}

static __noinline int odd(int x)
{
	return x > 0 ? even(x - 2) : hidden[1];
}

static long each(__u32 nth, void *ctx)
{
	static volatile int count;

	count += nth;
	return count > 5;
}

static long other(__u32 nth, void *ctx)
{
	static volatile int count = 4;

	return bpf_loop(nth, each, ctx, 0) + count++;
}

SEC("tc")
int first(struct __sk_buff *skb)
{
	pairs[3].second = constants[1].second + pairs[2].second;
	return bpf_loop(3, other, 0, 0) + bpf_loop(4, each, 0, 0);
}

SEC("tc") __weak
int second(struct __sk_buff *skb)
{
	return bpf_loop(4, each, 0, 0) + aligned;
}

SEC("tc") __hidden
int third(struct __sk_buff *skb)
{
	return bpf_loop(2, other, 0, 0);
}

SEC("?xdp")
int asked(struct xdp_md *ctx)
{
	return bpf_loop(1, each, 0, 0) ? XDP_DROP : XDP_PASS;
}

/* The verifier refuses functions that call one another. */
SEC("?socket")
int circle(void *ctx)
{
	return odd(3) + even(4);
}

char LICENSE[] SEC("license") = "GPL";
