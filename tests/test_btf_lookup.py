"""Types are found by id and by name, whatever shares a name or a string, also in split BTF."""

from __future__ import annotations

import struct
import sys
from array import array

import pytest
from support.btf_samples import sample

import rawbpf.btf
from rawbpf.btf import Btf, Builder, DeclTag, Enum, Fwd, Int, Struct, Typedef, Void
from rawbpf.errors import FormatError


def split(base: Btf, records: list[list[int]], strings: bytes = b"") -> Btf:
    """Return a BTF that continues `base`, of hand-made records."""
    words = array("I", [word for record in records for word in record])
    types = words.tobytes()
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return Btf.from_bytes(header + types + strings, base)


def test_ids_count_from_void_in_length_and_iteration() -> None:
    btf = Btf.from_bytes(sample()[0])
    everything = list(btf)
    assert len(everything) == len(btf)
    assert [type.id for type in everything] == list(range(len(btf)))
    assert isinstance(btf[0], Void)
    assert (str(btf[0]), btf[0].name) == ("void", "void")


def test_unknown_ids_and_names_raise_lookup_errors() -> None:
    btf = Btf.from_bytes(sample()[0])
    with pytest.raises(IndexError, match="ids are 0 to"):
        btf[len(btf)]
    with pytest.raises(IndexError):
        btf[-1]
    with pytest.raises(KeyError, match="nothing"):
        btf["nothing"]
    for name in ("", "nothing", "even", "a\0b", "event\0"):
        assert btf.find(name) is None
        assert name not in btf
        assert btf.find_all(name) == []
    assert "event" in btf
    assert bool(Btf.from_bytes(Builder().to_bytes()))


def test_of_several_types_of_one_name_the_definition_wins() -> None:
    b = Builder()
    tag = b.decl_tag("event", 5)
    forward = b.fwd("event")
    b.int("int", 4)
    alias = b.typedef("event", 5)
    defined = b.struct("event", 4, [("event", 3, 0)])
    btf = Btf.from_bytes(b.to_bytes())
    assert btf["event"].id == alias
    assert [type.id for type in btf.find_all("event")] == [tag, forward, alias, defined]
    kinds = {DeclTag: tag, Fwd: forward, Typedef: alias, Struct: defined}
    assert {kind: found.id for kind in kinds if (found := btf.find("event", kind))} == kinds
    assert btf.find("event", Enum) is None


def test_a_declaration_is_found_where_there_is_no_definition() -> None:
    b = Builder()
    b.fwd("event")
    assert isinstance(Btf.from_bytes(b.to_bytes())["event"], Fwd)


@pytest.mark.parametrize("count", [1, 3, 50], ids=["one place", "few places", "many places"])
def test_names_that_are_tails_of_other_names_are_found(count: int) -> None:
    b = Builder()
    for number in range(count):
        b.fwd(f"prefix{number}_task")
    wanted = b.fwd("task")
    btf = Btf.from_bytes(b.to_bytes())
    assert [type.id for type in btf.find_all("task")] == [wanted]
    # The same type, its name in the tail of another string: linkers may merge so.
    data = bytearray(btf.raw)
    place = btf.strings.index(b"prefix0_task\0") + len("prefix0_")
    struct.pack_into("=I", data, 24 + 12 * (wanted - 1), place)
    assert [type.id for type in Btf.from_bytes(bytes(data)).find_all("task")] == [wanted]


def test_a_name_is_not_found_where_two_other_name_offsets_meet() -> None:
    b = Builder()
    assert b.string("a") == 1
    b.string("x" * 252)
    assert b.string("far") == 0x100
    b.fwd("far")  # as bytes 00 01 00 00, and behind it 00 00 00 00 of an anonymous type: 01 00 00 00 in between
    b.ptr(0)
    wanted = b.fwd("a")
    assert [type.id for type in Btf.from_bytes(b.to_bytes()).find_all("a")] == [wanted]


@pytest.mark.parametrize("duplicates", [2, 40], ids=["few", "many"])
def test_a_name_that_is_stored_repeatedly_finds_every_type(duplicates: int) -> None:
    records = [[1 + 5 * number, 7 << 24, 0] for number in range(duplicates)]
    words = array("I", [word for record in records for word in record]).tobytes()
    strings = b"\0" + b"task\0" * duplicates
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings))
    btf = Btf.from_bytes(header + words + strings)
    assert [type.id for type in btf.find_all("task")] == list(range(1, duplicates + 1))


def test_a_split_btf_continues_the_ids_and_strings_of_its_base() -> None:
    data, ids = sample(sys.byteorder)
    base = Btf.from_bytes(data)
    own = len(base.strings)
    shared = base.strings.index(b"\0event\0") + 1
    module = split(
        base,
        [[own, 8 << 24, ids["struct"]], [shared, 8 << 24, ids["int"]], [0, 2 << 24, len(base)]],
        b"alias\0",
    )
    alias, pointer = module["alias"], module[len(base) + 2]
    assert alias.id == len(base) == module.first_id
    assert isinstance(alias, Typedef)
    assert alias.type == base["event"] == module["event"]
    assert alias.type.btf is base
    assert [type.id for type in module.find_all("event")] == [ids["struct"], len(base) + 1]
    assert str(pointer) == "alias *"
    assert len(list(module)) == len(module) == len(base) + 3
    assert repr(module) == f"<Btf of {len(module)} types, 3 of them its own>"


def test_a_split_btf_may_have_no_strings_of_its_own() -> None:
    base = Btf.from_bytes(sample(sys.byteorder)[0])
    assert split(base, [[0, 2 << 24, 1]])[len(base)].name == ""
    with pytest.raises(FormatError, match="refers to type"):
        str(split(base, [[0, 2 << 24, len(base) + 1]])[len(base)])
    with pytest.raises(FormatError, match="end with a NUL"):
        split(base, [], b"name")


def test_writable_bytes_are_copied_and_read_only_ones_are_not() -> None:
    data = bytearray(sample()[0])
    btf = Btf.from_bytes(data)
    data[:] = bytes(len(data))
    assert btf["event"].name == "event"
    data.clear()  # nothing holds the buffer
    raw = sample()[0]
    assert Btf.from_bytes(raw).raw is raw
    assert Btf.from_bytes(memoryview(raw)[:]).raw is raw
    assert Btf.from_bytes(memoryview(b"xx" + raw)[2:]).raw == raw
    assert Btf.from_bytes(memoryview(b"xx" + raw)[2:])["event"].name == "event"


def test_the_kernels_btf_is_indexed_once_per_source(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [memoryview(sample()[0]), memoryview(sample()[0])]
    monkeypatch.setattr(rawbpf.btf, "source", lambda: views[0])
    first = rawbpf.btf.vmlinux()
    assert rawbpf.btf.vmlinux() is first
    monkeypatch.setattr(rawbpf.btf, "source", lambda: views[1])
    assert rawbpf.btf.vmlinux() is not first
    monkeypatch.setattr(rawbpf.btf, "source", lambda: views[0])
    assert rawbpf.btf.vmlinux() is first
    monkeypatch.setattr(rawbpf.btf, "source", None)
    with pytest.raises(RuntimeError, match="import rawbpf first"):
        rawbpf.btf.vmlinux()


def test_every_public_name_of_the_package_resolves() -> None:
    for name in dir(rawbpf.btf):
        assert getattr(rawbpf.btf, name) is not None or name == "source"
    assert rawbpf.btf.Int is Int
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = rawbpf.btf.no_such_name
