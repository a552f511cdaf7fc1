// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * signal_stats - how often was each signal sent?
 *
 *	rawbpf run bpf/signal_stats.bpf.o
 *
 * signal_count	array, the signal's number -> count
 *
 * Every signal that is generated counts, by whom and for whom ever, also one that its receiver
 * ignores or that is merged with an equal one that still waits. kill(2) with signal 0 sends none.
 * Signals are also sent from interrupts (timers); one that interrupts another tracepoint program
 * on its CPU is missed, as the kernel does not run a program within a program.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

#define SIGNALS 65 /* 1 to 64; no signal has the number 0 */

/* the beginning of events/signal/signal_generate/format in tracefs */
struct signal_generate_args {
	__u64 common;
	__s32 sig;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIGNALS);
	__type(key, signal_t);
	__type(value, count_t);
} signal_count SEC(".maps");

SEC("tracepoint/signal/signal_generate")
int count_signal(struct signal_generate_args *ctx)
{
	signal_t signal = ctx->sig;
	count_t *count = bpf_map_lookup_elem(&signal_count, &signal);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
