"""Opening maps that exist: by descriptor, id, pin or name, typed by the BTF that they carry."""

from __future__ import annotations

import os

from rawbpf.errors import BpfError, NotFound, SpecError
from rawbpf.map.base import Shape
from rawbpf.map.btf import read_btf
from rawbpf.map.create import codecs_of_sizes, open_map
from rawbpf.map.info import MapInfo, read_info
from rawbpf.map.types import map_class
from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import descriptor_number, require_kind
from rawbpf.uapi.constants import BPF_F_RDONLY, BPF_F_WRONLY
from rawbpf.uapi.names import map_type_name, map_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rawbpf.btf.types import Type
    from rawbpf.codec import Codec, Description
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.map.base import Map
    from rawbpf.map.constructors import Constructors, Token
    from rawbpf.syscall.protocol import Backend

_ENOENT, _EINVAL = 2, 22
_MODES = {"r": BPF_F_RDONLY, "w": BPF_F_WRONLY, "rw": 0}


class Wishes:
    """What whoever opens a map says of it: its class, types of keys and values (None: the map's own), and a token."""

    __slots__ = ("family", "key", "token_fd", "value")

    def __init__(
        self,
        family: type[Constructors[Any, Any]],
        key: Description | None,
        value: Description | None,
        token: Token | None,
    ) -> None:
        self.family = family
        self.key = key
        self.value = value
        self.token_fd = 0 if token is None else descriptor_number(token, "token=")


def from_fd(fd: HasFileno | int, own: bool, wishes: Wishes, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_fd`."""
    backend = backend or current()
    number = descriptor_number(fd, "fd=")
    if own and not isinstance(fd, int):
        raise TypeError(f"own=True takes a number: {fd!r} closes its descriptor itself")
    require_kind(backend, number, "map")
    # What fails leaves `fd` to the caller, who closes it.
    return _typed(backend, number, wishes) if own else _open(backend, backend.dup(number), wishes)


def from_id(map_id: int, wishes: Wishes, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_id`."""
    backend = backend or current()
    if not isinstance(map_id, int):
        raise TypeError(f"from_id() takes the number of a map, got {map_id!r}")
    return _open(backend, obj.map_get_fd_by_id(backend, map_id), wishes)


def from_pin(
    path: str | os.PathLike[str], mode: str, dir_fd: HasFileno | int | None, wishes: Wishes, backend: Backend | None
) -> Map[Any, Any]:
    """Documented as `Map.from_pin`."""
    backend = backend or current()
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r}: a map is opened 'r', 'w' or 'rw'")
    where = os.fspath(path)
    at = None if dir_fd is None else descriptor_number(dir_fd, "dir_fd=")
    try:
        fd = obj.obj_get(backend, os.fsencode(where), _MODES[mode], at)
    except BpfError as error:
        if error.errno == _EINVAL and _MODES[mode]:  # so a link is refused; a program opens all the same
            error.hint = f"only maps are opened mode={mode!r}: it may be a link"
        raise
    opened = _open(backend, fd, wishes, f"the pin {where!r}")
    opened._remember_pin(where, at)
    return opened


def from_name(name: str, wishes: Wishes, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_name`."""
    backend = backend or current()
    if not isinstance(name, str):
        raise TypeError(f"from_name() takes the name of a map, got {name!r}")
    found = [info.id for info in infos(backend) if info.name == name]
    if not found:
        hint = "no map has this name (the kernel keeps 15 characters); rawbpf.maps() lists them"
        raise NotFound(_ENOENT, call="open", subject=f"map {name!r}", hint=hint, backend=backend.name)
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} maps are called {name!r}: open one of the ids {', '.join(map(str, found))} with from_id"
        )
    return from_id(found[0], wishes, backend)


def maps(name: str | None = None, type: str | int | None = None) -> list[MapInfo]:
    """Return what the kernel tells of every map, or of those with that name and type; holds no descriptor.

    `type`: a name such as "hash", or the kernel's number. Raises: PermissionDenied (EPERM: needs
    CAP_SYS_ADMIN); ValueError for an unknown type name. Since: Linux 4.13.
    """
    number = map_type_number(type) if isinstance(type, str) else type
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r}: expected the name of a map")
    found = infos(current())
    return [info for info in found if name in (None, info.name) and number in (None, info.type_number)]


