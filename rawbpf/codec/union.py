"""C unions: bytes that can be read as any of the members."""

from __future__ import annotations

from rawbpf.codec.base import Codec, exactly, inside, refuse, shown
from rawbpf.codec.record import attribute_names, plain
from rawbpf.codec.structure import Field, StructCodec, fields_of, flattened, leaves_of, listed, members_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import ByteOrder, Raw
    from rawbpf.codec.structure import Place


class UnionValue:
    """The value of a C union: its bytes (`bytes(value)`), and each member as an attribute, decoded when read."""

    __slots__ = ("_codec", "_raw")
    _codec: UnionCodec
    _raw: bytes

    def __init__(self, codec: UnionCodec, raw: bytes) -> None:
        object.__setattr__(self, "_codec", codec)
        object.__setattr__(self, "_raw", raw)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # members have types of their own
        for field in self._codec.fields if name[:2] != "__" else ():
            if field.attribute == name:
                return field.read(self._raw)
        raise AttributeError(f"{self._codec.name} has no member {name!r}")

    def asdict(self) -> dict[str, object]:
        """Return every member by its name in C."""
        return {field.name: plain(field.read(self._raw)) for field in self._codec.fields}

    def __bytes__(self) -> bytes:
        return self._raw

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnionValue):
            return NotImplemented
        return self._raw == other._raw and self._codec.attributes == other._codec.attributes

    def __hash__(self) -> int:
        return hash(self._raw)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._codec.attributes})

    def __repr__(self) -> str:
        members = ", ".join(f"{field.attribute}={field.read(self._raw)!r}" for field in self._codec.fields)
        return f"{self._codec.tag or 'union'}({members})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a union that was read cannot be changed: write a dict of one member")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(f"{self._codec.name} cannot be pickled or copied: take bytes(value) or value.asdict()")


class UnionCodec(Codec[UnionValue]):
    """A C union. Values read are UnionValue; a dict of one member (or several that agree) and bytes can be written."""

    def __init__(
        self,
        tag: str,
        size: int,
        places: Iterable[Place],
        alignment: int,
        byteorder: ByteOrder,
        ctype: type | None = None,
    ) -> None:
        self.tag = tag
        self.size = size
        self.alignment = alignment
        self.ctype = ctype
        places = flattened(flattened(places, UnionCodec, size), StructCodec, size)
        names = [place[0] for place in places]
        self.attributes = self.field_names = attribute_names(names, ("_codec", "_raw"))
        self.fields: tuple[Field, ...] = fields_of(places, self.attributes, size, byteorder, f"union {tag}".rstrip())
        self.leaves = leaves_of(self.fields, size, tag)
        self.member_names = tuple(dict.fromkeys([*filter(None, names), *self.attributes]))
        self.name = f"union {tag}" if tag else f"union {{{listed(self.attributes)}}}"

    @property
    def label(self) -> str:
        """The union's name; nothing stands for an anonymous one."""
        return self.tag

    def unpack(self, buffer: Raw, /) -> UnionValue:
        """Return the value of exactly `size` bytes."""
        return UnionValue(self, exactly(buffer, self.size, self.name))

    def decode(self, raw: bytes) -> UnionValue:
        """Return the value of `raw`."""
        return UnionValue(self, raw)

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a UnionValue, a dict, or bytes; messages open with `where`."""
        where = where or self.name
        if isinstance(value, UnionValue) and value._codec.attributes == self.attributes:
            value = bytes(value)
        if self.ctype and isinstance(value, self.ctype):
            return bytes(value)  # type: ignore[call-overload,no-any-return]  # ctypes instances are buffers
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(value) != self.size:
                raise ValueError(f"{where}: expected {self.size} bytes, got {len(value)}")
            return bytes(value)
        if not isinstance(value, dict) or not value:
            raise refuse(where, f"a dict of one of {', '.join(self.attributes)}, or {self.size} bytes", value)
        buffer, written = bytearray(self.size), bytearray(self.size)
        for name, one in value.items():
            field = self._field(name, where)
            piece, mask = bytearray(self.size), bytearray(self.size)
            field.write(piece, one, inside(where, field.name))
            bits = (1 << field.width) - 1 << field.shift if field.width else (1 << 8 * field.size) - 1
            mask[field.offset : field.end] = bits.to_bytes(field.size, field.byteorder)
            for at in range(field.offset, field.end):
                if (piece[at] ^ buffer[at]) & mask[at] & written[at]:
                    raise ValueError(
                        f"{where}: {name!r} contradicts the members before it: give one, got {shown(value)}"
                    )
                buffer[at] |= piece[at]
                written[at] |= mask[at]
        return bytes(buffer)

    def _field(self, name: object, where: str) -> Field:
        for field in self.fields:
            if name and name in {field.name, field.attribute}:
                return field
        raise TypeError(f"{where}: no member {name!r}; there are {', '.join(self.attributes)}")

    def explain(self) -> str:
        """Return a table of the members, with offsets and types."""
        from rawbpf.codec.table import layout_table

        return layout_table(self)

    def build(self, builder: Builder) -> int:
        """Add the union and the types of its members; 0 if one has no type."""
        members = members_for(builder, self.fields)
        return builder.union(self.tag, self.size, members) if members else 0
