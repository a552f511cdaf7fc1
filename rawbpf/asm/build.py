"""Small builders of instructions, for probes, tests and generated programs.

One function per shape of instruction, named by what it does; registers are plain ints (R0 to R10).
Together they have every instruction that a program may be loaded with. Knows nothing of programs: the
text assembler builds on these.

Source: Documentation/bpf/standardization/instruction-set.rst (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    LD_IMM64,
    FunctionReference,
    Instruction,
    KernelReference,
    LabelReference,
    MapReference,
)
from rawbpf.uapi.constants import (
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Size = Literal[1, 2, 4, 8]

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)

_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_ALU = {
    "+=": 0x00,
    "-=": 0x10,
    "*=": 0x20,
    "/=": 0x30,
    "|=": 0x40,
    "&=": 0x50,
    "<<=": 0x60,
    ">>=": 0x70,
    "%=": 0x90,
    "^=": 0xA0,
    "=": 0xB0,
    "s>>=": 0xC0,
    # The offset tells signed division from the other.
    "s/=": 0x30,
    "s%=": 0x90,
}
_FETCH = 0x01
_ATOMIC = {"+=": 0x00, "|=": 0x40, "&=": 0x50, "^=": 0xA0}
_XCHG, _CMPXCHG, _LOAD_ACQUIRE, _STORE_RELEASE = 0xE1, 0xF1, 0x100, 0x110
_JUMPS = {
    "==": 0x10,
    ">": 0x20,
    ">=": 0x30,
    "&": 0x40,
    "!=": 0x50,
    "s>": 0x60,
    "s>=": 0x70,
    "<": 0xA0,
    "<=": 0xB0,
    "s<": 0xC0,
    "s<=": 0xD0,
}


def _code(table: dict[str, int], operator: str) -> int:
    try:
        return table[operator]
    except KeyError:
        raise ValueError(f"no operator {operator!r}; there are {' '.join(table)}") from None


def _size(size: int) -> int:
    try:
        return _SIZES[size]
    except KeyError:
        raise ValueError(f"memory is accessed by 1, 2, 4 or 8 bytes, not {size}") from None


def mov_imm(dst: int, imm: int) -> Instruction:
    """`dst = imm`, sign-extended from 32 bits."""
    return Instruction(0xB7, dst, imm=imm)


def mov_reg(dst: int, src: int) -> Instruction:
    """`dst = src`, all 64 bits."""
    return Instruction(0xBF, dst, src)


def mov32_imm(dst: int, imm: int) -> Instruction:
    """`dst = imm`, zero-extended from 32 bits."""
    return Instruction(0xB4, dst, imm=imm)


def mov32_reg(dst: int, src: int) -> Instruction:
    """`dst = (u32)src`."""
    return Instruction(0xBC, dst, src)


def mov_signed(dst: int, src: int, from_bits: Literal[8, 16, 32], *, bits: Literal[32, 64] = 64) -> Instruction:
    """`dst = (s8)src`: the low `from_bits`, sign-extended to `bits`. Since: Linux 6.6."""
    if from_bits not in (8, 16, 32) or from_bits >= bits:
        raise ValueError(f"signs are extended from 8 or 16 bits, or from 32 to 64, not from {from_bits} to {bits}")
    return Instruction(0xB8 | _width(bits), dst, src, from_bits)


def alu_imm(dst: int, operator: str, imm: int, *, bits: Literal[32, 64] = 64) -> Instruction:
    """`dst operator imm`, such as `alu_imm(R2, "+=", -8)`; `s/=` and `s%=` since Linux 6.6."""
    return Instruction(_code(_ALU, operator) | _width(bits), dst, 0, _signed_division(operator), imm)


def alu_reg(dst: int, operator: str, src: int, *, bits: Literal[32, 64] = 64) -> Instruction:
    """`dst operator src`, such as `alu_reg(R2, "+=", R3)`; `s/=` and `s%=` since Linux 6.6."""
    return Instruction(_code(_ALU, operator) | 8 | _width(bits), dst, src, _signed_division(operator))


def _width(bits: int) -> int:
    return 7 if bits == 64 else 4


def _signed_division(operator: str) -> int:
    return int(operator in ("s/=", "s%="))


def addr_space_cast(dst: int, src: int, dst_as: Literal[0, 1], src_as: Literal[0, 1]) -> Instruction:
    """`dst = addr_space_cast(src, dst_as, src_as)`: arena pointers, (0, 1) to the program's, (1, 0) to user space's."""
    return Instruction(0xBF, dst, src, 1, dst_as << 16 | src_as)


def neg(dst: int, *, bits: Literal[32, 64] = 64) -> Instruction:
    """`dst = -dst`."""
    return Instruction(0x80 | _width(bits), dst)


def bswap(dst: int, bits: Literal[16, 32, 64]) -> Instruction:
    """`dst = bswap16 dst`: the low `bits` with their bytes turned round, the others 0. Since: Linux 6.6."""
    return Instruction(0xD7, dst, imm=bits)


def to_be(dst: int, bits: Literal[16, 32, 64]) -> Instruction:
    """`dst = be16 dst`: the low `bits` from this machine's byte order to big-endian or back, the others 0."""
    return Instruction(0xDC, dst, imm=bits)


