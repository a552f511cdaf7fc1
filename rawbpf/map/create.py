"""Making maps: from arguments, with a small BTF of their own, and from a specification of an object file.

Kernel side: kernel/bpf/syscall.c:map_create, map_check_btf (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.codec import codec_for
from rawbpf.errors import BpfError, SpecError
from rawbpf.map.base import Shape
from rawbpf.map.handle import Handle
from rawbpf.map.types import map_class
from rawbpf.syscall import btf as btf_command
from rawbpf.syscall import map as command
from rawbpf.syscall.current import current
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name, map_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rawbpf.btf.types import Type
    from rawbpf.codec import Codec, Description
    from rawbpf.map.base import Map
    from rawbpf.spec.map import MapSpec
    from rawbpf.syscall.protocol import Backend

PER_CPU = (
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
)
# Indexed by a u32, whether the caller says so or not.
_INDEXED = (
    c.BPF_MAP_TYPE_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_PROG_ARRAY,
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    c.BPF_MAP_TYPE_CGROUP_ARRAY,
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    c.BPF_MAP_TYPE_DEVMAP,
    c.BPF_MAP_TYPE_SOCKMAP,
    c.BPF_MAP_TYPE_CPUMAP,
    c.BPF_MAP_TYPE_XSKMAP,
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
)
_BARE = (c.BPF_MAP_TYPE_RINGBUF, c.BPF_MAP_TYPE_USER_RINGBUF, c.BPF_MAP_TYPE_ARENA)
_KEYLESS = (c.BPF_MAP_TYPE_QUEUE, c.BPF_MAP_TYPE_STACK, c.BPF_MAP_TYPE_BLOOM_FILTER, *_BARE)
# As many elements as there are sockets, tasks, ... to belong to: max_entries is 0.
_UNBOUNDED = (
    c.BPF_MAP_TYPE_CGROUP_STORAGE,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    c.BPF_MAP_TYPE_SK_STORAGE,
    c.BPF_MAP_TYPE_INODE_STORAGE,
    c.BPF_MAP_TYPE_TASK_STORAGE,
    c.BPF_MAP_TYPE_CGRP_STORAGE,
)
_EINVAL = 22
_FROM_BTF = (
    c.BPF_MAP_TYPE_HASH,
    c.BPF_MAP_TYPE_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_LRU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    c.BPF_MAP_TYPE_CGROUP_STORAGE,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    c.BPF_MAP_TYPE_SK_STORAGE,
    c.BPF_MAP_TYPE_INODE_STORAGE,
    c.BPF_MAP_TYPE_TASK_STORAGE,
    c.BPF_MAP_TYPE_CGRP_STORAGE,
)
"""The types whose maps the kernel lets carry BTF of keys and values; it refuses the others or ignores theirs."""


def create(
    map_type: str | int,
    /,
    *,
    key: Description | None = None,
    value: Description | None = None,
    max_entries: int | None = None,
    name: str = "",
    flags: int = 0,
    map_extra: int = 0,
    numa_node: int | None = None,
    inner: Map[Any, Any] | None = None,
    pin: str | os.PathLike[str] | None = None,
    token: int | None = None,
    backend: Backend | None = None,
) -> Map[Any, Any]:
    """Create a map; documented as `Map.create`."""
    backend = backend or current()
    number = map_type_number(map_type) if isinstance(map_type, str) else map_type
    word = map_type_name(number)
    key_codec = _codec(
        "key", word, key if key is not None else "u32" if number in _INDEXED else None, number in _KEYLESS
    )
    value_codec = _codec("value", word, value if value is not None else _default_value(number), False)
    if number in _INDEXED and key_codec.size != 4:
        raise ValueError(f"key={key!r}: {word} maps are indexed by a u32; leave key= out")
    if inner is not None and not hasattr(inner, "fileno"):
        raise TypeError(f"inner={inner!r}: an open map, like those to be held")
    if not isinstance(max_entries, int | None):
        raise TypeError(f"max_entries={max_entries!r}: expected an int, how many elements the map can hold")
    if max_entries is None and number in _UNBOUNDED:
        max_entries = 0
    if max_entries is None:
        raise TypeError(f"a {word} map needs max_entries=, how many elements it can hold")
    if number == c.BPF_MAP_TYPE_LPM_TRIE:
        flags |= c.BPF_F_NO_PREALLOC
    if numa_node is not None:
        flags |= c.BPF_F_NUMA_NODE
    plain = number == c.BPF_MAP_TYPE_ARRAY and not flags and pin is None
    request: command.CreateFields = {
        "map_type": number,
        "key_size": key_codec.size,
        "value_size": value_codec.size,
        "max_entries": max_entries,
        "inner_map_fd": 0 if inner is None else inner.fileno(),
        "numa_node": numa_node or 0,
        "name": _checked_name(name),
        "map_extra": map_extra,
        "token_fd": token or 0,
    }
    btf_fd, key_id, value_id = _load_btf(backend, number, key_codec, value_codec)
    if btf_fd:
        request |= {"btf_fd": btf_fd, "btf_key_type_id": key_id, "btf_value_type_id": value_id}
    try:
        try:
            fd = command.map_create(backend, **request, map_flags=flags | (c.BPF_F_MMAPABLE if plain else 0))
            flags |= c.BPF_F_MMAPABLE if plain else 0
        except BpfError as error:
            if not plain or error.errno != _EINVAL:
                raise
            fd = command.map_create(backend, **request, map_flags=flags)  # before Linux 5.5
    finally:
        if btf_fd:
            backend.close(btf_fd)
    try:
        shape = Shape(number, key_codec.size, value_codec.size, max_entries, flags, name)
        made = open_map(backend, fd, shape, key_codec, value_codec)
    except BaseException:
        backend.close(fd)
        raise
    if pin is not None:
        try:
            made.pin(pin)
        except BaseException:
            made.close()
            raise
    return made


def create_from_spec(
    backend: Backend, spec: MapSpec, *, name: str, btf_fd: int = 0, inner_fd: int = 0, token: int | None = None
) -> Map[Any, Any]:
    """Create the map that `spec` describes, called `name` in the kernel.

    `btf_fd` is the object's BTF, of which `spec` has type ids (0: none); `inner_fd` the template of a
    map of maps.

    Raises: as `Map.create`.
    """
    # A data section has no type of keys, only of its one value.
    typed = spec.value_type_id and (spec.key_type_id or spec.is_data)
    fits = _type_of(spec.key, spec.key_size) is spec.key and _type_of(spec.value, spec.value_size) is spec.value
    with_btf = btf_fd if typed and fits and spec.map_type in _FROM_BTF else 0
    flags = spec.map_flags | (0 if spec.numa_node is None else c.BPF_F_NUMA_NODE)
    fd = command.map_create(
        backend,
        map_type=spec.map_type,
        key_size=spec.key_size,
        value_size=spec.value_size,
        max_entries=spec.max_entries,
        map_flags=flags,
        map_extra=spec.map_extra,
        inner_map_fd=inner_fd,
        numa_node=spec.numa_node or 0,
        name=_checked_name(name),
        btf_fd=with_btf,
        btf_key_type_id=spec.key_type_id if with_btf else 0,
        btf_value_type_id=spec.value_type_id if with_btf else 0,
        token_fd=token or 0,
    )
    return open_as_spec(backend, fd, spec)


def open_as_spec(backend: Backend, fd: int, spec: MapSpec) -> Map[Any, Any]:
    """Return the object for the map behind `fd`, which becomes its own, with the types that `spec` gives it."""
    try:
        key_type = value_type = None
        if not spec.is_data:
            key_type, value_type = _type_of(spec.key, spec.key_size), _type_of(spec.value, spec.value_size)
        key = key_codec(spec.map_type, spec.key_size if key_type is None else key_type)
        bare = _default_value(spec.map_type) if spec.value_size == 4 else None
        value = codec_for(value_type if value_type is not None else bare or spec.value_size)
        flags = spec.map_flags | (0 if spec.numa_node is None else c.BPF_F_NUMA_NODE)
        shape = Shape(spec.map_type, spec.key_size, spec.value_size, spec.max_entries, flags, spec.name)
        return open_map(backend, fd, shape, key, value)
    except BaseException:
        backend.close(fd)
        raise


def _type_of(described: Type | None, size: int) -> Type | None:
    # A size that was edited is no longer the type's: the map then holds bytes.
    if described is None:
        return None
    from rawbpf.btf.layout import size_of

    return described if size_of(described) == size else None


def key_codec(map_type: int, described: Description) -> Codec[Any]:
    """Return the codec of a key that the map's maker `described`; what is indexed always takes a u32."""
    codec = codec_for(described)
    # A name for the u32, such as signal_t, is kept.
    return codec_for("u32") if map_type in _INDEXED and codec.format != "I" else codec


