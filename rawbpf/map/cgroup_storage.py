"""Cgroup storage: a value for each cgroup that programs with the map are attached to, made by attaching.

It outlives the attachment and goes with the cgroup: commit 7d9c3427894f ("bpf: Make cgroup storages
shared between programs on the same cgroup") (in v5.9). The kernel lists what is there, so that it can
be read like a dictionary; nothing is inserted or deleted from here. A key is a cgroup's inode number,
alone (8 bytes: all attach types share the value) or with the attach type (16 bytes).
Kernel side: kernel/bpf/local_storage.c (v6.12).
"""

from __future__ import annotations

import ctypes
import os

from rawbpf.codec import codec_for
from rawbpf.codec.base import Codec
from rawbpf.errors import IterationAborted, KeyNotFound
from rawbpf.map.batch import DEFAULT_CHUNK, Elements
from rawbpf.map.bulk import BulkMap
from rawbpf.map.handle import closed
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_EXIST
from rawbpf.uapi.names import attach_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, overload

    from typing_extensions import TypeVar

    from rawbpf.btf.build import Builder
    from rawbpf.codec import Description
    from rawbpf.codec.base import Raw
    from rawbpf.codec.percpu import PerCpu  # noqa: F401  (in the strings of the bases)

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")

_ENOENT = 2
_RESTARTS = 1000
_SHARED_SIZE, _ISOLATED_SIZE = 8, 16


class CgroupKeyCodec(Codec[object]):
    """A key as `inner` has it, or with the path of the cgroup for its number and a name for the attach type."""

    def __init__(self, inner: Codec[Any]) -> None:
        self.inner = inner
        self.name = inner.name
        self.size = inner.size
        self.alignment = inner.alignment
        self.hashable = inner.hashable

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return self.inner.label or "key"

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of a number or record, or of a path or (path, attach type)."""
        return self.inner.pack(self._numbers(value))

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of `value`; messages open with `where`."""
        return self.inner.encode(self._numbers(value), where)

    def unpack(self, buffer: Raw, /) -> object:
        """Return the number or record of exactly `size` bytes."""
        return self.inner.unpack(buffer)

    def build(self, builder: Builder) -> int:
        """Add the type of the numbers."""
        return self.inner.add_to(builder)

    def explain(self) -> str:
        """Return how the bytes are laid out."""
        return self.inner.explain()

    def __call__(self, *values: object, **named: object) -> object:
        """Return the key of these values, as it reads back."""
        if len(values) == 1 or named:
            return self.inner(*map(self._numbers, values), **named)
        return self.unpack(self.pack(values))

    def _numbers(self, value: object) -> object:
        if self.size == _SHARED_SIZE:
            return _inode(value)
        if type(value) is tuple and len(value) == 2:
            cgroup, attach_type = value
            return _inode(cgroup), attach_type_number(attach_type) if isinstance(attach_type, str) else attach_type
        return value


def _inode(cgroup: object) -> object:
    # A cgroup's id is the number of its directory's inode: kernel/cgroup/cgroup.c:cgroup_id (v6.12).
    return os.stat(cgroup).st_ino if isinstance(cgroup, (str, os.PathLike)) else cgroup


