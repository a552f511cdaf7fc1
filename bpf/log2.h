// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The slot of a number in a log2 histogram.
 */
#ifndef RAWBPF_LOG2_H
#define RAWBPF_LOG2_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* a slot: 1 for 0 and 1, 2 for 2 and 3, 3 for 4 to 7, and so on up to 64 */
typedef __u32 slot_t;

/*
 * How many binary digits `value` has, 1 at least: what BCC's bpf_log2l() returns, and what
 * rawbpf.Histogram.log2 takes. Each step halves the digits among which the highest one is looked for.
 */
static __always_inline slot_t log2_slot(__u64 value)
{
	slot_t slot = 1;

#pragma unroll
	for (int digits = 32; digits; digits /= 2) {
		if (value >> digits) {
			value >>= digits;
			slot += digits;
		}
	}
	return slot;
}

#endif
