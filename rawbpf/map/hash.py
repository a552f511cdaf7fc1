"""Hash maps: dictionaries of the kernel, plain and LRU.

Kernel side: kernel/bpf/hashtab.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError, KeyNotFound
from rawbpf.map.bulk import BulkMap
from rawbpf.map.handle import closed
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_EXIST, BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, ClassVar, overload

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")

_EINVAL, _ENOTSUPP = 22, 524


class _Missing:
    pass


_MISSING = _Missing()


class HashMap(BulkMap["K", "V"]):
    """A hash map, used like a dict; `len(m)` reads all of it."""

    __slots__ = ()

    map_type: ClassVar[str | None] = "hash"
    _takes_btf = True
    _operations = ("__getitem__", "get", "__contains__", "__setitem__", "put", "__delitem__")
    # Python would fall back on indices from len(m) down.
    __reversed__ = None

    # The bodies of those six are never run: each open map has compiled ones in their place.

    def __getitem__(self, key: K) -> V:
        """Return the value of `key`.

        Raises: KeyNotFound (ENOENT); Closed; PermissionDenied (EPERM: opened for writing only);
        TypeError, ValueError, OverflowError for a key that cannot be encoded.
        Source: kernel/bpf/syscall.c:map_lookup_elem
        """
        raise closed(str(self._shape))

    if TYPE_CHECKING:

        @overload
        def get(self, key: K) -> V | None: ...
        @overload
        def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: D | None = None) -> V | D | None:  # noqa: ARG002
        """Return the value of `key`, or `default` where it is missing. Raises: as `m[key]`, but for KeyNotFound."""
        raise closed(str(self._shape))

    def __contains__(self, key: object) -> bool:
        """Whether the map has `key`. Raises: as `get`."""
        raise closed(str(self._shape))

    def __setitem__(self, key: K, value: V) -> None:
        """Store `value` under `key`, whether it is there or not.

        Raises: MapFull (E2BIG); Closed; PermissionDenied (EPERM: frozen, or opened for reading only);
        TypeError, ValueError, OverflowError for what cannot be encoded.
        Source: kernel/bpf/syscall.c:map_update_elem
        """
        raise closed(str(self._shape))

    def put(self, key: K, value: V, flags: int = 0) -> None:  # noqa: ARG002
        """Store `value` under `key` with BPF_ flags. Raises: as `m[key] = value`; KeyExists, KeyNotFound by flags."""
        raise closed(str(self._shape))

    def __delitem__(self, key: K) -> None:
        """Delete `key`.

        Raises: KeyNotFound (ENOENT); Closed; PermissionDenied (EPERM).
        Source: kernel/bpf/syscall.c:map_delete_elem
        """
        raise closed(str(self._shape))

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys."""
        return iter(self.keys())

    def insert(self, key: K, value: V) -> None:
        """Store a `key` that must not be there yet. Raises: KeyExists (EEXIST); else as `m[key] = value`."""
        self.put(key, value, BPF_NOEXIST)

    def replace(self, key: K, value: V) -> None:
        """Store under a `key` that must be there. Raises: KeyNotFound (ENOENT); else as `m[key] = value`."""
        self.put(key, value, BPF_EXIST)

    def lookup(self, key: K, flags: int = 0) -> V:
        """Return the value of `key`, with BPF_ flags such as BPF_F_LOCK.

        Raises: as `m[key]`; BpfError (EINVAL: flags that this map does not take).
        """
        return self._lookup(key, flags)

    if TYPE_CHECKING:

        @overload
        def pop(self, key: K) -> V: ...
        @overload
        def pop(self, key: K, default: D) -> V | D: ...

    def pop(self, key: K, default: D | _Missing = _MISSING) -> V | D | _Missing:
        """Remove `key` and return its value, or `default` where it is missing and a default is given.

        The kernel does both in one step; before Linux 5.14 a write between the two can be lost.
        Raises: KeyNotFound (ENOENT) without a default; Closed; PermissionDenied (EPERM).
        Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem
        """
        packed, value = buffer_of(self._key.pack(key)), ctypes.create_string_buffer(self._value.size)
        backend, shape = self._handle.backend, self._shape
        try:
            try:
                with self._handle as fd:
                    command.map_lookup_and_delete_elem(
                        backend, fd, packed, value, subject=str(shape), map_type=shape.map_type
                    )
            except BpfError as error:
                if error.errno not in (_EINVAL, _ENOTSUPP):
                    raise
                with self._handle as fd:
                    command.map_lookup_elem(backend, fd, packed, value, subject=str(shape), map_type=shape.map_type)
                    command.map_delete_elem(backend, fd, packed, subject=str(shape), map_type=shape.map_type)
        except KeyNotFound as error:
            if default is _MISSING:
                error.key = key
                raise
            return default
        return self._value.unpack(value.raw)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there and return how many were. Raises: Closed; PermissionDenied (EPERM)."""
        every = list(keys)
        return self._elements().delete(self._key.pack_many(every), len(every))

    def drain(self) -> Iterator[tuple[K, V]]:
        """Yield elements and remove each as it is yielded: one that was not yielded is still in the map.

        Raises: Closed; PermissionDenied (EPERM).
        """
        for keys, _ in self.batches():
            for key in keys:
                value = self.pop(key, _MISSING)
                if not isinstance(value, _Missing):
                    yield key, value

    def clear(self) -> None:
        """Remove every element that is there now. Raises: Closed; PermissionDenied (EPERM)."""
        for _ in self._elements().read(remove=True):
            pass

    def _has_key(self, key: object) -> bool:
        return key in self

    def _get(self, key: K, default: D | None) -> V | D | None:
        return self.get(key, default)


class LruHashMap(HashMap["K", "V"]):
    """A hash map that makes room by evicting what was not used for long; it is never full.

    Only programs' look-ups and every update count as use; reading from user space does not.
    """

    __slots__ = ()

    map_type = "lru_hash"
