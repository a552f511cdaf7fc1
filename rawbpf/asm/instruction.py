"""One BPF instruction, symbolic where the loader has yet to fill something in.

Pure: knows the encoding of both byte orders and nothing of files, maps or kernels. Jumps keep the
kernel's relative offsets; what another part of a program decides (a map's fd, where a subprogram
lies, what id the kernel has for a function of its own) is a reference by name until the program is loaded.

Source: Documentation/bpf/standardization/instruction-set.rst (v6.12).
"""

from __future__ import annotations

import struct

from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal


LD_IMM64 = 0x18
"""BPF_LD | BPF_IMM | BPF_DW: the only instruction that takes two slots."""

_MASK64 = (1 << 64) - 1
_MASK32 = (1 << 32) - 1


class MapReference:
    """A map by name: its fd (`offset` None), or the address of byte `offset` of its only value."""

    __slots__ = ("name", "offset")

    def __init__(self, name: str, offset: int | None = None) -> None:
        self.name = name
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MapReference):
            return NotImplemented
        return self.name == other.name and self.offset == other.offset

    def __hash__(self) -> int:
        return hash((self.name, self.offset))

    def __repr__(self) -> str:
        return f"MapReference({self.name!r})" if self.offset is None else f"MapReference({self.name!r}, {self.offset})"


class FunctionReference:
    """A BPF function of the same object by name: called, or its address taken for a callback."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionReference):
            return NotImplemented
        return self.name == other.name

    def __hash__(self) -> int:
        return hash((FunctionReference, self.name))

    def __repr__(self) -> str:
        return f"FunctionReference({self.name!r})"


class LabelReference:
    """A place in the same function by name, which a jump goes to."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelReference):
            return NotImplemented
        return self.name == other.name

    def __hash__(self) -> int:
        return hash((LabelReference, self.name))

    def __repr__(self) -> str:
        return f"LabelReference({self.name!r})"


