"""Arrays of perf events, which programs write records to; an event goes with the file that stored it.

Source: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr, perf_event_fd_array_release (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import U32
from rawbpf.sim.map.fd_array import SimFdArray
from rawbpf.sim.perf_event import SimPerfEvent, event_of
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.file import File
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape


class SimPerfEventArray(SimFdArray[SimPerfEvent]):
    """BPF_MAP_TYPE_PERF_EVENT_ARRAY."""

    flags_allowed = SimFdArray.flags_allowed | c.BPF_F_PRESERVE_ELEMS

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags; PRESERVE_ELEMS is new in Linux 5.10."""
        if shape.has(c.BPF_F_PRESERVE_ELEMS) and kernel.release.version < (5, 10):
            raise Refused(EINVAL)
        super().check(kernel, shape)

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        # By index, the file of the map through which an event was stored.
        self._files: dict[int, File] = {}

    def get(self, fd: int) -> SimPerfEvent:
        """Return a perf event. Raises: Refused (EBADF: no perf event; EOPNOTSUPP: it is inherited)."""
        event = event_of(self.kernel, fd)
        if event.inherit:
            raise Refused(EOPNOTSUPP)
        return event

    def update_through(self, file: File, key: bytes, value: bytes, flags: int) -> None:
        """Store an event, for as long as `file` is open."""
        super().update(key, value, flags)
        self._files[U32.unpack(key)[0]] = file

    def delete(self, key: bytes) -> None:
        """Empty a slot, if a file that was closed did not do so."""
        self.kernel.files.sweep()
        super().delete(key)

    def closed(self, file: File) -> None:
        """Drop what was stored through `file`. Source: perf_event_fd_array_release."""
        if self.flags & c.BPF_F_PRESERVE_ELEMS:
            return
        for index in [index for index, setter in self._files.items() if setter is file]:
            del self._files[index]
            self.slots.pop(index, None)

    def output(self, index: int, cpu: int, data: bytes) -> None:
        """Write a record to the event in a slot, as a program on `cpu` does.

        Raises: Refused (E2BIG, ENOENT, EINVAL, EOPNOTSUPP: an event of another CPU; ENOSPC: no room).
        Source: kernel/trace/bpf_trace.c:__bpf_perf_event_output (v6.12).
        """
        self.kernel.files.sweep()
        if index >= self.max_entries:
            raise Refused(E2BIG)
        if index not in self.slots:
            raise Refused(ENOENT)
        event = self.slots[index]
        if not event.is_output:
            raise Refused(EINVAL)
        if not event.enabled or event.cpu != cpu:
            raise Refused(EOPNOTSUPP)
        event.output(data, cpu)
