"""The maps of an object: created, found under their pins, or replaced by the caller's; then filled."""

from __future__ import annotations

import os

from rawbpf.btf.layout import size_of
from rawbpf.codec.base import refuse
from rawbpf.errors import BpfError, Closed, SpecError
from rawbpf.loader.arena import prepare_arena
from rawbpf.loader.types import ObjectTypes
from rawbpf.loader.variable import Section, Variable
from rawbpf.map.agree import disagreement
from rawbpf.map.arena import ArenaMap
from rawbpf.map.base import Map
from rawbpf.map.create import create_from_spec, fields_of, open_as_spec
from rawbpf.map.info import read_info
from rawbpf.map.open import types_of
from rawbpf.spec.map import PIN_BY_NAME, PIN_NONE
from rawbpf.spec.number import check_numbers
from rawbpf.syscall.descriptor import require_kind
from rawbpf.syscall.obj import obj_get, obj_get_info_by_fd
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rawbpf.loader.object import Object
    from rawbpf.map.info import MapInfo
    from rawbpf.map.module import Modules
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.syscall.protocol import Backend

_ENOENT, _EEXIST = 2, 17
# How often a pin may appear and vanish between the look and the making of one's own.
_TRIES = 16
_NUMBERS = {
    "map_type": 32,
    "key_size": 32,
    "value_size": 32,
    "max_entries": 32,
    "map_flags": 32,
    "map_extra": 64,
    "numa_node": 32,
    "pinning": 32,
}
_ELSEWHERE = "others may be using it: load with another pin_dir"
_DEFAULT_PIN_DIR = "/sys/fs/bpf"
# Room that the name of a data section gets, even of a shorter one.
_SUFFIX = 7
_ALLOWED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."
# The kernel adds BPF_F_RDONLY_PROG to these by itself.
_READ_ONLY_TO_PROGRAMS = (c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_DEVMAP_HASH, c.BPF_MAP_TYPE_INSN_ARRAY)

# Their records are of any type of the object, which only the programs that write them know.
_UNTYPED = (c.BPF_MAP_TYPE_RINGBUF, c.BPF_MAP_TYPE_USER_RINGBUF, c.BPF_MAP_TYPE_PERF_EVENT_ARRAY)


def make_maps(
    obj: Object,
    content: ObjectData,
    *,
    replacements: Mapping[str, Map[Any, Any]],
    pin_dir: str | os.PathLike[str] | None,
    modules: Modules,
    btf_fd: int,
    token: int | None,
) -> None:
    """Give `obj` every map and variable of `content`.

    Raises: SpecError for a replacement or a pin that does not fit, with the differences; TypeError and
    OverflowError for what is no map, or no number; BpfError.
    """
    if not hasattr(replacements, "items"):
        raise refuse("maps=", "a dict of open maps by name", replacements)
    unknown = [name for name in replacements if name not in content.maps]
    if unknown:
        raise SpecError(f"maps={unknown!r}: the maps of {content.name} are {', '.join(content.maps) or 'none'}")
    for name, given in replacements.items():
        _check_is_map(name, given)
    for name, spec in content.maps.items():
        _check_numbers(name, spec)
    sections: dict[int, Section] = {}
    for name, spec in content.maps.items():
        if not spec.autocreate and name not in replacements:
            continue
        # A table of functions has types of the kernel or of a module, where all else has those of the object.
        types_fd = btf_fd
        if spec.map_type == c.BPF_MAP_TYPE_STRUCT_OPS and spec.value is not None:
            types_fd = modules.fd_of(spec.value.btf)
        if name in replacements:
            given = replacements[name]
            _check_fits(obj.backend, spec, given.info, f"maps[{name!r}]")
            made = given.dup()
        elif spec.pinning == PIN_BY_NAME:
            made = _shared(obj, content, spec, _pin_path(spec, pin_dir), types_fd, token)
        else:
            made = _create(obj, content, spec, types_fd, token)
        obj.maps.add(name, made)
        if spec.map_type in _UNTYPED:
            made._types = ObjectTypes(content)
        elif spec.map_type == c.BPF_MAP_TYPE_ARENA:
            assert isinstance(made, ArenaMap)
            new = name not in replacements and (spec.pinning != PIN_BY_NAME or made in obj.pinned)
            sections[id(spec)] = prepare_arena(made, content, name, new=new)
        elif spec.is_data:
            sections[id(spec)] = Section(made)
    for name, variable in content.variables.items():
        section = sections.get(id(variable.map))
        if section is not None:
            obj.variables.add(name, Variable(variable, section))


