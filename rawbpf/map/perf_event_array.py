"""Arrays of perf events: by CPU, those that programs write records to; or counters that programs read.

The kernel gives nothing back of what is stored. Kernel side: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr,
perf_event_fd_array_release (v6.12).
"""

from __future__ import annotations

from rawbpf.map.slot import SlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno  # noqa: F401  (in the string of the base)
    from rawbpf.syscall.map import CreateFields
    from rawbpf.syscall.protocol import Backend


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
    _noun = "a perf event"

    @classmethod
    def _completed(cls, backend: Backend, fields: CreateFields, word: str) -> CreateFields:
        if not fields.get("max_entries"):
            fields["max_entries"] = backend.host.possible_cpus
        return super()._completed(backend, fields, word)
