// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What only modules of the kernel have: functions of nf_conntrack, nf_nat and fou, a variable and a struct of
 * x_tables, and a place in nf_conntrack where programs attach.
 *
 * modules.bpf.o and modules.bpfeb.o were built by Debian clang 14.0.6, in this directory:
 *   clang -O2 -g -mcpu=v2 -target bpf -fdebug-compilation-dir=. -I/usr/include/x86_64-linux-gnu \
 *         -c modules.bpf.c -o modules.bpf.o && llvm-strip -g modules.bpf.o      (-target bpfeb for the other)
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define TCP 6

/* nf_conntrack's, but for the members that came after Linux 6.1; the size that is passed tells it. */
struct bpf_ct_opts___mine {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

union nf_inet_addr {
	__u32 all[4];
};

enum nf_nat_manip_type { NF_NAT_MANIP_SRC, NF_NAT_MANIP_DST };

/* Of a struct that is not defined the kernel's prototypes would be others. */
struct nf_conn {};
struct nf_conn___init {};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts___mine *opts, __u32 opts__sz) __ksym;
extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *xdp, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts___mine *opts, __u32 opts__sz) __ksym;
extern struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					       struct bpf_ct_opts___mine *opts, __u32 opts__sz) __ksym;
extern int bpf_ct_set_nat_info(struct nf_conn___init *ct, union nf_inet_addr *addr, int port,
			       enum nf_nat_manip_type manip) __ksym;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *ct) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

struct bpf_fou_encap___mine {
	__be16 sport;
	__be16 dport;
};

extern int bpf_skb_get_fou_encap(struct __sk_buff *skb, struct bpf_fou_encap___mine *encap) __ksym __weak;

int error, address_is_there;
__u64 entries, exits;

static void connection(struct bpf_sock_tuple *tuple)
{
	tuple->ipv4.saddr = bpf_htonl(0x0a000001);
	tuple->ipv4.daddr = bpf_htonl(0x0a000002);
	tuple->ipv4.sport = bpf_htons(4000);
	tuple->ipv4.dport = bpf_htons(80);
}

SEC("tc")
int look_up(struct __sk_buff *skb)
{
	struct bpf_ct_opts___mine opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = TCP };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	connection(&tuple);
	ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	error = opts.error;
	if (!ct)
		return 0;
	bpf_ct_release(ct);
	return 1;
}

SEC("xdp")
int look_up_early(struct xdp_md *xdp)
{
	struct bpf_ct_opts___mine opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = TCP };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	connection(&tuple);
	ct = bpf_xdp_ct_lookup(xdp, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	error = opts.error;
	if (!ct)
		return XDP_DROP;
	bpf_ct_release(ct);
	return XDP_PASS;
}

/* Of two modules: an entry of nf_conntrack that nf_nat translates. */
SEC("tc")
int translate(struct __sk_buff *skb)
{
	struct bpf_ct_opts___mine opts = { .netns_id = BPF_F_CURRENT_NETNS, .l4proto = TCP };
	union nf_inet_addr source = {};
	struct bpf_sock_tuple tuple = {};
	struct nf_conn___init *made;
	struct nf_conn *ct;

	connection(&tuple);
	source.all[0] = bpf_htonl(0x0a000003);
	made = bpf_skb_ct_alloc(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	error = opts.error;
	if (!made)
		return 1;
	error = bpf_ct_set_nat_info(made, &source, 5000, NF_NAT_MANIP_SRC);
	ct = bpf_ct_insert_entry(made);
	if (!ct)
		return 2;
	bpf_ct_release(ct);
	return 0;
}

/* Of a module that may be missing. */
SEC("tc")
int encapsulated(struct __sk_buff *skb)
{
	struct bpf_fou_encap___mine encap = {};

	address_is_there = bpf_skb_get_fou_encap ? 1 : 0;
	if (!bpf_skb_get_fou_encap)
		return 7;
	error = bpf_skb_get_fou_encap(skb, &encap);
	return 8;
}

SEC("fentry/nf_conntrack_find_get")
int BPF_PROG(entered)
{
	__sync_fetch_and_add(&entries, 1);
	return 0;
}

SEC("fexit/nf_conntrack_find_get")
int BPF_PROG(left)
{
	__sync_fetch_and_add(&exits, 1);
	return 0;
}

/* Of x_tables alone: the struct, and a counter of each CPU. */
struct list_head {
	struct list_head *next, *prev;
};

struct xt_af___mine {
	struct list_head target, match;
	int gone;
} __attribute__((preserve_access_index));

typedef struct seqcount {
	unsigned int sequence;
} seqcount_t;

extern const seqcount_t xt_recseq __ksym;

__u64 offset, size, has_target, has_gone;

SEC("tc")
int places(struct __sk_buff *skb)
{
	offset = bpf_core_field_offset(struct xt_af___mine, target);
	size = bpf_core_type_size(struct xt_af___mine);
	has_target = bpf_core_field_exists(struct xt_af___mine, target);
	has_gone = bpf_core_field_exists(struct xt_af___mine, gone);
	return 0;
}

SEC("tc")
int counted(struct __sk_buff *skb)
{
	const seqcount_t *mine = bpf_this_cpu_ptr(&xt_recseq);
	const seqcount_t *other = bpf_per_cpu_ptr(&xt_recseq, 1 << 20);
	unsigned int sequence;

	/* Read like this, because Linux 6.1 does not look behind the typedef. */
	if (bpf_probe_read_kernel(&sequence, sizeof(sequence), &mine->sequence))
		return -1;
	return other ? -2 : (int)(sequence & 1);
}

char LICENSE[] SEC("license") = "GPL";
