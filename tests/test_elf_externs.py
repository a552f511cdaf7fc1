"""What an object declares and does not define is what its BTF says of it, and contradictions are refused."""

from __future__ import annotations

from typing import Literal

import pytest
from support.elf_writer import ALLOC, FUNC, GLOBAL, LOCAL, NOTYPE, WEAK, ElfWriter

from rawbpf import ObjectSpec, relocate
from rawbpf.asm import KernelReference, MapReference, SymbolReference, build
from rawbpf.asm.instruction import Instruction, encode
from rawbpf.btf import Builder
from rawbpf.elf import parse
from rawbpf.elf.container import R_BPF_64_32, R_BPF_64_64
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.config import ConfigSpec
from rawbpf.spec.object import ObjectData

ByteOrder = Literal["little", "big"]
pytestmark = pytest.mark.needs("module:elftools")

CALL, LOAD = build.call_slot(-1), build.ld_imm64(1, 0)


def types(b: Builder, linkage: str = "extern") -> None:
    """Declare `kernel_function`, `kernel_variable`, `kernel_symbol`, `CONFIG_A` (int) and `CONFIG_B` (char)."""
    number, byte = b.int("int", 4, signed=True), b.int("char", 1)
    function = b.func("kernel_function", b.func_proto(number, [("x", number)]), linkage)
    variable, symbol = b.var("kernel_variable", b.const(number), linkage), b.var("kernel_symbol", b.const(0), linkage)
    b.datasec(".ksyms", 0, [(function, 0, 0), (variable, 0, 4), (symbol, 0, 0)])
    options = [b.var("CONFIG_B", byte, linkage), b.var("CONFIG_A", number, linkage)]
    b.datasec(".kconfig", 0, [(id, 0, 0) for id in options])


def of(
    instruction: Instruction,
    name: str,
    *,
    relocation: int | None = None,
    bind: int = GLOBAL,
    kind: int = NOTYPE,
    linkage: str = "extern",
    byteorder: ByteOrder = "little",
    btf: bool = True,
) -> bytes:
    """Return an object whose only program has `instruction`, which is relocated to the undefined symbol `name`."""
    elf = ElfWriter(byteorder)
    code = elf.code("xdp", encode([instruction, build.exit_()], byteorder))
    elf.symbol("f", code, 0, 8 * (instruction.slots + 1))
    elf.relocate(
        code,
        0,
        relocation or (R_BPF_64_32 if instruction.is_call else R_BPF_64_64),
        elf.symbol(name, 0, type=kind, bind=bind),
    )
    for other in ("kernel_function", "kernel_variable", "kernel_symbol", "CONFIG_A", "CONFIG_B"):
        if other != name:
            elf.symbol(other, 0, type=NOTYPE)
    if btf:
        b = Builder(byteorder)
        types(b, linkage)
        elf.section(".BTF", b.to_bytes(), flags=0)
    return elf.build()


def first(data: ObjectData) -> Instruction:
    return data.programs["f"].instructions[0]


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize(
    ("instruction", "name", "reference", "src"),
    [
        pytest.param(CALL, "kernel_function", KernelReference("kernel_function"), 2, id="call"),
        pytest.param(LOAD, "kernel_function", KernelReference("kernel_function"), 3, id="address of a function"),
        pytest.param(LOAD, "kernel_variable", KernelReference("kernel_variable"), 3, id="variable"),
        pytest.param(LOAD, "kernel_symbol", KernelReference("kernel_symbol"), 0, id="symbol"),
        pytest.param(LOAD, "CONFIG_A", MapReference(".kconfig", 0), 2, id="option"),
        pytest.param(LOAD, "CONFIG_B", MapReference(".kconfig", 4), 2, id="second option"),
        pytest.param(build.ld_imm64(1, 3), "CONFIG_A", MapReference(".kconfig", 3), 2, id="inside of an option"),
    ],
)
def test_instructions_refer_to_what_is_declared(
    byteorder: ByteOrder, instruction: Instruction, name: str, reference: object, src: int
) -> None:
    data = parse(of(instruction, name, byteorder=byteorder), "it.o")
    assert first(data) == Instruction(instruction.opcode, instruction.dst, src, imm=0, reference=first(data).reference)
    assert first(data).reference == reference