def to_le(dst: int, bits: Literal[16, 32, 64]) -> Instruction:
    """`dst = le16 dst`: the low `bits` from this machine's byte order to little-endian or back, the others 0."""
    return Instruction(0xD4, dst, imm=bits)


def load_mem(dst: int, src: int, offset: int, size: Size = 8) -> Instruction:
    """`dst = *(size *)(src + offset)`."""
    return Instruction(0x61 | _size(size), dst, src, offset)


def load_signed(dst: int, src: int, offset: int, size: Literal[1, 2, 4]) -> Instruction:
    """`dst = *(s32 *)(src + offset)`, sign-extended to 64 bits. Since: Linux 6.6."""
    return Instruction(0x81 | _size(size), dst, src, offset)


def load_packet(offset: int, size: Literal[1, 2, 4]) -> Instruction:
    """`r0 = *(size *)skb[offset]`: of the packet that R6 is the context of, in this machine's byte order.

    Where the packet is too short, the program ends with 0. Changes R1 to R5.
    """
    return Instruction(0x20 | _size(size), imm=offset)


def load_packet_indirect(src: int, offset: int, size: Literal[1, 2, 4]) -> Instruction:
    """`r0 = *(size *)skb[src + offset]`, as `load_packet`."""
    return Instruction(0x40 | _size(size), 0, src, imm=offset)


def store_reg(dst: int, offset: int, src: int, size: Size = 8) -> Instruction:
    """`*(size *)(dst + offset) = src`."""
    return Instruction(0x63 | _size(size), dst, src, offset)


def store_imm(dst: int, offset: int, imm: int, size: Size = 8) -> Instruction:
    """`*(size *)(dst + offset) = imm`."""
    return Instruction(0x62 | _size(size), dst, 0, offset, imm)


def atomic_add(dst: int, offset: int, src: int, size: Literal[4, 8] = 8) -> Instruction:
    """`lock *(size *)(dst + offset) += src`."""
    return Instruction(0xC3 | _size(size), dst, src, offset)


def atomic(dst: int, offset: int, operator: str, src: int, size: Literal[4, 8] = 8) -> Instruction:
    """`lock *(size *)(dst + offset) operator src`, where `operator` is `+=`, `|=`, `&=` or `^=`.

    Since: Linux 5.12, `+=` since 3.18.
    """
    return _atomic(_code(_ATOMIC, operator), dst, offset, src, size)


def atomic_fetch(dst: int, offset: int, operator: str, src: int, size: Literal[4, 8] = 8) -> Instruction:
    """As `atomic`; then `src` has what was there before. Since: Linux 5.12."""
    return _atomic(_code(_ATOMIC, operator) | _FETCH, dst, offset, src, size)


def atomic_exchange(dst: int, offset: int, src: int, size: Literal[4, 8] = 8) -> Instruction:
    """Exchange `src` and `*(size *)(dst + offset)`. Since: Linux 5.12."""
    return _atomic(_XCHG, dst, offset, src, size)


def atomic_compare_exchange(dst: int, offset: int, src: int, size: Literal[4, 8] = 8) -> Instruction:
    """Store `src` to `*(size *)(dst + offset)` if R0 is there; then R0 has what was there. Since: Linux 5.12."""
    return _atomic(_CMPXCHG, dst, offset, src, size)


def load_acquire(dst: int, src: int, offset: int, size: Size = 8) -> Instruction:
    """`dst = *(size *)(src + offset)`; what follows happens later, on other CPUs too. Since: Linux 6.15."""
    return _atomic(_LOAD_ACQUIRE, dst, offset, src, size)


def store_release(dst: int, offset: int, src: int, size: Size = 8) -> Instruction:
    """`*(size *)(dst + offset) = src`; what came before happened before, on other CPUs too. Since: Linux 6.15."""
    return _atomic(_STORE_RELEASE, dst, offset, src, size)


def _atomic(operation: int, dst: int, offset: int, src: int, size: int) -> Instruction:
    return Instruction(0xC3 | _size(size), dst, src, offset, operation)


