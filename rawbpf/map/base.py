"""What every map has, whatever its type: identity, life time, pins, and how it is opened.

Elements are the business of the families (`hash`, `array`, `percpu`, ...), calls on single elements
of `operation`, many at once of `batch`. Knows no files and no programs.
Kernel side: kernel/bpf/syscall.c, include/linux/bpf.h:struct bpf_map (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.errors import BpfError, IndexOutOfRange, KeyExists, KeyNotFound, PermissionDenied, SpecError
from rawbpf.map.constructors import Constructors
from rawbpf.map.family import Family
from rawbpf.map.handle import Handle
from rawbpf.map.operation import make_operations
from rawbpf.map.pin import Pin
from rawbpf.map.types import map_class
from rawbpf.syscall import map as command
from rawbpf.syscall import obj
from rawbpf.syscall.descriptor import descriptor_number
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.lifetime import mark, warn_unclosed
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Literal, Self

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.map.constructors import AnyMap
    from rawbpf.map.drain import Drained
    from rawbpf.map.info import MapInfo

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


_EBUSY = 16


class Shape:
    """What is fixed when a map is made: `map_type key_size value_size max_entries map_flags name`.

    `template` is that of a map of maps, None where whoever opened the map does not know it. `special`: the map's own
    BTF has something of the kernel's in the values, whatever they are read as; None where it cannot be read.
    """

    __slots__ = ("key_size", "map_flags", "map_type", "max_entries", "name", "special", "template", "value_size")

    def __init__(
        self, map_type: int, key_size: int, value_size: int, max_entries: int, map_flags: int, name: str
    ) -> None:
        self.map_type = map_type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.map_flags = map_flags
        self.name = name
        self.template: Shape | None = None
        self.special: bool | None = False

    def __str__(self) -> str:
        kind = f"({map_type_name(self.map_type)})"
        return f"{self.name!r} {kind}" if self.name else kind


class Map(Family, Constructors["K", "V"]):
    """An open BPF map: `Map.create` makes one, `from_pin`, `from_id`, `from_fd` and `from_name` open one.

    The object's class fits the map's type. Identity decides equality; `bool()` is always True.
    """

    __slots__ = ("__weakref__", "_drained", "_handle", "_key", "_owner", "_pins", "_raw", "_shape", "_value")

    _indexed = False
    _operations: tuple[str, ...] = ()

    _drained: Drained | None
    _handle: Handle
    _key: Codec[K]
    _value: Codec[V]
    _owner: Map[Any, Any] | None
    _pins: list[Pin]
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
        handle.describe, handle.map_type = str(shape), shape.map_type
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
        self._drained = None
        return self

    @staticmethod
    def _failure(handle: Handle, shape: Shape) -> Callable[..., Exception]:
        backend, map_type, subject = handle.backend, shape.map_type, str(shape)

        def failed(cmd: int, errno: int, key: object, flags: int = 0) -> Exception:
            values = {"flags": flags}
            error = bpf_error(backend, errno, cmd=cmd, subject=subject, map_type=map_type, values=values)
            if isinstance(error, (KeyNotFound, KeyExists)):
                error.key = key
            elif isinstance(error, IndexOutOfRange) and key is not None:
                error.hint = f"no index {key!r}: max_entries is {shape.max_entries}"
            return error

        return failed

    def _fail(self, cmd: int, errno: int, key: object = None) -> Exception:
        return self._failure(self._handle, self._shape)(cmd, errno, key)

    # Identity --------------------------------------------------------------------

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
        """Whether both objects are the same map of the kernel. Raises: Closed; TypeError for what is no map."""
        if not isinstance(other, Map):
            raise TypeError(f"same_as() takes a map, got {other!r}")
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

    def _struct(self, name: str) -> Codec[Any]:
        # The struct `name` of the object file that the map came from, for records of events.
        raise SpecError(
            f"map {self._shape}: {name!r} is no type, and no struct is known of a map without an object file"
        )

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

        Raises: Closed; BpfError (EBUSY: a writable mapping of the map is alive); PermissionDenied (EPERM, before
        Linux 6.5 EBUSY: frozen already).
        Since: Linux 5.2.
        Source: kernel/bpf/syscall.c:map_freeze
        """
        try:
            self._handle.call(command.map_freeze)
        except BpfError as error:
            if error.errno != _EBUSY or not self.info.frozen:
                raise
            raise PermissionDenied(
                _EBUSY,
                call="map_freeze",
                cmd=error.cmd,
                subject=error.subject,
                hint="the map is frozen already",
                backend=error.backend,
            ) from None

    def pin(self, path: str | os.PathLike[str], *, dir_fd: HasFileno | int | None = None) -> None:
        """Give the map a name on a bpffs, which keeps it alive without this process.

        A relative `path` starts at the directory `dir_fd`, a descriptor or an object with `fileno()`; so
        pins can be made in a file system that is mounted nowhere.
        Raises: Closed; KeyExists (EEXIST: the path is taken); PermissionDenied (EPERM: not on a bpffs);
        BpfError (ENOENT: no such directory). Since: Linux 4.4; `dir_fd` since 6.5.
        """
        where = os.fspath(path)
        at = None if dir_fd is None else descriptor_number(dir_fd, "dir_fd=")
        with self._handle as fd:
            obj.obj_pin(self._handle.backend, fd, os.fsencode(where), dir_fd=at, subject=f"{self._shape} at {where!r}")
        self._remember_pin(where, at)

    def _remember_pin(self, path: str | bytes, dir_fd: int | None) -> None:
        self._pins.append(Pin(path, dir_fd))

    def unpin(self) -> None:
        """Remove the pins that this object made or was opened by; those that were replaced by others stay.

        Raises: OSError; ValueError if there is none, or if the `dir_fd` of one has been closed since.
        """
        if not self._pins:
            raise ValueError(f"{self._shape} was not pinned by this object")
        while self._pins:
            self._pins[-1].remove()
            self._pins.pop()

    def close(self) -> None:
        """Close the map; it lives on in the kernel while pins, programs or others hold it. Idempotent.

        A descriptor that others have closed behind the map's back is not closed once more.
        """
        if self._owner is None:
            if self._drained is not None:
                self._drained.stop()
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
                self.close()

    # Python's protocols ----------------------------------------------------------

    def __bool__(self) -> Literal[True]:
        return True

    def __repr__(self) -> str:
        shape = self._shape
        where = "closed" if self.closed else f"fd {self._handle.fd}"
        types = " -> ".join(codec.name for codec in (self._key, self._value) if codec.size)
        size = f"max_entries {shape.max_entries}"
        what = ", ".join(filter(None, (types, size, where)))
        return f"<{type(self).__name__} {shape.name!r}: {what}{mark(self._handle.backend)}>"

    def __copy__(self) -> Self:
        raise TypeError("a map cannot be copied: dup() opens it again, snapshot() copies its elements")

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a map cannot be pickled: open it in the other process with Map.from_pin or Map.from_id")