def _check_is_map(name: str, given: object) -> None:
    if not isinstance(given, Map):
        raise refuse(f"maps[{name!r}]", "an open map, as rawbpf.Map.create() and from_pin() return", given)


def _check_numbers(name: str, spec: MapSpec) -> None:
    check_numbers(f"map {name!r}", spec, _NUMBERS)
    if spec.pinning not in (PIN_NONE, PIN_BY_NAME):
        raise SpecError(
            f"map {name!r}: pinning {spec.pinning} is neither {PIN_NONE} (none) nor {PIN_BY_NAME} (by name)"
        )
    if spec.inner is not None:
        check_numbers(f"map {name!r}: inner", spec.inner, _NUMBERS)


def unpin_made(obj: Object) -> None:
    """Remove the pins that loading `obj` made, as far as they are still there; those of others stay."""
    for each in obj.pinned:
        try:
            for pin in each._pins:
                if _is_at(obj.backend, pin.path, _id(obj.backend, each.fileno())):
                    pin.remove()
        except OSError:  # removed by others meanwhile; why loading failed is what the caller must hear
            continue


def _is_at(backend: Backend, path: str | bytes, map_id: int) -> bool:
    fd = obj_get(backend, os.fsencode(path))
    try:
        _require_map(backend, fd)
        return _id(backend, fd) == map_id
    finally:
        backend.close(fd)


def _id(backend: Backend, fd: int) -> int:
    # Map.id reads /proc as well.
    return MAP_INFO.integer(obj_get_info_by_fd(backend, fd, MAP_INFO.size), "id")


def fill_slots(obj: Object, content: ObjectData) -> None:
    """Put into maps of maps and program arrays what the object says they start with.

    Raises: SpecError for a map or program that was not loaded; BpfError.
    """
    for name, spec in content.maps.items():
        for index, held in spec.values.items() if name in obj.maps else ():
            target = (obj.programs if spec.inner is None else obj.maps).get(held)
            if target is None:
                raise SpecError(f"map {name!r} starts with {held!r} at {index}, which is not loaded")
            # Of a hash, whatever its keys are, the first have the bytes of 0, 1, ...
            outer = obj.maps[name]
            outer.put(outer.key_type.unpack(index.to_bytes(spec.key_size, content.byteorder)), target)


def _pin_path(spec: MapSpec, pin_dir: str | os.PathLike[str] | None) -> str:
    if "/" in spec.name:  # an object must not reach out of the directory
        raise SpecError(f"map {spec.name!r} cannot be pinned by a name with a slash")
    return os.path.join(os.fsdecode(pin_dir or _DEFAULT_PIN_DIR), spec.name)


def _shared(
    obj: Object, content: ObjectData, spec: MapSpec, path: str, btf_fd: int, token: int | None
) -> Map[Any, Any]:
    # Others may load the same object at this moment: whoever pins first has made the map for all.
    tries = _TRIES
    while True:
        found = _from_pin(obj, spec, path)
        if found is not None:
            return found
        made = _create(obj, content, spec, btf_fd, token)
        try:
            made.pin(path)
        except BaseException as error:
            made.close()
            if not isinstance(error, BpfError) or error.errno != _EEXIST:
                raise
            tries -= 1
            if not tries:
                error.hint = (
                    f"others made and removed this pin each of {_TRIES} times that it was looked for: try again"
                )
                raise
            continue
        obj.pinned.append(made)
        return made


def _create(obj: Object, content: ObjectData, spec: MapSpec, btf_fd: int, token: int | None) -> Map[Any, Any]:
    made = _create_empty(obj, content, spec, btf_fd, token)
    try:
        if spec.is_data and spec.contents is not None and any(spec.contents):
            made.raw[0] = bytes(spec.contents)
        if spec.frozen:
            made.freeze()
    except BaseException:
        made.close()
        raise
    return made


