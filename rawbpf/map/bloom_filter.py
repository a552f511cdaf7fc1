"""Bloom filters: sets that answer "no" or "perhaps", in the memory of a few bits per value.

Programs ask with bpf_map_peek_elem and add with bpf_map_push_elem. What was added cannot be removed,
listed or counted. Kernel side: kernel/bpf/bloom_filter.c (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError, KeyNotFound
from rawbpf.map.base import Map
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import map as command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from typing_extensions import TypeVar

    V = TypeVar("V", default=Any)


class BloomFilterMap(Map[None, "V"]):
    """A set that may say yes to what was never added, and never says no to what was.

    `max_entries` is how many different values it is made for: more are taken, and wrong answers become
    frequent. `map_extra` is the number of hash functions, 1 to 15, and 5 where it is 0: more cost time
    and make fewer wrong answers.
    """

    __slots__ = ()

    map_type = "bloom_filter"
    _default_key = 0
    _takes_btf = True

    def add(self, value: V) -> None:
        """Add `value`, which can never be taken out.

        Raises: Closed; PermissionDenied (EPERM: frozen, or opened for reading only); TypeError, ValueError,
        OverflowError for a value that cannot be encoded.
        Since: Linux 5.16.
        Source: kernel/bpf/bloom_filter.c:bloom_map_push_elem
        """
        self._add(self._value.pack(value))

    def update(self, values: Iterable[V]) -> None:
        """Add all `values`; they are encoded before the first is added. Raises: as `add`, with `.applied`."""
        for index, packed in enumerate([self._value.pack(value) for value in values]):
            try:
                self._add(packed)
            except BpfError as error:
                error.applied = index
                raise

    def __contains__(self, value: object) -> bool:
        """Whether `value` was added: False is certain, True may be wrong.

        Raises: Closed; PermissionDenied (EPERM: opened for writing only); TypeError, ValueError, OverflowError.
        Source: kernel/bpf/bloom_filter.c:bloom_map_peek_elem
        """
        try:
            self._handle.call(command.map_lookup_elem, None, buffer_of(self._value.pack(value)))
        except KeyNotFound:
            return False
        return True

    def _add(self, packed: bytes) -> None:
        self._handle.call(command.map_update_elem, None, buffer_of(packed))
