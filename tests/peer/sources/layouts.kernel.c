// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The types of layouts.c as another kernel might have them: moved, of other sizes and kinds, or gone. */
struct inside {
	char more[12];
	long second;
	int first;
};

typedef unsigned char bool_t;

struct moved {
	struct {
		long before;
		union {
			long long also;
			int of_union;
		};
		int of_nameless;
	};
	long wider;
	short narrower;
	unsigned becomes_bits : 3, pad : 7;
	int becomes_array[2];
	void *becomes_pointer;
	unsigned long grown;
	unsigned char shrunk, flag;
	signed char small;
	unsigned int qualified;
	struct inside *other;
	const char *pointer;
	void (*function)(long);
	enum { FALSE } choice;
	char name[20];
	unsigned int numbers[2];
	int grid[3][4];
	struct inside several[2], nested;
	union {
		unsigned long whole;
		unsigned char bytes[4];
	} both;
	unsigned int changed;
	double real;
};

#define EACH_WIDTH(X, t, s) X(t, s, 13) X(t, s, 1) X(t, s, 8) X(t, s, 2) X(t, s, 7) X(t, s, 3) X(t, s, 5)
#define MEMBER(t, s, width) t s##width : width;

struct bits {
	EACH_WIDTH(MEMBER, unsigned long, u)
	EACH_WIDTH(MEMBER, int, i)
	EACH_WIDTH(MEMBER, unsigned short, h)
	EACH_WIDTH(MEMBER, unsigned int, l)
	EACH_WIDTH(MEMBER, long, s)
	unsigned int u11, u17 : 16, u24;
	long i11, i17 : 40, i24 : 60;
	unsigned char h11;
	unsigned long l11, l17 : 33, l24 : 24;
	int s11, s17 : 3, s24 : 29;
};

struct several {
	int same, different;
};

struct several___older {
	int same, more, different, only_here;
};

struct tail {
	long more;
	int count;
	long rest[];
};

enum numbers { BEFORE, FIRST, SECOND = 77, NEGATIVE = -1 };
typedef struct inside inside_t;
typedef int (*function_t)(struct moved *, long);
union either {
	long long a;
};

struct inside *inside;
struct moved *moved;
struct bits *bits;
struct several *several;
struct several___older *older;
struct tail *tail;
enum numbers numbers;
inside_t *of_typedef;
function_t function;
union either either;
