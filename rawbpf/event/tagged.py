"""Records of several types in one stream, told apart by a field that all of them have at the same place.

Each type packs the value of its tag as a record has it, and what lies there in a record is looked up among these
bytes: enumerators, their names and plain numbers are then the same.
"""

from __future__ import annotations

from rawbpf.codec.base import counted
from rawbpf.codec.view import find_field
from rawbpf.errors import FormatError
from rawbpf.event.decode import Decoder, TypedDecoder, cut, record_codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.event.span import Run
    from rawbpf.map.base import Map


def tagged_decoder(m: Map[Any, Any], types: object, tag: str) -> TaggedDecoder:
    """Return what makes events of the records in `m`, each of the type that its field `tag` says.

    `types`: what `type=` of a reader takes, by the value of the field: an int, an enumerator, or the name of one.
    Raises: TypeError, ValueError and OverflowError for types that the field cannot tell apart; as `record_codec`.
    """
    if not isinstance(tag, str):
        raise TypeError(f"tag={tag!r}: expected the name of a field, such as 'kind' or 'header.kind'")
    if not isinstance(types, dict) or not types:
        raise TypeError(f"tag={tag!r} tells types apart: give them as {{value of {tag}: type}}, got {types!r}")
    return TaggedDecoder({value: record_codec(m, description) for value, description in types.items()}, tag)


class TaggedDecoder(Decoder):
    """Makes values of the type that the tag says; bytes where it says none, and of a record that ends before it.

    What a record has behind its value is ignored. `types`: codecs by the value of the field `tag`.
    Raises: as `tagged_decoder`.
    """

    def __init__(self, types: Mapping[Any, Codec[Any]], tag: str) -> None:
        self._types: dict[bytes, Codec[Any]] = {}
        places: dict[tuple[int, int], str] = {}
        values: dict[bytes, object] = {}
        for value, codec in types.items():
            try:
                field, offset = find_field(codec, tag)
            except ValueError as error:
                raise ValueError(f"tag={tag!r}: {codec.name}: {error}") from None
            if field.width:
                raise ValueError(f"tag={tag!r}: in {codec.name} it is a bit-field of {field.width} bits")
            raw = field.codec.encode(value, f"the value of {tag}")
            if raw in self._types:
                raise ValueError(f"tag={tag!r}: {values[raw]!r} and {value!r} are the same value")
            self._types[raw], values[raw] = codec, value
            places.setdefault((offset, field.size), codec.name)
        if len(places) > 1:
            where = ", ".join(f"{counted(size)} at {offset} in {name}" for (offset, size), name in places.items())
            raise ValueError(f"tag={tag!r} does not lie at the same place in all: {where}")
        ((self._offset, self._size),) = places

    def codec_of(self, record: memoryview | bytes) -> Codec[Any] | None:
        """Return the codec of the type that the tag of a record says; None where it says none."""
        return self._types.get(bytes(record[self._offset : self._offset + self._size]))

    def one(self, record: memoryview) -> Any:  # noqa: ANN401  # known only at run time
        """Return the event of one record. Raises: FormatError for one that is too short for its type."""
        codec = self.codec_of(record)
        if codec is None:
            return bytes(record)
        if len(record) < codec.size:
            raise FormatError(f"a record of {len(record)} bytes is too short for {codec!r}")
        return codec.unpack(record[: codec.size])

    def many(self, memory: memoryview, lead: int, run: Run) -> list[Any]:
        """Return the events of records of equal length."""
        length = run[1]
        if length < self._offset + self._size:
            return super().many(memory, lead, run)
        tags = list(cut(memory, lead, run, self._offset, self._size))
        seen = {tag: self._types.get(tag) for tag in set(tags)}
        if len(seen) == 1:
            (codec,) = seen.values()
            return (Decoder() if codec is None else TypedDecoder(codec)).many(memory, lead, run)
        events: list[Any] = []
        for tag, record in zip(tags, cut(memory, lead, run, 0, length), strict=True):
            codec = seen[tag]
            events.append(record if codec is None else codec.unpack(record[: codec.size]))
        return events
