// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Type names that tell a reader of the map what a number is.
 *
 * BTF carries them with every map. A bare number has no other name, so its typedef, without a
 * trailing _t, becomes the heading of its column: a map of uid_t to count_t is shown as "uid" and
 * "count". The members of a struct have names of their own. A typedef of a typedef keeps the
 * meaning: `typedef ktime_ns last_seen_t;` is headed "last_seen" and shown as a time.
 *
 *	uid_t, gid_t	an id with the name of its user or group beside it
 *	pid_t		a process
 *	signal_t	a signal's number with its name beside it
 *	ktime_ns	bpf_ktime_get_ns(): nanoseconds of CLOCK_MONOTONIC, shown as wall-clock time
 *	count_t		how often something happened
 *
 * uid_t, gid_t and pid_t are the kernel's own names, hence vmlinux.h and this header cannot be
 * included together.
 */
#ifndef RAWBPF_NAMES_H
#define RAWBPF_NAMES_H

#include <linux/types.h>

typedef __u32 uid_t;
typedef __u32 gid_t;
typedef __s32 pid_t;
typedef __u32 signal_t;
typedef __u64 ktime_ns;
typedef __u64 count_t;

#define COMM_LEN 16 /* TASK_COMM_LEN of the kernel */

#endif
