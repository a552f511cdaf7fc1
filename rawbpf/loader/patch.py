"""Instructions as CO-RE changes them: another offset, immediate or width, or a call that no verifier takes.

Pure: what is to be written where `btf.core` has found out. The verifier removes code that cannot be
reached before it looks at calls, so that an instruction about a missing field is an error only where it runs.

Source: tools/lib/bpf/relo_core.c:bpf_core_patch_insn, bpf_core_poison_insn (v6.12)
"""

from __future__ import annotations

from rawbpf.asm.instruction import LD_IMM64, Instruction
from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.core import Fixup

POISON = 0xBAD2310
"""The helper that stands in for what the kernel lacks: it reads `bad relo`, and libbpf writes the same."""

_CALL = 0x85
_LDX, _ST, _STX, _ALU, _ALU64 = 1, 2, 3, 4, 7
_CLASS, _REGISTER, _SIZE = 0x07, 0x08, 0x18
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_MAX_OFFSET = (1 << 15) - 1


def patched(instruction: Instruction, fixup: Fixup) -> list[Instruction]:
    """Return what to load in place of `instruction`, in as many slots; without its record, unless it is poisoned.

    Raises: SpecError for an instruction that does not hold what the compiler would have put there, or that
    cannot hold what it is to hold.
    """
    kind = instruction.opcode & _CLASS
    if fixup.new is None:
        return _poisoned(instruction)
    if kind in (_ALU, _ALU64) and not instruction.opcode & _REGISTER:
        _check(instruction, instruction.imm, fixup)
        if not -(1 << 31) <= _signed(fixup.new, 64) <= _MASK32:
            raise SpecError(f"'{instruction}' cannot hold {fixup.new}, which takes more than 32 bits")
        return [instruction.replace(imm=_signed(fixup.new, 32), core=False)]
    if kind in (_LDX, _ST, _STX):
        _check(instruction, instruction.offset, fixup)
        if fixup.new > _MAX_OFFSET:
            raise SpecError(f"'{instruction}' cannot reach byte {fixup.new}: {_MAX_OFFSET} is the last")
        if not fixup.resizable:
            return _poisoned(instruction)
        return [instruction.replace(opcode=_resized(instruction, fixup), offset=fixup.new, core=False)]
    if instruction.opcode == LD_IMM64 and not (instruction.src or instruction.offset or instruction.reference):
        new = fixup.new
        if _signed(fixup.old, 64) in range(-(1 << 31), 0) and instruction.imm == fixup.old & _MASK32:
            new &= _MASK32  # of an enumerator of 32 bits, which the compiler took for one without a sign
        else:
            _check(instruction, instruction.imm, fixup)
        return [instruction.replace(imm=new, core=False)]
    raise SpecError(f"'{instruction}' takes no number that depends on types")


def is_poisoned(instruction: Instruction) -> bool:
    """Return whether `instruction` stands for one about something that the kernel lacks."""
    return instruction.core is not None and instruction.opcode == _CALL and instruction.imm == POISON


def _poisoned(instruction: Instruction) -> list[Instruction]:
    # Both slots of a load, or the verifier would complain of the second half of one.
    first = Instruction(_CALL, imm=POISON, line=instruction.line, function=instruction.function, core=instruction.core)
    return [first, first.replace(line=False, function=False)][: instruction.slots]


def _check(instruction: Instruction, held: int, fixup: Fixup) -> None:
    if fixup.checked and held & _MASK64 != fixup.old:
        raise SpecError(f"'{instruction}' holds {held} where the compiler's types say {_signed(fixup.old, 64)}")


def _resized(instruction: Instruction, fixup: Fixup) -> int:
    if fixup.old_size == fixup.new_size:
        return instruction.opcode
    size = _SIZES.get(fixup.new_size)
    if size is None or instruction.opcode & _SIZE != _SIZES.get(fixup.old_size):
        raise SpecError(
            f"'{instruction}' is of a field of {fixup.old_size} bytes that has {fixup.new_size} in the kernel"
        )
    return instruction.opcode & ~_SIZE | size


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number
