"""Arrays of perf events: by CPU, those that programs write records to; or counters that programs read.

The kernel gives nothing back of what is stored. Kernel side: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr,
perf_event_fd_array_release (v6.12).
"""

from __future__ import annotations

from rawbpf.map.slot import SlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno  # noqa: F401  (in the string of the base)

_REFUSALS = {9: "it is no perf event"}  # EBADF


class PerfEventArrayMap(SlotMap[int, "HasFileno"]):
    """An array of perf events, which programs read or write to: `m[cpu] = event`, `del m[cpu]`.

    `max_entries` is the number of possible CPUs unless given. An event stays in the array, also when
    its own descriptor is closed, until it is replaced or deleted, or until the descriptor of the map by
    which it was stored is closed; with BPF_F_PRESERVE_ELEMS in `flags` that last keeps it.
    """

    __slots__ = ()

    map_type = "perf_event_array"
    _index_keys = True
    _default_key = "u32"
    _entries_by_cpu = True
    _noun = "a perf event"
    _refusals = _REFUSALS
