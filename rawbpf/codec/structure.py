"""C structs: fields at offsets, bit-fields, and what lies between them.

`encode` and `decode` walk the fields one by one and are the reference; `pack`, `unpack` and
`unpack_many` are compiled for the layout when they are first used. Where fields lie is decided by
whoever makes the codec (`layout`, `ctype`, `btf`). Bit-fields are numbered as BTF does it: from the
least significant bit of the first byte on little-endian machines, from the most significant one on
big-endian machines. Source: kernel/bpf/btf.c:__btf_bitfield_show (v6.12)
"""

from __future__ import annotations

from rawbpf.codec.base import Codec, counted, exactly, inside, refuse
from rawbpf.codec.record import Record, attribute_names, make, record_class
from rawbpf.codec.scalar import FloatCodec, IntCodec, as_int
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import ByteOrder, Raw

    Place = tuple[str, Codec[object], int, int]


# Anonymous structs in one another, each twice, would make any number of fields of a few bytes of BTF.
_MOST_FIELDS = 1 << 16
_MOST_EMPTY = 1 << 10
_LISTED = 8


class Field:
    """A member: `codec` at byte `offset`, `size` bytes. A bit-field has `width` bits, `shift` above the lowest."""

    __slots__ = ("attribute", "bit_offset", "byteorder", "codec", "name", "offset", "shift", "size", "width")

    def __init__(self, place: Place, attribute: str, byteorder: ByteOrder) -> None:
        self.name, self.codec, self.bit_offset, self.width = place
        self.attribute = attribute
        self.byteorder: ByteOrder = byteorder
        self.offset, self.shift = divmod(self.bit_offset, 8)
        self.size = self.codec.size
        if self.width:
            if not isinstance(self.codec, IntCodec) or self.width > 8 * self.codec.size:
                raise FormatError(f"field {self.name!r}: {self.codec.name} has no {self.width} bits")
            self.size = (self.shift + self.width + 7) // 8
            if byteorder == "big":
                self.shift = 8 * self.size - self.shift - self.width
        elif self.shift:
            raise FormatError(f"field {self.name!r} starts at bit {self.bit_offset}, which starts no byte")

    @property
    def end(self) -> int:
        """The first byte behind the field."""
        return self.offset + self.size

    @property
    def range(self) -> tuple[int, int]:
        """The least and the most that a bit-field holds."""
        assert isinstance(self.codec, IntCodec)
        half = 1 << self.width - 1
        return (-half, half - 1) if self.codec.signed else (0, 2 * half - 1)

    def read(self, raw: bytes) -> object:
        """Return the field's value in the bytes of the struct."""
        piece = raw[self.offset : self.end]
        if not self.width:
            return self.codec.decode(piece)
        assert isinstance(self.codec, IntCodec)
        number = int.from_bytes(piece, self.byteorder) >> self.shift & (1 << self.width) - 1
        if self.codec.signed:
            sign = 1 << self.width - 1
            number = (number ^ sign) - sign
        return number if self.codec.known is None else self.codec.known.get(number, number)

    def write(self, buffer: bytearray, value: object, where: str) -> None:
        """Put `value` into the bytes of the struct, where the field's own are zero."""
        if not self.width:
            buffer[self.offset : self.end] = self.codec.encode(value, where)
            return
        assert isinstance(self.codec, IntCodec)
        number = as_int(self.codec.by_name(value, where), *self.range, where) & (1 << self.width) - 1
        old = int.from_bytes(buffer[self.offset : self.end], self.byteorder)
        buffer[self.offset : self.end] = (old | number << self.shift).to_bytes(self.size, self.byteorder)


