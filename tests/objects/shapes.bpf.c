// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * One of every shape that an object of this time can have: several programs in a section, subprograms in
 * and out of line, a callback, static and global data, maps of maps, a program that is not to be loaded.
 *
 * shapes.bpf.o and shapes.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c shapes.bpf.c -o shapes.bpf.o && llvm-strip -g shapes.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 count;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct event);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 16);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} shared SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, __u64);
} first SEC(".maps"), third SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, int);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &first, [3] = &third },
};

int sum_up(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [2] = &sum_up },
};

const volatile __u32 min_uid = 1000;
const volatile char tag[8] = "abc";
static volatile const int hidden = 7;
__u64 dropped;
static __u64 lost[4];
int level = 3;
static volatile short local = -2;
int custom SEC(".data.custom") = 9;

static __noinline int twice(int x)
{
	return x * 2 + hidden;
}

__noinline int leveled(int x)
{
	return twice(x) + level;
}

__hidden __noinline int count_up(struct event *e)
{
	e->count++;
	return e->count;
}

static int add_up(void *map, __u32 *key, struct event *e, __u64 *sum)
{
	*sum += e->count;
	__sync_fetch_and_add(&dropped, 1);
	return 0;
}

SEC("tp/syscalls/sys_enter_execve")
int count_execve(void *ctx)
{
	__u32 uid = bpf_get_current_uid_gid();
	struct event *e;

	if (uid < min_uid)
		return 0;
	e = bpf_map_lookup_elem(&events, &uid);
	if (e) {
		count_up(e);
		lost[uid & 3]++;
		local++;
	}
	return leveled(uid) + twice(uid) + tag[uid & 7];
}

SEC("tp/syscalls/sys_enter_execve")
int sum_up(void *ctx)
{
	__u64 sum = 0;
	int one = 1;
	void *inner = bpf_map_lookup_elem(&outer, &one);
	__u64 *total = inner ? bpf_map_lookup_elem(inner, &one) : 0;

	bpf_for_each_map_elem(&events, add_up, &sum, 0);
	custom++;
	if (total)
		*total = sum;
	bpf_tail_call(ctx, &jumps, 1);
	return bpf_map_lookup_elem(&shared, &one) != 0;
}

SEC("?raw_tp/sys_enter")
int on_request(void *ctx)
{
	return leveled(1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
