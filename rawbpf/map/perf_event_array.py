"""Arrays of perf events: by CPU, those that programs write records to; or counters that programs read.

The kernel gives nothing back of what is stored. Kernel side: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr,
perf_event_fd_array_release (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.descriptor import DescriptorCodec
from rawbpf.map.base import Map
from rawbpf.map.handle import closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from rawbpf.codec import Codec, Description
    from rawbpf.syscall.map import CreateFields
    from rawbpf.syscall.protocol import Backend

    class HasFileno(Protocol):
        """A perf event, or whatever else holds the descriptor of one."""

        def fileno(self) -> int:
            """Return the descriptor."""


class PerfEventArrayMap(Map[int, "HasFileno"]):
    """An array of perf events, which programs read or write to: `m[cpu] = event`, `del m[cpu]`.

    `max_entries` is the number of possible CPUs unless given. An event stays in the array, also when
    its own descriptor is closed, until it is replaced or deleted, or until the descriptor of the map by
    which it was stored is closed; with BPF_F_PRESERVE_ELEMS in `flags` that last keeps it.
    """

    __slots__ = ()

    map_type = "perf_event_array"
    _index_keys = True
    _default_key = "u32"
    _default_value = "u32"
    _operations = ("__setitem__", "__delitem__")

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        # C has no type for what is stored here: a u32, an int or a size say how long it is and no more.
        return DescriptorCodec("a perf event", size=super()._value_codec(described, word).size)

    @classmethod
    def _completed(cls, backend: Backend, fields: CreateFields, word: str) -> CreateFields:
        if not fields.get("max_entries"):
            fields["max_entries"] = backend.host.possible_cpus
        return super()._completed(backend, fields, word)

    # The bodies of these two are never run: each open map has compiled ones in their place.

    def __setitem__(self, index: int, event: HasFileno) -> None:
        """Store an open perf event, an object with fileno(), at `index`: where programs expect it, a CPU's number.

        Raises: TypeError for what has no fileno(), ints among them; ValueError or Closed for what is closed;
        BpfError (EBADF: no perf event; EINVAL: an event that programs cannot use); IndexOutOfRange; Closed;
        PermissionDenied (EPERM: opened for reading only).
        Source: kernel/bpf/arraymap.c:perf_event_fd_array_get_ptr
        """
        raise closed(str(self._shape))

    def __delitem__(self, index: int) -> None:
        """Remove the event at `index`. Raises: KeyNotFound (ENOENT: there is none); IndexOutOfRange; Closed."""
        raise closed(str(self._shape))
