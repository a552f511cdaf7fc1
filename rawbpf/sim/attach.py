"""Which attach types go with which program types.

Source: kernel/bpf/syscall.c:bpf_prog_load_check_attach, attach_type_to_prog_type, bpf_prog_attach_check_attach_type
(v6.12).
"""

from __future__ import annotations

from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.program import SimProgram
    from rawbpf.sim.release import Release

_SOCK_ADDR = (
    *(c.BPF_CGROUP_INET4_BIND, c.BPF_CGROUP_INET6_BIND, c.BPF_CGROUP_INET4_CONNECT, c.BPF_CGROUP_INET6_CONNECT),
    *(c.BPF_CGROUP_UDP4_SENDMSG, c.BPF_CGROUP_UDP6_SENDMSG, c.BPF_CGROUP_UDP4_RECVMSG, c.BPF_CGROUP_UDP6_RECVMSG),
    *range(c.BPF_CGROUP_INET4_GETPEERNAME, c.BPF_CGROUP_INET6_GETSOCKNAME + 1),
    *range(c.BPF_CGROUP_UNIX_CONNECT, c.BPF_CGROUP_UNIX_GETSOCKNAME + 1),
)
_SOCK = (
    *(c.BPF_CGROUP_INET_SOCK_CREATE, c.BPF_CGROUP_INET_SOCK_RELEASE),
    *(c.BPF_CGROUP_INET4_POST_BIND, c.BPF_CGROUP_INET6_POST_BIND),
)
_REUSEPORT = (c.BPF_SK_REUSEPORT_SELECT, c.BPF_SK_REUSEPORT_SELECT_OR_MIGRATE)
# What a program's expected_attach_type may be, for the types that check it.
_EXPECTED: dict[int, tuple[int, ...]] = {
    c.BPF_PROG_TYPE_CGROUP_SOCK: _SOCK,
    c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR: _SOCK_ADDR,
    c.BPF_PROG_TYPE_CGROUP_SKB: (c.BPF_CGROUP_INET_INGRESS, c.BPF_CGROUP_INET_EGRESS),
    c.BPF_PROG_TYPE_CGROUP_SOCKOPT: (c.BPF_CGROUP_SETSOCKOPT, c.BPF_CGROUP_GETSOCKOPT),
    c.BPF_PROG_TYPE_SK_LOOKUP: (c.BPF_SK_LOOKUP,),
    c.BPF_PROG_TYPE_SK_REUSEPORT: _REUSEPORT,
    c.BPF_PROG_TYPE_NETFILTER: (c.BPF_NETFILTER,),
    c.BPF_PROG_TYPE_SYSCALL: (0,),
    c.BPF_PROG_TYPE_EXT: (0,),
}
# What stands for an expected_attach_type of 0.
_DEFAULT = {
    c.BPF_PROG_TYPE_CGROUP_SOCK: c.BPF_CGROUP_INET_SOCK_CREATE,
    c.BPF_PROG_TYPE_SK_REUSEPORT: c.BPF_SK_REUSEPORT_SELECT,
}
# The first release with these attach types, as far as the checks above go.
_SINCE = {
    (5, 8): range(c.BPF_CGROUP_INET4_GETPEERNAME, c.BPF_CGROUP_INET6_GETSOCKNAME + 1),
    (5, 9): (c.BPF_CGROUP_INET_SOCK_RELEASE,),
    (5, 14): _REUSEPORT[1:],
    (6, 7): range(c.BPF_CGROUP_UNIX_CONNECT, c.BPF_CGROUP_UNIX_GETSOCKNAME + 1),
}
# The type of program that is attached in a certain way, by PROG_ATTACH and LINK_CREATE.
_ATTACHED: dict[int, int] = {
    **dict.fromkeys((c.BPF_CGROUP_INET_INGRESS, c.BPF_CGROUP_INET_EGRESS), c.BPF_PROG_TYPE_CGROUP_SKB),
    **dict.fromkeys(_SOCK, c.BPF_PROG_TYPE_CGROUP_SOCK),
    **dict.fromkeys(_SOCK_ADDR, c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR),
    c.BPF_CGROUP_SOCK_OPS: c.BPF_PROG_TYPE_SOCK_OPS,
    c.BPF_CGROUP_DEVICE: c.BPF_PROG_TYPE_CGROUP_DEVICE,
    c.BPF_CGROUP_SYSCTL: c.BPF_PROG_TYPE_CGROUP_SYSCTL,
    **dict.fromkeys((c.BPF_CGROUP_GETSOCKOPT, c.BPF_CGROUP_SETSOCKOPT), c.BPF_PROG_TYPE_CGROUP_SOCKOPT),
    c.BPF_SK_MSG_VERDICT: c.BPF_PROG_TYPE_SK_MSG,
    **dict.fromkeys(
        (c.BPF_SK_SKB_STREAM_PARSER, c.BPF_SK_SKB_STREAM_VERDICT, c.BPF_SK_SKB_VERDICT), c.BPF_PROG_TYPE_SK_SKB
    ),
    c.BPF_LIRC_MODE2: c.BPF_PROG_TYPE_LIRC_MODE2,
    c.BPF_FLOW_DISSECTOR: c.BPF_PROG_TYPE_FLOW_DISSECTOR,
    **dict.fromkeys((c.BPF_TRACE_ITER, c.BPF_TRACE_RAW_TP, c.BPF_TRACE_FENTRY), c.BPF_PROG_TYPE_TRACING),
    **dict.fromkeys((c.BPF_TRACE_FEXIT, c.BPF_MODIFY_RETURN), c.BPF_PROG_TYPE_TRACING),
    **dict.fromkeys((c.BPF_LSM_MAC, c.BPF_LSM_CGROUP), c.BPF_PROG_TYPE_LSM),
    c.BPF_SK_LOOKUP: c.BPF_PROG_TYPE_SK_LOOKUP,
    c.BPF_XDP: c.BPF_PROG_TYPE_XDP,
    **dict.fromkeys((c.BPF_TCX_INGRESS, c.BPF_TCX_EGRESS), c.BPF_PROG_TYPE_SCHED_CLS),
    **dict.fromkeys((c.BPF_NETKIT_PRIMARY, c.BPF_NETKIT_PEER), c.BPF_PROG_TYPE_SCHED_CLS),
}
# Of these, PROG_ATTACH takes only programs that were loaded for the very attach type.
_EXACT = (
    c.BPF_PROG_TYPE_CGROUP_SOCK,
    c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
    c.BPF_PROG_TYPE_CGROUP_SOCKOPT,
    c.BPF_PROG_TYPE_SK_LOOKUP,
)