class Compiled:
    """A method that is compiled for the layout on first use, and then an attribute of the codec."""

    __slots__ = ("name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, codec: StructCodec | None, owner: type) -> object:
        if codec is None:
            return self
        from rawbpf.codec.compiled import compile_struct

        codec.__dict__.update(compile_struct(codec))
        return codec.__dict__[self.name]


class StructCodec(Codec[Record]):
    """A C struct; values are records.

    `tag` is its name in C, empty for an anonymous one; `record` the class of its values. Dicts,
    tuples and lists are accepted for writing. `places`: (name, codec, bit offset, bits or 0) of each
    field. Fields of anonymous structs become fields of this one; members of an anonymous union can be
    read and written as if they were.
    """

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
        self.byteorder: ByteOrder = byteorder
        self.ctype = ctype
        what = f"struct {tag}".rstrip()
        every = flattened(places, StructCodec, size)
        places = [place for place in every if not place[1].special]
        names = [place[0] for place in places]
        attributes = attribute_names(names)
        self.fields = fields_of(places, attributes, size, byteorder, what)
        # What the kernel keeps there for itself is padding to a record.
        kept = [place for place in every if place[1].special]
        self.hidden = fields_of(kept, attribute_names([place[0] for place in kept]), size, byteorder, what)
        self.leaves = leaves_of(self.fields, size, self.tag)
        self.gaps, self.loose_bits = gaps(self.fields, size)
        self.hashable = all(field.codec.hashable for field in self.fields)
        self.name = f"struct {tag}" if tag else f"struct {{{listed(attributes)}}}"
        forwards = [
            (member, index)
            for index, field in enumerate(self.fields)
            if not field.name
            for member in getattr(field.codec, "attributes", ())
        ]
        self.record = record_class(tag, names, forwards)
        self.field_names = (*self.record._fields, *(member for member, _ in forwards))

    @property
    def label(self) -> str:
        """The struct's name; nothing stands for an anonymous one."""
        return self.tag

    if TYPE_CHECKING:

        def pack(self, value: object, /) -> bytes: ...  # noqa: D102
        def unpack(self, buffer: Raw, /) -> Record: ...  # noqa: D102
        def unpack_many(self, buffer: Raw, count: int) -> list[Record]: ...  # noqa: D102
    else:
        pack = Compiled()
        unpack = Compiled()
        unpack_many = Compiled()

    def walk_pack(self, value: object) -> bytes:
        """Do what `pack` does, by the reference."""
        return self.encode(value, self.label)

    def walk_unpack(self, buffer: Raw) -> Record:
        """Do what `unpack` does, by the reference."""
        return self.decode(exactly(buffer, self.size, self.name))

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a record, dict, tuple or list; messages open with the field's path."""
        if self.ctype and isinstance(value, self.ctype):
            return bytes(value)  # type: ignore[call-overload,no-any-return]  # ctypes instances are buffers
        values = self.values(value, where)
        buffer = bytearray(self.size)
        for field, one in zip(self.fields, values, strict=True):
            field.write(buffer, one, inside(where, field.name) if field.name else where)
        if isinstance(value, Record) and value._padding:
            self._put_padding(buffer, value._padding)
        return bytes(buffer)

    def decode(self, raw: bytes) -> Record:
        """Return the record of `raw`."""
        padding = b"".join([raw[start:end] for start, end in self.gaps])
        padding += bytes([raw[at] & mask for at, mask in self.loose_bits])
        return make(self.record, [field.read(raw) for field in self.fields], padding)

    def values(self, value: object, where: str) -> Sequence[object]:
        """Return the values of the fields in order. Raises TypeError."""
        names = ", ".join(field.attribute for field in self.fields)
        if isinstance(value, Record) and value._fields != self.record._fields:
            raise refuse(where or self.name, f"a record of {names}", value)
        if isinstance(value, (tuple, list)):
            if len(value) != len(self.fields):
                expected = f"expected {len(self.fields)} values ({names})"
                raise TypeError(f"{where or self.name}: {expected}, got {len(value)}")
            return value
        if hasattr(value, "keys") and hasattr(value, "__getitem__"):
            return self._by_name(dict(value), where)
        raise refuse(where or self.name, f"a record, dict or tuple of {names}", value)

    def _by_name(self, given: dict[object, object], where: str) -> list[object]:
        values: list[object] = []
        for field in self.fields:
            for name in (field.name, field.attribute):
                if name and name in given:
                    values.append(given.pop(name))
                    break
            else:
                members = () if field.name else getattr(field.codec, "member_names", ())
                inner = {name: given.pop(name) for name in members if name in given}
                if not inner:
                    what = f"one of {', '.join(members)}" if members else f"field {field.attribute!r}"
                    raise TypeError(f"{where or self.name}: {what} is missing")
                values.append(inner)
        if given:
            for field in self.hidden:
                if field.name in given:
                    raise TypeError(
                        f"{where or self.name}: {field.name!r} ({field.codec.name}) is the kernel's own: leave it out"
                    )
            names = ", ".join(field.name or field.attribute for field in self.fields)
            raise TypeError(f"{where or self.name}: no field {next(iter(given))!r}; there are {names}")
        return values

    def _put_padding(self, buffer: bytearray, padding: bytes) -> None:
        if len(padding) != sum(end - start for start, end in self.gaps) + len(self.loose_bits):
            return  # of another struct with the same fields: it says nothing here
        at = 0
        for start, end in self.gaps:
            buffer[start:end] = padding[at : at + end - start]
            at += end - start
        for position, mask in self.loose_bits:
            buffer[position] |= padding[at] & mask
            at += 1

    def __call__(self, *values: object, **named: object) -> Record:
        """Return the record with these fields, by position or by name, as it reads back.

        Raises: TypeError for missing and unknown fields, and what `pack` raises.
        """
        if len(values) == 1 and not named and (len(self.fields) != 1 or isinstance(values[0], (dict, Record))):
            return self.unpack(self.pack(values[0]))
        return self.unpack(self.pack(self.record(*values, **named)))

    def explain(self) -> str:
        """Return a table of offsets and types: nested ones, bit-fields, gaps and what the kernel keeps included."""
        from rawbpf.codec.table import layout_table

        return layout_table(self)

    def build(self, builder: Builder) -> int:
        """Add the struct and the types of its fields; 0 if one has no type."""
        # A stable sort: fields of no bits stay before what lies at the same place.
        members = members_for(builder, sorted((*self.fields, *self.hidden), key=lambda field: field.bit_offset))
        return builder.struct(self.tag, self.size, members) if members else 0


def flattened(places: Iterable[Place], kind: type[Codec[object]], size: int) -> list[Place]:
    """Return `places` with the fields of anonymous ones of `kind` in their stead; of what has `size` bytes.

    Raises: FormatError for more than could lie there, a thousand without any bits aside.
    """
    flat: list[Place] = []
    for name, codec, offset, bits in places:
        if not name and isinstance(codec, kind):
            inner: Sequence[Field] = (*getattr(codec, "fields", ()), *getattr(codec, "hidden", ()))
            flat += [(one.name, one.codec, offset + one.bit_offset, one.width) for one in inner]
        else:
            flat.append((name, codec, offset, bits))
        if len(flat) > 8 * size + _MOST_EMPTY:
            fields = f"{len(flat)} fields or more, those of anonymous ones counted"
            raise FormatError(f"a struct of {counted(size)} has {fields}")
    return flat


def fields_of(
    places: Sequence[Place], attributes: Sequence[str], size: int, byteorder: ByteOrder, what: str
) -> tuple[Field, ...]:
    """Return the fields at `places`. Raises FormatError for one that reaches beyond `size`."""
    fields = tuple([Field(place, attribute, byteorder) for place, attribute in zip(places, attributes, strict=True)])
    for field in fields:
        if field.end > size:
            raise FormatError(
                f"{what}: field {field.attribute!r} ends at byte {field.end}, behind the {size} there are"
            )
    return fields


def leaves_of(fields: Sequence[Field], size: int, what: str) -> int:
    """Return how many single values `fields` hold. Raises FormatError for more than can lie in `size` bytes.

    Members that lie in one another, each twice, would take for ever to read, also where they hold nothing.
    """
    leaves = sum(max(field.codec.leaves, 1) for field in fields)
    if leaves > 8 * size + _MOST_FIELDS:
        raise FormatError(
            f"{what or 'a struct'} of {counted(size)} has {leaves} fields, those inside of fields counted"
        )
    return leaves


def gaps(fields: Sequence[Field], size: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Return what no field covers: (start, end) of whole bytes, and (byte, mask) of bits beside bit-fields."""
    whole: list[tuple[int, int]] = []
    loose: list[tuple[int, int]] = []
    reached = 0
    spans = [(field.bit_offset, field.bit_offset + (field.width or 8 * field.size), field) for field in fields]
    big = any(field.byteorder == "big" for field in fields)
    for start, end in [*sorted(span[:2] for span in spans), (8 * size, 8 * size)]:
        while reached < start and reached % 8:
            loose.append((reached // 8, 1 << (7 - reached % 8 if big else reached % 8)))
            reached += 1
        if start // 8 > reached // 8:
            whole.append((reached // 8, start // 8))
            reached = start // 8 * 8
        while reached < start:
            loose.append((reached // 8, 1 << (7 - reached % 8 if big else reached % 8)))
            reached += 1
        reached = max(reached, end)
    masks: dict[int, int] = {}
    for at, bit in loose:
        masks[at] = masks.get(at, 0) | bit
    return tuple(whole), tuple(masks.items())


def listed(names: Sequence[str]) -> str:
    """Return `names` for a message, the first of them if they are many."""
    return ", ".join(names) if len(names) <= _LISTED else ", ".join([*names[:_LISTED], "..."])


def members_for(builder: Builder, fields: Sequence[Field]) -> list[tuple[str, int, int, int]]:
    """Add the types of `fields` to `builder` and return its members; none if one has no type."""
    members = [(field.name, _member_type(builder, field), field.bit_offset, field.width) for field in fields]
    return members if all(member[1] for member in members) else []


def _member_type(builder: Builder, field: Field) -> int:
    codec = field.codec
    if isinstance(codec, FloatCodec) and field.offset % codec.size:
        # In a packed struct a float is so many bytes: kernel/bpf/btf.c:btf_float_check_member (v6.12).
        return Codec.build(codec, builder)
    return codec.add_to(builder)
