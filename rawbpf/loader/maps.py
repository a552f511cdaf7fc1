"""The maps of an object: created, found under their pins, or replaced by the caller's; then filled."""

from __future__ import annotations

import os

from rawbpf.errors import BpfError, SpecError
from rawbpf.loader.variable import Section, Variable
from rawbpf.map.create import create_from_spec, open_as_spec
from rawbpf.map.info import read_info
from rawbpf.spec.map import PIN_BY_NAME
from rawbpf.syscall.obj import obj_get
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rawbpf.loader.object import Object
    from rawbpf.map.base import Map
    from rawbpf.map.info import MapInfo
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData

_ENOENT = 2
_DEFAULT_PIN_DIR = "/sys/fs/bpf"
_PREFIX = 8
# The kernel adds BPF_F_RDONLY_PROG to these by itself.
_READ_ONLY_TO_PROGRAMS = (c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_DEVMAP_HASH)


def make_maps(
    obj: Object,
    content: ObjectData,
    *,
    replacements: Mapping[str, Map[Any, Any]],
    pin_dir: str | os.PathLike[str] | None,
    btf_fd: int,
    token: int | None,
) -> None:
    """Give `obj` every map and variable of `content`.

    Raises: SpecError for a replacement or a pin that does not fit, with the differences; BpfError.
    """
    unknown = [name for name in replacements if name not in content.maps]
    if unknown:
        raise SpecError(f"maps={unknown!r}: the maps of {content.name} are {', '.join(content.maps) or 'none'}")
    for name, spec in content.maps.items():
        if name in replacements:
            given = replacements[name]
            _check_fits(spec, given.info, f"maps[{name!r}]")
            obj.maps[name] = given.dup()
            continue
        path = None
        if spec.pinning == PIN_BY_NAME:
            path = os.path.join(pin_dir or _DEFAULT_PIN_DIR, spec.name)
            pinned = _from_pin(obj, spec, path)
            if pinned is not None:
                obj.maps[name] = pinned
                continue
        obj.maps[name] = made = _create(obj, content, spec, btf_fd, token)
        _fill(made, spec)
        if path is not None:
            made.pin(path)
            obj.pinned.append(made)
    sections = {id(spec): Section(obj.maps[name]) for name, spec in content.maps.items() if spec.is_data}
    for name, variable in content.variables.items():
        obj.variables[name] = Variable(variable, sections[id(variable.map)])


def fill_slots(obj: Object, content: ObjectData) -> None:
    """Put into maps of maps and program arrays what the object says they start with.

    Raises: SpecError for a map or program that was not loaded; BpfError.
    """
    for name, spec in content.maps.items():
        for index, held in spec.values.items():
            target = (obj.programs if spec.inner is None else obj.maps).get(held)
            if target is None:
                raise SpecError(f"map {name!r} starts with {held!r} at {index}, which is not loaded")
            obj.maps[name].put(index, target.fileno())


def _create(obj: Object, content: ObjectData, spec: MapSpec, btf_fd: int, token: int | None) -> Map[Any, Any]:
    name = _kernel_name(spec, content.name)
    if spec.inner is None:
        return create_from_spec(obj.backend, spec, name=name, btf_fd=btf_fd, token=token)
    # The kernel reads the template once; it need not outlive the call.
    with create_from_spec(obj.backend, spec.inner, name=name, btf_fd=btf_fd, token=token) as template:
        return create_from_spec(obj.backend, spec, name=name, btf_fd=btf_fd, inner_fd=template.fileno(), token=token)


def _kernel_name(spec: MapSpec, object_name: str) -> str:
    # Several objects have a `.bss`: as libbpf, put the object's name in front.
    if not spec.is_data:
        return spec.name[: c.BPF_OBJ_NAME_LEN - 1]
    stem = "".join(char if char.isalnum() and char.isascii() else "_" for char in object_name.partition(".")[0])
    return (stem[:_PREFIX] + spec.name)[: c.BPF_OBJ_NAME_LEN - 1]


def _fill(made: Map[Any, Any], spec: MapSpec) -> None:
    if spec.contents is not None and any(spec.contents):
        made.raw[0] = bytes(spec.contents)
    if spec.frozen:
        made.freeze()


def _from_pin(obj: Object, spec: MapSpec, path: str) -> Map[Any, Any] | None:
    try:
        fd = obj_get(obj.backend, os.fsencode(path))
    except BpfError as error:
        if error.errno != _ENOENT:
            raise
        return None
    try:
        _check_fits(spec, read_info(obj.backend, fd), f"the map pinned at {path}")
    except BaseException:
        obj.backend.close(fd)
        raise
    return open_as_spec(obj.backend, fd, spec)


def _check_fits(spec: MapSpec, have: MapInfo, what: str) -> None:
    implied = c.BPF_F_RDONLY_PROG if spec.map_type in _READ_ONLY_TO_PROGRAMS else 0
    pairs = [
        ("type", map_type_name(spec.map_type), map_type_name(have.type_number)),
        ("key_size", spec.key_size, have.key_size),
        ("value_size", spec.value_size, have.value_size),
        ("max_entries", spec.max_entries, have.max_entries),
        ("flags", hex(spec.map_flags & ~implied), hex(have.map_flags & ~implied)),
    ]
    differences = [f"{name} {actual} instead of {wanted}" for name, wanted, actual in pairs if wanted != actual]
    if differences:
        raise SpecError(f"{what} does not fit map {spec.name!r}: {', '.join(differences)}")
