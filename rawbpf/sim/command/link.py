"""The commands that attach or run programs, which a simulator never pretends to do, and those that ask for the result.

What is wrong with a call is found first, as far as it can be; what would succeed is ENOTSUPP.
Source: kernel/bpf/syscall.c (v6.12), at the functions named here.
"""

from __future__ import annotations

import os
import socket
from errno import EINVAL, ENODEV, ENOENT

from rawbpf.sim import attach
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.file import Content
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.map.cgroup_array import cgroup_of
from rawbpf.sim.map.sockmap import SimSockHash, SimSockMap
from rawbpf.sim.perf_event import SimPerfEvent
from rawbpf.sim.program import program_of
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

# What the fields of LINK_CREATE end with: uprobe_multi.pid.
_LINK_END = 60
_NS_GET_NSTYPE, _CLONE_NEWNET = 0xB703, 0x40000000
_BY_TARGET_ID = (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_LSM, c.BPF_PROG_TYPE_EXT)
_SOCKETS = (c.BPF_SK_SKB_STREAM_PARSER, c.BPF_SK_SKB_STREAM_VERDICT, c.BPF_SK_SKB_VERDICT, c.BPF_SK_MSG_VERDICT)
_NETWORKS = (c.BPF_FLOW_DISSECTOR, c.BPF_SK_LOOKUP)
_DEVICES = (c.BPF_TCX_INGRESS, c.BPF_TCX_EGRESS)
_CGROUP_TYPES = (
    *(c.BPF_PROG_TYPE_CGROUP_SKB, c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR),
    *(c.BPF_PROG_TYPE_CGROUP_SOCKOPT, c.BPF_PROG_TYPE_CGROUP_SYSCTL, c.BPF_PROG_TYPE_CGROUP_DEVICE),
    c.BPF_PROG_TYPE_SOCK_OPS,
)
# Fields of PROG_DETACH that other hooks have.
_NOT_OF_CGROUPS = ("attach_flags", "relative_fd")


class _Statistics(Content):
    # What ENABLE_STATS returns a descriptor of.
    pass


def create(kernel: Kernel, attr: Attr) -> int:
    """LINK_CREATE: refuse. Source: link_create, bpf_struct_ops_link_create."""
    attr.check(_LINK_END)
    attach_type = attr.number(a.LINK_CREATE, "attach_type")
    fd = attr.number(a.LINK_CREATE, "prog_fd")
    if attach_type == c.BPF_STRUCT_OPS:
        target = kernel.files.get(fd, SimMap).content
        assert isinstance(target, SimMap)
        if target.type != c.BPF_MAP_TYPE_STRUCT_OPS or not target.flags & c.BPF_F_LINK:
            raise Refused(EINVAL)
        raise Refused(ENOTSUPP)
    if not attach.may_attach(program_of(kernel, fd), attach_type):
        raise Refused(EINVAL)
    raise Refused(ENOTSUPP)


def attach_program(kernel: Kernel, attr: Attr) -> int:
    """PROG_ATTACH: refuse. Source: bpf_prog_attach."""
    attr.check(kernel.release.end(a.PROG_ATTACH))
    attach_type = attr.number(a.PROG_ATTACH, "attach_type")
    kind = attach.attached_type(attach_type)
    if kind is None:
        raise Refused(EINVAL)
    program = program_of(kernel, attr.number(a.PROG_ATTACH, "attach_bpf_fd"))
    if program.type != kind or not attach.may_attach(program, attach_type):
        raise Refused(EINVAL)
    raise Refused(ENOTSUPP)


def detach_program(kernel: Kernel, attr: Attr) -> int:
    """PROG_DETACH: nothing is attached. Source: bpf_prog_detach."""
    attr.check(kernel.release.end(a.PROG_DETACH))
    kind = attach.attached_type(attr.number(a.PROG_DETACH, "attach_type"))
    if kind is None or (kind in _CGROUP_TYPES and any(attr.number(a.PROG_DETACH, name) for name in _NOT_OF_CGROUPS)):
        raise Refused(EINVAL)
    if kind in _CGROUP_TYPES:
        # Whatever program is named.
        cgroup_of(attr.number(a.PROG_DETACH, "target_fd"))
        raise Refused(ENOENT)
    fd = attr.number(a.PROG_DETACH, "attach_bpf_fd")
    if fd:
        program_of(kernel, fd)
    raise Refused(ENOENT)


def open_raw_tracepoint(kernel: Kernel, attr: Attr) -> int:
    """RAW_TRACEPOINT_OPEN: refuse. Source: bpf_raw_tracepoint_open, bpf_raw_tp_link_attach."""
    attr.check(kernel.release.end(a.RAW_TRACEPOINT_OPEN))
    program = program_of(kernel, attr.number(a.RAW_TRACEPOINT_OPEN, "prog_fd"))
    name = attr.number(a.RAW_TRACEPOINT_OPEN, "name")
    if program.type in _BY_TARGET_ID:
        if name:
            raise Refused(EINVAL)
    elif program.type in (c.BPF_PROG_TYPE_RAW_TRACEPOINT, c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE):
        kernel.memory.string(name, 127)
    else:
        raise Refused(EINVAL)
    raise Refused(ENOTSUPP)


