"""Which capability a refused command lacks, and what else may stand in its way.

Asked only after EPERM: the kernel decides, this explains. Must not know how to raise.

Source: kernel/bpf/syscall.c:map_create, bpf_prog_load, is_net_admin_prog_type, is_perfmon_prog_type (v6.12).
"""

from __future__ import annotations

from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.syscall.protocol import Host

_BPF, _PERFMON, _NET, _ADMIN = "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"

# Creating these asks for CAP_NET_ADMIN; all others for CAP_BPF at most.
_NET_MAPS = (
    c.BPF_MAP_TYPE_SOCKMAP,
    c.BPF_MAP_TYPE_SOCKHASH,
    c.BPF_MAP_TYPE_DEVMAP,
    c.BPF_MAP_TYPE_DEVMAP_HASH,
    c.BPF_MAP_TYPE_XSKMAP,
)
_NET_PROGS = (
    c.BPF_PROG_TYPE_SCHED_CLS,
    c.BPF_PROG_TYPE_SCHED_ACT,
    c.BPF_PROG_TYPE_XDP,
    c.BPF_PROG_TYPE_LWT_IN,
    c.BPF_PROG_TYPE_LWT_OUT,
    c.BPF_PROG_TYPE_LWT_XMIT,
    c.BPF_PROG_TYPE_LWT_SEG6LOCAL,
    c.BPF_PROG_TYPE_SK_SKB,
    c.BPF_PROG_TYPE_SK_MSG,
    c.BPF_PROG_TYPE_FLOW_DISSECTOR,
    c.BPF_PROG_TYPE_CGROUP_DEVICE,
    c.BPF_PROG_TYPE_CGROUP_SOCK,
    c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
    c.BPF_PROG_TYPE_CGROUP_SOCKOPT,
    c.BPF_PROG_TYPE_CGROUP_SYSCTL,
    c.BPF_PROG_TYPE_SOCK_OPS,
    c.BPF_PROG_TYPE_EXT,
    c.BPF_PROG_TYPE_NETFILTER,
)
_TRACING_PROGS = (
    c.BPF_PROG_TYPE_KPROBE,
    c.BPF_PROG_TYPE_TRACEPOINT,
    c.BPF_PROG_TYPE_PERF_EVENT,
    c.BPF_PROG_TYPE_RAW_TRACEPOINT,
    c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
    c.BPF_PROG_TYPE_TRACING,
    c.BPF_PROG_TYPE_LSM,
    c.BPF_PROG_TYPE_STRUCT_OPS,
    c.BPF_PROG_TYPE_EXT,
)
_TRACING_ATTACH_TYPES = (
    c.BPF_PERF_EVENT,
    c.BPF_TRACE_RAW_TP,
    c.BPF_TRACE_FENTRY,
    c.BPF_TRACE_FEXIT,
    c.BPF_MODIFY_RETURN,
    c.BPF_LSM_MAC,
    c.BPF_TRACE_ITER,
    c.BPF_TRACE_KPROBE_MULTI,
    c.BPF_TRACE_KPROBE_SESSION,
    c.BPF_TRACE_UPROBE_MULTI,
    c.BPF_TRACE_UPROBE_SESSION,
)
_BY_CMD = {
    c.BPF_BTF_LOAD: (_BPF,),
    c.BPF_TOKEN_CREATE: (_BPF,),
    c.BPF_RAW_TRACEPOINT_OPEN: (_BPF, _PERFMON),
    c.BPF_PROG_ATTACH: (_NET,),
    c.BPF_PROG_DETACH: (_NET,),
    c.BPF_PROG_QUERY: (_NET,),
    c.BPF_PROG_TEST_RUN: (_BPF, _NET),
    **dict.fromkeys(
        (
            c.BPF_MAP_GET_NEXT_ID,
            c.BPF_PROG_GET_NEXT_ID,
            c.BPF_BTF_GET_NEXT_ID,
            c.BPF_LINK_GET_NEXT_ID,
            c.BPF_MAP_GET_FD_BY_ID,
            c.BPF_PROG_GET_FD_BY_ID,
            c.BPF_BTF_GET_FD_BY_ID,
            c.BPF_LINK_GET_FD_BY_ID,
            c.BPF_TASK_FD_QUERY,
            c.BPF_ENABLE_STATS,
        ),
        (_ADMIN,),
    ),
}

_DISABLED = {
    0: "0, which leaves only some map types and socket filters to unprivileged processes",
    1: "1, which forbids bpf to unprivileged processes until the next boot",
    2: "2, which forbids bpf to unprivileged processes",
}


def needed(cmd: int, values: Mapping[str, int | bytes]) -> tuple[str, ...]:
    """Return the capabilities that `cmd` with these fields asks for; empty where files or flags decide instead.

    CAP_SYS_ADMIN stands for each of them, and did alone before Linux 5.8.
    """
    if cmd == c.BPF_MAP_CREATE:
        return (_BPF, _NET) if values.get("map_type") in _NET_MAPS else (_BPF,)
    if cmd == c.BPF_PROG_LOAD:
        kind = values.get("prog_type")
        net, tracing = kind in _NET_PROGS, kind in _TRACING_PROGS
        return (_BPF, *((_PERFMON,) if tracing else ()), *((_NET,) if net else ()))
    if cmd == c.BPF_LINK_CREATE:
        return (_BPF, _PERFMON) if values.get("attach_type") in _TRACING_ATTACH_TYPES else (_BPF, _NET)
    return _BY_CMD.get(cmd, ())


def explain(host: Host, wanted: tuple[str, ...]) -> str:
    """Return in one line which of the `wanted` capabilities this process lacks, and how to get them."""
    has = host.capabilities()
    missing = [] if _ADMIN in has else [name for name in wanted if name not in has]
    lockdown = host.lockdown()
    locked = f"; the kernel is locked down ({lockdown})" if lockdown and lockdown != "none" else ""
    if not missing:
        return (
            f"this process has {' and '.join(wanted)}, so something else forbids it: a security module, a seccomp "
            "filter, a user namespace (a container's), inside which alone they count, or before Linux 5.11 "
            f"RLIMIT_MEMLOCK (ulimit -l unlimited){locked}"
        )
    it = "them" if len(missing) > 1 else "it"
    caps = ",".join(missing).lower()
    text = f"needs {' and '.join(missing)}, which this process lacks{_sysctl(host, missing)}{locked}"
    return f"{text}; run it as root, or grant {it} (setcap {caps}+ep on the Python binary, docker run --cap-add)"


def _sysctl(host: Host, missing: list[str]) -> str:
    if _BPF not in missing:
        return ""
    value = host.unprivileged_bpf_disabled()
    return "" if value is None else f" (kernel.unprivileged_bpf_disabled is {_DISABLED.get(value, value)})"
