"""What every map has, whatever its type: identity, life time, pins, and how it is opened.

Elements are the business of the families (`hash`, `array`, `percpu`, ...), calls on single elements
of `operation`, many at once of `batch`. Knows no files and no programs.
Kernel side: kernel/bpf/syscall.c, include/linux/bpf.h:struct bpf_map (v6.12).
"""

from __future__ import annotations

import os
from types import GenericAlias

from rawbpf.errors import IndexOutOfRange, KeyExists, KeyNotFound
from rawbpf.map.handle import Handle
from rawbpf.map.operation import make_operations
from rawbpf.map.types import map_class
from rawbpf.syscall import map as command
from rawbpf.syscall import obj
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.lifetime import warn_unclosed
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypedDict, Unpack, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec, Description
    from rawbpf.map.array import ArrayMap
    from rawbpf.map.hash import HashMap, LruHashMap
    from rawbpf.map.info import MapInfo
    from rawbpf.map.percpu import LruPerCpuHashMap, PerCpuArrayMap, PerCpuHashMap
    from rawbpf.syscall.protocol import Backend

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)

    # A map whose class, and so whose verbs, are known only at run time.
    AnyMap: TypeAlias = Any

    class _Base(Generic[K, V]):
        pass

    class CreateOptions(TypedDict, total=False):
        """The keyword arguments of `Map.create`."""

        key: Description | None
        value: Description | None
        max_entries: int | None
        name: str
        flags: int
        map_extra: int
        numa_node: int | None
        inner: Map[Any, Any] | None
        pin: str | os.PathLike[str] | None
        token: int | None
        backend: Backend | None
else:

    class _Base:
        # typing costs 7 ms to import; at run time Map[K, V] need only be an alias.
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class Shape:
    """What is fixed when a map is made: `map_type key_size value_size max_entries map_flags name`."""

    __slots__ = ("key_size", "map_flags", "map_type", "max_entries", "name", "value_size")

    def __init__(
        self, map_type: int, key_size: int, value_size: int, max_entries: int, map_flags: int, name: str
    ) -> None:
        self.map_type = map_type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.map_flags = map_flags
        self.name = name

    def __str__(self) -> str:
        kind = f"({map_type_name(self.map_type)})"
        return f"{self.name!r} {kind}" if self.name else kind