def run(kernel: Kernel, attr: Attr) -> int:
    """PROG_TEST_RUN: refuse. Source: bpf_prog_test_run."""
    attr.check(kernel.release.end(a.PROG_TEST_RUN))
    for way in ("in", "out"):
        if bool(attr.number(a.PROG_TEST_RUN, f"ctx_size_{way}")) != bool(attr.number(a.PROG_TEST_RUN, f"ctx_{way}")):
            raise Refused(EINVAL)
    program_of(kernel, attr.number(a.PROG_TEST_RUN, "prog_fd"))
    raise Refused(ENOTSUPP)


def _on_link(layout: a.Layout, *fields: str) -> Callable[[Kernel, Attr], int]:
    # A command on links, of which there are none: whatever the descriptor leads to is something else.
    def refuse(kernel: Kernel, attr: Attr) -> int:
        attr.check(layout.size)
        for field in fields:
            if attr.number(layout, field):
                raise Refused(EINVAL)
        kernel.files.find(attr.number(layout, "link_fd"))
        raise Refused(EINVAL)

    return refuse


def link_by_id(kernel: Kernel, attr: Attr) -> int:
    """LINK_GET_FD_BY_ID: there is none. Source: bpf_link_get_fd_by_id."""
    attr.check(a.LINK_GET_FD_BY_ID.size)
    raise Refused(ENOENT)


def next_link(kernel: Kernel, attr: Attr) -> int:
    """LINK_GET_NEXT_ID: there is none. Source: bpf_obj_get_next_id."""
    attr.check(a.LINK_GET_NEXT_ID.size)
    raise Refused(EINVAL if attr.take("=I")[0] >= 0x7FFFFFFF else ENOENT)


def enable_statistics(kernel: Kernel, attr: Attr) -> int:
    """ENABLE_STATS: return a descriptor; nothing runs that could be measured. Source: bpf_enable_stats."""
    attr.check(a.ENABLE_STATS.size)
    if attr.number(a.ENABLE_STATS, "type") != c.BPF_STATS_RUN_TIME:
        raise Refused(EINVAL)
    return kernel.files.open(_Statistics())


def query_task_fd(kernel: Kernel, attr: Attr) -> int:
    """TASK_FD_QUERY: no descriptor is of an event with a program. Source: bpf_task_fd_query."""
    attr.check(a.TASK_FD_QUERY.size)
    pid, fd, flags = attr.take("=III")
    if flags:
        raise Refused(EINVAL)
    if not os.path.exists(f"/proc/{pid}"):
        raise Refused(ENOENT)
    if pid != os.getpid():
        raise Refused(ENOTSUPP)
    file = kernel.files.find(fd)
    is_event = file is not None and isinstance(file.content, SimPerfEvent)
    raise Refused(ENOENT if is_event else ENOTSUPP)


def query(kernel: Kernel, attr: Attr) -> int:
    """PROG_QUERY: nothing is attached, where something could be. Source: bpf_prog_query."""
    attr.check(kernel.release.end(a.PROG_QUERY))
    if attr.number(a.PROG_QUERY, "query_flags") & ~c.BPF_F_QUERY_EFFECTIVE:
        raise Refused(EINVAL)
    attach_type = attr.number(a.PROG_QUERY, "attach_type")
    fd = attr.number(a.PROG_QUERY, "target_fd")
    if attach_type in _DEVICES:
        _check_device(fd)
        # Source: kernel/bpf/mprog.c:bpf_mprog_query: the revision is there before any program.
        attr.store(56, "=Q", 1)
    elif attach_type in _SOCKETS:
        if not isinstance(kernel.files.get(fd, SimMap).content, SimSockMap | SimSockHash):
            raise Refused(EINVAL)
    elif attach_type in _NETWORKS:
        _check_network(kernel, fd)
    elif attach.attached_type(attach_type) in _CGROUP_TYPES or attach_type == c.BPF_LSM_CGROUP:
        cgroup_of(fd)
    else:
        raise Refused(EINVAL)
    attr.store(12, "=I", 0)
    attr.store(24, "=I", 0)
    return 0


def _check_device(index: int) -> None:
    try:
        socket.if_indextoname(index)
    except (OSError, OverflowError):
        raise Refused(ENODEV) from None


def _check_network(kernel: Kernel, fd: int) -> None:
    # Source: get_net_ns_by_fd.
    kernel.files.find(fd)
    from fcntl import ioctl

    try:
        kind = ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        raise Refused(EINVAL)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_LINK_CREATE: create,
    c.BPF_LINK_UPDATE: _on_link(a.LINK_UPDATE),
    c.BPF_LINK_DETACH: _on_link(a.LINK_DETACH),
    c.BPF_LINK_GET_FD_BY_ID: link_by_id,
    c.BPF_LINK_GET_NEXT_ID: next_link,
    c.BPF_ITER_CREATE: _on_link(a.ITER_CREATE, "flags"),
    c.BPF_PROG_ATTACH: attach_program,
    c.BPF_PROG_DETACH: detach_program,
    c.BPF_PROG_QUERY: query,
    c.BPF_PROG_TEST_RUN: run,
    c.BPF_RAW_TRACEPOINT_OPEN: open_raw_tracepoint,
    c.BPF_ENABLE_STATS: enable_statistics,
    c.BPF_TASK_FD_QUERY: query_task_fd,
}
