// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Maps with every attribute, of types whose definitions differ, with first values, and data in sections of all kinds. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 length;
	__u8 address[16];
};

typedef const struct key key_t;

enum state { ZERO, ONE };

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, key_t);
	__type(value, enum state);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__uint(map_extra, 3);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NUMA_NODE | BPF_F_NO_PREALLOC);
	__uint(numa_node, 0);
	__uint(key_size, 12);
	__uint(value_size, 4096);
} sized SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__type(value, char[20]);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(int));
	__uint(value_size, sizeof(int));
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 5000);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct key);
} of_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, struct bpf_cgroup_storage_key);
	__type(value, __u64);
} of_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 4);
	__type(key, int);
	__type(value, struct bpf_devmap_val);
} devices SEC(".maps");

/* Inner maps: of a type that has a name, of one that has none, and without first values. */
struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 7);
	__type(key, __u16);
	__type(value, struct key);
};

struct inner one SEC(".maps"), two SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 9);
	__type(key, __u32);
	__array(values, struct inner);
} by_name SEC(".maps") = {
	.values = { &one, [4] = &two, [6] = &one },
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(int));
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 5);
		__uint(map_flags, BPF_F_INNER_MAP);
		__uint(key_size, 4);
		__uint(value_size, 40);
	});
} nameless SEC(".maps");

int first(void *ctx), second(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 10);
	__type(key, __u32);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [0] = &second, [3] = &first, [9] = &second },
};

const volatile int constant = 1, more[3] = { 2, 3, 4 };
const volatile int aside SEC(".rodata.aside") = 5;
static volatile const char text[] = "static";
int zero, counts[1000];
int zero_aside[4] SEC(".bss.aside");
int set = 7;
struct key aligned __attribute__((aligned(64))) SEC(".data.aligned") = { .length = 8 };
static volatile __u64 of_its_own SEC(".data.static") = 9;

SEC("socket")
int first(void *ctx)
{
	static const char format[] = "in .rodata %d";
	struct key *key = bpf_map_lookup_elem(&networks, &aligned);

	bpf_trace_printk(format, sizeof(format), zero);
	zero_aside[1] = counts[500] + more[2] + aside + text[1];
	aligned.address[3]++;
	bpf_tail_call(ctx, &jumps, 3);
	return key ? constant + set : of_its_own;
}

SEC("socket")
int second(void *ctx)
{
	int nth = 0;
	void *found = bpf_map_lookup_elem(&by_name, &nth);

	if (!found)
		found = bpf_map_lookup_elem(&nameless, &nth);
	if (found)
		counts[7]++;
	bpf_map_push_elem(&waiting, &aligned, 0);
	return bpf_map_lookup_elem(&sized, counts) == 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
