// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

enum kind { STARTED = 1, ENDED };

struct started {
	enum kind kind;
	pid_t pid;
	char comm[COMM_LEN];
};

struct ended {
	enum kind kind;
	pid_t pid;
	int status;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	struct started started = { .kind = STARTED, .pid = 7, .comm = "sleep" };
	struct ended ended = { .kind = ENDED, .pid = 7, .status = 1 };

	bpf_ringbuf_output(&events, &started, sizeof(started), 0);
	bpf_ringbuf_output(&events, &ended, sizeof(ended), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
