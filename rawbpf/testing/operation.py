"""One bpf(2) command on a map as plain data, what came of it, and how it is performed on any kernel.

An `Operation` is immutable, prints as what can be pasted into a test, and holds nothing of any kernel: objects are
`Named`. `perform` packs the attr by itself and does not use `rawbpf.map`: what is compared are two kernels, not two Map
classes. No buffer has the size that a caller says: each has room for what the kernel writes, and a guard
behind it, so that writing beyond a value is an `Outcome` and no crash. Kernel side: kernel/bpf/syscall.c (v6.18).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rawbpf.errors import errno_name
from rawbpf.testing.named import NOTHING, Named, Objects, told
from rawbpf.testing.spec import PER_CPU, MapSpec
from rawbpf.uapi import attr
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

ELEMENT_VERBS = {
    "lookup": c.BPF_MAP_LOOKUP_ELEM,
    "update": c.BPF_MAP_UPDATE_ELEM,
    "delete": c.BPF_MAP_DELETE_ELEM,
    "next_key": c.BPF_MAP_GET_NEXT_KEY,
    "lookup_and_delete": c.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
}
BATCH_VERBS = {
    "lookup_batch": c.BPF_MAP_LOOKUP_BATCH,
    "lookup_and_delete_batch": c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    "update_batch": c.BPF_MAP_UPDATE_BATCH,
    "delete_batch": c.BPF_MAP_DELETE_BATCH,
}
VERBS = (*ELEMENT_VERBS, *BATCH_VERBS, "freeze", "info")

MAX_COUNT = 1 << 14
"""The most elements that a batch may ask for: that much room is made for each."""

LAST = Named("last cursor")
"""The cursor that the same kernel wrote when the batch before was performed; NULL if none was."""

Value = bytes | Named
_GUARD = 64
_UNWRITTEN = 0xA5
_CURSOR = 4  # bytes that a hash table's cursor takes, however small its keys are

# What a value reads back as: the kind of object, and where in the value its id or cookie is, by the value's size.
_READ_BACK = {
    "prog_array": ("program", {4: 0}),
    "array_of_maps": ("map", {4: 0}),
    "hash_of_maps": ("map", {4: 0}),
    "devmap": ("program", {8: 4}),
    "devmap_hash": ("program", {8: 4}),
    "cpumap": ("program", {8: 4}),
    "sockmap": ("socket", {8: 0}),
    "sockhash": ("socket", {8: 0}),
    "reuseport_sockarray": ("socket", {8: 0}),
}
_BUCKETS = frozenset({"hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "hash_of_maps"})
_TOLD = (
    *("type", "key_size", "value_size", "max_entries", "map_flags", "map_extra", "name", "ifindex"),
    *("btf_key_type_id", "btf_value_type_id", "btf_vmlinux_value_type_id"),
)


class Operation(NamedTuple):
    """One command. None is a NULL pointer.

    `verb`: one of VERBS. `key`: as many bytes as the map's key_size. `value`: as many as the kernel reads for an
    update; for a verb that reads it is what the buffer holds before, and fewer bytes are padded. `flags`: of the
    element commands, or of the batch. A batch that writes takes `keys` and `values`; one that reads makes room for
    `count` of them. `cursor` is what in_batch points to; `out_batch`: whether that pointer is given. `mode`: "r" or "w"
    for a descriptor of the map that only reads or only writes.
    """

    verb: str
    key: Value | None = None
    value: Value | None = b""
    flags: int = 0
    keys: tuple[Value, ...] | None = ()
    values: tuple[Value, ...] | None = ()
    count: int | None = None  # type: ignore[assignment]  # the kernel's word; no occurrences are counted here
    cursor: Value | None = None
    elem_flags: int = 0
    out_batch: bool = True
    mode: str = ""

    def __repr__(self) -> str:
        return f"Operation({', '.join(told(self)).removeprefix('verb=')})"


class Outcome(NamedTuple):
    """What came of an operation: `error` is the errno's name, or "".

    `value`: the value or next key that was written, None if nothing was. `keys` and `values`: the elements that a
    batch returned. `count`: as the kernel left it; `cursor`: as it wrote it, None if it did not. `info`: what must
    agree of a map's info. `overrun`: the kernel wrote beyond the room that a value, key or cursor has.
    """

    error: str = ""
    value: Value | None = None
    keys: tuple[Value, ...] = ()
    values: tuple[Value, ...] = ()
    count: int | None = None  # type: ignore[assignment]  # the kernel's word; no occurrences are counted here
    cursor: bytes | None = None
    info: tuple[tuple[str, int | bytes], ...] = ()
    overrun: bool = False

    def __repr__(self) -> str:
        return f"Outcome({', '.join(told(self))})"


def perform(
    backend: Backend,
    fd: int,
    spec: MapSpec,
    operation: Operation,
    objects: Objects = NOTHING,
    last: bytes | None = None,
) -> Outcome:
    """Perform `operation` on the map `fd` of `backend`, which was made from `spec`, and return what came of it.

    `objects`: what names stand for there; `last`: the cursor that stands for LAST.
    Raises: ValueError for an operation that does not fit the map, before any call.
    """
    verb = operation.verb
    if verb in ELEMENT_VERBS:
        return _element(backend, fd, spec, operation, objects)
    if verb in BATCH_VERBS:
        return _batch(backend, fd, spec, operation, objects, last)
    if verb == "freeze":
        image = attr.MAP_FREEZE.pack(map_fd=fd & 0xFFFFFFFF)
        return Outcome(_call(backend.bpf, c.BPF_MAP_FREEZE, image, attr.MAP_FREEZE.minimum))
    if verb == "info":
        return _info(backend, fd)
    raise ValueError(f"verb {verb!r} is none of {', '.join(VERBS)}")


class _Room:
    # A buffer that the kernel may write `size` bytes into, and the guard behind it.
    def __init__(self, size: int, content: bytes = b"") -> None:
        if len(content) > size:
            raise ValueError(f"{len(content)} bytes do not fit the {size} of this map")
        self.size = size
        self.before = content.ljust(size + _GUARD, b"\xa5")
        self.buffer = ctypes.create_string_buffer(self.before, size + _GUARD)
        self.address = ctypes.addressof(self.buffer)

    def written(self, always: bool) -> tuple[bytes | None, bool]:
        # What the room holds now, None if that is what it held and the call failed; and whether the guard changed.
        now = self.buffer.raw
        if now == self.before and not always:
            return None, False
        return now[: self.size], now[self.size :] != self.before[self.size :]


def _element(backend: Backend, fd: int, spec: MapSpec, operation: Operation, objects: Objects) -> Outcome:
    verb, key, value, flags, *_ = operation
    fields = {"map_fd": fd & 0xFFFFFFFF, "flags": flags}
    if key is not None:
        key_buffer = _exactly(objects, key, spec.key_size, "key")
        fields["key"] = ctypes.addressof(key_buffer)
    room: _Room | None = None
    if verb == "update":
        if value is not None:
            value_buffer = _exactly(objects, value, spec.room(backend.host.possible_cpus), "value")
            fields["value"] = ctypes.addressof(value_buffer)
    elif verb != "delete" and value is not None:
        size = spec.key_size if verb == "next_key" else spec.room(backend.host.possible_cpus)
        room = _Room(size, _bytes(objects, value))
        fields["value"] = room.address
    image = attr.MAP_UPDATE_ELEM.pack(**fields)
    error = _call(backend.bpf, ELEMENT_VERBS[verb], image, attr.MAP_UPDATE_ELEM.size)
    if room is None:
        return Outcome(error)
    found, overrun = room.written(always=not error)
    if found is None or verb == "next_key":
        return Outcome(error, found, overrun=overrun)
    return Outcome(error, _read_back(spec, objects, found), overrun=overrun)


def _batch(
    backend: Backend, fd: int, spec: MapSpec, operation: Operation, objects: Objects, last: bytes | None
) -> Outcome:
    verb, _, _, flags, keys, values, count, cursor, elem_flags, out_batch, _ = operation
    if count is None:
        count = len(keys or ())
    if count > MAX_COUNT:
        raise ValueError(f"count {count}: a batch of at most {MAX_COUNT} elements can be performed")
    sizes = {"keys": spec.key_size, "values": spec.room(backend.host.possible_cpus)}
    rooms: dict[str, _Room] = {}
    for name, rows in (("keys", keys), ("values", values)):
        if rows is None or (verb == "delete_batch" and name == "values"):
            continue
        content = b"".join(_sized(objects, row, sizes[name], name) for row in rows)
        if verb in ("update_batch", "delete_batch") and count > len(rows):
            raise ValueError(f"count {count}, but there are {len(rows)} {name}")
        rooms[name] = _Room(sizes[name] * max(count, len(rows)), content)
    width = max(_CURSOR, spec.key_size)
    if cursor == LAST:
        cursor = last
    if cursor is not None:
        rooms["in_batch"] = _Room(width, _bytes(objects, cursor))
    if out_batch:
        rooms["out_batch"] = _Room(_CURSOR if spec.map_type in _BUCKETS else spec.key_size)
    image = attr.MAP_LOOKUP_BATCH.pack(
        map_fd=fd & 0xFFFFFFFF,
        count=count,
        flags=flags,
        elem_flags=elem_flags,
        **{name: room.address for name, room in rooms.items()},
    )
    error = _call(backend.bpf_blocking, BATCH_VERBS[verb], image, attr.MAP_LOOKUP_BATCH.size)
    left = attr.MAP_LOOKUP_BATCH.integer(image, "count")
    overrun = any(room.written(always=True)[1] for room in rooms.values())
    written = rooms["out_batch"].written(always=False)[0] if out_batch else None
    found: dict[str, tuple[Value, ...]] = {"keys": (), "values": ()}
    if verb in ("lookup_batch", "lookup_and_delete_batch") and error in ("", "ENOENT"):
        for name in found.keys() & rooms.keys():
            raw, size = rooms[name].buffer.raw, sizes[name]
            found[name] = tuple(raw[at : at + size] for at in range(0, size * min(left, count), size or 1))
        found["values"] = tuple(
            _read_back(spec, objects, value) for value in found["values"] if isinstance(value, bytes)
        )
    return Outcome(error, None, found["keys"], found["values"], left, written, (), overrun)


def _info(backend: Backend, fd: int) -> Outcome:
    room = _Room(MAP_INFO.size, bytes(MAP_INFO.size))
    image = attr.OBJ_GET_INFO_BY_FD.pack(bpf_fd=fd & 0xFFFFFFFF, info_len=MAP_INFO.size, info=room.address)
    error = _call(backend.bpf, c.BPF_OBJ_GET_INFO_BY_FD, image, attr.OBJ_GET_INFO_BY_FD.minimum)
    content, overrun = room.written(always=not error)
    told_of = () if content is None else tuple((name, MAP_INFO.get(content, name)) for name in _TOLD)
    return Outcome(error, info=told_of, overrun=overrun)


def _call(
    call: Callable[[int, ctypes._CArgObject, int], int], cmd: int, image: ctypes.Array[ctypes.c_char], size: int
) -> str:
    if call(cmd, ctypes.byref(image), size) >= 0:
        return ""
    return errno_name(ctypes.get_errno())


def _bytes(objects: Objects, value: Value) -> bytes:
    return objects.encode(value) if isinstance(value, Named) else value


def _sized(objects: Objects, value: Value, size: int, what: str) -> bytes:
    content = _bytes(objects, value)
    if len(content) != size:
        raise ValueError(f"{what}: {value!r} has {len(content)} bytes; the kernel reads {size}")
    return content


def _exactly(objects: Objects, value: Value, size: int, what: str) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(_sized(objects, value, size, what), max(size, 1))


def _read_back(spec: MapSpec, objects: Objects, value: bytes) -> Value:
    # Ids are named; the bytes that fill up the slot of a CPU are not part of the value.
    row = _READ_BACK.get(spec.map_type)
    if row is not None and spec.value_size in row[1]:
        return objects.decode(row[0], row[1][spec.value_size], value)
    if spec.map_type in PER_CPU and spec.value_size % 8:
        stride, pad = spec.value_size + 7 & ~7, bytes(-spec.value_size % 8)
        return b"".join(value[at : at + spec.value_size] + pad for at in range(0, len(value), stride))
    return value
