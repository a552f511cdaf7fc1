// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Global variables in an arena, which compilers know as the address space 1: clang from version 19 on.
 *
 * arena.bpf.o and arena.bpfeb.o were built by Debian clang 19.1.7, in this directory:
 *   clang-19 -O2 -g -mcpu=v3 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *            -c arena.bpf.c -o arena.bpf.o && llvm-strip-19 -g arena.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Newer than the headers of Debian 12. */
#define MAP_TYPE_ARENA 33
#ifndef __ulong
#define __ulong(name, val) enum { value_of_##name = val } name
#endif

#define __arena __attribute__((address_space(1)))
#define __arena_global __arena SEC(".addr_space.1")

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x5eed20000000ull);
} arena SEC(".maps");

struct node {
	struct node __arena *next;
	__u64 value;
};

__u64 __arena_global step = 40;
__u32 __arena_global zeros[8];
struct node __arena_global first = { .value = 2 };

__u64 where;

static __noinline __u64 stepped(__u64 value)
{
	return value + step;
}

SEC("syscall")
int add(void *ctx)
{
	first.value = stepped(first.value);
	zeros[3]++;
	where = (__u64)&first;
	return first.value;
}

char LICENSE[] SEC("license") = "GPL";
