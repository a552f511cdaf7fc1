"""Whatever the bytes: BTF and .BTF.ext are read, or FormatError says where they are wrong; never anything else."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.btf_samples import ByteOrder, sample, walk

from rawbpf.btf import Btf, BtfExt, Builder, Composite
from rawbpf.btf.fixup import add_strings, fixup_datasecs
from rawbpf.btf.layout import align_of, size_of, strip
from rawbpf.btf.sanitize import FEATURES, sanitize
from rawbpf.btf.types import MAX_DEPTH
from rawbpf.errors import FormatError

SAMPLES: dict[ByteOrder, bytes] = {"little": sample("little")[0], "big": sample("big")[0]}
FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])
# Words that are near to meaning something, among them info words of each kind with many parts.
WORDS = st.one_of(
    st.integers(0, 64),
    st.integers(0, (1 << 32) - 1),
    st.builds(
        lambda kind, vlen, flag: flag << 31 | kind << 24 | vlen, st.integers(0, 31), st.integers(0, 9), st.booleans()
    ),
    st.sampled_from([0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x0400FFFF]),
)


def read(data: bytes) -> None:
    """Read all that there is: returns or raises FormatError."""
    try:
        btf = Btf.from_bytes(data)
    except FormatError:
        return
    walk(btf)
    for name in ("event", "total", "", "nothing"):
        btf.find(name)
    assert btf.pointer_size in {4, 8}
    rewrites: list[Callable[[], bytes]] = [
        lambda: fixup_datasecs(data, {".data": (80, {"total": 0})}),
        lambda: add_strings(data, ["event", "new"])[0],
        lambda: sanitize(data, FEATURES),
        lambda: rewritten(btf),
    ]
    for rewrite in rewrites:
        with contextlib.suppress(FormatError):
            Btf.from_bytes(rewrite())


def rewritten(btf: Btf) -> bytes:
    builder = Builder()
    builder.add_all(btf)
    return builder.to_bytes()


@FUZZ
@given(
    order=st.sampled_from(["little", "big"]),
    changes=st.lists(st.tuples(st.integers(0, 400), WORDS), min_size=1, max_size=6),
)
def test_btf_with_changed_words_is_read_or_refused(order: ByteOrder, changes: list[tuple[int, int]]) -> None:
    # Invariant: from_bytes, and then every part of every type, returns or raises FormatError.
    data = bytearray(SAMPLES[order])
    for word, value in changes:
        at = 4 * word % (len(data) // 4 * 4)
        data[at : at + 4] = value.to_bytes(4, order)
    read(bytes(data))


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(["<", ">"]))
def test_types_of_random_bytes_are_read_or_refused(types: bytes, order: str) -> None:
    # Invariant: as above.
    types = types[: len(types) // 4 * 4]
    header = struct.pack(order + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 4)
    read(header + types + b"\0ab\0")


@FUZZ
@given(st.binary(max_size=100))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    # Invariant: as above.
    read(data)
    read(b"\x9f\xeb\x01\x00" + data)


@ORDERS
def test_btf_cut_at_any_length_is_refused(byteorder: ByteOrder) -> None:
    data = SAMPLES[byteorder]
    for length in range(len(data)):
        with pytest.raises(FormatError, match="byte"):
            Btf.from_bytes(data[:length])


@ORDERS
def test_a_type_section_cut_at_any_word_is_refused_or_refers_beyond_the_end(byteorder: ByteOrder) -> None:
    data = SAMPLES[byteorder]
    order = "<" if byteorder == "little" else ">"
    (size,) = struct.unpack_from(order + "I", data, 12)
    refused = 0
    for cut in range(0, size, 4):
        blob = bytearray(data)
        struct.pack_into(order + "I", blob, 12, cut)
        try:
            walk(Btf.from_bytes(bytes(blob)))
        except FormatError:
            refused += 1
    assert refused == size // 4 - (len(Btf.from_bytes(data)) - 1)


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        pytest.param(0, b"\x7fE", "magic is 0x457f", id="magic"),
        pytest.param(2, b"\x02", "version 2", id="version"),
        pytest.param(3, b"\x01", "flags 0x1", id="flags"),
        pytest.param(4, b"\x10\0\0\0", "header size 16", id="short header"),
        pytest.param(12, b"\x01\0\0\0", "whole words", id="type section of one byte"),
        pytest.param(8, b"\0\0\0\x10", "type section", id="type section too far behind"),
        pytest.param(20, b"\0\0\0\x10", "string section", id="string section too long"),
        pytest.param(20, b"\0\0\0\0", "end with a NUL", id="no strings"),
        pytest.param(28, b"\0\0\0\x1f", "type 1 is of unknown kind 31", id="unknown kind"),
        pytest.param(28, b"\0\0\0\0", "type 1 is of unknown kind 0", id="kind void"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(at: int, value: bytes, text: str) -> None:
    data = bytearray(SAMPLES["little"])
    data[at : at + len(value)] = value
    with pytest.raises(FormatError, match=text) as caught:
        Btf.from_bytes(bytes(data))
    assert caught.value.offset is not None


def test_strings_that_do_not_start_with_the_empty_one_are_refused() -> None:
    data = SAMPLES["little"]
    at = data.rindex(b"\0", 0, data.index(b"\0int\0") + 1)
    with pytest.raises(FormatError, match="does not start with the empty string") as caught:
        Btf.from_bytes(data[:at] + b"x" + data[at + 1 :])
    assert caught.value.offset == at


def test_a_reference_to_nowhere_names_both_types_and_the_place() -> None:
    builder = Builder()
    builder.int("int", 4)
    pointer = builder.ptr(9)
    with pytest.raises(FormatError, match=r"type 2 \(ptr\) refers to type 9, but ids end at 2 \(at byte 40\)"):
        _ = getattr(Btf.from_bytes(builder.to_bytes())[pointer], "type")  # noqa: B009


def test_names_beyond_the_strings_or_without_end_are_refused() -> None:
    btf = Btf.from_bytes(SAMPLES["little"])
    with pytest.raises(FormatError, match="lies behind the strings"):
        btf.string(len(btf.strings))
    builder = Builder()
    builder.int("x" * 5000, 4)
    long = Btf.from_bytes(builder.to_bytes())
    with pytest.raises(FormatError, match="more than 4096 bytes"):
        _ = long[1].name
    assert long.string(1, cut=True) == "x" * 4096


def cyclic() -> dict[str, Btf]:
    loop, nest, self_nest = Builder(), Builder(), Builder()
    loop.typedef("a", 2)
    loop.const(1)
    # Each struct holds the next one many times over: a walk that looks at each anew never ends.
    for id in range(1, 80):
        nest.struct("", 8, [("", id + 1, 0)] * 9)
    nest.int("int", 4)
    self_nest.struct("", 8, [("", 1, 0), ("", 1, 0), ("", 2, 0)])
    self_nest.func_proto(2, [("", 2)] * 20)
    arrays = Builder()
    for id in range(1, MAX_DEPTH - 1):
        arrays.array(id + 1, 1 << 30, MAX_DEPTH - 1)
    arrays.int("int", 4)
    return {name: Btf.from_bytes(b.to_bytes()) for name, b in locals().items() if isinstance(b, Builder)}


@pytest.mark.parametrize("name", ["loop", "nest", "self_nest", "arrays"])
def test_types_that_hold_themselves_or_nest_without_end_stop(name: str) -> None:
    btf = cyclic()[name]
    assert walk(btf) > 0
    first = btf[1]
    if isinstance(first, Composite):
        with pytest.raises(KeyError):
            first.member("absent")
        assert size_of(first) == 8
        assert len(str(first)) < 1 << 22
    else:
        with pytest.raises(FormatError, match=r"never end|4 GiB|ids end"):
            size_of(first)


def test_structs_nested_deeper_than_pythons_stack_are_refused() -> None:
    b = Builder()
    for id in range(1, 3000):
        b.struct("", 8, [("", id + 1, 0)])
    b.int("long", 8)
    deep = Btf.from_bytes(b.to_bytes())[1]
    with pytest.raises(FormatError, match="64 deep"):
        align_of(deep)
    with pytest.raises(FormatError, match="64 types deep"):
        Builder().add(deep)
    assert str(deep).count("{") == 10


def test_stripping_a_typedef_of_itself_is_refused() -> None:
    with pytest.raises(FormatError, match="never end"):
        strip(cyclic()["loop"][1])
    with pytest.raises(FormatError, match="never end"):
        align_of(cyclic()["loop"][1])


def extension(order: str) -> tuple[bytes, Btf]:
    """Return a .BTF.ext with one record of each sort for section `tp/x`, and its BTF."""
    builder = Builder("little" if order == "<" else "big")
    section, file, text, access = map(builder.string, ("tp/x", "a.c", "return 0;", "0:1"))
    parts = [
        struct.pack(order + "5I", 8, section, 1, 0, 3),
        struct.pack(order + "7I", 16, section, 1, 8, file, text, 12 << 10 | 5),
        struct.pack(order + "7I", 16, section, 1, 16, 7, access, 2),
    ]
    places = []
    at = 0
    for part in parts:
        places += [at, len(part)]
        at += len(part)
    header = struct.pack(order + "HBBI6I", 0xEB9F, 1, 0, 32, *places)
    return header + b"".join(parts), Btf.from_bytes(builder.to_bytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_sort_of_record_is_read(order: str) -> None:
    data, btf = extension(order)
    ext = BtfExt.from_bytes(data, btf)
    assert ext.func_info == {"tp/x": [(0, 3)]}
    (line,) = ext.line_info["tp/x"]
    assert (line.offset, line.file_name, line.text, line.line, line.column) == (8, "a.c", "return 0;", 12, 5)
    (core,) = ext.core_relo["tp/x"]
    assert (core.offset, core.type_id, core.access, core.kind) == (16, 7, "0:1", 2)
    assert repr(ext) == "<BtfExt: 1 core_relo, 1 func_info, 1 line_info>"


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_extension_cut_at_any_length_is_refused(order: str) -> None:
    data, btf = extension(order)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            BtfExt.from_bytes(data[:length], btf)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("field", [12, 20, 28], ids=["func_info", "line_info", "core_relo"])
def test_records_cut_at_any_length_are_refused(field: int, order: str) -> None:
    good, btf = extension(order)
    (size,) = struct.unpack_from(order + "I", good, field)
    for length in range(1, size):
        data = bytearray(good)
        struct.pack_into(order + "I", data, field, length)
        with pytest.raises(FormatError) if length != 4 else contextlib.nullcontext():
            # The last part is cut from the file too, so that nothing stands behind it.
            BtfExt.from_bytes(bytes(data[: len(data) - (size - length if field == 28 else 0)]), btf)


@FUZZ
@given(st.sampled_from(["<", ">"]), st.lists(st.tuples(st.integers(0, 26), WORDS), min_size=1, max_size=4))
def test_an_extension_with_changed_words_is_read_or_refused(order: str, changes: list[tuple[int, int]]) -> None:
    # Invariant: from_bytes, and then every part of every record, returns or raises FormatError.
    good, btf = extension(order)
    data = bytearray(good)
    for word, value in changes:
        struct.pack_into(order + "I", data, 4 * word % (len(data) - 3), value)
    try:
        ext = BtfExt.from_bytes(bytes(data), btf)
        repr([ext, ext.func_info, ext.line_info, ext.core_relo])
    except FormatError:
        pass
