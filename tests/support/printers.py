"""Programs that print: into their own streams, and into the kernel's trace."""

from __future__ import annotations

import errno
import fcntl
import functools
import struct
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm import build as b
from rawbpf.sim import Simulator
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.asm.instruction import Instruction
    from rawbpf.event.trace_pipe import TracePipe
    from rawbpf.syscall.protocol import Backend


_LONGEST = 64
_LONGEST_ARGUMENT = 501
_ARGUMENT = -8


@contextmanager
def stream_printer(text: str, stream: int) -> Iterator[rawbpf.Program]:
    """Yield a program that prints `text`, with the number in its context, to `stream`, and returns what came of it."""
    with _format(text) as form:
        code = [
            *[b.load_mem(b.R1, b.R1, 0), b.store_reg(b.R10, _ARGUMENT, b.R1)],
            b.mov_imm(b.R1, stream),
            *_print(form),
        ]
        with rawbpf.Program.load("syscall", code, name="printer") as program:
            yield program


@contextmanager
def stream_writer(backend: Backend) -> Iterator[tuple[rawbpf.Program, Callable[..., int]]]:
    """Yield a program, and what makes it write text to one of its streams, which returns 0 or a negative errno.

    `write(text, stream=BPF_STDOUT)`: at most 500 bytes, none of them 0.
    """
    if isinstance(backend, Simulator):
        with rawbpf.Program.load("xdp", "r0 = 2\nexit", name="printer") as program:
            yield program, functools.partial(backend.print, program.fileno())
        return
    with (
        _format("%s") as form,
        rawbpf.ArrayMap.create(key="u32", value=_LONGEST_ARGUMENT, max_entries=1) as argument,
    ):
        code = [
            *[b.ld_map_value(b.R2, argument.fileno()), b.store_reg(b.R10, _ARGUMENT, b.R2)],
            b.load_mem(b.R1, b.R1, 0),
            *_print(form),
        ]
        with rawbpf.Program.load("syscall", code, name="printer") as program:

            def write(text: bytes, stream: int = c.BPF_STDOUT) -> int:
                assert len(text) < _LONGEST_ARGUMENT
                argument[0] = text.ljust(_LONGEST_ARGUMENT, b"\0")
                return signed(program.run(ctx=struct.pack("=Q", stream)).retval)

            yield program, write


def signed(retval: int) -> int:
    """Return what a program answered as the kernel's int."""
    return retval - (retval >> 31 << 32)


@functools.cache
def has_stream_memory() -> bool:
    """Return whether the running kernel has memory for what programs print."""
    with stream_printer("%d", c.BPF_STDOUT) as program:
        return signed(program.run(ctx=bytes(8)).retval) != -errno.ENOMEM


# The stream is in r1, and the argument on the stack.
def _print(form: rawbpf.ArrayMap[bytes]) -> list[Instruction]:
    # Linux 6.18 calls it by another name, which later ones still have in their BTF, but not for programs.
    name = "bpf_stream_vprintk"
    if name not in rawbpf.btf.vmlinux():
        name = "bpf_stream_vprintk_impl"
    return [
        b.ld_map_value(b.R2, form.fileno()),
        *[b.mov_reg(b.R3, b.R10), b.alu_imm(b.R3, "+=", _ARGUMENT), b.mov_imm(b.R4, 8)],
        b.mov_imm(b.R5, 0),
        b.call_kernel(name),
        b.exit_(),
    ]


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
