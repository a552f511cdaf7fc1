"""Array maps: sequences of the kernel, of a fixed length and never without an element.

Kernel side: kernel/bpf/arraymap.c (v6.12).
"""

from __future__ import annotations

import operator

from rawbpf.errors import BpfError, IndexOutOfRange
from rawbpf.map.batch import DEFAULT_CHUNK
from rawbpf.map.bulk import BulkMap
from rawbpf.map.handle import closed
from rawbpf.map.mapped import Mapped, live_memory
from rawbpf.uapi.constants import BPF_F_MMAPABLE, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, ClassVar, Self, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.codec.dtype import Array
    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle
    from rawbpf.map.walk import Walks

    V = TypeVar("V", default=Any)
    D = TypeVar("D")

_ENOENT, _E2BIG, _EBUSY = 2, 7, 16


class ArrayMap(BulkMap[int, "V"]):
    """An array, used like a sequence of fixed length: `m[i]`, `m[-1]`, slices, `len`, `in` by value."""

    __slots__ = ()

    map_type = "array"
    _indexed = _index_keys = _takes_btf = True
    _default_key = "u32"
    _operations = ("__getitem__", "__setitem__", "put")
    # Of an open map whose elements are read and written in memory.
    _mapped: ClassVar[Mapped | None] = None

    @classmethod
    def _compiled(cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any]) -> type[Self]:
        own = super()._compiled(handle, shape, key, value)
        if shape.map_flags & BPF_F_MMAPABLE:
            own._mapped = Mapped(own, handle, shape, value)
            handle.mapped.append(own._mapped)
        return own

    # The bodies of those three are never run: each open map has compiled ones in their place.

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> V: ...
        @overload
        def __getitem__(self, index: slice) -> list[V]: ...

    def __getitem__(self, index: int | slice) -> V | list[V]:
        """Return the value at `index`, which may be negative, or a list for a slice.

        Raises: IndexOutOfRange; Closed; PermissionDenied (EPERM: opened for writing only); TypeError.
        Source: kernel/bpf/syscall.c:map_lookup_elem
        """
        raise closed(str(self._shape))

    def __setitem__(self, index: int, value: V) -> None:
        """Store `value` at `index`, which may be negative.

        Raises: IndexOutOfRange; Closed; PermissionDenied (EPERM: frozen, or opened for reading only);
        TypeError, ValueError, OverflowError for a value that cannot be encoded.
        Source: kernel/bpf/syscall.c:map_update_elem
        """
        raise closed(str(self._shape))

    def put(self, index: int, value: V, flags: int = 0) -> None:  # noqa: ARG002
        """Store `value` at `index`, with BPF_ flags. Raises: as `m[index] = value`; KeyExists by BPF_NOEXIST."""
        raise closed(str(self._shape))

    def __len__(self) -> int:
        return self._shape.max_entries

    def __iter__(self) -> Iterator[V]:
        return iter(self.values())

    def __contains__(self, value: object) -> bool:
        return any(value == other for other in self.values())

    def __reversed__(self) -> Iterator[V]:
        return (self[i] for i in range(len(self) - 1, -1, -1))

    def batches(self, n: int = DEFAULT_CHUNK, flags: int = 0) -> Iterator[tuple[list[int], list[V]]]:
        """Yield (indices, values) of up to `n` elements at a time; without a system call where memory is mapped.

        `flags` may be BPF_F_LOCK, for values with a lock.
        Raises: Closed; ValueError for `n` below 1; BpfError (EINVAL: flags that this map does not take).
        Since: Linux 5.6 in batches, 5.5 in memory; one by one before.
        """
        if flags or self._mapped is None or self._mapped.memory(writable=False) is None:
            yield from super().batches(n, flags)
            return
        size = self._elements().chunk(n)
        for start in range(0, len(self), size):
            end = min(start + size, len(self))
            yield list(range(start, end)), self[start:end]

    def count(self) -> int:
        """Return how many elements there are: always `max_entries`. Raises: Closed."""
        with self._handle:
            return len(self)

    def lookup(self, index: int, flags: int = 0) -> V:
        """Return the value at `index`, with BPF_ flags such as BPF_F_LOCK.

        Raises: as `m[index]`; BpfError (EINVAL: flags that this map does not take).
        """
        return self._lookup(self._position(index, BPF_MAP_LOOKUP_ELEM, _ENOENT), flags)

    def _position(self, index: object, cmd: int, errno: int) -> int:
        position = operator.index(index)  # type: ignore[arg-type]
        actual = position + len(self) if position < 0 else position
        if not 0 <= actual < len(self):
            # Without the memoryview's own complaint, which led here.
            raise self._fail(cmd, errno, position) from None
        return actual

    def _get_index(self, index: object) -> object:
        # What is no u32: a slice, a negative number, a number too large, or a mistake.
        if isinstance(index, slice):
            values = None if self._mapped is None else self._mapped.part(index)
            return values if values is not None else [self[i] for i in range(*index.indices(len(self)))]
        return self[self._position(index, BPF_MAP_LOOKUP_ELEM, _ENOENT)]

    def _set_index(self, index: object, value: V, flags: int) -> None:
        if isinstance(index, slice):
            raise TypeError("an array stores one value at a time; update() takes {index: value} in one batch")
        self.put(self._position(index, BPF_MAP_UPDATE_ELEM, _E2BIG), value, flags)

    def get_many(self, keys: Iterable[int], default: D | None = None) -> list[V | D | None]:
        """Return the values at the indices `keys`, with `default` for those that the array does not have.

        From memory where it is mapped; else as the `get_many` of a hash.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only); TypeError.
        """
        every = keys if isinstance(keys, (list, tuple)) else list(keys)
        memory = None if self._mapped is None else self._mapped.memory(writable=False)
        if memory is None:
            return super().get_many(every, default)
        if isinstance(memory, memoryview):
            try:
                return [memory[+index] for index in every]  # type: ignore[misc]  # its numbers are the values
            except (IndexError, TypeError, ValueError):
                pass  # what is no index, or beyond the end
        return [self._get(index, default) for index in every]

    def _walks(self) -> Walks | None:
        # Nothing is quicker than memory.
        walks = super()._walks()
        return walks if self._mapped is None or walks is None or self._mapped.memory(writable=False) is None else None

    def freeze(self) -> None:
        """Refuse every later write from user space; programs still write. Reading in memory goes on.

        Raises: Closed; BpfError (EBUSY: views from `memory()` or `as_numpy()` are alive, or others map the array
        for writing); PermissionDenied (EPERM, before Linux 6.5 EBUSY: frozen already).
        Since: Linux 5.2.
        Source: kernel/bpf/syscall.c:map_freeze
        """
        for mapped in self._handle.mapped:
            mapped.stop_writing()
        try:
            super().freeze()
        except BpfError as error:
            alive = sum(view() is not None for view in self._handle.views)
            if error.errno == _EBUSY and alive:
                views, them = ("a view", "it") if alive == 1 else (f"{alive} views", "them")
                views += " from memory() or as_numpy()"
                error.hint = f"{views} can still write to it: drop {them}, and slices of {them}, first"
            raise

    def memory(self) -> memoryview:
        """Return the array's own memory, with an item per element; reads and writes make no system call.

        Numbers are items, arrays of numbers without gaps a dimension more, and all else, such as structs, is a row
        of bytes per element: `m.value_type.column(view, field)` makes items of one field of all. The rows are
        `value_size` rounded up to 8 bytes long. The view stays valid after `close()`; as long as it is there the
        map cannot be frozen. Raises: NotSupported for an array without BPF_F_MMAPABLE, and for values with locks
        and the like; Closed; PermissionDenied (EPERM: frozen; EACCES: opened for reading or for writing only).
        Since: Linux 5.5.
        Source: kernel/bpf/arraymap.c:array_map_mmap
        """
        return self._value.view(self._rows())

    def as_numpy(self) -> Array:
        """Return the array's own memory as a numpy array of `value_type.dtype`, to read and to write.

        It is no copy: what programs store is seen in it, and what is stored in it is seen by programs. It stays
        valid after `close()`; as long as it is there the map cannot be frozen. `to_numpy()` copies.
        Raises: as `memory()`; ImportError where numpy is not installed.
        """
        return self._value.as_numpy(self._rows())

    def _rows(self) -> memoryview:
        octets = live_memory(self._handle, self._shape)
        return octets.cast("B", [len(self), len(octets) // len(self)])

    def _has_key(self, key: object) -> bool:
        return isinstance(key, int) and 0 <= key < len(self)

    def _get(self, key: int, default: D | None) -> V | D | None:
        try:
            return self[key]
        except IndexOutOfRange:
            return default
