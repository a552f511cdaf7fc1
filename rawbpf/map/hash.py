"""Hash maps: dictionaries of the kernel, plain and LRU.

Kernel side: kernel/bpf/hashtab.c (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import KeyNotFound
from rawbpf.map.bulk import BulkMap, beforehand, in_portions, in_turn
from rawbpf.map.drain import DEFAULT_DRAIN, Drained
from rawbpf.map.handle import closed
from rawbpf.map.missing import MISSING, Missing
from rawbpf.map.taken import Taken
from rawbpf.syscall.group import HASHES
from rawbpf.uapi.constants import BPF_EXIST, BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, ClassVar, overload

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")


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

    def pop(self, key: K, default: D | Missing = MISSING) -> V | D | Missing:
        """Remove `key` and return its value, or `default` where it is missing and a default is given.

        The kernel does both in one step; before Linux 5.14 a write between the two can be lost.
        Raises: KeyNotFound (ENOENT) without a default; Closed; PermissionDenied (EPERM).
        Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem
        """
        try:
            taken = self._elements().take(self._key.pack(key))
        except KeyNotFound as error:
            if default is MISSING:
                error.key = key
                raise
            return default
        return self._value.unpack(taken)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there and return how many were; equal keys count once.

        Keys of a list or another collection are encoded before the first is deleted, those of an iterator
        portion by portion. Raises: Closed; PermissionDenied (EPERM); TypeError, ValueError, OverflowError
        for a key that cannot be encoded; with `.applied` where some were deleted.
        Since: Linux 5.6 in batches; one by one before.
        Source: kernel/bpf/syscall.c:generic_map_delete_batch
        """
        elements = self._elements()
        portions = ((self._key.pack_many(some), len(some)) for some in in_portions(keys, elements.portion()))

        def delete(portion: tuple[bytes, int]) -> int:
            many = self._many_for(portion[1])
            return elements.delete(*portion) if many is None else many.delete(elements, *portion)

        return in_turn(beforehand(portions, keys), delete)

    def pop_many(self, keys: Iterable[K], default: D | None = None) -> list[V | D | None]:
        """Remove `keys` and return their values, in their order, with `default` for those that are missing.

        Of equal keys the first has the value. A program reads and deletes one key after the other: what others store
        between the two, within some ten nanoseconds, is deleted unread, where `pop` does both in one step. What
        was removed when an interrupt or an error ends it is put back where its key is still free.
        Raises: Closed; PermissionDenied (EPERM); TypeError, ValueError, OverflowError for a key that cannot be encoded.
        Since: Linux 5.14 in one call; one by one before.
        """
        every = keys if isinstance(keys, (list, tuple)) else list(keys)
        taken = Taken(self._elements(), self._key.pack_many(every))
        try:
            many = self._many_for(len(every))
            if many is None or not many.pop(taken, len(every)):
                for _ in every:
                    taken.one()
            return taken.decoded(self._value, default)
        except BaseException as error:
            if lost := taken.put_back():
                error.add_note(f"{lost} elements that were taken out could not be put back")
            raise

    def drain(self, n: int = DEFAULT_DRAIN) -> Iterator[tuple[K, V]]:
        """Yield all elements and remove them from the map, `n` at a time.

        What was taken out and not yielded, because the iterator was closed or dropped, or an interrupt or
        an error ended it, is put back where its key is still free. Where it is not, or where there is no
        more room (an LRU map makes room), this object keeps it, and its next `drain()` yields it first.
        Closing the map ends its drains with Closed and puts back as well. Only the process that took elements
        puts them back, and none that was forked from it. Other types than hashes, and hashes
        before Linux 5.6, are drained one by one.

        Raises: ValueError for `n` below 1; Closed; PermissionDenied (EPERM: opened for reading or writing
        only, or frozen); IterationAborted where there is no batch. Since: Linux 5.6 in batches.
        Source: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch
        """
        elements = self._elements()
        elements.portion(n)  # complains of it now, not at the first element
        # What a type that is not known here yields may be ids, which cannot be put back.
        if self._shape.map_type not in HASHES:
            return self._drain_one_by_one(n)
        owner = self if self._owner is None else self._owner
        drained = Drained()
        if owner._drained is None:  # nor has another thread made one meanwhile
            owner._drained = drained
        return owner._drained.drain(elements, self._key, self._value, n, self._drain_one_by_one)

    def _drain_one_by_one(self, n: int) -> Iterator[tuple[K, V]]:
        gone: Any = Missing()  # and not MISSING, which asks for the error
        for keys, _ in self.batches(n):
            for key in keys:
                value = self.pop(key, gone)
                if value is not gone:
                    yield key, value

    def clear(self) -> None:
        """Remove every element that is there now, and what earlier drains could not put back.

        Raises: Closed; PermissionDenied (EPERM); IterationAborted where there is no batch.
        """
        for _ in self._elements().read(remove=True):
            pass
        owner = self if self._owner is None else self._owner
        if owner._drained is not None:
            owner._drained.forget()

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