def open_map(backend: Backend, fd: int, shape: Shape, key: Codec[Any], value: Codec[Any]) -> Map[Any, Any]:
    """Return the object for the map behind `fd`, which becomes its own; `value` is the codec of one CPU's value.

    Raises: SpecError where the codecs are of other sizes than the map's. `fd` then stays the caller's.
    """
    # The kernel reads and writes the map's sizes, whatever the buffers have.
    if (key.size, value.size) != (shape.key_size, shape.value_size):
        sizes = f"{shape.key_size} and {shape.value_size} bytes"
        types = f"{key.name} has {key.size} and {value.name} {value.size}"
        raise SpecError(f"map {shape}: its keys and values have {sizes}, but their types do not: {types}")
    if shape.map_type in PER_CPU:
        from rawbpf.codec.percpu import PerCpuCodec

        value = PerCpuCodec(value, backend.host.possible_cpus)
    made: Map[Any, Any] = map_class(shape.map_type)._open(Handle(backend, fd), shape, key, value)
    return made


def _codec(what: str, word: str, description: Description | None, absent: bool) -> Codec[Any]:
    if description is None:
        if absent:
            return codec_for(0)
        raise TypeError(f'a {word} map needs {what}=, such as {what}="u32", a dict of fields, or a size in bytes')
    return codec_for(description)


