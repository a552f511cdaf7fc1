"""Python written from BTF: ctypes classes that have the layout which the BTF says, and that maps take."""

from __future__ import annotations

import ctypes
import enum
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.btf_samples import VMLINUX, ByteOrder, sample, shapes

import rawbpf
from rawbpf.btf import Btf, Builder, Composite, strip
from rawbpf.codec import codec_for
from rawbpf.errors import FormatError

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

OTHER: ByteOrder = "big" if sys.byteorder == "little" else "little"
ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


def made(btf: Btf, *names: str) -> dict[str, type]:
    """Return what the Python of types defines."""
    space: dict[str, type] = {}
    exec(compile(btf.to_python(names or None), "types.py", "exec"), space)
    return space


def built(build: Callable[[Builder], object], byteorder: ByteOrder = sys.byteorder) -> Btf:
    builder = Builder(byteorder)
    build(builder)
    return Btf.from_bytes(builder.to_bytes())


def misplaced(type: Composite, cls: type) -> Iterator[str]:
    """Yield what lies elsewhere in `cls`."""
    if ctypes.sizeof(cls) != type.size:
        yield f"{type.name} has {type.size} bytes"
    for name, own, offset, bits in type.members:
        field = getattr(cls, name, None)
        if not name or field is None:
            if name and not bits:
                yield f"{type.name} lacks {name}"
            continue
        if not bits:
            if 8 * field.offset != offset:
                yield f"{type.name}.{name} starts at bit {offset}"
            continue
        low, width = field.size & 0xFFFF, field.size >> 16
        if type.btf.byteorder == "big":
            low = 8 * _storage(cls, name) - low - width
        if (8 * field.offset + low, width) != (offset, bits):
            yield f"{type.name}.{name} has {bits} bits from {offset}, and not {8 * field.offset + low} {strip(own)}"


def _storage(cls: type, name: str) -> int:
    # Bytes that a bit-field is part of; in a union each has a struct of its own.
    fields: list[tuple[str, type]] = getattr(cls, "_fields_")  # noqa: B009  # a descriptor to type checkers
    for own, kind, *_ in fields:
        if own == name:
            return ctypes.sizeof(kind)
        if own.startswith("_bits") and hasattr(kind, name):
            return _storage(kind, name)
    raise KeyError(name)


@pytest.mark.needs(f"file:{VMLINUX}")
def test_classes_of_the_kernels_types_lie_in_memory_as_the_kernels() -> None:
    btf = Btf.from_bytes(Path(VMLINUX).read_bytes())
    counts = Counter(type.name for type in btf if type.name)
    named = [type for type in btf if isinstance(type, Composite) and counts[type.name] == 1][::20]
    assert len(named) > 300
    space = made(btf, *(type.name for type in named))
    assert [text for type in named for text in misplaced(type, space[type.name])] == []


@ORDERS
def test_any_shape_lies_in_memory_as_it_was(byteorder: ByteOrder) -> None:
    btf = built(shapes, byteorder)
    space = made(btf)
    named = [type for type in btf if isinstance(type, Composite) and type.name]
    assert len(named) > 25
    assert [text for type in named for text in misplaced(type, space[type.name])] == []


@ORDERS
def test_bytes_mean_the_same_by_the_class_and_by_the_type(byteorder: ByteOrder) -> None:
    # What ctypes has no fields for is left out: other names, or none at all.
    btf = built(shapes, byteorder)
    space = made(btf)
    compared = 0
    for type in btf:
        if not isinstance(type, Composite) or not type.name or type.kind_name == "union":
            continue
        ours, theirs = codec_for(type), codec_for(space[type.name])
        content = random.Random(type.id).randbytes(type.size)
        mine, other = ours.unpack(content), theirs.unpack(content)
        for member in type.members:
            if member.name and hasattr(other, member.name) and not isinstance(strip(member.type), Composite):
                left, right = getattr(mine, member.name), getattr(other, member.name)
                if isinstance(left, int) and isinstance(right, int):
                    compared += 1
                    assert int(left) == int(right), (type.name, member)
    assert compared > 40


def test_what_is_written_reads_like_the_types() -> None:
    def build(b: Builder) -> None:
        u8, u32, char = b.int("unsigned char", 1), b.int("unsigned int", 4), b.int("char", 1, signed=True)
        be16 = b.typedef("__be16", b.int("unsigned short", 2))
        mode = b.enum("mode", [("OFF", 0), ("ON", 1)])
        pair = b.struct("", 8, [("a", u32, 0), ("b", u32, 32)])
        b.struct(
            "event",
            64,
            [
                ("pid", b.typedef("pid_t", u32), 0),
                ("mode", mode, 32),
                ("comm", b.array(char, 16), 64),
                ("data", b.array(b.array(u8, 3), 2), 192),
                ("port", be16, 240),
                ("low", u32, 256, 3),
                ("high", u32, 259, 4),
                ("", pair, 288),
                ("pairs", b.array(pair, 1), 352),
                ("next", b.ptr(len(b) + 1), 448),
            ],
        )
        b.typedef("flags_t", u32)

    assert (
        built(build, "little").to_python(["event", "flags_t"])
        == '''"""Types as ctypes lays them out; maps take them as `key=` and `value=`."""

import ctypes
import enum

mode = enum.IntEnum(
    "mode",
    {
        "OFF": 0,
        "ON": 1,
    },
)


class event_anonymous7(ctypes.Structure):
    _fields_ = [
        ("a", ctypes.c_uint32),
        ("b", ctypes.c_uint32),
    ]


class event(ctypes.Structure):
    _anonymous_ = ("_anonymous7",)
    _fields_ = [
        ("pid", ctypes.c_uint32),  # pid_t
        ("mode", ctypes.c_uint32),  # enum mode
        ("comm", ctypes.c_char * 16),
        ("data", ctypes.c_uint8 * 3 * 2),
        ("port", ctypes.c_uint16.__ctype_be__),  # __be16
        ("low", ctypes.c_uint32, 3),
        ("high", ctypes.c_uint32, 4),
        ("_anonymous7", event_anonymous7),
        ("pairs", event_anonymous7 * 1),
        ("next", ctypes.c_uint64),  # struct event *
    ]

flags_t = ctypes.c_uint32
'''
    )


