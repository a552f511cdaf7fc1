"""What statements of assembler text are made of: the patterns of registers, numbers and names, and what they mean.

Knows no instruction; `statement` puts these together.
"""

from __future__ import annotations

NAME = r"(?:[^\W\d]|[.$])[\w.$]*"
"""How labels, functions and the kernel's names look."""

_NUMBER = r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}"
FIELDS = {
    "dst": r"[rw][0-9]{1,2}",
    "src": r"[rw][0-9]{1,2}",
    "again": r"[rw][0-9]{1,2}",
    "imm": rf"[+-]?(?:{_NUMBER})",
    "imm2": rf"[+-]?(?:{_NUMBER})",
    "number": r"-?[0-9]{1,10}",
    "distance": r"[+-][0-9]{1,10}",
    "opcode": r"0x[0-9a-fA-F]{1,2}",
    "numbers": rf"(?:\s+-?(?:{_NUMBER})){{4}}",
    "Offset": rf"(?:[+-]\s*(?:{_NUMBER}))?",
    "Behind": r"(?:[+-][0-9]{1,10})?",
    "In": r"(?:@[0-9]{1,10})?",
    "Wide": r"(?:64)?",
    "sign": r"[us]",
    "size": r"8|16|32|64",
    "bits": r"16|32|64",
    "from": r"8|16|32",
    "alu": r"s?(?:>>|[/%])=|<<=|[-+*|&^]?=",
    "lock": r"[+|&^]=",
    "fetch": r"add|or|and|xor",
    "if": r"s?[<>]=?|[=!]=|&",
    "order": r"bswap|be|le",
    "go": r"goto|gotol|may_goto",
    "to": rf"pc[+-][0-9]{{1,10}}|{NAME}",
    "name": NAME,
    "by": r"fd|index",
    "inner": r"[^\]]+",
}
"""The pattern of each field. One whose name begins with a capital letter may be absent."""


class Wrong(ValueError):
    """What is wrong with a statement, or what was expected."""


def register(text: str) -> int:
    """Return the number of the register that `text` names. Raises: Wrong."""
    found = int(text[1:])
    if found > 10:
        raise Wrong("registers are r0 to r10, and w0 to w10 for their lower halves")
    return found


def whole(text: str) -> int:
    """Return the number of a register that has to be meant with all its bits. Raises: Wrong."""
    if text[0] != "r":
        raise Wrong(f"expected r{text[1:]}: all 64 bits are written or read here")
    return register(text)


def is_wide(*registers: str) -> bool:
    """Return whether all 64 bits of `registers` are meant, and not the lower 32. Raises: Wrong where they differ."""
    if len({each[0] for each in registers}) > 1:
        raise Wrong(f"{' and '.join(registers)}: both registers are r, or both are w")
    return registers[0][0] == "r"


def number(text: str) -> int:
    """Return a number, decimal or hexadecimal."""
    text = "".join(text.split())
    return int(text, 16) if "0x" in text else int(text)


def immediate(text: str, *, wide: bool, bits: bool = False) -> int:
    """Return a number for an immediate of 32 bits, which a `wide` instruction extends by its sign. Raises: Wrong.

    `bits`: hexadecimal digits are the 32 bits as they stand, as the kernel prints them in comparisons.
    """
    value = number(text)
    if 1 << 31 <= value < 1 << 32 and (not wide or (bits and "0x" in text)):
        return value - (1 << 32)
    if not -(1 << 31) <= value < 1 << 31:
        extended = ", whose sign goes into the upper 32; load it into a register first" if wide else ""
        raise Wrong(f"{text} does not fit an immediate of 32 bits{extended}")
    return value


def offset(text: str) -> int:
    """Return the offset of an access to memory, 0 for none. Raises: Wrong."""
    value = number(text) if text else 0
    if not -(1 << 15) <= value < 1 << 15:
        raise Wrong(f"offset {text} is not from -32768 to 32767")
    return value
