"""Changes of object files and BTF that leave most of them in order, so that what is behind the first checks is reached.

Random bytes nearly always damage a length or a magic number, and the parser says no at once. Here sections, symbols,
relocations and type records are found as far as the file can be understood, and one of them is changed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from rawbpf.btf.btf import TAILS

Change = Callable[[bytes, int], bytes]
"""Changes bytes at random into at most so many: the fuzzer's own."""

_ELF, _BTF = b"\x7fELF\x02", (b"\x9f\xeb\x01", b"\xeb\x9f\x01")
_SECTION, _HEADER, _BTF_HEADER = 64, 64, 24
_EDGES = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Where the fields of a section header, a symbol and a relocation begin, and their sizes.
_HEADER_FIELDS = ((0, 4), (4, 4), (8, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8))
_SYMBOL_FIELDS = ((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8))
_RELOCATION_FIELDS = ((0, 8), (8, 4), (12, 4))
_PROGBITS, _SYMTAB, _REL, _NOBITS = 1, 2, 9, 8


def mutate(file: bytes, most: int, rng: random.Random, change: Change) -> bytes:
    """Return `file` with something changed; at most `most` bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        try:
            if file.startswith(_ELF):
                file = _mutate_elf(file, most, rng, change)
            elif file.startswith(_BTF):
                file = _mutate_btf(file, rng, change)
            else:
                file = change(file, most)
        except (
            struct.error,
            IndexError,
            ValueError,
            OverflowError,
        ):  # so damaged that there is nothing to be found in it
            file = change(file, most)
    return file[:most]


def _order(file: bytes) -> str:
    big = file[5] == 2 if file.startswith(_ELF) else file.startswith(_BTF[1])
    return ">" if big else "<"


def _number(rng: random.Random, old: int, size: int) -> int:
    new = rng.choice((rng.choice(_EDGES), old + rng.choice((-8, -4, -1, 1, 4, 8)), old ^ 1 << rng.randrange(8 * size)))
    return new & ((1 << 8 * size) - 1)


def _put(file: bytes, at: int, size: int, order: str, rng: random.Random, new: int | None = None) -> bytes:
    byteorder = "little" if order == "<" else "big"
    old = int.from_bytes(file[at : at + size], byteorder)  # type: ignore[arg-type]
    value = _number(rng, old, size) if new is None else new
    return file[:at] + value.to_bytes(size, byteorder) + file[at + size :]  # type: ignore[arg-type]


def _mutate_elf(file: bytes, most: int, rng: random.Random, change: Change) -> bytes:
    order = _order(file)
    (start,) = struct.unpack_from(order + "Q", file, 40)
    (count,) = struct.unpack_from(order + "H", file, 60)
    headers = [start + _SECTION * index for index in range(1, count)]
    header = rng.choice(headers)
    kind, offset, size = struct.unpack_from(order + "4xI16xQQ", file, header)
    way = rng.randrange(10)
    if way == 0:
        return change(file, most)
    if way == 1:
        return _put(file, header + (field := rng.choice(_HEADER_FIELDS))[0], field[1], order, rng)
    if way == 2:  # another section's place, name or kind
        at, width = rng.choice(_HEADER_FIELDS)
        other = rng.choice(headers)
        return file[: header + at] + file[other + at : other + at + width] + file[header + at + width :]
    if kind == _NOBITS or not size:
        return _put(file, header + 32, 8, order, rng)
    content = file[offset : offset + size]
    if kind == _SYMTAB:
        at, width = rng.choice(_SYMBOL_FIELDS)
        return _put(file, offset + 24 * rng.randrange(size // 24) + at, width, order, rng)
    if kind == _REL:
        at, width = rng.choice(_RELOCATION_FIELDS)
        return _put(file, offset + 16 * rng.randrange(size // 16) + at, width, order, rng)
    new = _mutate_btf(content, rng, change) if content.startswith(_BTF) and len(content) > 200 else b""
    if not new:
        new = _word(content, order, rng) if way < 8 else change(content, len(content) + 64)
    if len(new) <= len(content):
        file = file[:offset] + new + file[offset + len(new) :]
        return _put(file, header + 32, 8, order, rng, len(new))
    file = _put(file, header + 24, 8, order, rng, len(file))
    return _put(file, header + 32, 8, order, rng, len(new)) + new


def _word(content: bytes, order: str, rng: random.Random) -> bytes:
    width = rng.choice((1, 2, 4, 4, 8))
    return _put(content, rng.randrange(len(content) // width) * width, width, order, rng)


def _mutate_btf(file: bytes, rng: random.Random, change: Change) -> bytes:
    order = _order(file)
    header, types_at, types_size, strings_at, strings_size = struct.unpack_from(order + "4x5I", file, 0)
    begin = header + types_at
    words = list(struct.unpack_from(f"{order}{types_size // 4}I", file, begin))
    strings = file[header + strings_at : header + strings_at + strings_size]
    records = _records(words)
    at, end = rng.choice(records)
    way = rng.randrange(9)
    if way == 0:
        return change(file, len(file) + 32)
    if way == 1:
        words[at] = rng.randrange(strings_size)
    elif way == 2:  # another kind of the same shape, or a flag
        same = [kind for kind in range(1, len(TAILS)) if TAILS[kind] == TAILS[words[at + 1] >> 24 & 0x1F]]
        words[at + 1] = words[at + 1] & 0xFFFF | rng.choice(same) << 24 | rng.randrange(2) << 31
    elif way == 3:
        words[at + 2] = rng.choice((rng.randrange(len(records) + 1), _number(rng, words[at + 2], 4)))
    elif way in (4, 5) and end > at + 3:
        place = rng.randrange(at + 3, end)
        words[place] = rng.choice((rng.randrange(len(records) + 1), _number(rng, words[place], 4), words[place] ^ 8))
    elif way == 6:  # the same type again, at the end
        words += words[at:end]
    elif way == 7:  # any record in this one's place
        other, other_end = rng.choice(records)
        words[at:end] = words[other:other_end]
    elif strings_size > 2:
        strings = strings[:1] + change(strings[1:-1], len(strings) + 16).replace(b"\n", b"\0") + b"\0"
    types = struct.pack(f"{order}{len(words)}I", *words)
    new = struct.pack(order + "HBB5I", 0xEB9F, 1, 0, _BTF_HEADER, 0, len(types), len(types), len(strings))
    return new + types + strings


def _records(words: list[int]) -> list[tuple[int, int]]:
    at, found = 0, []
    while at < len(words):
        fixed, each = TAILS[words[at + 1] >> 24 & 0x1F]
        end = at + 3 + fixed + each * (words[at + 1] & 0xFFFF)
        found.append((at, end))
        at = end
    return found
