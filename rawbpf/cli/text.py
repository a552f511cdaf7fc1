"""Values as text for human eyes, and as what JSON can say."""

from __future__ import annotations

from enum import IntEnum

from rawbpf.cli.leaf import KTIME, OTHER
from rawbpf.clock import wall
from rawbpf.codec import Record
from rawbpf.codec.union import UnionValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_INFINITE = float("inf")


def text(value: object, kind: str, separator: str = " ") -> str:
    """Return what stands in a cell for `value`: no control characters, so that no program's name moves the cursor.

    A time is the wall clock's, with `separator` between date and time.
    """
    if kind == KTIME and isinstance(value, int):
        return _moment(value, separator)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, UnionValue):
        return _fields(value.asdict().items())
    if isinstance(value, Record):
        return _fields(zip(value._fields, value, strict=True))
    if isinstance(value, tuple):
        return f"[{' '.join(text(one, OTHER) for one in value)}]"
    return printable(str(value))


def printable(raw: str) -> str:
    """Return `raw` with an escape for each character that a terminal would obey or cannot show."""
    return raw if raw.isprintable() else "".join(map(_visible, raw))


def plain(value: object) -> object:
    """Return `value` as JSON has it: records as objects, bytes as hex, enumerators by name, no infinite numbers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if -_INFINITE < value < _INFINITE else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (Record, UnionValue)):
        return _object(value)
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    # What is not UTF-8 would make lone surrogates, which are no JSON.
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _object(value: Record | UnionValue) -> dict[str, object]:
    if isinstance(value, UnionValue):
        return {name: plain(member) for name, member in value.asdict().items()}
    result: dict[str, object] = {}
    for name, field in zip(value._names, value, strict=True):
        if not name and isinstance(field, UnionValue):  # an anonymous union's members are the struct's own
            result.update(_object(field))
        else:
            result[name] = plain(field)
    return result


def _fields(pairs: Iterable[tuple[str, object]]) -> str:
    return "{" + " ".join(f"{name}={text(value, OTHER)}" for name, value in pairs) + "}"


def _moment(ktime_ns: int, separator: str) -> str:
    if not ktime_ns:
        return "-"
    try:
        return wall(ktime_ns).replace(tzinfo=None).isoformat(separator, "milliseconds")
    except (OverflowError, ValueError):
        return str(ktime_ns)  # no time of this machine


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, see PEP 383
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
