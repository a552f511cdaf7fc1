"""Programs that print: into their own streams, and into the kernel's trace."""

from __future__ import annotations

import fcntl
import struct
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.event.trace_pipe import TracePipe


_LONGEST = 64
_ARGUMENT = -8


@contextmanager
def stream_printer(text: str, stream: int) -> Iterator[rawbpf.Program]:
    """Yield a program that prints `text`, with the number in its context, to `stream`, and returns what came of it."""
    functions = rawbpf.btf.vmlinux()
    # Linux 6.18 had another name for it.
    name = "bpf_stream_vprintk_impl"
    if name not in functions:
        name = "bpf_stream_vprintk"
    with _format(text) as form:
        code = [
            *[b.load_mem(b.R1, b.R1, 0), b.store_reg(b.R10, _ARGUMENT, b.R1)],
            b.mov_imm(b.R1, stream),
            b.ld_map_value(b.R2, form.fileno()),
            *[b.mov_reg(b.R3, b.R10), b.alu_imm(b.R3, "+=", _ARGUMENT), b.mov_imm(b.R4, 8)],
            b.mov_imm(b.R5, 0),
            b.call_kernel(name),
            b.exit_(),
        ]
        with rawbpf.Program.load("syscall", code, name="printer") as program:
            yield program


@contextmanager
def _format(text: str) -> Iterator[rawbpf.ArrayMap[bytes]]:
    # Text that the verifier can read: nobody may write to it any more.
    with rawbpf.ArrayMap.create(key="u32", value=_LONGEST, max_entries=1, flags=c.BPF_F_RDONLY_PROG) as form:
        form[0] = text.encode().ljust(_LONGEST, b"\0")
        form.freeze()
        yield form


def trace_printer(text: str) -> rawbpf.Program:
    """Load a program that prints `text`, up to 15 bytes, with the number in its context, into the kernel's trace."""
    words = struct.unpack("=QQ", text.encode().ljust(16, b"\0"))
    code = [
        b.load_mem(b.R3, b.R1, 0),
        *[
            i
            for at, word in zip((-16, -8), words, strict=True)
            for i in (b.ld_imm64(b.R2, word), b.store_reg(b.R10, at, b.R2))
        ],
        *[b.mov_reg(b.R1, b.R10), b.alu_imm(b.R1, "+=", -16), b.mov_imm(b.R2, len(text.encode()) + 1)],
        b.call(helper_number("trace_printk")),
        b.exit_(),
    ]
    return rawbpf.Program.load("syscall", code, name="printer")


@contextmanager
def trace_turn() -> Iterator[None]:
    """Yield when no other run of the tests has trace_pipe, of which there is one."""
    with open(f"{tempfile.gettempdir()}/rawbpf-tests-trace-pipe", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def the_trace_pipe() -> Iterator[TracePipe]:
    """Yield trace_pipe when no other run of the tests has it."""
    with trace_turn(), rawbpf.trace_pipe() as pipe:
        yield pipe