class KernelReference:
    """A function or variable of the kernel by name: called, or its address taken."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KernelReference):
            return NotImplemented
        return self.name == other.name

    def __hash__(self) -> int:
        return hash((KernelReference, self.name))

    def __repr__(self) -> str:
        return f"KernelReference({self.name!r})"


class SymbolReference:
    """What another object defines, by name, until both are linked: called, or the address of its byte `offset`."""

    __slots__ = ("name", "offset")

    def __init__(self, name: str, offset: int = 0) -> None:
        self.name = name
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SymbolReference):
            return NotImplemented
        return self.name == other.name and self.offset == other.offset

    def __hash__(self) -> int:
        return hash((SymbolReference, self.name, self.offset))

    def __repr__(self) -> str:
        return f"SymbolReference({self.name!r}, {self.offset})" if self.offset else f"SymbolReference({self.name!r})"


Reference = MapReference | FunctionReference | LabelReference | KernelReference | SymbolReference


class Line:
    """The source line that an instruction begins.

    `file_name_offset` and `text_offset` are the strings' places in the BTF that the program is
    loaded with, which is what the kernel wants; 0 where there is no such BTF.
    """

    __slots__ = (
        "column",
        "file_name",
        "file_name_offset",
        "number",
        "text",
        "text_offset",
    )

    def __init__(
        self,
        file_name: str,
        text: str,
        number: int,
        column: int = 0,
        *,
        file_name_offset: int = 0,
        text_offset: int = 0,
    ) -> None:
        self.file_name = file_name
        self.text = text
        self.number = number
        self.column = column
        self.file_name_offset = file_name_offset
        self.text_offset = text_offset

    def _fields(self) -> tuple[str, str, int, int]:
        return self.file_name, self.text, self.number, self.column

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, Line) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"Line({self.file_name!r}, {self.text!r}, {self.number}, {self.column})"

    def __str__(self) -> str:
        return f"{self.file_name}:{self.number}: {self.text.strip()}"


class Instruction:
    """An instruction; treat it as immutable (`replace` makes a changed copy), lists share it.

    `imm` is signed 32 bits, or the unsigned 64 bits of an LD_IMM64, which takes two `slots`.
    `line` starts a source line, `function` (a BTF id of kind FUNC) a function, and `core` is an
    unresolved CO-RE relocation (type id, offset of the access string, kind) of this instruction.
    """

    __slots__ = (
        "core",
        "dst",
        "function",
        "imm",
        "line",
        "offset",
        "opcode",
        "reference",
        "src",
    )

    def __init__(
        self,
        opcode: int,
        dst: int = 0,
        src: int = 0,
        offset: int = 0,
        imm: int = 0,
        *,
        reference: Reference | None = None,
        line: Line | None = None,
        function: int | None = None,
        core: tuple[int, int, int] | None = None,
    ) -> None:
        self.opcode = opcode
        self.dst = dst
        self.src = src
        self.offset = offset
        self.imm = imm
        self.reference = reference
        self.line = line
        self.function = function
        self.core = core

    @property
    def slots(self) -> int:
        """How many 8-byte units it takes, which is what jumps and calls count in: 1 or 2."""
        return 2 if self.opcode == LD_IMM64 else 1

    @property
    def is_call(self) -> bool:
        """Whether it calls a helper, a kernel function or a BPF function."""
        return self.opcode in (0x85, 0x8D)

    def replace(
        self,
        *,
        opcode: int | None = None,
        dst: int | None = None,
        src: int | None = None,
        offset: int | None = None,
        imm: int | None = None,
        reference: Reference | Literal[False] | None = None,
        line: Line | Literal[False] | None = None,
        function: int | Literal[False] | None = None,
        core: tuple[int, int, int] | Literal[False] | None = None,
    ) -> Instruction:
        """Return a copy with the given fields changed; False removes a reference, line, function or core."""
        return Instruction(
            self.opcode if opcode is None else opcode,
            self.dst if dst is None else dst,
            self.src if src is None else src,
            self.offset if offset is None else offset,
            self.imm if imm is None else imm,
            reference=self.reference if reference is None else (reference or None),
            line=self.line if line is None else (line or None),
            function=self.function if function is None else (None if function is False else function),
            core=self.core if core is None else (core or None),
        )

    def _fields(self) -> tuple[object, ...]:
        return (
            self.opcode,
            self.dst,
            self.src,
            self.offset,
            self.imm,
            self.reference,
            self.line,
            self.function,
            self.core,
        )

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, Instruction) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __str__(self) -> str:
        from rawbpf.asm.spelling import spell  # only who prints pays

        return spell(self)

    def __repr__(self) -> str:
        return f"<Instruction {self}>"


def slots(instructions: Iterable[Instruction]) -> int:
    """Return how many 8-byte slots `instructions` take together."""
    return sum(2 if i.opcode == LD_IMM64 else 1 for i in instructions)


def decode(code: bytes | memoryview, byteorder: Literal["little", "big"]) -> list[Instruction]:
    """Return the instructions of machine code.

    `code`: whole 8-byte slots. Unknown opcodes are kept as they are; only what cannot be told apart
    into instructions is refused.

    Raises: FormatError when the length is no multiple of 8, or an LD_IMM64 lacks its second slot.
    """
    size = len(code)
    if size % 8:
        raise FormatError(
            f"{size} bytes of code are no whole number of 8-byte instructions",
            size - size % 8,
        )
    out: list[Instruction] = []
    big = byteorder == "big"
    first: Instruction | None = None
    low = 0
    for index, (opcode, registers, offset, imm) in enumerate(struct.iter_unpack(">BBhi" if big else "<BBhi", code)):
        if first is not None:
            if opcode or registers or offset:
                raise FormatError("the second half of a 64-bit load is no plain immediate", index * 8)
            first.imm = low | (imm & _MASK32) << 32
            first = None
            continue
        # The nibbles swap with the byte order: they are bit fields in the kernel's struct bpf_insn.
        dst, src = (registers >> 4, registers & 15) if big else (registers & 15, registers >> 4)
        instruction = Instruction(opcode, dst, src, offset, imm)
        out.append(instruction)
        if opcode == LD_IMM64:
            first, low = instruction, imm & _MASK32
    if first is not None:
        raise FormatError("a 64-bit load at the end of the code lacks its second half", size - 8)
    return out


def encode(instructions: Iterable[Instruction], byteorder: Literal["little", "big"]) -> bytes:
    """Return the machine code of `instructions`; what is still symbolic is encoded as it stands.

    Raises: OverflowError that names the instruction when a field is out of its range.
    """
    big = byteorder == "big"
    pack = struct.Struct(">BBhi" if big else "<BBhi").pack
    out = bytearray()
    for index, i in enumerate(instructions):
        imm = i.imm
        if not (0 <= i.dst <= 15 and 0 <= i.src <= 15):
            raise OverflowError(f"instruction {index} ({_bare(i)}): there is no register {max(i.dst, i.src)}")
        registers = i.dst << 4 | i.src if big else i.src << 4 | i.dst
        try:
            if i.opcode == LD_IMM64:
                if not -(1 << 63) <= imm <= _MASK64:
                    raise OverflowError(f"instruction {index} ({_bare(i)}): {imm} does not fit 64 bits")
                out += pack(LD_IMM64, registers, i.offset, _signed(imm))
                out += pack(0, 0, 0, _signed(imm >> 32))
            else:
                out += pack(i.opcode, registers, i.offset, imm)
        except struct.error as error:
            raise OverflowError(f"instruction {index} ({_bare(i)}): {error}") from error
    return bytes(out)


def _signed(imm: int) -> int:
    imm &= _MASK32
    return imm - (1 << 32) if imm >> 31 else imm


def _bare(i: Instruction) -> str:
    return f"opcode {i.opcode:#x} dst {i.dst} src {i.src} offset {i.offset} imm {i.imm}"
