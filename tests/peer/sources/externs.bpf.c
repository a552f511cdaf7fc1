// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* What the kernel says when the object is loaded: its configuration, its version, its variables and functions. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int pid;
};

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool LINUX_HAS_SYSCALL_WRAPPER __kconfig __weak;
extern bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_NET __kconfig __weak;
extern char CONFIG_IPV6 __kconfig __weak;
extern int CONFIG_HZ __kconfig __weak;
extern unsigned char CONFIG_NR_CPUS_ABSENT __kconfig __weak;
extern long CONFIG_LOG_BUF_SHIFT __kconfig __weak;
extern const char CONFIG_DEFAULT_HOSTNAME[32] __kconfig __weak;

extern const void vfs_read __ksym;
extern const void schedule __ksym;
extern const void rawbpf_absent_symbol __ksym __weak;
extern const int bpf_prog_active __ksym;
struct rq {
	int nr_running;
};

extern const struct rq runqueues __ksym __weak;
extern const int rawbpf_absent_variable __ksym __weak;

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym __weak;
extern void bpf_task_release(struct task_struct *p) __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int rawbpf_absent_function(int x) __ksym __weak;

__u64 out[8];

SEC("raw_tp/sys_enter")
int configuration(void *ctx)
{
	out[0] = LINUX_KERNEL_VERSION + LINUX_HAS_SYSCALL_WRAPPER + LINUX_HAS_BPF_COOKIE;
	out[1] = CONFIG_BPF_SYSCALL + CONFIG_NET + CONFIG_IPV6;
	out[2] = CONFIG_HZ + CONFIG_NR_CPUS_ABSENT + CONFIG_LOG_BUF_SHIFT + CONFIG_DEFAULT_HOSTNAME[1];
	return 0;
}

SEC("raw_tp/sys_enter")
int addresses(void *ctx)
{
	out[3] = (__u64)&vfs_read;
	out[4] = (__u64)&schedule;
	out[5] = (__u64)&rawbpf_absent_symbol;
	return 0;
}

SEC("raw_tp/sys_enter")
int variables(void *ctx)
{
	const int *active = bpf_this_cpu_ptr(&bpf_prog_active);

	out[6] = *active;
	if (&runqueues)
		out[7] = (__u64)bpf_per_cpu_ptr(&runqueues, 0);
	if (&rawbpf_absent_variable)
		out[7] += rawbpf_absent_variable;
	return 0;
}

SEC("tp_btf/sys_enter")
int functions(void *ctx)
{
	bpf_rcu_read_lock();
	if (bpf_task_acquire) {
		struct task_struct *task = bpf_task_acquire((void *)bpf_get_current_task_btf());

		if (task)
			bpf_task_release(task);
	}
	if (rawbpf_absent_function)
		out[0] = rawbpf_absent_function(1);
	bpf_rcu_read_unlock();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
