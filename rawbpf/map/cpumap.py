"""Maps of CPUs, for XDP redirection: `bpf_redirect_map()` hands a packet to the CPU that is the slot's index.

There a kernel thread, which the map starts, makes a socket buffer of it and goes on as if it had arrived there.
Kernel side: kernel/bpf/cpumap.c (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.base import refuse
from rawbpf.map.target import TargetCodec, TargetMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.codec.record import Record
    from rawbpf.errors import BpfError

    # How many packets may wait, alone or with a program that they pass on the CPU; what was read, without one.
    Queue = int | tuple[int, HasFileno | None] | Record

_ENOMEM, _ENODEV, _EINVAL, _EOVERFLOW = 12, 19, 22, 75
_MOST = 16384


class QueueCodec(TargetCodec):
    """How many packets may wait for a CPU, alone or with a program; reads back as `qsize` and `prog_id`."""

    _struct = "bpf_cpumap_val"
    _field = "qsize"

    def number(self, value: object, where: str) -> int:
        """Return the number of packets. Raises: TypeError; ValueError for 0; OverflowError for too many."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse(where, "how many packets may wait, an int", value)
        if not value:
            raise ValueError(f"{where}: a CPU without a queue is one that is not in the map: del m[cpu] takes it out")
        # Source: kernel/bpf/cpumap.c:cpu_map_update_elem (v6.12)
        if not 0 < value <= _MOST:
            raise OverflowError(f"{where}: 1 to {_MOST} packets may wait, got {value}")
        return value


class CpuMap(TargetMap[int]):
    """CPUs that XDP programs hand packets to, a dict of those in it: `m[cpu] = qsize`, `m[cpu].qsize`.

    Created with `value=8`, it also holds programs (`SEC("xdp/cpumap")`) that a packet passes on that CPU:
    `m[cpu] = qsize, program`, and `m[cpu].prog_id`. `max_entries` is one for each possible CPU where it is left
    out. Taking out a CPU that is not in it is no error. Since: Linux 4.15; programs since 5.9.
    """

    __slots__ = ()

    map_type = "cpumap"
    _index_keys = True
    _default_key = _default_value = "u32"
    _entries_by_cpu = True
    _codec = QueueCodec
    _word = "cpumap"

    def __setitem__(self, key: int, value: Queue) -> None:  # type: ignore[override]  # a queue has no descriptor
        """Let packets be handed to CPU `key`: how many may wait there, or a pair of that and a program.

        Raises: BpfError (ENODEV: no such CPU; EINVAL: the program is not for a cpumap; ENOMEM);
        IndexOutOfRange; TypeError, ValueError, OverflowError for what is no such number, and for a program
        where the map was not created with `value=8`; Closed.
        Source: kernel/bpf/cpumap.c:cpu_map_update_elem
        """
        self.put(key, value)

    def put(self, key: int, value: Queue, flags: int = 0) -> None:  # type: ignore[override]  # as above
        """Let packets be handed to CPU `key`, with BPF_ flags. Raises: as `m[key] = value`."""
        super().put(key, value, flags)  # type: ignore[arg-type]  # as above

    if TYPE_CHECKING:

        def update(  # type: ignore[override]  # noqa: D102  (as above)
            self, items: Mapping[int, Queue] | Iterable[tuple[int, Queue]]
        ) -> None: ...
        def put_many(  # type: ignore[override]  # noqa: D102
            self, items: Mapping[int, Queue] | Iterable[tuple[int, Queue]]
        ) -> None: ...

    def _why(self, error: BpfError, value: object) -> str:
        if error.errno == _ENODEV:
            possible = self._handle.backend.host.possible_cpus
            return f"this machine has no such CPU: there are {possible}, from 0 to {possible - 1}"
        program = value[1] if isinstance(value, tuple) else None
        # A program that does not suit is ENOMEM. Source: kernel/bpf/cpumap.c:cpu_map_update_elem (v6.12).
        return "" if program is None or error.errno not in (_EINVAL, _ENOMEM) else self._why_program(program)