def infos(backend: Backend) -> Iterator[MapInfo]:
    """Yield what the kernel tells of every map. Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN)."""
    for fd in obj.every(backend, obj.map_get_next_id, obj.map_get_fd_by_id):
        yield read_info(backend, fd)


def _open(backend: Backend, fd: int, wishes: Wishes, what: str = "") -> Map[Any, Any]:
    try:
        return _typed(backend, fd, wishes, what)
    except BaseException:
        backend.close(fd)
        raise


def _typed(backend: Backend, fd: int, wishes: Wishes, what: str = "") -> Map[Any, Any]:
    require_kind(backend, fd, "map", what)
    info = read_info(backend, fd)
    shape = Shape(info.type_number, info.key_size, info.value_size, info.max_entries, info.map_flags, info.name)
    if wishes.family.map_type not in (None, map_type_name(info.type_number)):
        right = map_class(info.type_number).__name__
        raise TypeError(f"map {shape}: {wishes.family.__name__} opens no such map; {right} and Map do")
    key, value = _codecs(backend, info, wishes, shape)
    return open_map(backend, fd, shape, key, value)


def _codecs(backend: Backend, info: MapInfo, wishes: Wishes, shape: Shape) -> tuple[Codec[Any], Codec[Any]]:
    from rawbpf.codec.special import holds_special

    key, value = types_of(backend, info, wishes.token_fd)
    own = codecs_of_sizes(info.type_number, info.key_size, info.value_size, key, value)
    shape.special = None if value is None and info.value_type_id else holds_special(own[1])
    if wishes.key is None and wishes.value is None:
        return own
    family, word = map_class(info.type_number), map_type_name(info.type_number)
    wished: tuple[Codec[Any], Codec[Any]] = (
        own[0] if wishes.key is None else family._key_codec(wishes.key, word),
        own[1] if wishes.value is None else family._value_codec(wishes.value, word),
    )
    problems = [
        f"{what}={said!r} {problem}"
        for what, said, codec, size, type in (
            ("key", wishes.key, wished[0], info.key_size, key),
            ("value", wishes.value, wished[1], info.value_size, value),
        )
        if said is not None and (problem := _problem(backend, codec, size, type))
    ]
    if problems:
        raise SpecError(f"map {shape}: {'; '.join(problems)}")
    return wished


def _problem(backend: Backend, codec: Codec[Any], size: int, type: Type | None) -> str:
    from rawbpf.codec.base import counted

    if codec.size != size:
        name = f" ({type.name or type.kind_name})" if type is not None else ""
        return f"has {counted(codec.size)}, the map's has {size}{name}"
    if type is None:
        return ""
    from rawbpf.btf import Btf
    from rawbpf.btf.build import Builder
    from rawbpf.map.agree import disagreement

    builder = Builder(backend.host.byteorder)
    type_id = codec.add_to(builder)
    if not type_id:
        return ""
    found = disagreement(Btf.from_bytes(builder.to_bytes())[type_id], type)
    return f"disagrees with the map's BTF, {type.name or type.kind_name}: {found}" if found else ""


def types_of(backend: Backend, info: MapInfo, token_fd: int = 0) -> tuple[Type | None, Type | None]:
    """Return the BTF types of a map's keys and values, None where it has none or they may not be read."""
    btf = read_btf(backend, info.btf_id, token_fd) if info.btf_id and info.value_type_id else None
    if btf is not None:
        # A data section has no type of keys, only of its one value.
        return btf[info.key_type_id] if info.key_type_id else None, btf[info.value_type_id]
    return None, _kernel_type(backend, info)


def _kernel_type(backend: Backend, info: MapInfo) -> Type | None:
    # Of a struct_ops map, in the kernel's own BTF where nothing else is said or may be read: a module's type has an id
    # that is not there, or is one of another size.
    from rawbpf.btf import indexed

    number = info.btf_vmlinux_value_type_id
    if not number:
        return None
    btf = (read_btf(backend, info.btf_vmlinux_id) if info.btf_vmlinux_id else None) or indexed(backend.host.btf())
    return btf[number] if number < len(btf) else None