def test_a_map_takes_the_class_and_gives_the_values_back(backend: Backend) -> None:
    btf = Btf.from_bytes(sample(sys.byteorder)[0])
    space = made(btf, "event", "number", "mode")
    with rawbpf.Map.create("hash", key="u32", value=space["number"], max_entries=4) as m:
        m[1] = {"i": 7}
        assert m[1].i == 7
    assert issubclass(space["mode"], enum.IntEnum)
    assert [each.value for each in space["mode"]] == [0, 7, -1]


def test_names_that_python_has_a_meaning_for_are_changed_and_no_name_is_given_twice() -> None:
    def build(b: Builder) -> None:
        int_ = b.int("int", 4, signed=True)
        b.struct("class", 4, [("def", int_, 0)])
        b.struct("ctypes", 4, [("a", int_, 0)])
        b.struct("same", 4, [("a", int_, 0)])
        b.union("same", 4, [("a", int_, 0)])
        b.struct("__private", 4, [("__own", int_, 0)])
        b.struct("uses", 8, [("__p", b.struct("__held", 4, [("x", int_, 0)]), 0), ("part", b.struct("", 4, []), 32)])
        b.struct("uses_part", 2, [])
        b.struct("a::b<c>", 4, [('x"y', int_, 0)])
        b.struct("obeyed", 8, [("__class__", int_, 0), ("_fields_", int_, 32)])
        b.enum("__private_values", [("__LOW", 0), ("mro", 1), ("None", 2)])

    space = made(built(build))
    structs = (ctypes.Structure, ctypes.Union)
    classes = {name: cls for name, cls in space.items() if isinstance(cls, type(ctypes.Structure)) or name == "same_2"}
    assert all(issubclass(cls, structs) for cls in classes.values())
    assert classes.keys() == {
        "class_", "ctypes_2", "same", "same_2", "__private", "__held", "uses", "uses_part", "uses_part_2", "a__b_c_",
        "obeyed",
    }  # fmt: skip
    assert ctypes.sizeof(classes["uses_part"]) == 2
    assert getattr(classes["class_"](), "def") == 0
    assert (classes["obeyed"](1, 2).__class___, classes["obeyed"](1, 2)._fields__) == (1, 2)
    assert [each.name for each in space["__private_values"]] == ["__LOW", "mro_0", "None"]  # type: ignore[attr-defined]


def test_an_unknown_name_is_a_key_error_and_a_type_without_values_is_refused() -> None:
    btf = Btf.from_bytes(sample()[0])
    for name in ("absent", "", "count"):
        with pytest.raises(KeyError):
            btf.to_python(name)
    with pytest.raises(FormatError, match="has no values"):
        built(lambda b: b.struct("s", 8, [("f", b.func_proto(0, []), 0)])).to_python()


def test_names_stay_in_their_line_also_in_comments() -> None:
    name = "x\n    ]\n\nescaped = 1\n\nclass other(ctypes.Structure):\n    _fields_ = [\n#"
    btf = built(lambda b: b.struct("s", 16, [("a", b.int("unsigned long", 8), 0, 33), (name, 1, 33, 40)]))
    assert "# a: 33 bits from bit 0, x?    ]??escaped" in btf.to_python()
    assert "escaped" not in made(btf)


BROKEN: list[tuple[str, Callable[[Builder], object], str]] = [
    ("held by itself", lambda b: b.struct("s", 4, [("a", 1, 0)]), "deep"),
    ("an overlap", lambda b: b.struct("s", 8, [("a", b.int("int", 4), 0), ("b", 1, 16)]), "overlap"),
    ("behind the end", lambda b: b.struct("s", 4, [("a", b.int("int", 4), 8)]), "overlap"),
    ("within a byte", lambda b: b.struct("s", 8, [("a", b.int("int", 4), 3)]), "within a byte"),
    ("a union's member elsewhere", lambda b: b.union("s", 8, [("a", b.int("int", 4), 8)]), "do not start"),
    ("a union's member behind the end", lambda b: b.union("s", 4, [("a", b.int("long", 8), 0)]), "end behind"),
    ("bit-fields that overlap", lambda b: b.struct("s", 4, [("a", b.int("int", 4), 0, 5), ("b", 1, 3, 5)]), "overlap"),
    ("a number of 3 bytes", lambda b: b.struct("s", 4, [("a", b.record(1, "x", 3, 24), 0)]), "no values"),
]


@pytest.mark.parametrize(("build", "text"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_cannot_be_is_refused(build: Callable[[Builder], object], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        built(build).to_python()


SAMPLE = sample()[0]


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(6, len(SAMPLE) // 4 - 1), st.integers(0, 40)), min_size=1, max_size=4))
def test_btf_with_changed_words_becomes_python_or_is_refused(changes: list[tuple[int, int]]) -> None:
    # Invariant: to_python returns source that compiles, or raises FormatError.
    data = bytearray(SAMPLE)
    for word, value in changes:
        data[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
    try:
        source = Btf.from_bytes(bytes(data)).to_python()
    except FormatError:
        return
    compile(source, "types.py", "exec")
