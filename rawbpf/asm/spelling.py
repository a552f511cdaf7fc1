"""How an instruction is written: the kernel's verifier-log style, references by name.

Knows the instruction set and the helpers' names; prints `r0 = 0`, `call bpf_ktime_get_ns#5`,
`if r1 == 0x0 goto pc+2`. What is symbolic is shown by name: `r1 = map[events]`. What the kernel prints as
a bare number, although it stands for something, says what: `r1 = map[fd:3]`. The assembler reads all of it.

Source: kernel/bpf/disasm.c:print_bpf_insn (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    FunctionReference,
    KernelReference,
    LabelReference,
    MapReference,
    SymbolReference,
)
from rawbpf.uapi.constants import (
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_IDX,
    BPF_PSEUDO_MAP_IDX_VALUE,
    BPF_PSEUDO_MAP_VALUE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction

_ALU = (
    "+=",
    "-=",
    "*=",
    "/=",
    "|=",
    "&=",
    "<<=",
    ">>=",
    "neg",
    "%=",
    "^=",
    "=",
    "s>>=",
    "endian",
)
_JUMPS = (
    "jmp",
    "==",
    ">",
    ">=",
    "&",
    "!=",
    "s>",
    "s>=",
    "call",
    "exit",
    "<",
    "<=",
    "s<",
    "s<=",
)
_SIZES = ("u32", "u16", "u8", "u64")
_SIGNED_SIZES = ("s32", "s16", "s8", "s64")
_ATOMIC_PLAIN = {0x00: "+=", 0x40: "|=", 0x50: "&=", 0xA0: "^="}
_ATOMIC_FETCH = {0x01: "add", 0x41: "or", 0x51: "and", 0xA1: "xor"}
_MOVSX = {8: "(s8)", 16: "(s16)", 32: "(s32)"}


def spell(i: Instruction) -> str:
    """Return `i` as the verifier's log writes it, without index and opcode."""
    kind = i.opcode & 7
    if kind in (4, 7):
        text = _alu(i, kind)
    elif kind in (5, 6):
        text = _jump(i, kind)
    elif kind == 0:
        text = _load_special(i)
    else:
        text = _memory(i, kind)
    return text or f"BUG_{i.opcode:02x}"


def _alu(i: Instruction, kind: int) -> str:
    operation = i.opcode >> 4
    wide = kind == 7
    r = "r" if wide else "w"
    if i.opcode in (0xDF, 0x8F, 0x8C):  # bswap and neg take no second operand
        return ""
    if operation == 13:
        if wide:
            return f"r{i.dst} = bswap{i.imm} r{i.dst}"
        return f"r{i.dst} = {'be' if i.opcode & 8 else 'le'}{i.imm} r{i.dst}"
    if operation == 8:
        return f"{r}{i.dst} = -{r}{i.dst}"
    if operation > 13:
        return ""
    if i.opcode == 0xBF and i.offset == -1:
        return f"r{i.dst} = &(void __percpu *)(r{i.src})"
    if i.opcode == 0xBF and i.offset == 1:
        return f"r{i.dst} = addr_space_cast(r{i.src}, {i.imm >> 16}, {i.imm & 0xFFFF})"
    operator = _ALU[operation]
    if operation in (3, 9) and i.offset == 1:
        operator = f"s{operator}"
    if i.opcode & 8:
        cast = _MOVSX.get(i.offset, "") if operation == 11 else ""
        return f"{r}{i.dst} {operator} {cast}{r}{i.src}"
    return f"{r}{i.dst} {operator} {i.imm}"


def _jump(i: Instruction, kind: int) -> str:
    operation = i.opcode >> 4
    if operation == 8 and kind == 5:
        return _call(i)
    distance = i.imm if i.opcode == 0x06 else i.offset
    to = i.reference.name if isinstance(i.reference, LabelReference) else f"pc{distance:+d}"
    if i.opcode == 0x05:
        return f"goto {to}"
    if i.opcode == 0x06:
        return f"gotol {to}"
    if i.opcode == 0x0D:
        return f"gotox r{i.dst}"
    if i.opcode == 0xE5:
        return f"may_goto {to}"
    if i.opcode == 0x95:
        return "exit"
    if operation in (0, 8, 9) or operation > 13:
        return ""
    r = "r" if kind == 5 else "w"
    other = f"{r}{i.src}" if i.opcode & 8 else f"0x{i.imm & 0xFFFFFFFF:x}"
    return f"if {r}{i.dst} {_JUMPS[operation]} {other} goto {to}"


