// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Functions that call each other in many orders: which are appended to a program, and where. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, int);
	__type(value, long);
} sums SEC(".maps");

volatile int level;

static __noinline int leaf(int x)
{
	return x + level;
}

static __noinline int lower(int x)
{
	return leaf(x) * 3 + level;
}

__noinline int global(int x)
{
	return lower(x) - leaf(x + 1) + level;
}

__hidden __noinline int hidden(int x)
{
	return x * level;
}

__weak __noinline int weak(int x)
{
	return hidden(x) + global(x);
}

static long add(void *map, int *key, long *value, void *ctx)
{
	*value += leaf(*key);
	return 0;
}

static long again(__u32 nth, void *ctx)
{
	level += hidden(nth);
	return 0;
}

/* Not reached from anywhere. */
__noinline int alone(int x)
{
	return weak(x) + 1;
}

SEC("tp/a/leaf_first")
int leaf_first(void *ctx)
{
	return leaf(1) + lower(2) + global(3);
}

SEC("tp/a/leaf_last")
int leaf_last(void *ctx)
{
	return weak(1) + global(3) + lower(2) + leaf(1);
}

SEC("tp/a/twice")
int twice(void *ctx)
{
	return hidden(1) + hidden(2) + weak(3) + hidden(4);
}

SEC("tp/b/callbacks")
int callbacks(void *ctx)
{
	bpf_for_each_map_elem(&sums, add, 0, 0);
	bpf_loop(3, again, 0, 0);
	bpf_for_each_map_elem(&sums, add, 0, 0);
	return weak(level);
}

SEC("tp/b/none")
int none(void *ctx)
{
	return level;
}

char LICENSE[] SEC("license") = "GPL";
