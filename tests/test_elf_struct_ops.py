"""Tables of functions in `.struct_ops` sections are maps: their members are data, and programs by name."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from support.clang import LIBBPF, compiled
from support.congestion import PROGRAMS, STRUCT, table

from rawbpf import ObjectSpec
from rawbpf.elf import parse
from rawbpf.errors import FormatError, SpecError
from rawbpf.uapi import constants as c

pytestmark = pytest.mark.needs("tool:clang", "module:elftools")

SECTIONS = [
    (".struct_ops", 0, True),
    (".struct_ops.link", c.BPF_F_LINK, True),
    ("?.struct_ops", 0, False),
    ("?.struct_ops.link", c.BPF_F_LINK, False),
]


def spec_of(source: str, directory: Path, *, big_endian: bool = False) -> ObjectSpec:
    return ObjectSpec.from_bytes(
        compiled(
            directory, STRUCT + PROGRAMS + source, target="bpfeb" if big_endian else "bpf", prelude=LIBBPF
        ).read_bytes(),
        name="it.o",
    )


@pytest.mark.parametrize(("section", "flags", "autocreate"), SECTIONS, ids=[name for name, *_ in SECTIONS])
@pytest.mark.parametrize("big_endian", [False, True], ids=["little", "big"])
def test_a_variable_of_such_a_section_is_a_map(
    tmp_path: Path, section: str, flags: int, autocreate: bool, big_endian: bool
) -> None:
    spec = spec_of(table("ops", section, ".flags = 5"), tmp_path, big_endian=big_endian)
    ops = spec.maps["ops"]
    assert (ops.map_type, ops.key_size, ops.value_size, ops.max_entries) == (c.BPF_MAP_TYPE_STRUCT_OPS, 4, 56, 1)
    assert (ops.map_flags, ops.autocreate, ops.section, ops.is_data) == (flags, autocreate, section, False)
    assert ops.value is not None
    assert (ops.value.name, ops.value_type_id) == ("tcp_congestion_ops", ops.value.id)
    assert ops.programs == {"ssthresh": "the_ssthresh", "cong_avoid": "the_cong_avoid", "undo_cwnd": "the_undo_cwnd"}
    assert ops.read(24, 4) == (5).to_bytes(4, spec.byteorder)
    assert "not made unless asked" in repr(ops) or autocreate
    assert "undo_cwnd=the_undo_cwnd" in repr(ops)


def test_its_data_members_are_edited_as_a_variable(tmp_path: Path) -> None:
    spec = spec_of(table("first") + table("second", members=".flags = 9"), tmp_path)
    variable = spec.variables["first"]
    value: Any = variable.value
    variable.value = value._replace(name="mine", flags=3)
    assert variable.value == (0, 0, 0, 3, "mine", 0)
    assert spec.maps["first"].read(28, 5) == b"mine\0"
    assert spec.variables["second"].value == (0, 0, 0, 9, "unnamed", 0)


def test_copies_and_pickles_have_programs_of_their_own(tmp_path: Path) -> None:
    spec = spec_of(table("ops", "?.struct_ops"), tmp_path)
    for other in (spec.copy(), pickle.loads(pickle.dumps(spec))):
        del other.maps["ops"].programs["ssthresh"]
        assert "ssthresh" in spec.maps["ops"].programs
        assert not other.maps["ops"].autocreate


def test_programs_are_of_sections_with_and_without_a_member(tmp_path: Path) -> None:
    more = """SEC("struct_ops.s/init") void sleepy(u64 *ctx) {} SEC("?struct_ops") void plain(u64 *ctx) {}"""
    programs = spec_of(more, tmp_path).programs
    assert {p.prog_type for p in programs.values()} == {c.BPF_PROG_TYPE_STRUCT_OPS}
    assert programs["sleepy"].prog_flags == c.BPF_F_SLEEPABLE
    assert (programs["plain"].autoload, programs["the_ssthresh"].attach_target) == (False, "ssthresh")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(
            """static __attribute__((noinline)) u32 local(u64 *ctx) { return *ctx; }
            SEC(".struct_ops") struct tcp_congestion_ops ops = {.ssthresh = (void *)local};""",
            "table 'ops': ssthresh is '.*', which is no program of this object: is it static",
            id="a static function",
        ),
        pytest.param(
            """u32 global(u64 *ctx) { return *ctx; }
            SEC(".struct_ops") struct tcp_congestion_ops ops = {.ssthresh = (void *)global};""",
            "table 'ops': ssthresh is 'global', which is no program",
            id="a subprogram",
        ),
        pytest.param(
            'SEC(".struct_ops") struct tcp_congestion_ops ops = {.owner = the_ssthresh};',
            "byte 48: in 'ops' no pointer to a function is there for 'the_ssthresh'",
            id="a member that is no function",
        ),
        pytest.param('SEC(".struct_ops") int ops = 1;', "'ops' in section '.struct_ops' is no struct", id="an int"),
        pytest.param(
            'SEC(".struct_ops") struct { int a; } ops = {1};', "is no struct with a name that the kernel", id="no name"
        ),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(source, tmp_path)


def test_without_types_there_are_no_tables(tmp_path: Path) -> None:
    whole = compiled(tmp_path, STRUCT + PROGRAMS + table(), prelude=LIBBPF).read_bytes()
    with pytest.raises(SpecError, match=r"section '.struct_ops.link' needs types, .*: compile with -g"):
        parse(whole.replace(b".BTF\0", b".XTF\0"), "it.o")


@pytest.mark.parametrize("offset", [8, 60, 1 << 31], ids=["overlapping", "ends behind", "far away"])
def test_a_table_that_is_not_in_its_section_is_damage(tmp_path: Path, offset: int) -> None:
    # Static variables keep the offset that BTF says.
    source = table("one").replace("struct tcp", "static struct tcp", 1).replace("SEC(", "__attribute__((used)) SEC(")
    whole = bytearray(
        compiled(tmp_path, STRUCT + PROGRAMS + source + source.replace(" one ", " two "), prelude=LIBBPF).read_bytes()
    )
    entry = whole.index(struct.pack("<II", 56, 56))
    struct.pack_into("<I", whole, entry, offset)
    with pytest.raises(FormatError, match=r"is not in '.struct_ops.link' alone at its place"):
        parse(bytes(whole), "it.o")
