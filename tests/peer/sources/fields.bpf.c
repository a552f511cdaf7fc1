// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Relocation to the kernel's types: every kind of it, flavours, arrays, bit fields, and what does not exist. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

typedef struct {
	int counter;
} atomic_t;

struct mm_struct {
	union {
		struct {
			unsigned long task_size;
			atomic_t mm_users;
		};
		int other;
	};
};

struct task_struct {
	int pid, tgid;
	char comm[16];
	struct mm_struct *mm;
	struct task_struct *parent;
	struct list_head children;
	unsigned in_execve : 1, in_iowait : 1;
	unsigned sched_reset_on_fork : 1;
};

struct task_struct___before {
	long state;
};

struct task_struct___after {
	unsigned __state;
	int rawbpf_absent;
};

struct sk_buff {
	unsigned char pkt_type : 3;
	unsigned char ip_summed : 2;
	unsigned int len;
	char cb[48];
};

struct trace_entry {
	short type;
	unsigned char flags;
};

struct rawbpf_absent_struct {
	int first, second;
};

union bpf_attr___part {
	struct {
		__u32 map_type;
		__u32 value_size;
	};
	struct {
		__u32 prog_type;
		__u64 license;
	};
};

#pragma clang attribute pop

enum bpf_map_type___now {
	BPF_MAP_TYPE_RINGBUF___now = 1000,
	BPF_MAP_TYPE_RAWBPF_ABSENT___now = 1,
};

enum rawbpf_absent_enum {
	RAWBPF_ABSENT_VALUE = 3,
};

typedef int (*initcall_t)(void);
typedef unsigned long rawbpf_absent_typedef;

__u64 out[32];

SEC("raw_tp/a")
int offsets(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	out[0] = BPF_CORE_READ(task, pid) + BPF_CORE_READ(task, mm, mm_users.counter);
	out[1] = BPF_CORE_READ(task, parent, parent, tgid);
	out[2] = (__u64)BPF_CORE_READ(task, children.next, prev);
	bpf_core_read_str(&out[3], 8, &task->comm[4]);
	out[4] = bpf_core_field_offset(struct task_struct, comm[7]);
	return 0;
}

/* The verifier knows these pointers: loads are direct, and their widths are relocated. */
SEC("tp_btf/sched_switch")
int direct(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];

	out[5] = prev->pid + next->parent->tgid;
	out[6] = next->comm[3];
	return 0;
}

SEC("raw_tp/b")
int existence(void *ctx)
{
	struct task_struct___before *before = (void *)bpf_get_current_task();
	struct task_struct___after *after = (void *)before;

	if (bpf_core_field_exists(before->state))
		out[7] = BPF_CORE_READ(before, state);
	else
		out[7] = BPF_CORE_READ(after, __state);
	if (bpf_core_field_exists(after->rawbpf_absent))
		out[8] = BPF_CORE_READ(after, rawbpf_absent);
	if (bpf_core_type_exists(struct rawbpf_absent_struct))
		out[9] = BPF_CORE_READ((struct rawbpf_absent_struct *)before, second);
	out[10] = bpf_core_field_exists(struct sk_buff, len) + bpf_core_field_size(struct sk_buff, cb);
	return 0;
}

/* A branch that is taken only where the type is there, which it never is. */
SEC("raw_tp/b")
int never(void *ctx)
{
	struct rawbpf_absent_struct *absent = (void *)bpf_get_current_task();

	if (out[11])
		out[11] = BPF_CORE_READ(absent, second);
	return 0;
}

SEC("raw_tp/c")
int bits(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct sk_buff *skb = (void *)task;

	out[12] = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait);
	out[13] = BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork);
	out[14] = BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type);
	out[15] = BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed);
	out[16] = BPF_CORE_READ_BITFIELD_PROBED(task, pid);
	out[17] = BPF_CORE_READ_BITFIELD_PROBED((struct trace_entry *)task, flags);
	return 0;
}

SEC("raw_tp/c")
int types(void *ctx)
{
	out[18] = bpf_core_type_id_local(struct task_struct);
	out[19] = bpf_core_type_id_kernel(struct task_struct);
	out[20] = bpf_core_type_size(struct list_head) + bpf_core_type_size(struct rawbpf_absent_struct);
	out[21] = bpf_core_type_exists(initcall_t) + bpf_core_type_exists(rawbpf_absent_typedef);
	out[22] = bpf_core_type_id_kernel(struct rawbpf_absent_struct);
	out[23] = bpf_core_type_size(union bpf_attr___part);
	return 0;
}

SEC("raw_tp/c")
int enums(void *ctx)
{
	out[24] = bpf_core_enum_value(enum bpf_map_type___now, BPF_MAP_TYPE_RINGBUF___now);
	out[25] = bpf_core_enum_value_exists(enum bpf_map_type___now, BPF_MAP_TYPE_RAWBPF_ABSENT___now);
	out[26] = bpf_core_enum_value_exists(enum rawbpf_absent_enum, RAWBPF_ABSENT_VALUE);
	return 0;
}

SEC("raw_tp/c")
int members(void *ctx)
{
	union bpf_attr___part *attr = (void *)bpf_get_current_task();

	out[27] = BPF_CORE_READ(attr, value_size) + BPF_CORE_READ(attr, license);
	out[28] = bpf_core_field_offset(attr->prog_type) + bpf_core_field_size(attr->license);
	return 0;
}

/* Called from two programs: its relocations are applied in both. */
static __noinline int shared(struct task_struct *task)
{
	return BPF_CORE_READ(task, tgid);
}

SEC("raw_tp/d")
int calls(void *ctx)
{
	return shared((void *)bpf_get_current_task());
}

SEC("raw_tp/d")
int calls_too(void *ctx)
{
	return shared((void *)bpf_get_current_task()) + shared(ctx);
}

char LICENSE[] SEC("license") = "GPL";
