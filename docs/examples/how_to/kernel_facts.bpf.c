// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern unsigned int CONFIG_HZ __kconfig __weak; /* 0 where the kernel has no such option */

extern const void do_exit __ksym; /* an address: the kernel's function is not called */
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

__u64 ms_per_tick, exit_address;
_Bool locked;

SEC("tc")
int facts(struct __sk_buff *skb)
{
	if (CONFIG_HZ)
		ms_per_tick = 1000 / CONFIG_HZ;
	exit_address = (__u64)&do_exit;
	if (bpf_rcu_read_lock && bpf_rcu_read_unlock) {
		bpf_rcu_read_lock();
		locked = 1;
		bpf_rcu_read_unlock();
	}
	return LINUX_KERNEL_VERSION >> 16;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
