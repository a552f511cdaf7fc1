"""Perf events that programs write to or read: what a perf_event_array holds.

Opening alone; the records that programs write are read elsewhere, by `perf_source`.
Kernel side: kernel/events/core.c:perf_event_open (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError, PermissionDenied
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import Descriptor
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi import perf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from rawbpf.syscall.protocol import Backend

_EPERM, _ENOENT, _EACCES, _ENODEV, _EINVAL = 1, 2, 13, 19, 22
_ALL, _NO_GROUP = -1, -1
_HINTS = {
    _ENOENT: "this kernel has no such event",
    _ENODEV: "the CPU is offline, or there is none of this number",
    _EINVAL: "there is no CPU of this number, or neither a thread nor a CPU was given",
}


class PerfEvent(Descriptor):
    """An open perf event. It counts, and takes records, until it is closed and no map holds it any more."""

    __slots__ = ("_what",)

    def __init__(self, backend: Backend, fd: int, what: str) -> None:
        super().__init__(backend, fd)
        self._what = what

    @classmethod
    def bpf_output(
        cls,
        cpu: int,
        *,
        wakeup_events: int = 1,
        wakeup_watermark: int | None = None,
        write_backward: bool = False,
        backend: Backend | None = None,
    ) -> Self:
        """Open the event to which programs on `cpu` write records by bpf_perf_event_output().

        Each record is one sample, raw. Whoever polls is woken by every `wakeup_events` of them, or instead when
        `wakeup_watermark` more bytes lie in the event's buffer. `write_backward`: they lie there from the end on down,
        each below the one before it. `PerfEventArrayMap.reader` reads them.
        Raises: BpfError (ENODEV: the CPU is offline; EINVAL); PermissionDenied (EPERM, EACCES).
        Since: Linux 4.4. Source: kernel/trace/bpf_trace.c:__bpf_perf_event_output
        """
        # One word of the struct has either.
        wakeup = {"wakeup_events": wakeup_events}
        if wakeup_watermark is not None:
            wakeup = {"wakeup_watermark": wakeup_watermark}
        attr = perf.perf_event_attr(
            type=perf.PERF_TYPE_SOFTWARE,
            config=perf.PERF_COUNT_SW_BPF_OUTPUT,
            sample_type=perf.PERF_SAMPLE_RAW,
            sample_period=1,
            flags=perf.flag_word(watermark=wakeup_watermark is not None, write_backward=write_backward),
            **wakeup,
        )
        return cls._open(backend, attr, _ALL, cpu, f"bpf_output of CPU {cpu}")

    @classmethod
    def software(cls, config: int, *, pid: int = _ALL, cpu: int = _ALL, backend: Backend | None = None) -> Self:
        """Open a counter that the kernel keeps itself, such as `rawbpf.uapi.perf.PERF_COUNT_SW_CPU_CLOCK`.

        `pid`: the thread to count, or -1 for all, 0 for the calling one. `cpu`: where to count, or -1
        for all; one of both is given. Programs read it by bpf_perf_event_read_value() where it counts.
        Raises: BpfError (ENOENT: no such event; ESRCH: no such thread; ENODEV; EINVAL); PermissionDenied
        (EPERM, EACCES).
        Source: kernel/events/core.c:perf_event_read_local
        """
        attr = perf.perf_event_attr(type=perf.PERF_TYPE_SOFTWARE, config=config)
        return cls._open(backend, attr, pid, cpu, f"software event {config}, pid {pid}, CPU {cpu}")

    @classmethod
    def _open(cls, backend: Backend | None, attr: bytes, pid: int, cpu: int, what: str) -> Self:
        backend = backend or current()
        try:
            fd = backend.perf_event_open(attr, pid, cpu, _NO_GROUP, perf.PERF_FLAG_FD_CLOEXEC)
        except OSError as error:
            raise _refused(backend, error.errno or 0, what) from None
        return cls(backend, fd, what)

    def __repr__(self) -> str:
        return f"<PerfEvent {self._what}, {'closed' if self.closed else f'fd {self._fd}'}{mark(self._backend)}>"


def _refused(backend: Backend, errno: int, what: str) -> BpfError:
    if errno not in (_EPERM, _EACCES):
        hint = _HINTS.get(errno, "")
        return BpfError(errno, call="perf_event_open", subject=what, hint=hint, backend=backend.name)
    from rawbpf.syscall import permission

    hint = permission.explain(backend.host, ("CAP_PERFMON",))
    return PermissionDenied(errno, call="perf_event_open", subject=what, hint=hint, backend=backend.name)
