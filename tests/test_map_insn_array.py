"""Arrays of instructions: programs that jump by them, and where instructions come to lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm.instruction import Instruction, slots
from rawbpf.map.insn_array import PlaceCodec
from rawbpf.uapi import constants as c
from rawbpf.uapi.enums import MapType
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest
on_kernel = pytest.mark.needs("map_type:insn_array", "prog_type:xdp")

BPF = Path(__file__).resolve().parents[1] / "bpf"
NO_CASE = 99


def _made(numbers: list[int], **options: Any) -> rawbpf.InsnArrayMap:
    made = rawbpf.InsnArrayMap.create(max_entries=len(numbers), **options)
    made.update(enumerate(numbers))
    return made


def _frozen(numbers: list[int]) -> rawbpf.InsnArrayMap:
    made = _made(numbers)
    made.freeze()
    return made


def _switch(table: int, answers: list[int]) -> tuple[list[Instruction], list[int]]:
    # A switch over the first byte of the packet, and the numbers of the instructions that its cases begin with.
    head = [
        b.mov_imm(b.R0, NO_CASE),
        b.load_mem(b.R2, b.R1, 0, 4),
        b.load_mem(b.R3, b.R1, 4, 4),
        b.mov_reg(b.R4, b.R2),
        b.alu_imm(b.R4, "+=", 1),
        b.jump_reg(b.R4, ">", b.R3, 8),
        b.load_mem(b.R5, b.R2, 0, 1),
        b.jump_imm(b.R5, ">=", len(answers), 6),
        b.alu_imm(b.R5, "<<=", 3),
        b.ld_map_value(b.R1, table),
        b.alu_reg(b.R1, "+=", b.R5),
        b.load_mem(b.R1, b.R1, 0),
        b.jump_indirect(b.R1),
        b.exit_(),
    ]
    cases = [each for answer in answers for each in (b.mov_imm(b.R0, answer), b.exit_())]
    starts = [slots(head) + 2 * i for i in range(len(answers))]
    return [*head, *cases], starts


def _load(instructions: list[Instruction], table: rawbpf.InsnArrayMap) -> rawbpf.Program:
    return rawbpf.Program.load("xdp", instructions, fd_array=[table.fileno()], fd_array_cnt=1)


# Of which the helper is inlined, and the branch never taken.
SHIFTED = [
    b.call(helper_number("jiffies64")),
    b.mov_imm(b.R0, 1),
    b.jump_imm(b.R0, "==", 1, 1),
    b.mov_imm(b.R0, 7),
    b.mov_imm(b.R0, 2),
    b.exit_(),
]
RETURN = [b.mov_imm(b.R0, 2), b.exit_()]


@on_kernel
def test_a_program_jumps_to_the_instruction_that_the_slot_says(backend: Backend) -> None:
    # The last case stands first in the table.
    _, (first, second, third) = _switch(0, [10, 20, 30])
    with (
        _frozen([third, first, second]) as table,
        rawbpf.Program.load("xdp", _switch(table.fileno(), [10, 20, 30])[0]) as program,
    ):
        assert [program.run(bytes([case]).ljust(64)).retval for case in range(5)] == [30, 10, 20, NO_CASE, NO_CASE]


@on_kernel
def test_after_loading_each_slot_says_where_its_instruction_lies(backend: Backend) -> None:
    with _frozen([0, 1, 3, 4, 5]) as table:
        assert [tuple(place) for place in table] == [(number, 0, 0) for number in (0, 1, 3, 4, 5)]
        with _load(SHIFTED, table) as program:
            size, code = program.info.xlated_size // 8, program.info.jited_size
            start, behind, removed, last, end = table
    assert [place.orig_off for place in (start, behind, removed, last, end)] == [0, 1, 3, 4, 5]
    # What stands behind the helper moved by what was put in its place; what is never reached is gone.
    assert start.xlated_off == 0
    assert behind.xlated_off >= 1
    assert (removed.xlated_off, removed.jitted_off) == (None, None)
    assert (last.xlated_off, end.xlated_off) == (size - 2, size - 1)
    assert 0 <= start.jitted_off < behind.jitted_off < last.jitted_off < end.jitted_off < code


@on_kernel
def test_it_is_written_and_read_like_an_array(backend: Backend) -> None:
    with rawbpf.Map.create("insn_array", max_entries=4, name="places") as m:
        assert type(m).__name__ == "InsnArrayMap"
        assert (len(m), m.key_type.name, m.value_type.name) == (4, "u32", "bpf_insn_array_value")
        m[0], m[-1] = 7, 9
        m.update({1: 3})
        m.put(2, 4, c.BPF_EXIST)
        assert [place.orig_off for place in m] == [7, 3, 4, 9]
        assert [place.orig_off for place in m[1:3]] == [3, 4]
        assert (m[3], m[-1], m.lookup(3)) == ((9, 0, 0),) * 3
        assert m.snapshot()[1].orig_off == 3
        assert m.sum("orig_off") == 23
        assert (9, 0, 0) in m
        assert m.raw[0] == struct.pack("=4I", 7, 0, 0, 0)
        for verb in ("pop", "drain", "clear", "delete_many", "__delitem__"):
            assert not hasattr(m, verb)


@on_kernel
@pytest.mark.parametrize(
    ("act", "expected", "words"),
    [
        pytest.param(lambda m: m[4], rawbpf.IndexOutOfRange, "no index 4: max_entries is 4", id="read behind the end"),
        pytest.param(lambda m: m.put(4, 1), rawbpf.IndexOutOfRange, "no index 4", id="write behind the end"),
        pytest.param(lambda m: m.put(0, 1, c.BPF_NOEXIST), rawbpf.KeyExists, "EEXIST", id="insert"),
        pytest.param(lambda m: m.put(0, 1, c.BPF_F_LOCK), rawbpf.BpfError, "BPF_F_LOCK needs", id="lock"),
        pytest.param(
            lambda m: m.raw.put(0, struct.pack("=4I", 1, 1, 0, 0)),
            rawbpf.BpfError,
            r"\(insn_array\): EINVAL: the kernel alone fills in xlated_off and jitted_off: store orig_off",
            id="what the kernel says",
        ),
        pytest.param(lambda m: m.memory(), rawbpf.NotSupported, "mapped into memory", id="memory"),
    ],
)
def test_what_is_refused_says_why(
    backend: Backend, act: Callable[[Any], object], expected: type[Exception], words: str
) -> None:
    with rawbpf.InsnArrayMap.create(max_entries=4) as m:
        with pytest.raises(expected, match=words):
            act(m)
        assert m[0] == (0, 0, 0)


@on_kernel
def test_places_that_were_read_are_stored_in_another_map(backend: Backend) -> None:
    with _frozen([1, 3]) as old, _load(SHIFTED, old), _made([0, 0]) as new:
        assert old[0].xlated_off
        new.update(old.items())
        assert list(new) == [(1, 0, 0), (3, 0, 0)]


@on_kernel
def test_a_map_that_was_not_frozen_is_refused_with_that(backend: Backend) -> None:
    with _made([0]) as table:
        with pytest.raises(rawbpf.VerifierError, match=r"EINVAL: .* insn array: freeze\(\) an insn_array map"):
            _load(RETURN, table)
        table.freeze()
        with pytest.raises(rawbpf.PermissionDenied, match="EPERM: the map is frozen"):
            table[0] = 1
        _load(RETURN, table).close()


@on_kernel
@pytest.mark.parametrize("number", [pytest.param(4, id="behind the end"), pytest.param(1, id="half of a 64-bit load")])
def test_a_number_that_is_no_instruction_is_refused_when_the_program_is_loaded(backend: Backend, number: int) -> None:
    with (
        _frozen([0, number]) as table,
        pytest.raises(rawbpf.VerifierError, match="numbers of instructions, an LD_IMM64 counting twice") as caught,
    ):
        _load([b.ld_imm64(b.R1, 1), *RETURN], table)
    assert caught.value.summary == "Failed to properly initialize insn array"


@on_kernel
def test_a_map_serves_one_program_also_when_that_is_gone(backend: Backend) -> None:
    with _frozen([0]) as table:
        with pytest.raises(rawbpf.VerifierError, match="R9"):
            _load([b.mov_reg(b.R0, b.R9), b.exit_()], table)
        with _load(RETURN, table), pytest.raises(rawbpf.VerifierError, match=r"EBUSY: .* serves one program, ever"):
            _load(RETURN, table)
        with pytest.raises(rawbpf.VerifierError, match=r"EBUSY: .* create another one"):
            _load(RETURN, table)


@on_kernel
def test_an_opened_one_is_of_the_same_class(backend: Backend) -> None:
    with _made([5], name="places") as made, rawbpf.Map.from_id(made.id) as by_id:
        assert type(by_id).__name__ == "InsnArrayMap"
        assert by_id[0] == made[0] == (5, 0, 0)
        assert by_id.info.type is MapType.INSN_ARRAY
        with rawbpf.Map.from_fd(made, value={"at": "u32", "now": "u32", "code": "u32", "rest": "u32"}) as by_fd:
            assert by_fd[0].orig_off == 5


@on_kernel
@pytest.mark.needs("module:elftools")
def test_an_object_is_given_one_although_the_kernel_added_a_flag(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(BPF / "execcount.bpf.o")
    places = spec.maps["exec_count"]
    places.map_type, places.key_size, places.value_size = c.BPF_MAP_TYPE_INSN_ARRAY, 4, 16
    places.max_entries, places.map_flags = 1, 0
    with _made([5]) as made:
        assert made.info.map_flags == c.BPF_F_RDONLY_PROG
        with spec.load(only=[], maps={"exec_count": made}) as obj:
            assert obj.maps["exec_count"].same_as(made)
            assert obj.maps["exec_count"][0] == (5, 0, 0)


@on_kernel
@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"value": "u32"}, "value_size of an insn_array map must be 16, not 4", id="value of 4 bytes"),
        pytest.param(
            {"flags": c.BPF_F_MMAPABLE}, "an insn_array map does not take the flag BPF_F_MMAPABLE", id="mappable"
        ),
        pytest.param({"numa_node": 0}, "an insn_array map does not take the flag BPF_F_NUMA_NODE", id="NUMA node"),
    ],
)
def test_what_it_cannot_be_made_with_is_named(backend: Backend, options: dict[str, Any], words: str) -> None:
    with pytest.raises(rawbpf.BpfError, match=words):
        rawbpf.InsnArrayMap.create(max_entries=1, **options)


@pytest.mark.parametrize(
    ("options", "expected", "words"),
    [
        pytest.param({}, TypeError, "an insn_array map needs max_entries=", id="no size"),
        pytest.param({"max_entries": 0}, ValueError, "max_entries must not be 0", id="nothing"),
        pytest.param({"max_entries": 1, "key": "u64"}, ValueError, "insn_array maps are indexed by a u32", id="key"),
    ],
)
def test_what_no_kernel_takes_is_refused_before_it_is_asked(
    backend: Backend, options: dict[str, Any], expected: type[Exception], words: str
) -> None:
    with pytest.raises(expected, match=words):
        rawbpf.InsnArrayMap.create(**options)


@pytest.mark.parametrize(
    ("value", "expected", "words"),
    [
        pytest.param(
            "5", TypeError, r"value: expected the number of an instruction, an int, got '5' \(str\)", id="str"
        ),
        pytest.param(True, TypeError, "expected the number of an instruction, an int, got True", id="bool"),
        pytest.param((5, 0, 0), TypeError, "expected the number of an instruction, an int", id="tuple"),
        pytest.param(-1, OverflowError, "0 to 4294967294, got -1", id="negative"),
        pytest.param(0xFFFFFFFF, OverflowError, "0 to 4294967294, got 4294967295", id="the word for removed"),
    ],
)
def test_what_is_no_number_of_an_instruction_is_refused(value: object, expected: type[Exception], words: str) -> None:
    with pytest.raises(expected, match=words):
        PlaceCodec().pack(value)


def test_a_place_has_the_fields_that_are_read() -> None:
    assert PlaceCodec().decode(PlaceCodec().pack(7))._fields == PlaceCodec.field_names