def _create_empty(obj: Object, content: ObjectData, spec: MapSpec, btf_fd: int, token: int | None) -> Map[Any, Any]:
    name = _kernel_name(spec, content.name)
    if spec.inner is None:
        return create_from_spec(obj.backend, spec, name=name, btf_fd=btf_fd, token=token)
    # The kernel reads the template once; it need not outlive the call.
    with create_from_spec(obj.backend, spec.inner, name=name, btf_fd=btf_fd, token=token) as template:
        return create_from_spec(obj.backend, spec, name=name, btf_fd=btf_fd, inner_fd=template.fileno(), token=token)


def _kernel_name(spec: MapSpec, object_name: str) -> str:
    # Several objects have a `.bss`: as libbpf, put the object's name in front, unless the section's is one's own.
    # Source: tools/lib/bpf/libbpf.c:internal_map_name (v6.12)
    room = c.BPF_OBJ_NAME_LEN - 1
    if not spec.is_data:
        return spec.name[:room]
    own = spec.name.encode("utf-8", "surrogateescape")
    prefix = object_name.partition(".")[0].encode("utf-8", "surrogateescape")
    whole = own if b"." in own[1:] else prefix[: max(0, room - max(_SUFFIX, len(own)))] + own
    return "".join(chr(byte) if chr(byte) in _ALLOWED else "_" for byte in whole[:room])


def _from_pin(obj: Object, spec: MapSpec, path: str) -> Map[Any, Any] | None:
    try:
        fd = obj_get(obj.backend, os.fsencode(path))
    except BpfError as error:
        if error.errno != _ENOENT:
            raise
        return None
    try:
        try:
            _require_map(obj.backend, fd)
        except BpfError as error:
            raise SpecError(f"what is pinned at {path} is no map {spec.name!r}: {error.hint}; {_ELSEWHERE}") from error
        try:
            _check_fits(obj.backend, spec, read_info(obj.backend, fd), f"the map pinned at {path}")
        except SpecError as error:
            raise SpecError(f"{error}; {_ELSEWHERE}") from None
    except BaseException:
        obj.backend.close(fd)
        raise
    return open_as_spec(obj.backend, fd, spec)


def _require_map(backend: Backend, fd: int) -> None:
    try:
        require_kind(backend, fd, "map")
    except Closed:  # without /proc nothing tells the kind
        pass


def _check_fits(backend: Backend, spec: MapSpec, have: MapInfo, what: str) -> None:
    implied = c.BPF_F_RDONLY_PROG if spec.map_type in _READ_ONLY_TO_PROGRAMS else 0
    # With the fix-ups of the type: so it would be made, and so whoever came first has made it.
    made = fields_of(backend, spec)
    pairs = [
        ("type", map_type_name(spec.map_type), map_type_name(have.type_number)),
        ("key_size", made["key_size"], have.key_size),
        ("value_size", made["value_size"], have.value_size),
        ("max_entries", made["max_entries"], have.max_entries),
        ("flags", hex(made["map_flags"] & ~implied), hex(have.map_flags & ~implied)),
        ("map_extra", made["map_extra"], have.map_extra),
    ]
    differences = [f"{name} {actual} instead of {wanted}" for name, wanted, actual in pairs if wanted != actual]
    if not differences and not spec.is_data:
        differences = _differing_types(backend, spec, have)
    if differences:
        raise SpecError(f"{what} does not fit map {spec.name!r}: {', '.join(differences)}")


def _differing_types(backend: Backend, spec: MapSpec, have: MapInfo) -> list[str]:
    sides = zip(("key", "value"), (spec.key, spec.value), types_of(backend, have), strict=True)
    found = [
        (name, disagreement(wanted, actual))
        for name, wanted, actual in sides
        if wanted is not None and actual is not None and size_of(wanted) == size_of(actual)
    ]
    return [f"of its {name}s {words}" for name, words in found if words]
