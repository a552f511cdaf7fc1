"""The section table: what a program's `SEC("...")` says about its type and how it attaches.

One row per definition; the loader, `attach()` and the command line are driven by it. Pure data: the
functions that attach live in `link`, and find theirs by the word in `attach`.

Source: tools/lib/bpf/libbpf.c:section_defs (v6.12), section names being libbpf's interface.
"""

from __future__ import annotations

from rawbpf.errors import SpecError
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Linux 7.0 and 7.2 name them; the values are ABI.
BPF_TRACE_FSESSION = 58
_BPF_TRACE_FENTRY_MULTI, _BPF_TRACE_FEXIT_MULTI, _BPF_TRACE_FSESSION_MULTI = 59, 60, 61


class Section:
    """One definition: which names it matches and what a program in such a section is.

    `pattern` is an exact name, or with a trailing `+` that name alone or followed by `/target`.
    `attach` is the word for the way it attaches. `auto`: the section's text says all that attaching
    needs. `btf`: the target is found in BTF at load time. `on_return`: the probe fires on return.
    `optional_type`: old kernels that refuse expected_attach_type want 0 instead.
    """

    __slots__ = (
        "attach",
        "auto",
        "btf",
        "expected_attach_type",
        "frags",
        "on_return",
        "optional_type",
        "pattern",
        "prog_type",
        "sleepable",
    )

    def __init__(
        self,
        pattern: str,
        prog_type: int,
        expected_attach_type: int = 0,
        attach: str = "",
        *,
        auto: bool = False,
        btf: bool = False,
        sleepable: bool = False,
        frags: bool = False,
        on_return: bool = False,
        optional_type: bool = False,
    ) -> None:
        self.pattern = pattern
        self.prog_type = prog_type
        self.expected_attach_type = expected_attach_type
        self.attach = attach
        self.auto = auto
        self.btf = btf
        self.sleepable = sleepable
        self.frags = frags
        self.on_return = on_return
        self.optional_type = optional_type

    @property
    def prog_flags(self) -> int:
        """The BPF_F_* flags that PROG_LOAD wants for such a program."""
        return (c.BPF_F_SLEEPABLE if self.sleepable else 0) | (c.BPF_F_XDP_HAS_FRAGS if self.frags else 0)

    def matches(self, name: str) -> bool:
        """Whether a section of this `name` (without a leading `?`) is of this definition."""
        if not self.pattern.endswith("+"):
            return name == self.pattern
        stem = self.pattern[:-1]
        return name == stem or name.startswith(stem + "/")

    def target(self, name: str) -> str:
        """Return what follows the definition's own name and slash in `name`, or an empty string."""
        name = name.removeprefix("?")
        return name[len(self.pattern) :] if self.pattern.endswith("+") else ""

    def __repr__(self) -> str:
        return f"Section({self.pattern!r}, attach={self.attach!r})"


def _rows() -> Iterator[Section]:
    for pattern, prog_type, attach_type, attach, words in _TABLE:
        flags = dict.fromkeys(words.split(), True)
        yield Section(pattern, prog_type, attach_type, attach, **flags)