@pytest.mark.parametrize("bind", [GLOBAL, WEAK])
def test_what_is_declared_is_counted_as_by_libbpf(bind: int) -> None:
    data = parse(of(CALL, "kernel_function", bind=bind), "it.o")
    assert {name: (symbol.index, symbol.weak) for name, symbol in data.ksyms.items()} == {
        "kernel_function": (2, bind == WEAK),
        "kernel_symbol": (3, False),
        "kernel_variable": (4, False),
    }
    assert data.ksyms["kernel_symbol"].type is None
    assert [str(data.ksyms[name].type) for name in ("kernel_function", "kernel_variable")] == ["int (int x)", "int"]
    options = [variable for variable in data.variables.values() if isinstance(variable, ConfigSpec)]
    assert [(option.name, option.offset, option.weak) for option in options] == [
        ("CONFIG_A", 0, False),
        ("CONFIG_B", 4, False),
    ]
    assert data.maps[".kconfig"].value_size == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(of(CALL, "CONFIG_A"), r"neither calls 'CONFIG_A' nor loads its address", id="call of an option"),
        pytest.param(
            of(CALL, "kernel_function", relocation=R_BPF_64_64), "neither calls 'kernel_function'", id="call by 64_64"
        ),
        pytest.param(
            of(LOAD, "kernel_variable", relocation=R_BPF_64_32), "neither calls 'kernel_variable'", id="load by 64_32"
        ),
        pytest.param(
            of(build.ld_imm64(1, 8), "kernel_variable"),
            r"only the address itself can be loaded, not one \+8 from it",
            id="addend",
        ),
        pytest.param(of(LOAD, "other", relocation=R_BPF_64_32), "neither calls 'other' nor", id="not declared"),
        pytest.param(of(CALL, "kernel_function", bind=LOCAL), "is not defined in this object", id="local"),
        pytest.param(of(CALL, "kernel_function", kind=FUNC), "is not defined in this object", id="kind of symbol"),
    ],
)
def test_contradictions_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(data, "it.o")


@pytest.mark.parametrize(
    ("data", "reference"),
    [
        pytest.param(of(LOAD, "other"), SymbolReference("other"), id="not declared"),
        pytest.param(of(build.ld_imm64(1, 8), "other"), SymbolReference("other", 8), id="inside of it"),
        pytest.param(of(CALL, "kernel_function", btf=False), SymbolReference("kernel_function"), id="no BTF"),
        pytest.param(of(CALL, "kernel_function", linkage="global"), SymbolReference("kernel_function"), id="linkage"),
    ],
)
def test_what_may_be_defined_by_another_object_is_refused_when_it_is_loaded(data: bytes, reference: object) -> None:
    spec = ObjectSpec.from_bytes(data)
    assert spec.programs["f"].instructions[0].reference == reference
    with pytest.raises(SpecError, match=r"'f' refers to '\w+', which is not defined in this object: .* -g"):
        relocate(spec)


def hostile(build_types: Literal["large", "outside"]) -> bytes:
    elf = ElfWriter()
    elf.symbol("f", elf.code("xdp", encode([build.exit_()], "little")), 0, 8)
    elf.symbol("CONFIG_A", 0, type=NOTYPE)
    b = Builder("little")
    byte = b.int("char", 1)
    if build_types == "large":
        variable = b.var("CONFIG_A", b.array(byte, 1 << 31, b.int("int", 4)), "extern")
        b.datasec(".kconfig", 0, [(variable, 0, 0)])
    else:
        # A section of that name in the file, which has no room for what it is said to hold.
        elf.section(".kconfig", b"\0", flags=ALLOC)
        b.datasec(".kconfig", 0, [(b.var("CONFIG_A", byte, "extern"), 100, 1)])
    elf.section(".BTF", b.to_bytes(), flags=0)
    return elf.build()


def test_a_configuration_of_2_gib_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'\.kconfig' of 2147483648 bytes is too large"):
        parse(hostile("large"), "it.o")


def test_a_variable_outside_of_its_section_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'CONFIG_A' ends behind the 1 bytes"):
        parse(hostile("outside"), "it.o")


@pytest.mark.parametrize("name", ["kernel_function", "CONFIG_A"])
def test_bytes_may_be_wrong(name: str) -> None:
    whole = of(CALL if name == "kernel_function" else LOAD, name)
    survived = 0
    for place in range(0, len(whole), 3):
        for value in (0, 0xFF):
            damaged = bytearray(whole)
            damaged[place] = value
            try:
                data = parse(bytes(damaged), "it.o")
            except (FormatError, SpecError):
                continue
            survived += 1
            assert all(str(i) for program in data.programs.values() for i in program.instructions)
    assert survived