def _default_value(map_type: int) -> Description | None:
    if map_type in _BARE:
        return 0
    # What these hold is a descriptor when written and an id when read.
    holds_fd = map_type in _INDEXED and map_type not in (c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_PERCPU_ARRAY)
    return "u32" if holds_fd or map_type == c.BPF_MAP_TYPE_HASH_OF_MAPS else None


def _checked_name(name: str) -> bytes:
    # The kernel's EINVAL would name no reason.
    allowed = name.replace("_", "").replace(".", "")
    if len(name) >= c.BPF_OBJ_NAME_LEN or (allowed and not (allowed.isascii() and allowed.isalnum())):
        raise ValueError(f"name {name!r}: at most {c.BPF_OBJ_NAME_LEN - 1} of A-Z a-z 0-9 _ and .")
    return name.encode()


def _load_btf(backend: Backend, map_type: int, key: Codec[Any], value: Codec[Any]) -> tuple[int, int, int]:
    if map_type not in _FROM_BTF:
        return 0, 0, 0
    from rawbpf.btf.build import Builder

    builder = Builder(backend.host.byteorder)
    key_id, value_id = key.add_to(builder), value.add_to(builder)
    if not key_id or not value_id:
        return 0, 0, 0
    try:
        return btf_command.btf_load(backend, builder.to_bytes()), key_id, value_id
    except BpfError:
        # Types for others to see are a courtesy; a map without them works as well (before Linux 4.18 all do).
        return 0, 0, 0