def ld_imm64(dst: int, imm: int) -> Instruction:
    """`dst = imm`, any 64 bits."""
    return Instruction(LD_IMM64, dst, imm=imm & (1 << 64) - 1)


def ld_map_fd(dst: int, target: int | str) -> Instruction:
    """`dst =` a map: `target` is its fd, or its name for the loader to resolve."""
    if isinstance(target, str):
        return Instruction(LD_IMM64, dst, BPF_PSEUDO_MAP_FD, reference=MapReference(target))
    return Instruction(LD_IMM64, dst, BPF_PSEUDO_MAP_FD, imm=target)


def ld_map_value(dst: int, target: int | str, offset: int = 0) -> Instruction:
    """`dst =` the address of byte `offset` of the first value of an array map, by fd or name."""
    if isinstance(target, str):
        return Instruction(LD_IMM64, dst, BPF_PSEUDO_MAP_VALUE, reference=MapReference(target, offset))
    return Instruction(LD_IMM64, dst, BPF_PSEUDO_MAP_VALUE, imm=target | offset << 32)


def ld_function(dst: int, name: str) -> Instruction:
    """`dst =` the address of the BPF function `name`, for a callback."""
    return Instruction(LD_IMM64, dst, BPF_PSEUDO_FUNC, reference=FunctionReference(name))


def ld_kernel_variable(dst: int, name: str) -> Instruction:
    """`dst =` the address of the kernel's variable `name`, which has to be in the kernel's BTF. Since: Linux 5.10."""
    return Instruction(LD_IMM64, dst, BPF_PSEUDO_BTF_ID, reference=KernelReference(name))


def call(helper: int | str) -> Instruction:
    """Call the helper with this number or name, such as `bpf_map_lookup_elem`. Raises: ValueError for no name."""
    if isinstance(helper, str):
        from rawbpf.uapi.helper import helper_number  # some kilobytes, for who calls by name

        helper = helper_number(helper)
    return Instruction(0x85, imm=helper)


def call_function(name: str) -> Instruction:
    """Call the BPF function `name`."""
    return Instruction(0x85, src=BPF_PSEUDO_CALL, imm=-1, reference=FunctionReference(name))


def call_slot(delta: int) -> Instruction:
    """Call the BPF function that begins `delta` slots after the next instruction."""
    return Instruction(0x85, src=BPF_PSEUDO_CALL, imm=delta)


def call_kfunc(btf_id: int, fd_index: int = 0) -> Instruction:
    """Call the kernel function with this BTF id; `fd_index` into the load's fd_array, 0 for vmlinux."""
    return Instruction(0x85, src=BPF_PSEUDO_KFUNC_CALL, offset=fd_index, imm=btf_id)


def call_kernel(name: str) -> Instruction:
    """Call the kernel's function `name`, which has to be in the kernel's BTF. Since: Linux 5.13."""
    return Instruction(0x85, src=BPF_PSEUDO_KFUNC_CALL, reference=KernelReference(name))


def jump(to: int | str) -> Instruction:
    """Go on at the label `to`, or `to` slots after the next instruction."""
    return _to(Instruction(0x05), to)


def jump_long(to: int | str) -> Instruction:
    """As `jump`, but up to 2147483647 slots far. Since: Linux 6.6."""
    return Instruction(0x06, reference=LabelReference(to)) if isinstance(to, str) else Instruction(0x06, imm=to)


def jump_indirect(dst: int) -> Instruction:
    """Go on where `dst` points, an address that was read from an `insn_array` map. Since: Linux 6.19."""
    return Instruction(0x0D, dst)


def may_goto(to: int | str) -> Instruction:
    """Go on at `to`, as in `jump`, once the program has looped long enough. Since: Linux 6.9."""
    return _to(Instruction(0xE5), to)


def jump_imm(dst: int, operator: str, imm: int, to: int | str, *, bits: Literal[32, 64] = 64) -> Instruction:
    """`if dst operator imm`, go on at the label `to`, or `to` slots after the next instruction."""
    return _to(Instruction(_code(_JUMPS, operator) | (5 if bits == 64 else 6), dst, imm=imm), to)


def jump_reg(dst: int, operator: str, src: int, to: int | str, *, bits: Literal[32, 64] = 64) -> Instruction:
    """`if dst operator src`, go on at the label `to`, or `to` slots after the next instruction."""
    return _to(Instruction(_code(_JUMPS, operator) | 8 | (5 if bits == 64 else 6), dst, src), to)


def _to(jump: Instruction, to: int | str) -> Instruction:
    return jump.replace(reference=LabelReference(to)) if isinstance(to, str) else jump.replace(offset=to)


def exit_() -> Instruction:
    """Return R0 to the caller."""
    return Instruction(0x95)