def expected(prog_type: int, attach_type: int) -> int:
    """Return the expected_attach_type that a program has which is loaded with `attach_type`.

    Source: bpf_prog_load_fixup_attach_type.
    """
    return attach_type or _DEFAULT.get(prog_type, 0)


def may_expect(release: Release, prog_type: int, attach_type: int) -> bool:
    """Return whether a program of this type may be loaded with this expected_attach_type."""
    if prog_type not in _EXPECTED:
        return True
    known = all(release.version >= first or attach_type not in later for first, later in _SINCE.items())
    return known and attach_type in _EXPECTED[prog_type]


def attached_type(attach_type: int) -> int | None:
    """Return the type of program that is attached this way; None where there is none."""
    return _ATTACHED.get(attach_type)


def may_attach(program: SimProgram, attach_type: int) -> bool:
    """Return whether this program may be attached this way. Source: bpf_prog_attach_check_attach_type."""
    if program.type in _EXACT:
        return program.expected_attach_type == attach_type
    if program.type == c.BPF_PROG_TYPE_KPROBE:
        return attach_type in (
            *(c.BPF_PERF_EVENT, c.BPF_TRACE_KPROBE_MULTI, c.BPF_TRACE_KPROBE_SESSION),
            *(c.BPF_TRACE_UPROBE_MULTI, c.BPF_TRACE_UPROBE_SESSION),
        )
    if program.type in (c.BPF_PROG_TYPE_PERF_EVENT, c.BPF_PROG_TYPE_TRACEPOINT):
        return attach_type == c.BPF_PERF_EVENT
    if program.type == c.BPF_PROG_TYPE_NETFILTER:
        return attach_type == c.BPF_NETFILTER
    if program.type in (c.BPF_PROG_TYPE_EXT, c.BPF_PROG_TYPE_RAW_TRACEPOINT):
        return True
    return _ATTACHED.get(attach_type) == program.type
