"""System-wide ids of maps, programs, links and BTFs, and who holds them.

Talks to bpf(2) by itself, so that a mistake in rawbpf cannot hide what rawbpf left behind. Freeing is
asynchronous (RCU, workqueues): an id that should be gone is waited for, with a deadline.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

from rawbpf.syscall.kernel import syscall_numbers

# Kind: (GET_NEXT_ID, GET_FD_BY_ID, key in fdinfo). Source: include/uapi/linux/bpf.h, enum bpf_cmd (v6.12)
_KINDS = {
    "prog": (11, 13, "prog_id:"),
    "map": (12, 14, "map_id:"),
    "btf": (23, 19, "btf_id:"),
    "link": (31, 30, "link_id:"),
}
_OBJ_GET_INFO_BY_FD = 15
_syscall = ctypes.CDLL(None, use_errno=True).syscall

type_and_id = tuple[str, int]
Call = Callable[[int, bytes], tuple[int, bytes]]
"""bpf(2) of some kernel: command and attr to the result, or the negated errno, and the attr."""


def call_with(bpf: Callable[[int, Any, int], int], cmd: int, attr: bytes) -> tuple[int, bytes]:
    """Make one call with a backend's `bpf`."""
    buffer = ctypes.create_string_buffer(attr, 256)
    result = bpf(cmd, ctypes.byref(buffer), 128)
    return (result if result >= 0 else -ctypes.get_errno()), buffer.raw


def _bpf(cmd: int, attr: bytes) -> tuple[int, bytes]:
    number = syscall_numbers(os.uname().machine)[0]
    return call_with(lambda *arguments: int(_syscall(number, *arguments)), cmd, attr)


def readable() -> bool:
    """Return whether this process may walk the ids (CAP_SYS_ADMIN)."""
    result, _ = _bpf(_KINDS["map"][0], b"")
    return result in (0, -errno.ENOENT)


def ids(call: Call = _bpf) -> set[type_and_id]:
    """Return the (kind, id) of every object that the kernel has now."""
    found = set()
    for kind, (next_id, _, _) in _KINDS.items():
        number = 0
        while True:
            result, attr = call(next_id, struct.pack("=I", number))
            if result < 0:
                break
            number = struct.unpack_from("=I", attr, 4)[0]
            found.add((kind, number))
    return found


def left_over(candidates: set[type_and_id], seconds: float = 5.0) -> set[type_and_id]:
    """Return those of `candidates` that neither go away within `seconds` nor belong to another process."""
    deadline = time.monotonic() + seconds
    rest = set(candidates)
    if kept := rest & _open_in(os.getpid()):
        return kept  # no use in waiting for what this process holds
    while rest:
        rest &= ids()
        rest -= _held_by_others(rest)
        remaining = deadline - time.monotonic()
        if not rest or remaining <= 0:
            break
        # Nothing signals that an id was freed: look again soon.
        select.select([], [], [], min(0.02, remaining))
    return rest


def describe(kind: str, number: int, call: Call = _bpf) -> str:
    """Return e.g. `map 12 'counts'`."""
    info = _info(kind, number, call=call)
    at = {"map": 24, "prog": 64}.get(kind)
    name = info[at : at + 16].split(b"\0")[0].decode("ascii", "replace") if info and at else ""
    return f"{kind} {number}" + (f" {name!r}" if name else "")


def is_kernels_own(kind: str, number: int, call: Call = _bpf) -> bool:
    """Return whether it is BTF of the kernel itself, which is there from the start or from when it is asked for."""
    if kind != "btf":
        return False
    info = _info(kind, number, call=call)
    return bool(info) and struct.unpack_from("=I", info, 28)[0] == 1  # kernel_btf


def _held_by_others(wanted: set[type_and_id]) -> set[type_and_id]:
    # Several suites and tools may run on one machine: what another process has open is not ours, nor what that uses.
    if not wanted:
        return set()
    held: set[type_and_id] = set()
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            held |= _open_in(int(pid))
    for kind, number in list(held):
        held |= _used_by(kind, number)
    for kind, number in list(held):
        held |= _used_by(kind, number)
    return held


def _open_in(pid: int) -> set[type_and_id]:
    held = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith(("anon_inode:bpf", "anon_inode:btf", "anon_inode:[")):
                continue
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
                for line in file:
                    held |= {(kind, int(line.split()[1])) for kind, row in _KINDS.items() if line.startswith(row[2])}
    except OSError:
        pass  # the process, or its descriptor, is gone
    return held


def _used_by(kind: str, number: int) -> set[type_and_id]:
    info = _info(kind, number)
    if kind == "link":
        return {("prog", struct.unpack_from("=I", info, 8)[0])} if info else set()
    if kind == "map":
        return {("btf", struct.unpack_from("=I", info, 64)[0])} if info else set()
    if kind == "prog" and info:
        count = struct.unpack_from("=I", info, 52)[0]
        maps = ctypes.create_string_buffer(4 * count)
        request = struct.pack("=52xIQ", count, ctypes.addressof(maps))
        _info(kind, number, request)
        return {("btf", struct.unpack_from("=I", info, 128)[0])} | {
            ("map", n) for n in struct.unpack(f"={count}I", maps.raw)
        }
    return set()


def _info(kind: str, number: int, request: bytes = b"", *, call: Call = _bpf) -> bytes:
    fd, _ = call(_KINDS[kind][1], struct.pack("=I", number))
    if fd < 0:
        return b""
    try:
        buffer = ctypes.create_string_buffer(request, 256)
        result, _ = call(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, 232, ctypes.addressof(buffer)))
        return buffer.raw if result == 0 else b""
    finally:
        os.close(fd)
