"""Programs that were compiled against other types are changed to suit a kernel's, in both byte orders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clang import compiled

import rawbpf
from rawbpf.asm.instruction import slots
from rawbpf.btf import Btf, Builder

if TYPE_CHECKING:
    from support.core_types import Order

    from rawbpf.asm.instruction import Instruction

pytestmark = [pytest.mark.needs("tool:clang", "module:elftools")]

POISON = f"call unknown#{0xBAD2310}"

THINGS = """
enum state { IDLE = 1, BUSY = 2 };
struct thing___mine {
    int pid; unsigned int flags; unsigned int count; int level; int gone;
    struct { unsigned long start; char name[8]; } times;
} CORE;

SEC("raw_tp/x") long moved(struct thing___mine *t) { return t->pid; }
SEC("raw_tp/x") long wider(struct thing___mine *t) { return t->count; }
SEC("raw_tp/x") long stored(struct thing___mine *t) { t->count = 7; return 0; }
SEC("raw_tp/x") long changed_sign(struct thing___mine *t) { return t->level; }
SEC("raw_tp/x") long vanished(struct thing___mine *t) { return exists(t->gone) ? t->gone : 5; }
SEC("raw_tp/x") long nested(struct thing___mine *t)
{
    return *(char *)__builtin_preserve_access_index(&t->times.name[2]);
}
SEC("raw_tp/x") long first_byte(struct thing___mine *t) { return field(t->flags, 0); }
SEC("raw_tp/x") long bytes(struct thing___mine *t) { return field(t->flags, 1); }
SEC("raw_tp/x") long is_signed(struct thing___mine *t) { return field(t->level, 3); }
SEC("raw_tp/x") long left(struct thing___mine *t) { return field(t->flags, 4); }
SEC("raw_tp/x") long right(struct thing___mine *t) { return field(t->flags, 5); }
SEC("raw_tp/x") long value(void *c) { return enumerator(enum state, BUSY, 1); }
SEC("raw_tp/x") long no_value(void *c) { return enumerator(enum state, IDLE, 1); }
SEC("raw_tp/x") long is_value(void *c) { return enumerator(enum state, IDLE, 0); }
SEC("raw_tp/x") long is_type(void *c) { return whole(struct thing___mine, 0); }
SEC("raw_tp/x") long size(void *c) { return whole(struct thing___mine, 1); }
SEC("raw_tp/x") long id(void *c) { return __builtin_btf_type_id(*(struct thing___mine *)0, 1); }
"""


def kernel(order: Order) -> Btf:
    """Return types in which fields moved, grew, became a bit-field or vanished, and enumerators have other values."""
    b = Builder(order)
    s32, u32 = b.int("int", 4, signed=True), b.int("unsigned int", 4)
    u64, byte = b.int("unsigned long", 8), b.int("char", 1, signed=True)
    times = b.struct("", 24, [("name", b.array(byte, 16), 0), ("start", u64, 128)])
    members: list[tuple[str, int, int] | tuple[str, int, int, int]]
    members = [("count", u64, 0), ("flags", u32, 67, 5), ("pid", s32, 96), ("level", u64, 128), ("times", times, 192)]
    b.struct("thing", 64, members)
    b.enum("state", [("BUSY", -9)], signed=True)
    return Btf.from_bytes(b.to_bytes())


EXPECTED = {
    "moved": ["r0 = *(u32 *)(r1 +12)"],
    "wider": ["r0 = *(u64 *)(r1 +0)"],
    "stored": ["*(u64 *)(r1 +0) = r2"],
    "changed_sign": [POISON],
    "vanished": ["r2 = 0", POISON],
    "nested": ["r0 = *(u8 *)(r1 +26)"],
    "first_byte": ["r0 = 8"],
    "bytes": ["r0 = 4"],
    "is_signed": ["r0 = 0"],
    "right": ["r0 = 59"],
    "value": ["r0 = 0xfffffffffffffff7"],
    "no_value": [POISON, POISON],  # both halves of a load
    "is_value": ["r0 = 0x0"],
    "is_type": ["r0 = 1"],
    "size": ["r0 = 64"],
    "id": ["r0 = 0x7"],
}


def relocated(before: list[Instruction], after: list[Instruction]) -> list[str]:
    """Return what of `after` stands where `before` depends on types."""
    there = {slot for slot, i in by_slot(before).items() if i.core}
    there |= {slot + 1 for slot in there}
    return [str(i) for slot, i in by_slot(after).items() if slot in there and by_slot(before).get(slot) != i]


def by_slot(code: list[Instruction]) -> dict[int, Instruction]:
    return {slots(code[:at]): instruction for at, instruction in enumerate(code)}


@pytest.fixture(params=["little", "big"])
def order(request: pytest.FixtureRequest) -> Order:
    found: Order = request.param
    return found


@pytest.fixture
def things(tmp_path: Path, order: Order) -> rawbpf.ObjectSpec:
    target = {"little": "bpfel", "big": "bpfeb"}[order]
    return rawbpf.ObjectSpec.from_file(compiled(tmp_path, THINGS, target=target))


def test_each_program_is_changed_to_suit_the_kernels_types(things: rawbpf.ObjectSpec, order: Order) -> None:
    left = 64 - 3 - 5 if order == "little" else 64 - 32 + 3
    found = {
        name: relocated(things.programs[name].instructions, code)
        for name, code in rawbpf.relocate(things, kernel(order)).items()
    }
    assert found == EXPECTED | {"left": [f"r0 = {left}"]}


def test_relocating_changes_nothing_in_the_specification(things: rawbpf.ObjectSpec, order: Order) -> None:
    before = {name: list(program.instructions) for name, program in things.programs.items()}
    first = rawbpf.relocate(things, kernel(order))
    assert {name: program.instructions for name, program in things.programs.items()} == before
    assert rawbpf.relocate(things, kernel(order)) == first
    assert rawbpf.relocate(things, (each for each in [kernel(order)])) == first, "a kernel and no modules"


def test_only_what_would_be_loaded_is_relocated(things: rawbpf.ObjectSpec, order: Order) -> None:
    for program in things.programs.values():
        program.autoload = program.name == "wider"
    assert list(rawbpf.relocate(things, kernel(order))) == ["wider"]


def test_what_cannot_be_relocated_names_the_program_and_the_field(things: rawbpf.ObjectSpec, order: Order) -> None:
    b = Builder(order)
    b.struct("thing", 8, [("pid", b.int("int", 4), 1 << 19)])
    b.struct("thing___2", 8, [("count", b.int("int", 4), 0)])
    b.struct("thing___3", 8, [("count", b.int("int", 4), 64)])
    btf = Btf.from_bytes(b.to_bytes())
    with pytest.raises(rawbpf.SpecError, match=r"'moved': .* cannot reach byte 65536: 32767 is the last"):
        rawbpf.relocate(things, btf)
    del things.programs["moved"]
    with pytest.raises(rawbpf.SpecError, match=r"'wider': CO-RE: struct thing___mine\.count is ambiguous"):
        rawbpf.relocate(things, btf)


def test_the_address_behind_an_array_has_no_place_in_other_types(tmp_path: Path) -> None:
    source = """
        struct thing { int of[3]; } CORE;
        SEC("raw_tp/x") long behind(struct thing *t) { return (long)&t->of[3]; }
    """
    spec = rawbpf.ObjectSpec.from_file(compiled(tmp_path, source))
    with pytest.raises(rawbpf.FormatError, match=r"'behind': '0:0:3' is no way into <Struct 'thing'.* has no part 3"):
        rawbpf.relocate(spec, kernel("little"))


# Of two types called `thing` the program wants a member that one of them has, the function one that both have.
SUCCESSIVE = """
struct thing { int both, first; } CORE;
static __attribute__((noinline)) long called(struct thing *t);
SEC("raw_tp/x") long narrowing(struct thing *t) { return exists(t->first) + called(t); }
SEC("raw_tp/y") long another(struct thing *t) { return called(t) + called(t); }
static __attribute__((noinline)) long called(struct thing *t) { return field(t->both, 0); }
"""


@pytest.fixture
def two_things(order: Order) -> Btf:
    b = Builder(order)
    number = b.int("int", 4, signed=True)
    b.struct("thing", 16, [("both", number, 32), ("first", number, 64)])
    b.struct("thing___2", 16, [("both", number, 96)])
    return Btf.from_bytes(b.to_bytes())


@pytest.fixture
def successive(tmp_path: Path, order: Order) -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(
        compiled(tmp_path, SUCCESSIVE, target={"little": "bpfel", "big": "bpfeb"}[order])
    )


def test_records_are_resolved_in_the_order_of_the_file_and_functions_once(
    successive: rawbpf.ObjectSpec, two_things: Btf
) -> None:
    # In the file the program's section comes first in .BTF.ext, but .text before it among the sections.
    found = {name: [str(i) for i in code] for name, code in rawbpf.relocate(successive, two_things).items()}
    assert found["narrowing"] == ["r6 = 1", "call pc+2", "r0 += r6", "exit", "r0 = 4", "exit"]
    assert found["another"][-2:] == ["r0 = 4", "exit"]


EARLIER = """
struct thing { int both, first; } CORE;
__attribute__((noinline)) long called(struct thing *t) { return field(t->both, 0); }
SEC("raw_tp/x") long narrowing(struct thing *t) { return exists(t->first) + called(t); }
"""


def test_what_a_later_record_rules_out_is_asked_by_an_earlier_one(
    tmp_path: Path, order: Order, two_things: Btf
) -> None:
    target = {"little": "bpfel", "big": "bpfeb"}[order]
    earlier = rawbpf.ObjectSpec.from_file(compiled(tmp_path, EARLIER, target=target))
    with pytest.raises(rawbpf.SpecError, match=r"'called': CO-RE: struct thing\.both is ambiguous"):
        rawbpf.relocate(earlier, two_things)


CALLED = """
struct thing { int both, first; } CORE;
SEC("raw_tp/x") __attribute__((noinline)) long program(struct thing *t) { return field(t->first, 0); }
SEC("raw_tp/x") long caller(struct thing *t) { return program(t) + 1; }
"""


def test_a_program_that_is_called_is_relocated_in_both_places(tmp_path: Path, order: Order, two_things: Btf) -> None:
    target = {"little": "bpfel", "big": "bpfeb"}[order]
    spec = rawbpf.ObjectSpec.from_file(compiled(tmp_path, CALLED, target=target))
    found = {name: [str(i) for i in code] for name, code in rawbpf.relocate(spec, two_things).items()}
    assert found["program"] == ["r0 = 8", "exit"]
    assert found["caller"][-2:] == ["r0 = 8", "exit"]


def test_functions_that_nothing_reaches_are_not_relocated(successive: rawbpf.ObjectSpec, two_things: Btf) -> None:
    del successive.programs["narrowing"]
    with pytest.raises(rawbpf.SpecError, match=r"'called': CO-RE: struct thing\.both is ambiguous"):
        rawbpf.relocate(successive, two_things)
    del successive.programs["another"]
    assert rawbpf.relocate(successive, two_things) == {}


def test_records_without_types_are_refused(successive: rawbpf.ObjectSpec, two_things: Btf) -> None:
    successive._content.btf = None
    with pytest.raises(rawbpf.SpecError, match="has CO-RE relocations and no types that they could be of"):
        rawbpf.relocate(successive, two_things)
