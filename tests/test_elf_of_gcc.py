"""What gcc 12 and its assembler write otherwise than clang, and the kernel does not take, is read as it was meant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest
from support.elf_writer import OBJECT, SECTION, ElfWriter

from rawbpf.asm import build, encode
from rawbpf.btf import Btf, Builder, Int, kind
from rawbpf.btf.fixup import fixup_datasecs
from rawbpf.elf import parse
from rawbpf.elf.container import R_BPF_64_64
from rawbpf.errors import BpfError
from rawbpf.syscall.btf import btf_load
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

R_BPF_DATA_64 = 12
PLACES = {"first": 24, "second": 48, "third": 72}
ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])
FAULTS: dict[str, Callable[[Builder], int]] = {
    "a function without a name": lambda b: b.func("", b.func_proto(0, [])),
    "a character with a sign": lambda b: b.int("char", 1, signed=True, char=True),
    "a declaration with a type": lambda b: b.record(kind.FWD, "task", 4),
}


@pytest.mark.guest
@pytest.mark.parametrize("fault", FAULTS)
def test_the_kernel_takes_what_is_made_of_it(backend: Backend, fault: str) -> None:
    b = Builder(sys.byteorder)
    ids = [b.int("int", 4, signed=True), FAULTS[fault](b), b.func("main", b.func_proto(0, []))]
    with pytest.raises(BpfError):
        btf_load(backend, b.to_bytes())
    fixed = fixup_datasecs(b.to_bytes(), {})
    backend.close(btf_load(backend, fixed))
    assert fixup_datasecs(fixed, {}) == fixed
    before, after = Btf.from_bytes(b.to_bytes()), Btf.from_bytes(fixed)
    assert [after[id].name for id in ids] == [before[id].name for id in ids]


@ORDERS
def test_a_character_with_a_sign_is_what_clang_makes_of_it(byteorder: Literal["little", "big"]) -> None:
    b = Builder(byteorder)
    ids = [b.int("char", 1, signed=True, char=True), b.int("unsigned char", 1, char=True)]
    fixed = Btf.from_bytes(fixup_datasecs(b.to_bytes(), {}))
    signed, unsigned = (fixed[id] for id in ids)
    assert isinstance(signed, Int)
    assert isinstance(unsigned, Int)
    assert [(each.signed, each.is_char, each.bits) for each in (signed, unsigned)] == [
        (True, False, 8),
        (False, True, 8),
    ]


@ORDERS
def test_a_map_is_what_the_symbol_names_though_its_place_stands_where_it_is_referred_to(
    byteorder: Literal["little", "big"],
) -> None:
    def one(length: int) -> int:
        return b.ptr(b.array(number, length))

    b = Builder(byteorder)
    number = b.int("int", 4, signed=True)
    sizes = [("key_size", one(4), 64), ("value_size", one(4), 128)]
    inner = b.struct("", 24, [("type", one(c.BPF_MAP_TYPE_HASH), 0), *sizes])
    values = ("values", b.array(b.ptr(inner), 0), 64)
    outer = b.struct("", 8, [("type", one(c.BPF_MAP_TYPE_ARRAY_OF_MAPS), 0), values])
    definitions = {"outer": (outer, 0, 24), **{name: (inner, at, 24) for name, at in PLACES.items()}}
    b.datasec(".maps", 0, [(b.var(name, type), 0, size) for name, (type, _, size) in definitions.items()])
    elf = ElfWriter(byteorder)
    slots = [0, 0, PLACES["first"]]
    maps = elf.section(".maps", b"".join(slot.to_bytes(8, byteorder) for slot in slots) + bytes(72))
    code = elf.code(
        "xdp", encode([build.ld_imm64(1, PLACES["first"]), build.ld_imm64(2, 72), build.exit_()], byteorder)
    )
    elf.section(".BTF", b.to_bytes(), flags=0)
    elf.symbol("main", code, 0, 40)
    symbols = {name: elf.symbol(name, maps, at, size, type=OBJECT) for name, (_, at, size) in definitions.items()}
    elf.relocate(maps, 16, R_BPF_DATA_64, symbols["first"])
    elf.relocate(code, 0, R_BPF_64_64, symbols["first"])
    elf.relocate(code, 16, R_BPF_64_64, elf.symbol("", maps, type=SECTION))
    data = parse(elf.build(), "x.o")
    assert data.maps["outer"].values == {1: "first"}
    assert [str(i) for i in data.programs["main"].instructions] == ["r1 = map[first]", "r2 = map[third]", "exit"]