class CgroupStorageMap(BulkMap["K", "V"]):
    """A value for each cgroup that a program with this map was attached to: `m[path, "cgroup_inet_egress"]`.

    Attaching makes it, removing the cgroup ends it. Keys read back as records of `cgroup_inode_id` and
    `attach_type`. With `key="u64"` a key is the cgroup alone, by its path or inode number, and
    programs of all attach types share the value (since Linux 5.9). Since: Linux 4.19.
    """

    __slots__ = ()

    map_type = "cgroup_storage"
    _default_entries = 0
    _takes_btf = True
    _operations = ("__getitem__", "get", "__contains__", "__setitem__", "put")
    __reversed__ = None

    @classmethod
    def _key_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        if described is None or described == _ISOLATED_SIZE:
            fields: dict[str, Description] = {"cgroup_inode_id": "u64", "attach_type": "u32"}
            inner = codec_for(fields, name="bpf_cgroup_storage_key")
        else:
            inner = codec_for("u64" if described == _SHARED_SIZE else described)
        if inner.size not in (_SHARED_SIZE, _ISOLATED_SIZE):
            both = 'key="u64" (a cgroup) or none (a cgroup and an attach type)'
            raise ValueError(f"key={described!r}: a key of {word} maps has 8 or 16 bytes; give {both}")
        return CgroupKeyCodec(inner)

    def _elements(self) -> Elements:
        return _Linked(self._handle, self._shape, self._value.size)

    # The bodies of those five are never run: each open map has compiled ones in their place.

    def __getitem__(self, key: K) -> V:
        """Return the value of `key`: a record, or the cgroup's path and the name or number of the attach type.

        Raises: KeyNotFound (ENOENT: no such program was attached there); Closed; PermissionDenied (EPERM: opened
        for writing only); OSError for a path that does not exist; TypeError, ValueError, OverflowError for a
        key that cannot be encoded.
        Source: kernel/bpf/local_storage.c:cgroup_storage_lookup_elem
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
        """Whether a program was attached there. Raises: as `get`."""
        raise closed(str(self._shape))

    def __setitem__(self, key: K, value: V) -> None:
        """Store `value` under a `key` that is there.

        Raises: as `m[key]`; PermissionDenied (EPERM: frozen, or opened for reading only).
        Source: kernel/bpf/local_storage.c:cgroup_storage_update_elem
        """
        raise closed(str(self._shape))

    def put(self, key: K, value: V, flags: int = 0) -> None:  # noqa: ARG002
        """Store `value` under a `key` that is there, with BPF_ flags. Raises: as `m[key] = value`."""
        raise closed(str(self._shape))

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys."""
        return iter(self.keys())

    def replace(self, key: K, value: V) -> None:
        """Store under a `key` that is there; as `m[key] = value`."""
        self.put(key, value, BPF_EXIST)

    def lookup(self, key: K, flags: int = 0) -> V:
        """Return the value of `key`, with BPF_ flags such as BPF_F_LOCK.

        Raises: as `m[key]`; BpfError (EINVAL: flags that this map does not take).
        """
        return self._lookup(key, flags)

    def _has_key(self, key: object) -> bool:
        return key in self

    def _get(self, key: K, default: D | None) -> V | D | None:
        return self.get(key, default)


class PerCpuCgroupStorageMap(CgroupStorageMap["K", "PerCpu[V]"]):
    """Cgroup storage with a value per possible CPU: `m[key].sum()` is the total. Since: Linux 4.20."""

    __slots__ = ()

    map_type = "percpu_cgroup_storage"
    _per_cpu = True


class _Linked(Elements):
    # The map has no size that bounds a walk, and no batches. A key that is gone has no next: the walk then
    # starts anew, and passes what it has seen. What follows the last key is the end only to newer kernels:
    # others (seen on 5.10) take the head of their list for an element, and answer with bytes of the map itself
    # for a key. Those are in no map, and the same the next time; or they happen to be a key, and it goes round.
    # Source: kernel/bpf/local_storage.c:cgroup_storage_get_next_key (v6.12).

    __slots__ = ()

    def read(
        self, n: int = DEFAULT_CHUNK, *, remove: bool = False, flags: int = 0
    ) -> Iterator[tuple[memoryview, memoryview, int]]:
        del n, flags
        assert not remove
        found: dict[bytes, bytes] = {}
        passed: set[bytes] = set()
        at: bytes | None = None
        lost: bytes | None = None
        restarts = 0
        while True:
            following = self._next(at)
            if following in passed:
                break
            if following is None:
                if at in (None, lost) or self._value(at) is not None:
                    break
                lost, at = at, None
                passed.clear()
                restarts += 1
                if restarts > _RESTARTS:
                    hint = f"gave up after {restarts} restarts: programs are detached faster than it is read; try again"
                    raise IterationAborted(_ENOENT, call="iterate", subject=str(self.shape), hint=hint)
                continue
            at = following
            passed.add(at)
            if at not in found and (value := self._value(at)) is not None:
                found[at] = value
        if found:
            yield memoryview(b"".join(found)), memoryview(b"".join(found.values())), len(found)

    def _next(self, key: bytes | None) -> bytes | None:
        at = None if key is None else ctypes.create_string_buffer(key, self.key_size)
        following = ctypes.create_string_buffer(self.key_size)
        return following.raw if self.handle.call(command.map_get_next_key, at, following) else None

    def _value(self, key: bytes) -> bytes | None:
        at, value = ctypes.create_string_buffer(key, self.key_size), ctypes.create_string_buffer(self.value_size)
        try:
            self.handle.call(command.map_lookup_elem, at, value)
        except KeyNotFound:
            return None
        return value.raw
