// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Records of two types in a ring, told apart by their header. Only the inside of the program uses the
 * types: DWARF, which is left in these objects, has them, and BTF has not, unless KEPT is defined.
 *
 * events.bpf.o and events.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c events.bpf.c -o events.bpf.o       (-target bpfeb for the other)
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

enum kind { STARTED = 1, ENDED = 2, STRANGE = 70000 };
enum wide { SMALL = 1, LARGE = 0x1234567890 };
typedef enum { CLOSED, OPEN = 7 } door_t;

struct header {
	enum kind kind;
	__u32 cpu;
};

struct packed {
	unsigned char tag;
	__u32 number;
} __attribute__((packed));

struct started {
	struct header header;
	const volatile __u64 when;
	char comm[16];
	signed char small;
	_Bool known;
	unsigned char mac[6];
	__be16 port;
	__u32 low : 3, : 2, middle : 20;
	__s32 high : 5;
	__u64 far : 40;
	struct packed packed;
	short grid[2][3];
	struct {
		int x, y;
	};
	union {
		__u32 word;
		__u8 bytes[4];
		struct {
			__u16 first, second;
		} halves;
	} either;
	enum wide wide;
	door_t door;
	void *context;
	long double_word __attribute__((aligned(16)));
	struct empty {} nothing;
	unsigned rest[];
};

typedef struct {
	struct header header;
	int code;
} ended;

#ifdef KEPT
struct started *unused_started __attribute__((unused));
ended *unused_ended __attribute__((unused));
#endif

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct header);
} headers SEC(".maps");

SEC("xdp")
int tell(void *context)
{
	struct started *started = bpf_ringbuf_reserve(&events, sizeof(*started), 0);
	ended *end;

	if (!started)
		return 0;
	__builtin_memset(started, 0, sizeof(*started));
	started->header.kind = STARTED;
	*(__u64 *)&started->when = 12345678901;
	started->comm[0] = 'a';
	started->small = -2;
	started->known = 1;
	started->mac[5] = 6;
	started->port = bpf_htons(80);
	started->low = 5;
	started->middle = 0xabcde;
	started->high = -3;
	started->far = 0x123456789a;
	started->packed.number = 9;
	started->grid[1][2] = -7;
	started->y = 8;
	started->either.halves.second = 0x1234;
	started->wide = LARGE;
	started->door = OPEN;
	bpf_ringbuf_submit(started, 0);

	end = bpf_ringbuf_reserve(&events, sizeof(*end), 0);
	if (!end)
		return 0;
	end->header.kind = ENDED;
	end->header.cpu = 3;
	end->code = -1;
	bpf_ringbuf_submit(end, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
