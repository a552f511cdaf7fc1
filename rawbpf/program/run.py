"""Running a program on demand: which buffers each type takes, and what comes back.

Source: kernel/bpf/syscall.c:bpf_prog_test_run, net/bpf/test_run.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError
from rawbpf.syscall.prog import prog_test_run
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_ENOSPC = 28
# A program may put headers before the packet and grow its end by less than a page.
_ROOM = 4096
# These read their context only; ctx_out is EINVAL. A syscall program's comes back where it was handed in.
_NO_CTX_OUT = (
    c.BPF_PROG_TYPE_SYSCALL,
    c.BPF_PROG_TYPE_RAW_TRACEPOINT,
    c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
    c.BPF_PROG_TYPE_TRACING,
    c.BPF_PROG_TYPE_FLOW_DISSECTOR,
)


class RunResult:
    """What a run came to: `retval` (32 bits, unsigned), the packet and context afterwards, the mean time of a run.

    `data` and `ctx` are empty where none was handed in, or the type gives none back. `duration_ns` is
    0 for types whose time the kernel does not take.
    """

    __slots__ = ("ctx", "data", "duration_ns", "retval")
    __match_args__ = ("retval", "data", "ctx", "duration_ns")

    def __init__(self, retval: int, data: bytes, ctx: bytes, duration_ns: int) -> None:
        self.retval = retval
        self.data = data
        self.ctx = ctx
        self.duration_ns = duration_ns

    def __repr__(self) -> str:
        sizes = f"data={len(self.data)} bytes, ctx={len(self.ctx)} bytes"
        return f"RunResult(retval={self.retval}, {sizes}, duration_ns={self.duration_ns})"


def run(
    backend: Backend,
    fd: int,
    prog_type: int,
    data: bytes,
    ctx: bytes | None,
    repeat: int,
    *,
    data_size_out: int | None,
    flags: int,
    cpu: int,
    batch_size: int,
    subject: str,
) -> RunResult:
    """Run the program behind `fd`; as `Program.run`."""
    if repeat < 1:
        raise ValueError(f"repeat is {repeat}: a program runs once at least")
    # A copy: the kernel writes what a syscall program left of its context back into it.
    context = (ctypes.c_char * len(ctx)).from_buffer_copy(ctx) if ctx else None
    live = flags & c.BPF_F_TEST_XDP_LIVE_FRAMES
    if data_size_out is None:
        data_size_out = len(data) + _ROOM if data else 0
    data_out = ctypes.create_string_buffer(data_size_out) if data_size_out and not live else None
    gives_ctx = prog_type not in _NO_CTX_OUT and not live
    ctx_out = ctypes.create_string_buffer(ctypes.sizeof(context)) if context is not None and gives_ctx else None
    result = prog_test_run(
        backend,
        fd,
        data_in=bytes(data),
        data_out=data_out,
        ctx_in=context,
        ctx_out=ctx_out,
        # 0 means once to every type, 1 is EINVAL to some.
        repeat=0 if repeat == 1 else repeat,
        flags=flags,
        cpu=cpu,
        batch_size=batch_size,
        subject=subject,
    )
    if not result.complete:
        hint = f"the packet is {result.data_size} bytes now: run it with data_size_out={result.data_size}"
        raise BpfError(
            _ENOSPC, call="prog_test_run", cmd=c.BPF_PROG_TEST_RUN, subject=subject, hint=hint, backend=backend.name
        )
    ctx_after = b""
    if ctx_out is not None:
        ctx_after = ctx_out.raw[: result.ctx_size]
    elif context is not None and prog_type == c.BPF_PROG_TYPE_SYSCALL:
        ctx_after = context.raw
    data_after = data_out.raw[: result.data_size] if data_out is not None else b""
    return RunResult(result.retval, data_after, ctx_after, result.duration_ns)
