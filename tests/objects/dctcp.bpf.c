// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * A congestion control that calls functions of DCTCP's module.
 *
 * dctcp.bpf.o and dctcp.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c dctcp.bpf.c -o dctcp.bpf.o && llvm-strip -g dctcp.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {};

extern void dctcp_update_alpha(struct sock *sk, __u32 flags) __ksym;
extern __u32 dctcp_ssthresh(struct sock *sk) __ksym;
extern __u32 dctcp_cwnd_undo(struct sock *sk) __ksym;
extern void tcp_reno_cong_avoid(struct sock *sk, __u32 ack, __u32 acked) __ksym;

struct tcp_congestion_ops {
	void (*in_ack_event)(struct sock *sk, __u32 flags);
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

__u64 acks;

SEC("struct_ops/in_ack_event")
void BPF_PROG(again_in_ack_event, struct sock *sk, __u32 flags)
{
	__sync_fetch_and_add(&acks, 1);
	dctcp_update_alpha(sk, flags);
}

SEC("struct_ops/ssthresh")
__u32 BPF_PROG(again_ssthresh, struct sock *sk)
{
	return dctcp_ssthresh(sk);
}

SEC("struct_ops/cong_avoid")
void BPF_PROG(again_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	tcp_reno_cong_avoid(sk, ack, acked);
}

SEC("struct_ops/undo_cwnd")
__u32 BPF_PROG(again_undo_cwnd, struct sock *sk)
{
	return dctcp_cwnd_undo(sk);
}

SEC(".struct_ops")
struct tcp_congestion_ops again = {
	.in_ack_event = (void *)again_in_ack_event,
	.ssthresh = (void *)again_ssthresh,
	.cong_avoid = (void *)again_cong_avoid,
	.undo_cwnd = (void *)again_undo_cwnd,
	.name = "dctcp_again",
};

char LICENSE[] SEC("license") = "GPL";