class Map(_Base["K", "V"]):
    """An open BPF map: `Map.create` makes one, `from_pin`, `from_id`, `from_fd` and `from_name` open one.

    The object's class fits the map's type. Identity decides equality; `bool()` is always True.
    """

    __slots__ = ("__weakref__", "_handle", "_key", "_owner", "_pins", "_raw", "_shape", "_value")

    _indexed = False
    _operations: tuple[str, ...] = ()

    _handle: Handle
    _key: Codec[K]
    _value: Codec[V]
    _owner: Map[Any, Any] | None
    _pins: list[str]
    _raw: tuple[type[Map[Any, Any]], Codec[Any], Codec[Any]] | None
    _shape: Shape

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is opened by create(), from_pin(), from_id(), from_fd() or from_name()")

    @classmethod
    def _open(cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any]) -> Self:
        return cls._compiled(handle, shape, key, value)._made(handle, shape, key, value, None)

    @classmethod
    def _compiled(cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any]) -> type[Self]:
        # A class of its own for each map: `m[k]` looks its method up on the class, and a method closed
        # over this map's buffers saves the attribute look-ups that one shared by all would make.
        handle.describe = str(shape)
        operations: dict[str, Any] = {}
        if cls._operations:
            failed = cls._failure(handle, shape)
            compiled = make_operations(handle, key, value, failed, cls._indexed)
            for name in cls._operations:
                operations[name] = compiled[name]
                compiled[name].__doc__ = getattr(cls, name).__doc__
        operations.update(__slots__=(), __module__=cls.__module__, __qualname__=cls.__qualname__, __doc__=cls.__doc__)
        own = type(cls.__name__, (cls,), operations)
        handle.poisoned.append(own)
        return own

    @classmethod
    def _made(
        cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any], owner: Map[Any, Any] | None
    ) -> Self:
        self: Self = object.__new__(cls)
        self._handle = handle
        self._shape = shape
        self._key = key
        self._value = value
        self._owner = owner
        self._pins = []
        self._raw = None
        return self

    @staticmethod
    def _failure(handle: Handle, shape: Shape) -> Callable[[int, int, object], Exception]:
        backend, map_type, subject = handle.backend, shape.map_type, str(shape)

        def failed(cmd: int, errno: int, key: object) -> Exception:
            error = bpf_error(backend, errno, cmd=cmd, subject=subject, map_type=map_type)
            if isinstance(error, (KeyNotFound, KeyExists)):
                error.key = key
            elif isinstance(error, IndexOutOfRange) and key is not None:
                error.hint = f"no index {key!r}: max_entries is {shape.max_entries}"
            return error

        return failed

    def _fail(self, cmd: int, errno: int, key: object = None) -> Exception:
        return self._failure(self._handle, self._shape)(cmd, errno, key)

    # Opening ---------------------------------------------------------------------

    if TYPE_CHECKING:

        @overload
        @classmethod
        def create(cls, map_type: Literal["hash"], /, **options: Unpack[CreateOptions]) -> HashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["lru_hash"], /, **options: Unpack[CreateOptions]) -> LruHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["array"], /, **options: Unpack[CreateOptions]) -> ArrayMap[Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["percpu_hash"], /, **options: Unpack[CreateOptions]
        ) -> PerCpuHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["lru_percpu_hash"], /, **options: Unpack[CreateOptions]
        ) -> LruPerCpuHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["percpu_array"], /, **options: Unpack[CreateOptions]
        ) -> PerCpuArrayMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: str | int, /, **options: Unpack[CreateOptions]) -> AnyMap: ...
        @overload
        @classmethod
        def create(cls, /, **options: Unpack[CreateOptions]) -> Self: ...

    @classmethod
    def create(cls, map_type: Any = None, /, **options: Any) -> Any:
        """Create a map and return an object of the class for its type.

        `map_type`: a name (`"hash"`) or the kernel's number; not given where the class says it, as in
        `HashMap.create(key="u32", ...)`. `key`, `value`: what `codec_for` takes, such as `"u32"`, a dict
        of fields, a size in bytes. `max_entries`: how many elements. `name`: at most 15 of `A-Za-z0-9_.`.
        `flags`: BPF_F_ flags, to which those are added that the type requires. `map_extra`: the type's
        extra number. `numa_node`: where to allocate. `inner`: for maps of maps, a map like those to be
        held. `pin`: a path on a bpffs. `token`: a BPF token's fd. `backend`: by default the current one.

        Raises: TypeError, ValueError for arguments that contradict each other; PermissionDenied (EPERM),
        NotSupported (EINVAL for an unknown type, ENOTSUPP), BpfError (E2BIG, ENOMEM, EINVAL).
        Since: Linux 3.19.
        Source: kernel/bpf/syscall.c:map_create
        """
        from rawbpf.map.create import create

        if map_type is None:
            map_type = cls.map_type
            if map_type is None:
                raise TypeError(
                    'Map.create() needs a map type: Map.create("hash", key="u32", value="u64", max_entries=1024)'
                )
        return create(map_type, **options)

    @classmethod
    def from_fd(cls, fd: int, own: bool = False, *, backend: Backend | None = None) -> AnyMap:
        """Open the map behind `fd`, which is duplicated unless `own` hands it over.

        Raises: Closed (EBADF), BpfError (EINVAL: no map's), and then `fd` stays the caller's.
        """
        from rawbpf.map.open import from_fd

        return from_fd(fd, own, backend)

    @classmethod
    def from_id(cls, map_id: int, *, backend: Backend | None = None) -> AnyMap:
        """Open the map with the id `map_id`, as `info.id` and bpftool show it.

        Raises: BpfError (ENOENT: no such map), PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        Since: Linux 4.13.
        """
        from rawbpf.map.open import from_id

        return from_id(map_id, backend)

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str], mode: str = "rw", *, backend: Backend | None = None) -> AnyMap:
        """Open the map pinned at `path`; `mode` is "r", "w" or "rw".

        Raises: BpfError (ENOENT), PermissionDenied (EACCES, EPERM), ValueError for another mode.
        Since: Linux 4.4.
        """
        from rawbpf.map.open import from_pin

        return from_pin(path, mode, backend)

    @classmethod
    def from_name(cls, name: str, *, backend: Backend | None = None) -> AnyMap:
        """Open the map of that name, of which there must be exactly one.

        Raises: BpfError (ENOENT), ValueError where several maps have the name (it lists their ids),
        PermissionDenied (EPERM: needs CAP_SYS_ADMIN).
        """
        from rawbpf.map.open import from_name

        return from_name(name, backend)

    # Identity --------------------------------------------------------------------

    map_type: ClassVar[str | None] = None

    @property
    def key_type(self) -> Codec[K]:
        """The codec of the keys; `key_type(...)` builds a record where keys are structs."""
        return self._key

    @property
    def value_type(self) -> Codec[V]:
        """The codec of the values; `value_type(...)` builds a record where values are structs."""
        return self._value

    @property
    def max_entries(self) -> int:
        """How many elements the map was made for."""
        return self._shape.max_entries

    @property
    def name(self) -> str:
        """The name that the map was made with, at most 15 characters."""
        return self._shape.name

    @property
    def info(self) -> MapInfo:
        """What the kernel tells of the map now. Raises: Closed."""
        from rawbpf.map.info import read_info

        with self._handle as fd:
            return read_info(self._handle.backend, fd)

    @property
    def id(self) -> int:
        """The kernel's id of the map. Raises: Closed."""
        return self.info.id

    def fileno(self) -> int:
        """Return the file descriptor, which stays the map's. Raises: Closed."""
        with self._handle as fd:
            return fd

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._handle.fd < 0

    def same_as(self, other: Map[Any, Any]) -> bool:
        """Whether both objects are the same map of the kernel. Raises: Closed."""
        return self._handle.backend is other._handle.backend and self.id == other.id

    @property
    def raw(self) -> AnyMap:
        """The same map with bytes in and out; arrays keep their indices. A view: it closes with this object."""
        if self._owner is not None:
            return self
        if self._raw is None:
            from rawbpf.codec import codec_for

            key: Codec[Any] = self._key if self._indexed else codec_for(self._key.size)
            value = codec_for(self._value.size)
            family = map_class(self._shape.map_type)
            self._raw = family._compiled(self._handle, self._shape, key, value), key, value
        # Not the view itself is kept: it refers to this object, which would then wait for the garbage collector.
        view, key, value = self._raw
        return view._made(self._handle, self._shape, key, value, self)

    # Life time -------------------------------------------------------------------

    def dup(self) -> Self:
        """Return a second object of this map, with a descriptor of its own. Raises: Closed."""
        backend = self._handle.backend
        with self._handle as fd:
            copy = backend.dup(fd)
        family: type[Self] = map_class(self._shape.map_type)
        return family._open(Handle(backend, copy), self._shape, self._key, self._value)

    def freeze(self) -> None:
        """Refuse every later write from user space; programs still write.

        Raises: Closed; BpfError (EBUSY: a writable mapping of the map is alive, EPERM: frozen already).
        Since: Linux 5.2.
        Source: kernel/bpf/syscall.c:map_freeze
        """
        with self._handle as fd:
            command.map_freeze(self._handle.backend, fd, subject=str(self._shape))

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the map a name on a bpffs, which keeps it alive without this process.

        Raises: Closed; KeyExists (EEXIST: the path is taken); PermissionDenied (EPERM: not on a bpffs);
        BpfError (ENOENT: no such directory). Since: Linux 4.4.
        """
        where = os.fspath(path)
        with self._handle as fd:
            obj.obj_pin(self._handle.backend, fd, os.fsencode(where), subject=f"{self._shape} at {where!r}")
        self._pins.append(where)

    def unpin(self) -> None:
        """Remove the pins that this object made or was opened by. Raises: OSError; ValueError if there is none."""
        if not self._pins:
            raise ValueError(f"{self._shape} was not pinned by this object")
        while self._pins:
            os.unlink(self._pins[-1])
            self._pins.pop()

    def close(self) -> None:
        """Close the map; it lives on in the kernel while pins, programs or others hold it. Idempotent."""
        if self._owner is None:
            self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and self._owner is None and handle.holds:
            try:
                if handle.fd >= 0:
                    warn_unclosed(self, handle.opened_at)
            finally:  # where warnings are errors, too, and where an interrupt ended close()
                handle.close()

    # Python's protocols ----------------------------------------------------------

    def __bool__(self) -> Literal[True]:
        return True

    def __repr__(self) -> str:
        shape, backend = self._shape, self._handle.backend.name
        where = "closed" if self.closed else f"fd {self._handle.fd}"
        sim = "" if backend == "kernel" else f" [{backend}]"
        types = f"{self._key.name} -> {self._value.name}"
        return f"<{type(self).__name__} {shape.name!r}: {types}, max_entries {shape.max_entries}, {where}{sim}>"

    def __copy__(self) -> Self:
        raise TypeError("a map cannot be copied: dup() opens it again, snapshot() copies its elements")

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a map cannot be pickled: open it in the other process with Map.from_pin or Map.from_id")
