"""Local storage: values that belong to a socket, an inode, a task or a cgroup, and die with it.

A key is the owner itself, by a descriptor: the kernel looks the owner up, and keeps no list of those
that have a value, so that nothing here iterates, counts or takes batches. Where an owner has a path,
the path is opened for the one call.
Kernel side: kernel/bpf/bpf_local_storage.c, net/core/bpf_sk_storage.c, kernel/bpf/bpf_inode_storage.c,
kernel/bpf/bpf_task_storage.c, kernel/bpf/bpf_cgrp_storage.c (v6.12).
"""

from __future__ import annotations

import ctypes
import os

from rawbpf.codec.base import NATIVE, Codec, refuse
from rawbpf.errors import BpfError, KeyExists, KeyNotFound
from rawbpf.map.base import Map
from rawbpf.map.memory import buffer_of
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, overload

    from typing_extensions import TypeVar

    from rawbpf.btf.build import Builder
    from rawbpf.codec import Description
    from rawbpf.codec.descriptor import HasFileno

    V = TypeVar("V", default=Any)
    D = TypeVar("D")

    Owner = int | HasFileno | str | os.PathLike[str]

_EAGAIN = 11
_MOST = (1 << 31) - 1
_REPEATS = 1000


class OwnerCodec(Codec[int]):
    """The descriptor of an owner, as an int or as what has a `fileno()`; `noun` is such as "a socket"."""

    size = alignment = 4

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.name = f"descriptor of {noun}"

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return "key"

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of the descriptor. Raises: TypeError for what has none; ValueError for what is closed."""
        return self.encode(value, self.label)

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of the descriptor; messages open with `where`."""
        fileno = getattr(value, "fileno", None)
        fd = value if fileno is None else fileno()
        if not isinstance(fd, int) or isinstance(fd, bool):
            raise refuse(where, f"{self.noun} as an open descriptor or an object with fileno()", value)
        if not 0 <= fd <= _MOST:
            raise ValueError(f"{where}: expected {self.noun} that is open, but {value!r} is closed or no descriptor")
        return fd.to_bytes(4, NATIVE)

    def decode(self, raw: bytes) -> int:
        """Return the descriptor that was handed in."""
        return int.from_bytes(raw, NATIVE)

    def build(self, builder: Builder) -> int:
        """Add the int that the kernel insists on."""
        return builder.int("int", 4, signed=True)


