// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SOCK_DGRAM 2

SEC("cgroup/sock_create")
int no_datagrams(struct bpf_sock *sk)
{
	return sk->type != SOCK_DGRAM; /* 0 refuses */
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