def _call(i: Instruction) -> str:
    if isinstance(i.reference, (FunctionReference, SymbolReference)):
        return f"call {i.reference.name}"
    if isinstance(i.reference, KernelReference):
        return f"call kernel[{i.reference.name}]"
    if i.opcode & 8:
        return f"callx r{i.dst}"
    if i.src == BPF_PSEUDO_CALL:
        return f"call pc{i.imm:+d}"
    if i.src == BPF_PSEUDO_KFUNC_CALL:
        return f"call kernel-function#{i.imm}" + (f"@{i.offset}" if i.offset else "")
    from rawbpf.uapi.helper import HELPERS, helper_name  # some kilobytes, for messages only

    return f"call {helper_name(i.imm) if 0 < i.imm < len(HELPERS) else 'unknown'}#{i.imm}"


def _load_special(i: Instruction) -> str:
    mode, size = i.opcode & 0xE0, _SIZES[i.opcode >> 3 & 3]
    if mode == 0x20:
        return f"r0 = *({size} *)skb[{i.imm}]"
    if mode == 0x40:
        return f"r0 = *({size} *)skb[r{i.src} + {i.imm}]"
    return f"r{i.dst} = {_value(i)}" if i.opcode == 0x18 else ""


def _value(i: Instruction) -> str:
    # What a 64-bit load loads.
    reference = i.reference
    if isinstance(reference, MapReference):
        return f"map[{reference.name}]" if reference.offset is None else f"map[{reference.name}]{reference.offset:+d}"
    if isinstance(reference, FunctionReference):
        return f"&{reference.name}"
    if isinstance(reference, SymbolReference):
        return f"&{reference.name}" + (f"{reference.offset:+d}" if reference.offset else "")
    if isinstance(reference, KernelReference):
        return f"&kernel[{reference.name}]"
    imm = i.imm & (1 << 64) - 1
    low, high = imm & 0xFFFFFFFF, imm >> 32
    if i.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_MAP_IDX, BPF_PSEUDO_MAP_IDX_VALUE):
        of_value = i.src in (BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_MAP_IDX_VALUE)
        word = "fd" if i.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE) else "index"
        return f"map[{word}:{low}]" + (f"+{high}" if of_value else "")
    if i.src == BPF_PSEUDO_BTF_ID:
        return f"&kernel-variable#{low}" + (f"@{high}" if high else "")
    if i.src == BPF_PSEUDO_FUNC:
        return f"&pc{low - (low >> 31 << 32):+d}"
    return f"0x{imm:x}"


def _memory(i: Instruction, kind: int) -> str:
    mode = i.opcode & 0xE0
    size = _SIZES[i.opcode >> 3 & 3]
    if kind == 1:
        if mode not in (0x60, 0x80):
            return ""
        if mode == 0x80:
            size = _SIGNED_SIZES[i.opcode >> 3 & 3]
        return f"r{i.dst} = *({size} *)(r{i.src} {i.offset:+d})"
    place = f"*({size} *)(r{i.dst} {i.offset:+d})"
    if i.opcode == 0xC2:
        return "nospec"
    if mode == 0x60:
        return f"{place} = {i.imm}" if kind == 2 else f"{place} = r{i.src}"
    return _atomic(i, place, size) if mode == 0xC0 and kind == 3 else ""


def _atomic(i: Instruction, place: str, size: str) -> str:
    wide = "64" if size == "u64" else ""
    pointer = place[1:]
    if i.imm in _ATOMIC_PLAIN:
        return f"lock {place} {_ATOMIC_PLAIN[i.imm]} r{i.src}"
    if i.imm in _ATOMIC_FETCH:
        return f"r{i.src} = atomic{wide}_fetch_{_ATOMIC_FETCH[i.imm]}({pointer}, r{i.src})"
    if i.imm == 0xF1:
        return f"r0 = atomic{wide}_cmpxchg({pointer}, r0, r{i.src})"
    if i.imm == 0xE1:
        return f"r{i.src} = atomic{wide}_xchg({pointer}, r{i.src})"
    if i.imm == 0x100:
        return f"r{i.dst} = load_acquire(({size} *)(r{i.src} {i.offset:+d}))"
    if i.imm == 0x110:
        return f"store_release({pointer}, r{i.src})"
    return ""
