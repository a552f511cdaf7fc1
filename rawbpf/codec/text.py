"""Bytes and text of a fixed size: `u8[N]`, `char[N]`, and N bytes that mean nothing here."""

from __future__ import annotations

import sys

from rawbpf.codec.base import Codec, refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import Raw

# As os.fsdecode and os.fsencode, without their checks at each call: names of files, commands, users.
ENCODING = sys.getfilesystemencoding()
ERRORS = sys.getfilesystemencodeerrors()


class BytesCodec(Codec[bytes]):
    """`size` bytes as they are."""

    def __init__(self, size: int, name: str = "") -> None:
        self.size = size
        self.name = name or f"u8[{size}]"

    def pack(self, value: object, /) -> bytes:
        """Return `value` as bytes of exactly this size."""
        if type(value) is bytes and len(value) == self.size:
            return value
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> bytes:
        """Return a copy of exactly `size` bytes."""
        raw = bytes(buffer)
        return raw if len(raw) == self.size else Codec.unpack(self, raw)

    def encode(self, value: object, where: str) -> bytes:
        """Return `value` as bytes; messages open with `where`."""
        return exact(value, self.size, where)

    def decode(self, raw: bytes) -> bytes:
        """Return `raw`."""
        return raw


class TextCodec(Codec[str | bytes]):
    """`char[size]`: str up to the first NUL; bytes when something follows the NUL, or would not come back."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"char[{size}]"

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of a str or bytes, filled up with NULs."""
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> str | bytes:
        """Return the text of exactly `size` bytes."""
        raw = bytes(buffer)
        return text(raw) if len(raw) == self.size else Codec.unpack(self, raw)

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of `value`; messages open with `where`."""
        return characters(value, self.size, where).ljust(self.size, b"\0")

    def decode(self, raw: bytes) -> str | bytes:
        """Return the text of `raw`."""
        return text(raw)

    def explain(self) -> str:
        """Return the size, and what becomes of the NULs."""
        return f"{self.name}: text of at most {self.size} bytes, filled up with NULs"

    def build(self, builder: Builder) -> int:
        """Add an array of char."""
        return builder.array(builder.int("char", 1, signed=True), self.size)


def text(raw: bytes) -> str | bytes:
    """Return `raw` as str up to the first NUL, or `raw` itself where that would lose something."""
    used = raw.rstrip(b"\0")
    if 0 in used:
        return raw
    try:
        return used.decode(ENCODING, ERRORS)
    except UnicodeError:
        return raw


def characters(value: object, size: int, where: str) -> bytes:
    """Return the at most `size` bytes of `value`, a str or bytes. Raises TypeError, ValueError."""
    if isinstance(value, str):
        try:
            raw = value.encode(ENCODING, ERRORS)
        except UnicodeError as error:
            raise ValueError(f"{where}: {error}") from error
        if 0 in raw:
            raise ValueError(f"{where}: expected text without NUL, got {shown(value)}; bytes may have them")
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
    else:
        raise refuse(where, f"a str of at most {size} bytes", value)
    if len(raw) > size:
        raise ValueError(f"{where}: expected at most {size} bytes, got {len(raw)}: {shown(value)}")
    return raw


def exact(value: object, size: int, where: str) -> bytes:
    """Return `value`, a bytes-like object, as bytes of exactly `size`. Raises TypeError, ValueError."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise refuse(where, f"{size} bytes", value)
    raw = bytes(value)
    if len(raw) != size:
        raise ValueError(f"{where}: expected {size} bytes, got {len(raw)}: {shown(value)}")
    return raw