class LocalStorageMap(Map["Owner", "V"]):
    """A value for each owner of a kind: `m[owner]`, where an owner is an open object or its descriptor."""

    __slots__ = ()

    _noun: ClassVar[str]
    _open_flags: ClassVar[int | None] = None
    """How a path is opened; None where owners have none."""
    _default_entries = 0
    _required_flags = BPF_F_NO_PREALLOC
    _takes_btf = _needs_btf = True
    # m[0], m[1] ... would be other people's descriptors.
    __iter__ = None
    __reversed__ = None

    @classmethod
    def _key_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        if described is not None:
            from rawbpf.codec import codec_for

            if codec_for(described).size != 4:
                raise ValueError(f"key={described!r}: the keys of {word} maps are descriptors; leave key= out")
        return OwnerCodec(cls._noun)

    # Runs a command on the element of `owner`, whose path is open for that long.
    def _on(self, run: Callable[..., None], owner: object, *arguments: object) -> None:
        fd = None
        key = owner
        if self._open_flags is not None and isinstance(owner, (str, os.PathLike)) and self._owner is None:
            key = fd = os.open(owner, self._open_flags | os.O_CLOEXEC)
        try:
            self._handle.call(run, buffer_of(self._key.pack(key)), *arguments)
        except (KeyNotFound, KeyExists) as error:
            error.key = owner
            raise
        finally:
            if fd is not None:
                os.close(fd)

    def __getitem__(self, owner: Owner) -> V:
        """Return the value of `owner`.

        Raises: KeyNotFound (ENOENT: nothing is stored); BpfError (EBADF, ENOTSOCK: the descriptor is
        closed or of another kind); Closed; OSError for a path that cannot be opened; TypeError and
        ValueError for what has no descriptor.
        Source: kernel/bpf/syscall.c:map_lookup_elem
        """
        return self.lookup(owner)

    def lookup(self, owner: Owner, flags: int = 0) -> V:
        """Return the value of `owner`, with BPF_ flags such as BPF_F_LOCK.

        Raises: as `m[owner]`; BpfError (EINVAL: flags that this map does not take).
        """
        value = ctypes.create_string_buffer(self._value.size)
        self._on(command.map_lookup_elem, owner, value, flags)
        return self._value.unpack(value.raw)

    if TYPE_CHECKING:

        @overload
        def get(self, owner: Owner) -> V | None: ...
        @overload
        def get(self, owner: Owner, default: D) -> V | D: ...

    def get(self, owner: Owner, default: D | None = None) -> V | D | None:
        """Return the value of `owner`, or `default` where it has none. Raises: as `m[owner]`, but for KeyNotFound."""
        try:
            return self.lookup(owner)
        except KeyNotFound:
            return default

    def __contains__(self, owner: object) -> bool:
        """Whether something is stored for `owner`. Raises: as `get`."""
        value = ctypes.create_string_buffer(self._value.size)
        try:
            self._on(command.map_lookup_elem, owner, value)
        except KeyNotFound:
            return False
        return True

    def __setitem__(self, owner: Owner, value: V) -> None:
        """Store `value` for `owner`, whether it has one or not.

        Raises: as `m[owner]`; PermissionDenied (EPERM: frozen, or opened for reading only); TypeError,
        ValueError, OverflowError for a value that cannot be encoded.
        Source: kernel/bpf/bpf_local_storage.c:bpf_local_storage_update
        """
        self.put(owner, value)

    def put(self, owner: Owner, value: V, flags: int = 0) -> None:
        """Store `value` for `owner` with BPF_ flags. Raises: as `m[owner] = value`; KeyExists, KeyNotFound by flags."""
        packed = buffer_of(self._value.pack(value))
        for repeat in range(_REPEATS):
            try:
                self._on(command.map_update_elem, owner, packed, flags)
                return
            except BpfError as error:
                # What the owner had, in a map that was closed perhaps, is just being freed, and nothing was stored:
                # kernel/bpf/bpf_local_storage.c:bpf_local_storage_alloc (v6.12).
                if error.errno != _EAGAIN or repeat == _REPEATS - 1:
                    raise
            os.sched_yield()

    def insert(self, owner: Owner, value: V) -> None:
        """Store for an `owner` that must have nothing yet. Raises: KeyExists (EEXIST); else as `m[owner] = value`."""
        self.put(owner, value, BPF_NOEXIST)

    def replace(self, owner: Owner, value: V) -> None:
        """Store for an `owner` that must have a value. Raises: KeyNotFound (ENOENT); else as `m[owner] = value`."""
        self.put(owner, value, BPF_EXIST)

    def __delitem__(self, owner: Owner) -> None:
        """Remove the value of `owner`.

        Raises: as `m[owner]`; PermissionDenied (EPERM).
        Source: kernel/bpf/syscall.c:map_delete_elem
        """
        self._on(command.map_delete_elem, owner)


class SkStorageMap(LocalStorageMap["V"]):
    """A value for each socket: a key is the socket object, or its descriptor.

    With `flags=BPF_F_CLONE` a connection that arrives at a listening socket starts with a copy of the
    listener's value as it then is. A socket has room for as much as net.core.optmem_max says. Since: Linux 5.2.
    """

    __slots__ = ()

    map_type = "sk_storage"
    _noun = "a socket"


class InodeStorageMap(LocalStorageMap["V"]):
    """A value for each inode: a key is an open file, its descriptor, or a path; links to one file share a value.

    The value lives as long as the kernel keeps the inode in memory, which it does while the file is
    open; one that nobody uses may be forgotten and read anew from its disk, without the value.
    Since: Linux 5.10.
    """

    __slots__ = ()

    map_type = "inode_storage"
    _noun = "a file"
    _open_flags = os.O_PATH


class TaskStorageMap(LocalStorageMap["V"]):
    """A value for each task: a key is a pidfd, as `os.pidfd_open(pid)` returns it.

    A plain process id is not taken, because it would be read as the descriptor of that number.
    Since: Linux 5.11.
    """

    __slots__ = ()

    map_type = "task_storage"
    _noun = "a task"


class CgrpStorageMap(LocalStorageMap["V"]):
    """A value for each cgroup: a key is the path of its directory, or that directory, open. Since: Linux 6.2."""

    __slots__ = ()

    map_type = "cgrp_storage"
    _noun = "a cgroup"
    _open_flags = os.O_RDONLY | os.O_DIRECTORY
