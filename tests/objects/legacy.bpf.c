// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Maps as they were defined before BTF: libbpf's old struct bpf_map_def and iproute2's struct bpf_elf_map.
 *
 * legacy.bpf.o and legacy.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c legacy.bpf.c -o legacy.bpf.o && llvm-strip -g legacy.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct old_map {
	__u32 type, key_size, value_size, max_entries, map_flags;
};

struct iproute2_map {
	__u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx;
};

struct pair {
	__u32 low, high;
};

struct old_map SEC("maps") first = {BPF_MAP_TYPE_HASH, 4, 8, 16, BPF_F_NO_PREALLOC};
struct old_map SEC("maps") typed = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct pair), 2, 0};
struct old_map SEC("maps/alone") alone = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0};

/* What libbpf's BPF_ANNOTATE_KV_PAIR wrote. */
struct ____btf_map_typed {
	__u32 key;
	struct pair value;
};
struct ____btf_map_typed SEC(".maps.typed") ____btf_map_typed = {};

struct iproute2_map SEC("maps") inner = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0, 7, 0, 0, 1};
struct iproute2_map SEC("maps") outer = {BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 2, 0, 0, 0, 7, 0};
struct iproute2_map SEC("maps") jumps = {BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4, 0, 9, 0, 0, 0};
struct iproute2_map SEC("maps") shared = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0, 0, 2, 0, 0};

SEC("tc")
int entry(struct __sk_buff *skb)
{
	__u32 key = 1, zero = 0;
	__u64 *value;
	struct pair *pair = bpf_map_lookup_elem(&typed, &key);

	value = bpf_map_lookup_elem(&alone, &zero);
	if (value && pair)
		*value += pair->high;
	bpf_map_update_elem(&first, &key, &(__u64){3}, BPF_ANY);
	bpf_tail_call(skb, &jumps, 2);
	return 0;
}

SEC("9/2")
int jumped_to(struct __sk_buff *skb)
{
	__u32 one = 1, zero = 0;
	void *held = bpf_map_lookup_elem(&outer, &one);
	__u64 *value = held ? bpf_map_lookup_elem(held, &zero) : 0;

	if (value)
		*value += 5;
	return 42;
}

char _license[] SEC("license") = "Dual BSD/GPL";
