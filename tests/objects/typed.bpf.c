// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Keys and values of every shape that C has for them, and a program that fills each field by its name in C.
 *
 * typed.bpf.o and typed.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c typed.bpf.c -o typed.bpf.o && llvm-strip -g typed.bpf.o      (-target bpfeb for the other)
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

enum level { LOW = -1, NONE, HIGH = 70000 };
typedef enum { CLOSED, OPEN = 7 } door_t;

struct point {
	short x;
	int y;
};

struct packed {
	unsigned char tag;
	__u32 number;
} __attribute__((packed));

struct key {
	__u8 kind;		/* 3 bytes of padding behind it */
	__be32 address;
	char name[5];
	bool up;
	enum level level;
};

struct value {
	struct point at[2];
	union {
		__u64 whole;
		struct {
			__u32 low;
			__u32 high;
		};
		__u8 bytes[8];
	};
	unsigned int ready : 1;
	unsigned int mode : 3;
	signed int delta : 5;
	unsigned int : 0;
	__u64 wide : 40;
	door_t door;
	__be16 port;
	signed char sign;
	__u8 mac[6];
	struct packed tight[2];
	long long matrix[2][3];
	void *pointer;
	const volatile __u64 last;
};

struct locked {
	struct bpf_spin_lock lock;
	__u32 hits;
	struct bpf_timer timer;
	__u64 sum;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct key);
	__type(value, struct value);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, enum level);
	__type(value, struct locked);
} guarded SEC(".maps");

__u64 runs;
struct point origin = { -3, 4 };

SEC("syscall")
int fill(void *ctx)
{
	static const long long seed[2][3] = { { 1, -2, 3 }, { -4, 5, -6 } };
	struct value v;
	struct key k;
	enum level level = HIGH;
	struct locked *l;
	int i, j;

	__builtin_memset(&k, 0, sizeof(k));
	__builtin_memset(&v, 0, sizeof(v));
	k.kind = 200;
	k.address = bpf_htonl(0x0a000001);
	__builtin_memcpy(k.name, "lo0", 4);
	k.up = true;
	k.level = LOW;

	v.at[0].x = -1;
	v.at[0].y = 100000;
	v.at[1].x = 2;
	v.at[1].y = -3;
	v.low = 0x11223344;
	v.high = 5;
	v.ready = 1;
	v.mode = 6;
	v.delta = -7;
	v.wide = 0xabcdef0123ULL;
	v.door = OPEN;
	v.port = bpf_htons(443);
	v.sign = -128;
	for (i = 0; i < 6; i++)
		v.mac[i] = i + 1;
	v.tight[0].tag = 1;
	v.tight[0].number = 0xfffffffe;
	v.tight[1].tag = 2;
	v.tight[1].number = 3;
	for (i = 0; i < 2; i++)
		for (j = 0; j < 3; j++)
			v.matrix[i][j] = seed[i][j];
	*(__u64 *)&v.last = 0xffffffffffffffffULL;
	bpf_map_update_elem(&typed, &k, &v, BPF_ANY);

	l = bpf_map_lookup_elem(&guarded, &level);
	if (l) {
		bpf_spin_lock(&l->lock);
		l->hits++;
		l->sum += l->hits;
		bpf_spin_unlock(&l->lock);
	}
	runs++;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
