"""What the pointers of an attr lead to: which fields they are, how many bytes there, and who reads or writes them.

The lengths follow from the command, the map's sizes and, for per-CPU values, the number of possible CPUs.
Must not read any memory. Source: kernel/bpf/syscall.c (v6.12), and the structs in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import LAYOUTS
from rawbpf.uapi.info import BTF_INFO, LINK_INFO, MAP_INFO, PROG_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.uapi.layout import Layout

Fields = Mapping[str, int]

IN, OUT, BOTH = 1, 2, 3
TEXT = -1
"""The size of what ends with a NUL byte."""

PERCPU = (
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a descriptor is of: a `map`, `prog`, `btf`, `link` or else (""), its id, and the sizes of a map."""

    kind: str = ""
    id: int = 0
    type: int = 0
    key_size: int = 0
    value_size: int = 0
    flags: int = 0

    def value_bytes(self, possible_cpus: int) -> int:
        """Return how many bytes a value has in user space. Source: kernel/bpf/syscall.c:bpf_map_value_size (v6.12)."""
        if self.type in PERCPU:
            return (self.value_size + 7 & -8) * possible_cpus
        return self.value_size


class Pointee(NamedTuple):
    """`size` bytes, called `name`, whose address stands at `offset` of the attr, or of the memory `within`."""

    name: str
    size: int
    direction: int
    offset: int
    within: str = ""


_Size = Callable[[Fields, Shape, int], int]


def _key(_: Fields, shape: Shape, __: int) -> int:
    return shape.key_size


def _value(_: Fields, shape: Shape, cpus: int) -> int:
    return shape.value_bytes(cpus)


def _keys(fields: Fields, shape: Shape, _: int) -> int:
    return fields["count"] * shape.key_size


def _values(fields: Fields, shape: Shape, cpus: int) -> int:
    return fields["count"] * shape.value_bytes(cpus)


def _cursor(_: Fields, shape: Shape, __: int) -> int:
    return max(4, shape.key_size)


def _text(_: Fields, __: Shape, ___: int) -> int:
    return TEXT


def _times(count: str, size: int | str = 1) -> _Size:
    return lambda fields, _, __: fields[count] * (size if isinstance(size, int) else fields[size])


