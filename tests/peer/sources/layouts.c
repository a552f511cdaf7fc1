// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Types as a program knows them, every question about each field, and loads and stores of it; see layouts.kernel.c. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inside {
	int first;
	long second;
};

struct moved {
	int changed, wider, narrower, vanished, becomes_bits, becomes_array, becomes_pointer;
	unsigned int grown;
	unsigned short shrunk;
	signed char small;
	bool flag;
	volatile unsigned int qualified;
	void *pointer;
	struct inside *other;
	int (*function)(int);
	enum { ONE, TWO } choice;
	char name[16];
	int numbers[4], grid[2][3];
	struct inside nested, several[3];
	struct {
		int of_nameless;
		union {
			int of_union;
			long long also;
		};
	};
	union {
		unsigned char bytes[8];
		unsigned long whole;
	} both;
	float real;
};

/* Of each width some at each place in a word, with a sign and without. */
#define EACH_WIDTH(X, t, s) X(t, s, 1) X(t, s, 2) X(t, s, 3) X(t, s, 5) X(t, s, 7) X(t, s, 8) X(t, s, 11) X(t, s, 13)
#define EACH_LONG(X, t, s) EACH_WIDTH(X, t, s) X(t, s, 17) X(t, s, 24) X(t, s, 31)
#define MEMBER(t, s, width) t s##width : width;

struct bits {
	EACH_LONG(MEMBER, unsigned int, u)
	EACH_LONG(MEMBER, int, i)
	EACH_WIDTH(MEMBER, unsigned short, h)
	EACH_LONG(MEMBER, unsigned long, l)
	EACH_LONG(MEMBER, long, s)
};

struct several___mine {
	int same, different, only_here;
};

struct vanished {
	int field;
};

struct tail {
	int count;
	long rest[];
};

#pragma clang attribute pop

enum numbers { FIRST = 1, SECOND = 2, GONE = 3, NEGATIVE = -4 };
enum vanished_numbers { NONE };
typedef struct inside inside_t;
typedef int (*function_t)(struct moved *, long);
union either {
	int a;
	long b;
};

long out[8];

#define QUESTION(at, kind) out[kind] = __builtin_preserve_field_info(at, kind);
#define PLACE(at) QUESTION(at, 0) QUESTION(at, 1) QUESTION(at, 2)
#define PROGRAM(name, type, ...) \
	SEC("raw_tp/x") int name(struct type *p) { __VA_ARGS__ return 0; }

#define FIELD(name) \
	PROGRAM(ask_##name, moved, PLACE(p->name) QUESTION(p->name, 3) QUESTION(p->name, 4) QUESTION(p->name, 5)) \
	PROGRAM(address_of_##name, moved, out[6] = (long)&p->name;) \
	NUMBER(name, moved, name)
#define NUMBER(name, type, at) \
	PROGRAM(load_##name, type, out[6] = (long)p->at;) \
	PROGRAM(store_##name, type, *(volatile __typeof__(p->at) *)&p->at = (__typeof__(p->at))out[7];)
#define BITS(t, s, width) \
	PROGRAM(ask_##s##width, bits, PLACE(p->s##width) \
		QUESTION(p->s##width, 3) QUESTION(p->s##width, 4) QUESTION(p->s##width, 5))
#define ELEMENT(name, type, at) PROGRAM(ask_##name, type, PLACE(p->at)) NUMBER(name, type, at)
#define WHOLE(name, type) \
	PROGRAM(type_##name, moved, out[0] = __builtin_preserve_type_info(*(type *)0, 0); \
		out[1] = __builtin_preserve_type_info(*(type *)0, 1); out[2] = __builtin_btf_type_id(*(type *)0, 0);) \
	PROGRAM(id_of_##name, moved, out[0] = __builtin_btf_type_id(*(type *)0, 1);)
#define ENUMERATOR(type, name) \
	PROGRAM(exists_##name, moved, out[0] = __builtin_preserve_enum_value(*(enum type *)name, 0);) \
	PROGRAM(value_of_##name, moved, out[0] = __builtin_preserve_enum_value(*(enum type *)name, 1);)

FIELD(changed) FIELD(wider) FIELD(narrower) FIELD(vanished) FIELD(becomes_bits) FIELD(becomes_array)
FIELD(becomes_pointer) FIELD(grown) FIELD(shrunk) FIELD(small) FIELD(flag) FIELD(qualified) FIELD(choice) FIELD(of_nameless) FIELD(of_union) FIELD(also)
PROGRAM(ask_real, moved, PLACE(p->real))
PROGRAM(ask_nested, moved, PLACE(p->nested))
PROGRAM(ask_numbers, moved, PLACE(p->numbers))
PROGRAM(ask_both, moved, PLACE(p->both))
ELEMENT(pointer, moved, pointer) ELEMENT(other, moved, other) ELEMENT(function, moved, function)
ELEMENT(name, moved, name[5]) ELEMENT(number, moved, numbers[1]) ELEMENT(last_number, moved, numbers[3])
ELEMENT(grid, moved, grid[1][2]) ELEMENT(second, moved, nested.second) ELEMENT(of_several, moved, several[1].first)
ELEMENT(byte, moved, both.bytes[3]) ELEMENT(whole, moved, both.whole) ELEMENT(rest, tail, rest[2])
EACH_LONG(BITS, unsigned int, u)
EACH_LONG(BITS, int, i)
EACH_WIDTH(BITS, unsigned short, h)
EACH_LONG(BITS, unsigned long, l)
EACH_LONG(BITS, long, s)
NUMBER(same, several___mine, same) NUMBER(different, several___mine, different)
NUMBER(only_here, several___mine, only_here) NUMBER(of_vanished, vanished, field)
WHOLE(moved, struct moved) WHOLE(inside, inside_t) WHOLE(several, struct several___mine) WHOLE(vanished, struct vanished)
WHOLE(function, function_t) WHOLE(either, union either) WHOLE(numbers, enum numbers)
ENUMERATOR(numbers, FIRST) ENUMERATOR(numbers, SECOND) ENUMERATOR(numbers, GONE) ENUMERATOR(numbers, NEGATIVE)
ENUMERATOR(vanished_numbers, NONE)

char LICENSE[] SEC("license") = "GPL";
