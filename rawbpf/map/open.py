"""Opening maps that exist: by descriptor, id, pin or name, typed by the BTF that they carry."""

from __future__ import annotations

import os

from rawbpf.errors import BpfError
from rawbpf.map.base import Shape
from rawbpf.map.btf import read_btf
from rawbpf.map.create import codecs_of_sizes, open_map
from rawbpf.map.info import MapInfo, read_info
from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import require_kind
from rawbpf.uapi.constants import BPF_F_RDONLY, BPF_F_WRONLY
from rawbpf.uapi.names import map_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.base import Map
    from rawbpf.syscall.protocol import Backend

_ENOENT = 2
_MODES = {"r": BPF_F_RDONLY, "w": BPF_F_WRONLY, "rw": 0}


def from_fd(fd: int, own: bool, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_fd`."""
    backend = backend or current()
    require_kind(backend, fd, "map")
    # What fails leaves `fd` to the caller, who closes it.
    return _typed(backend, fd) if own else _open(backend, backend.dup(fd))


def from_id(map_id: int, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_id`."""
    backend = backend or current()
    return _open(backend, obj.map_get_fd_by_id(backend, map_id))


def from_pin(path: str | os.PathLike[str], mode: str, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_pin`."""
    backend = backend or current()
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r}: a map is opened 'r', 'w' or 'rw'")
    opened = _open(backend, obj.obj_get(backend, os.fsencode(path), _MODES[mode]))
    opened._remember_pin(os.fspath(path))
    return opened


def from_name(name: str, backend: Backend | None) -> Map[Any, Any]:
    """Documented as `Map.from_name`."""
    backend = backend or current()
    found = [info.id for info in infos(backend) if info.name == name]
    if not found:
        hint = "no map has this name (the kernel keeps 15 characters); rawbpf.maps() lists them"
        raise BpfError(_ENOENT, call="open", subject=f"map {name!r}", hint=hint, backend=backend.name)
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} maps are called {name!r}: open one of the ids {', '.join(map(str, found))} with from_id"
        )
    return from_id(found[0], backend)


def maps(name: str | None = None, type: str | int | None = None) -> list[MapInfo]:
    """Return what the kernel tells of every map, or of those with that name and type; holds no descriptor.

    `type`: a name such as "hash", or the kernel's number. Raises: PermissionDenied (EPERM: needs
    CAP_SYS_ADMIN); ValueError for an unknown type name. Since: Linux 4.13.
    """
    number = map_type_number(type) if isinstance(type, str) else type
    found = infos(current())
    return [info for info in found if name in (None, info.name) and number in (None, info.type_number)]


def infos(backend: Backend) -> Iterator[MapInfo]:
    """Yield what the kernel tells of every map. Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN)."""
    for fd in obj.every(backend, obj.map_get_next_id, obj.map_get_fd_by_id):
        yield read_info(backend, fd)


def _open(backend: Backend, fd: int) -> Map[Any, Any]:
    try:
        return _typed(backend, fd)
    except BaseException:
        backend.close(fd)
        raise


def _typed(backend: Backend, fd: int) -> Map[Any, Any]:
    require_kind(backend, fd, "map")
    info = read_info(backend, fd)
    shape = Shape(info.type_number, info.key_size, info.value_size, info.max_entries, info.map_flags, info.name)
    key, value = _codecs(backend, info)
    return open_map(backend, fd, shape, key, value)


def _codecs(backend: Backend, info: MapInfo) -> tuple[Codec[Any], Codec[Any]]:
    key = value = None
    btf = read_btf(backend, info.btf_id) if info.btf_id and info.value_type_id else None
    if btf is not None:
        value = btf[info.value_type_id]
        # A data section has no type of keys, only of its one value.
        key = btf[info.key_type_id] if info.key_type_id else None
    return codecs_of_sizes(info.type_number, info.key_size, info.value_size, key, value)