# (pattern, prog_type, expected_attach_type, attach, flags): the first row that matches wins.
_TABLE: tuple[tuple[str, int, int, str, str], ...] = (
    ("socket", c.BPF_PROG_TYPE_SOCKET_FILTER, 0, "socket", ""),
    ("sk_reuseport/migrate", c.BPF_PROG_TYPE_SK_REUSEPORT, c.BPF_SK_REUSEPORT_SELECT_OR_MIGRATE, "sk_reuseport", ""),
    ("sk_reuseport", c.BPF_PROG_TYPE_SK_REUSEPORT, c.BPF_SK_REUSEPORT_SELECT, "sk_reuseport", ""),
    ("kprobe+", c.BPF_PROG_TYPE_KPROBE, 0, "kprobe", "auto"),
    ("uprobe+", c.BPF_PROG_TYPE_KPROBE, 0, "uprobe", "auto"),
    ("uprobe.s+", c.BPF_PROG_TYPE_KPROBE, 0, "uprobe", "auto sleepable"),
    ("kretprobe+", c.BPF_PROG_TYPE_KPROBE, 0, "kprobe", "auto on_return"),
    ("uretprobe+", c.BPF_PROG_TYPE_KPROBE, 0, "uprobe", "auto on_return"),
    ("uretprobe.s+", c.BPF_PROG_TYPE_KPROBE, 0, "uprobe", "auto on_return sleepable"),
    ("kprobe.multi+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_MULTI, "kprobe_multi", "auto"),
    ("kretprobe.multi+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_MULTI, "kprobe_multi", "auto on_return"),
    ("kprobe.session+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_SESSION, "kprobe_multi", "auto"),
    ("uprobe.multi+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, "uprobe_multi", "auto"),
    ("uretprobe.multi+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, "uprobe_multi", "auto on_return"),
    ("uprobe.session+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_SESSION, "uprobe_multi", "auto"),
    ("uprobe.multi.s+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_MULTI, "uprobe_multi", "auto sleepable"),
    (
        "uretprobe.multi.s+",
        c.BPF_PROG_TYPE_KPROBE,
        c.BPF_TRACE_UPROBE_MULTI,
        "uprobe_multi",
        "auto on_return sleepable",
    ),
    ("uprobe.session.s+", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_UPROBE_SESSION, "uprobe_multi", "auto sleepable"),
    ("ksyscall+", c.BPF_PROG_TYPE_KPROBE, 0, "ksyscall", "auto"),
    ("kretsyscall+", c.BPF_PROG_TYPE_KPROBE, 0, "ksyscall", "auto on_return"),
    ("usdt+", c.BPF_PROG_TYPE_KPROBE, 0, "usdt", "auto"),
    ("usdt.s+", c.BPF_PROG_TYPE_KPROBE, 0, "usdt", "auto sleepable"),
    ("tc/ingress", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_INGRESS, "tcx", "optional_type"),
    ("tc/egress", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_EGRESS, "tcx", "optional_type"),
    ("tcx/ingress", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_INGRESS, "tcx", "optional_type"),
    ("tcx/egress", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_EGRESS, "tcx", "optional_type"),
    ("tc", c.BPF_PROG_TYPE_SCHED_CLS, 0, "tc", ""),
    ("classifier", c.BPF_PROG_TYPE_SCHED_CLS, 0, "tc", ""),
    ("action", c.BPF_PROG_TYPE_SCHED_ACT, 0, "tc", ""),
    ("netkit/primary", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_NETKIT_PRIMARY, "netkit", ""),
    ("netkit/peer", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_NETKIT_PEER, "netkit", ""),
    ("tracepoint+", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "auto"),
    ("tp+", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "auto"),
    ("tracepoint.s+", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "auto sleepable"),
    ("tp.s+", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "auto sleepable"),
    ("raw_tracepoint+", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_tracepoint", "auto"),
    ("raw_tp+", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_tracepoint", "auto"),
    ("raw_tracepoint.s+", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_tracepoint", "auto sleepable"),
    ("raw_tp.s+", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_tracepoint", "auto sleepable"),
    ("raw_tracepoint.w+", c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, "raw_tracepoint", "auto"),
    ("raw_tp.w+", c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, "raw_tracepoint", "auto"),
    ("tp_btf+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_RAW_TP, "tracing", "auto btf"),
    ("tp_btf.s+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_RAW_TP, "tracing", "auto btf sleepable"),
    ("fentry+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FENTRY, "tracing", "auto btf"),
    ("fmod_ret+", c.BPF_PROG_TYPE_TRACING, c.BPF_MODIFY_RETURN, "tracing", "auto btf"),
    ("fexit+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FEXIT, "tracing", "auto btf on_return"),
    ("fsession+", c.BPF_PROG_TYPE_TRACING, BPF_TRACE_FSESSION, "tracing", "auto btf"),
    ("fentry.s+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FENTRY, "tracing", "auto btf sleepable"),
    ("fmod_ret.s+", c.BPF_PROG_TYPE_TRACING, c.BPF_MODIFY_RETURN, "tracing", "auto btf sleepable"),
    ("fexit.s+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FEXIT, "tracing", "auto btf sleepable on_return"),
    ("fsession.s+", c.BPF_PROG_TYPE_TRACING, BPF_TRACE_FSESSION, "tracing", "auto btf sleepable"),
    ("fentry.multi+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FENTRY_MULTI, "tracing_multi", "auto"),
    ("fexit.multi+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FEXIT_MULTI, "tracing_multi", "auto on_return"),
    ("fsession.multi+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FSESSION_MULTI, "tracing_multi", "auto"),
    ("fentry.multi.s+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FENTRY_MULTI, "tracing_multi", "auto sleepable"),
    ("fexit.multi.s+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FEXIT_MULTI, "tracing_multi", "auto on_return sleepable"),
    ("fsession.multi.s+", c.BPF_PROG_TYPE_TRACING, _BPF_TRACE_FSESSION_MULTI, "tracing_multi", "auto sleepable"),
    ("freplace+", c.BPF_PROG_TYPE_EXT, 0, "freplace", "auto btf"),
    ("lsm+", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_MAC, "lsm", "auto btf"),
    ("lsm.s+", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_MAC, "lsm", "auto btf sleepable"),
    ("lsm_cgroup+", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_CGROUP, "cgroup", "btf"),
    ("iter+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_ITER, "iter", "auto btf"),
    ("iter.s+", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_ITER, "iter", "auto btf sleepable"),
    ("syscall", c.BPF_PROG_TYPE_SYSCALL, 0, "run", "sleepable"),
    ("xdp.frags/devmap", c.BPF_PROG_TYPE_XDP, c.BPF_XDP_DEVMAP, "map_value", "frags"),
    ("xdp/devmap", c.BPF_PROG_TYPE_XDP, c.BPF_XDP_DEVMAP, "map_value", ""),
    ("xdp.frags/cpumap", c.BPF_PROG_TYPE_XDP, c.BPF_XDP_CPUMAP, "map_value", "frags"),
    ("xdp/cpumap", c.BPF_PROG_TYPE_XDP, c.BPF_XDP_CPUMAP, "map_value", ""),
    ("xdp.frags", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, "xdp", "frags"),
    ("xdp", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, "xdp", "optional_type"),
    ("perf_event", c.BPF_PROG_TYPE_PERF_EVENT, 0, "perf_event", ""),
    ("lwt_in", c.BPF_PROG_TYPE_LWT_IN, 0, "lwt", ""),
    ("lwt_out", c.BPF_PROG_TYPE_LWT_OUT, 0, "lwt", ""),
    ("lwt_xmit", c.BPF_PROG_TYPE_LWT_XMIT, 0, "lwt", ""),
    ("lwt_seg6local", c.BPF_PROG_TYPE_LWT_SEG6LOCAL, 0, "lwt", ""),
    ("sockops", c.BPF_PROG_TYPE_SOCK_OPS, c.BPF_CGROUP_SOCK_OPS, "cgroup", "optional_type"),
    ("sk_skb/stream_parser", c.BPF_PROG_TYPE_SK_SKB, c.BPF_SK_SKB_STREAM_PARSER, "sockmap", "optional_type"),
    ("sk_skb/stream_verdict", c.BPF_PROG_TYPE_SK_SKB, c.BPF_SK_SKB_STREAM_VERDICT, "sockmap", "optional_type"),
    ("sk_skb/verdict", c.BPF_PROG_TYPE_SK_SKB, c.BPF_SK_SKB_VERDICT, "sockmap", "optional_type"),
    ("sk_skb", c.BPF_PROG_TYPE_SK_SKB, 0, "sockmap", ""),
    ("sk_msg", c.BPF_PROG_TYPE_SK_MSG, c.BPF_SK_MSG_VERDICT, "sockmap", "optional_type"),
    ("lirc_mode2", c.BPF_PROG_TYPE_LIRC_MODE2, c.BPF_LIRC_MODE2, "lirc", "optional_type"),
    ("flow_dissector", c.BPF_PROG_TYPE_FLOW_DISSECTOR, c.BPF_FLOW_DISSECTOR, "netns", "optional_type"),
    ("cgroup_skb/ingress", c.BPF_PROG_TYPE_CGROUP_SKB, c.BPF_CGROUP_INET_INGRESS, "cgroup", "optional_type"),
    ("cgroup_skb/egress", c.BPF_PROG_TYPE_CGROUP_SKB, c.BPF_CGROUP_INET_EGRESS, "cgroup", "optional_type"),
    ("cgroup/skb", c.BPF_PROG_TYPE_CGROUP_SKB, 0, "cgroup", ""),
    ("cgroup/sock_create", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_CREATE, "cgroup", ""),
    ("cgroup/sock_release", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_RELEASE, "cgroup", ""),
    ("cgroup/sock", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_CREATE, "cgroup", "optional_type"),
    ("cgroup/post_bind4", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET4_POST_BIND, "cgroup", ""),
    ("cgroup/post_bind6", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET6_POST_BIND, "cgroup", ""),
    ("cgroup/bind4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_BIND, "cgroup", ""),
    ("cgroup/bind6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET6_BIND, "cgroup", ""),
    ("cgroup/connect4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_CONNECT, "cgroup", ""),
    ("cgroup/connect6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET6_CONNECT, "cgroup", ""),
    ("cgroup/connect_unix", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UNIX_CONNECT, "cgroup", ""),
    ("cgroup/sendmsg4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UDP4_SENDMSG, "cgroup", ""),
    ("cgroup/sendmsg6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UDP6_SENDMSG, "cgroup", ""),
    ("cgroup/sendmsg_unix", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UNIX_SENDMSG, "cgroup", ""),
    ("cgroup/recvmsg4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UDP4_RECVMSG, "cgroup", ""),
    ("cgroup/recvmsg6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UDP6_RECVMSG, "cgroup", ""),
    ("cgroup/recvmsg_unix", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UNIX_RECVMSG, "cgroup", ""),
    ("cgroup/getpeername4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_GETPEERNAME, "cgroup", ""),
    ("cgroup/getpeername6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET6_GETPEERNAME, "cgroup", ""),
    ("cgroup/getpeername_unix", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UNIX_GETPEERNAME, "cgroup", ""),
    ("cgroup/getsockname4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_GETSOCKNAME, "cgroup", ""),
    ("cgroup/getsockname6", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET6_GETSOCKNAME, "cgroup", ""),
    ("cgroup/getsockname_unix", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_UNIX_GETSOCKNAME, "cgroup", ""),
    ("cgroup/sysctl", c.BPF_PROG_TYPE_CGROUP_SYSCTL, c.BPF_CGROUP_SYSCTL, "cgroup", ""),
    ("cgroup/getsockopt", c.BPF_PROG_TYPE_CGROUP_SOCKOPT, c.BPF_CGROUP_GETSOCKOPT, "cgroup", ""),
    ("cgroup/setsockopt", c.BPF_PROG_TYPE_CGROUP_SOCKOPT, c.BPF_CGROUP_SETSOCKOPT, "cgroup", ""),
    ("cgroup/dev", c.BPF_PROG_TYPE_CGROUP_DEVICE, c.BPF_CGROUP_DEVICE, "cgroup", "optional_type"),
    ("struct_ops+", c.BPF_PROG_TYPE_STRUCT_OPS, 0, "struct_ops", ""),
    ("struct_ops.s+", c.BPF_PROG_TYPE_STRUCT_OPS, 0, "struct_ops", "sleepable"),
    ("sk_lookup", c.BPF_PROG_TYPE_SK_LOOKUP, c.BPF_SK_LOOKUP, "netns", ""),
    ("netfilter", c.BPF_PROG_TYPE_NETFILTER, c.BPF_NETFILTER, "netfilter", ""),
)
_sections: list[Section] = []
_own: list[Section] = []


def sections() -> tuple[Section, ...]:
    """Return every definition, in the order in which they are tried; registered ones come first."""
    if not _sections:
        _sections.extend(_rows())
    return (*_own, *_sections)


def find_section(name: str) -> Section | None:
    """Return the first definition that matches the section `name`, or None.

    A leading `?` (do not load unless asked) is no part of the name.
    """
    name = name.removeprefix("?")
    return next((section for section in sections() if section.matches(name)), None)


def register_section(section: Section) -> None:
    """Add a definition of one's own; it is tried before the built-in ones.

    Raises: SpecError when its pattern is registered already; TypeError for what is no `Section`.
    """
    if not isinstance(section, Section):
        raise TypeError(f"expected a Section, such as Section('mine+', 6), got {section!r}")
    if any(section.pattern == other.pattern for other in _own):
        raise SpecError(f"the section {section.pattern!r} is registered already")
    _own.append(section)


def unregister_section(section: Section) -> None:
    """Take back what `register_section` added.

    Raises: SpecError when it is not registered.
    """
    if section not in _own:
        raise SpecError(f"the section {section.pattern!r} is not registered")
    _own.remove(section)
