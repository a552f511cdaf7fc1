// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * lru_cache - the programs that were started most recently
 *
 *	rawbpf run bpf/lru_cache.bpf.o
 *
 * recent_execs	LRU hash, pid -> struct recent_exec { started_ns, uid, gid, comm }
 *
 * The map is never full: a new element takes the place of one that was not used for long. Which one
 * is the choice of the kernel, whose lists are kept per CPU: the oldest goes roughly first, and some
 * go before all 1024 are in use.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "names.h"

/* no padding: what a program leaves uninitialised would show up in the map */
struct recent_exec {
	ktime_ns started_ns;
	uid_t uid;
	gid_t gid;
	char comm[COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, pid_t);
	__type(value, struct recent_exec);
} recent_execs SEC(".maps");

SEC("tracepoint/sched/sched_process_exec")
int remember_exec(void *ctx)
{
	pid_t pid = bpf_get_current_pid_tgid() >> 32;
	__u64 uid_gid = bpf_get_current_uid_gid();
	struct recent_exec recent = {
		.started_ns = bpf_ktime_get_ns(),
		.uid = uid_gid,
		.gid = uid_gid >> 32,
	};

	bpf_get_current_comm(recent.comm, sizeof(recent.comm));
	bpf_map_update_elem(&recent_execs, &pid, &recent, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