_READ_BATCH = (
    ("in_batch", _cursor, IN),
    ("out_batch", _cursor, OUT),
    ("keys", _keys, OUT),
    ("values", _values, OUT),
)
_PATH = (("pathname", _text, IN),)
# By command: field, size, direction. Commands without pointers have an empty row; those with none are not understood.
_POINTERS: dict[int, tuple[tuple[str, _Size, int], ...]] = {
    c.BPF_MAP_CREATE: (("excl_prog_hash", _times("excl_prog_hash_size"), IN),),
    # The value of a Bloom filter is what is asked for.
    c.BPF_MAP_LOOKUP_ELEM: (("key", _key, IN), ("value", _value, BOTH)),
    c.BPF_MAP_UPDATE_ELEM: (("key", _key, IN), ("value", _value, IN)),
    c.BPF_MAP_DELETE_ELEM: (("key", _key, IN),),
    c.BPF_MAP_GET_NEXT_KEY: (("key", _key, IN), ("next_key", _key, OUT)),
    c.BPF_MAP_LOOKUP_AND_DELETE_ELEM: (("key", _key, IN), ("value", _value, OUT)),
    c.BPF_MAP_LOOKUP_BATCH: _READ_BATCH,
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH: _READ_BATCH,
    c.BPF_MAP_UPDATE_BATCH: (("keys", _keys, IN), ("values", _values, IN)),
    c.BPF_MAP_DELETE_BATCH: (("keys", _keys, IN),),
    c.BPF_PROG_LOAD: (
        ("insns", _times("insn_cnt", 8), IN),
        ("license", _text, IN),
        ("log_buf", _times("log_size"), OUT),
        ("func_info", _times("func_info_cnt", "func_info_rec_size"), IN),
        ("line_info", _times("line_info_cnt", "line_info_rec_size"), IN),
        ("fd_array", _times("fd_array_cnt", 4), IN),
        ("core_relos", _times("core_relo_cnt", "core_relo_rec_size"), IN),
        ("signature", _times("signature_size"), IN),
    ),
    c.BPF_BTF_LOAD: (("btf", _times("btf_size"), IN), ("btf_log_buf", _times("btf_log_size"), OUT)),
    c.BPF_OBJ_PIN: _PATH,
    c.BPF_OBJ_GET: _PATH,
    c.BPF_OBJ_GET_INFO_BY_FD: (("info", _times("info_len"), BOTH),),
    c.BPF_PROG_TEST_RUN: (
        ("data_in", _times("data_size_in"), IN),
        ("data_out", _times("data_size_out"), OUT),
        ("ctx_in", _times("ctx_size_in"), IN),
        ("ctx_out", _times("ctx_size_out"), OUT),
    ),
    c.BPF_RAW_TRACEPOINT_OPEN: (("name", _text, IN),),
    **dict.fromkeys(
        (
            c.BPF_MAP_FREEZE,
            c.BPF_MAP_GET_NEXT_ID,
            c.BPF_PROG_GET_NEXT_ID,
            c.BPF_BTF_GET_NEXT_ID,
            c.BPF_LINK_GET_NEXT_ID,
            c.BPF_MAP_GET_FD_BY_ID,
            c.BPF_PROG_GET_FD_BY_ID,
            c.BPF_BTF_GET_FD_BY_ID,
            c.BPF_LINK_GET_FD_BY_ID,
            c.BPF_PROG_BIND_MAP,
            c.BPF_PROG_ATTACH,
            c.BPF_PROG_DETACH,
            c.BPF_LINK_UPDATE,
            c.BPF_LINK_DETACH,
            c.BPF_LINK_CREATE,
            c.BPF_ENABLE_STATS,
            c.BPF_TOKEN_CREATE,
        ),
        (),
    ),
}
# What an info struct points to: field, and what tells how many bytes there.
_INFO_POINTERS: dict[str, tuple[tuple[str, str, int | str], ...]] = {
    "prog": (
        ("jited_prog_insns", "jited_prog_len", 1),
        ("xlated_prog_insns", "xlated_prog_len", 1),
        ("map_ids", "nr_map_ids", 4),
        ("jited_ksyms", "nr_jited_ksyms", 8),
        ("jited_func_lens", "nr_jited_func_lens", 4),
        ("func_info", "nr_func_info", "func_info_rec_size"),
        ("line_info", "nr_line_info", "line_info_rec_size"),
        ("jited_line_info", "nr_jited_line_info", "jited_line_info_rec_size"),
        ("prog_tags", "nr_prog_tags", 8),
    ),
    "btf": (("btf", "btf_size", 1), ("name", "name_len", 1)),
    "map": (("hash", "hash_size", 1),),
}
INFOS: dict[str, Layout] = {"map": MAP_INFO, "prog": PROG_INFO, "btf": BTF_INFO, "link": LINK_INFO}
"""The info struct of each kind of object."""


def is_understood(cmd: int) -> bool:
    """Return whether it is known what the pointers of this command's attr lead to."""
    return cmd in _POINTERS


def subject_field(cmd: int) -> str:
    """Return the field with the descriptor that the sizes of a call depend on; "" where there is none."""
    if cmd == c.BPF_OBJ_GET_INFO_BY_FD:
        return "bpf_fd"
    has = any(size in (_key, _value, _keys, _values, _cursor) for _, size, _ in _POINTERS.get(cmd, ()))
    return "map_fd" if has else ""


def pointers_of(cmd: int) -> list[str]:
    """Return the names of the fields of a command that are pointers."""
    return [name for name, _, _ in _POINTERS.get(cmd, ())]


def pointees(cmd: int, fields: Fields, shape: Shape, possible_cpus: int) -> Iterator[Pointee]:
    """Yield what the attr of a call may point to; `fields` are all of it, `shape` is of the descriptor it is about."""
    offsets = {name: offset for name, offset, _ in LAYOUTS[cmd].fields}
    for name, size, direction in _POINTERS[cmd]:
        yield Pointee(name, size(fields, shape, possible_cpus), direction, offsets[name])


def info_pointees(shape: Shape, info: bytes) -> Iterator[Pointee]:
    """Yield what an info struct of an object points to, in whose memory it is called `info`."""
    layout = INFOS.get(shape.kind)
    if layout is None:
        return
    fields = layout.unpack(info)
    offsets = {name: offset for name, offset, _ in layout.fields}
    for name, count, size in _INFO_POINTERS.get(shape.kind, ()):
        if offsets[name] + 8 <= len(info):
            length = fields[count] * (size if isinstance(size, int) else fields[size])
            yield Pointee(f"info.{name}", length, OUT, offsets[name], "info")
