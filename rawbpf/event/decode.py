"""How the bytes of records become events: bytes as they are, or values of a type.

Knows spans, and no sources: the same for all of them.
"""

from __future__ import annotations

from itertools import chain
from struct import Struct

from rawbpf.codec import Codec, codec_for
from rawbpf.codec.base import shown
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rawbpf.codec import Description
    from rawbpf.event.span import Run, Span
    from rawbpf.map.base import Map

    Types = Description | Mapping[Any, Description]

_flatten = chain.from_iterable
# Structs that cut bytes out of records: what is before them, they themselves, all, and how many records.
_cutters: dict[tuple[int, int, int, int], Struct] = {}
_MOST_CUTTERS = 256
_AT_ONCE = 64


def decoder_for(m: Map[Any, Any], type: Types | None, tag: str | None = None) -> Decoder:
    """Return what makes events of the records in `m`; documented as `RingBufMap.reader`."""
    if tag is not None:
        from rawbpf.event.tagged import tagged_decoder

        return tagged_decoder(m, type, tag)
    return Decoder() if type is None else TypedDecoder(record_codec(m, type))


def record_codec(m: Map[Any, Any], type: Description) -> Codec[Any]:
    """Return the codec of what `key=` of `Map.create` takes, or of the struct that is called so where `m` came from.

    Raises: SpecError, TypeError, ValueError.
    """
    if isinstance(type, str) and type != type.strip():
        raise ValueError(f"{shown(type)}: expected the name of a type, without spaces around it")
    try:
        return codec_for(type)
    except ValueError:
        if not isinstance(type, str):
            raise
    return m._struct(type)


class Decoder:
    """Makes bytes of records. `codec`: the one type that all records have; None where they have not."""

    codec: Codec[Any] | None = None

    def decode(self, span: Span) -> list[Any]:
        """Return the events of the records in `span`, in order: all of them, or those before one that is refused.

        Raises: what the first record is refused with.
        """
        events: list[Any] = []
        lead, memory = span.lead, span.memory
        for run in span.runs:
            try:
                if run[3] == 1:
                    at = run[0] + lead
                    events.append(self.one(memory[at : at + run[1]]))
                else:
                    events += self.many(memory, lead, run)
            except Exception:  # noqa: BLE001  # a codec of one's own may raise anything; what is first is raised there
                return self._until_refused(events, memory, lead, run)
        return events

    def one(self, record: memoryview) -> Any:  # noqa: ANN401  # known only at run time
        """Return the event of one record."""
        return bytes(record)

    def many(self, memory: memoryview, lead: int, run: Run) -> list[Any]:
        """Return the events of records of equal length."""
        return list(cut(memory, lead, run, 0, run[1]))

    def _until_refused(self, events: list[Any], memory: memoryview, lead: int, run: Run) -> list[Any]:
        first, length, stride, count = run
        for at in range(first + lead, first + lead + count * stride, stride):
            try:
                events.append(self.one(memory[at : at + length]))
            except Exception:
                if not events:
                    raise
                break
        return events


class TypedDecoder(Decoder):
    """Makes values of `codec`; what a record has behind them is ignored."""

    def __init__(self, codec: Codec[Any]) -> None:
        self.codec: Codec[Any] = codec
        self._unpack, self._unpack_many = codec.unpack, codec.unpack_many
        self._size = codec.size

    def one(self, record: memoryview) -> Any:  # noqa: ANN401  # known only at run time
        """Return the value at the beginning of a record. Raises: FormatError for one that is too short."""
        size = self._size
        if len(record) < size:
            raise FormatError(f"a record of {len(record)} bytes is too short for {self.codec!r}")
        return self._unpack(record[:size])

    def many(self, memory: memoryview, lead: int, run: Run) -> list[Any]:
        """Return the values at the beginnings of records."""
        if run[1] < self._size:
            raise FormatError("too short")  # `one` says it better
        if self.codec.format is not None:
            return self.codec.view(rows(memory, lead, run)).tolist()
        return self._unpack_many(b"".join(cut(memory, lead, run, 0, self._size)), run[3])


def rows(memory: memoryview, lead: int, run: Run) -> memoryview:
    """Return records of equal length as the rows of a view, each of them at the beginning of a row."""
    first, _, stride, count = run
    octets = memory[first + lead : first + lead + count * stride]
    if len(octets) < count * stride:
        # The last row reaches beyond the memory, by the room that its header would take.
        octets = memoryview(bytes(octets).ljust(count * stride, b"\0"))
    return octets.cast("B", [count, stride])


def cut(memory: memoryview, lead: int, run: Run, offset: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes from `offset` of each of the records of equal length."""
    first, _, stride, count = run
    before = lead + offset
    if count == 1:
        at = first + before
        return iter((bytes(memory[at : at + size]),))
    # A Struct of many records hands out a tuple of many pieces, which is three times as fast as as many tuples of one.
    many = count // _AT_ONCE
    rest = first + many * _AT_ONCE * stride
    pieces = _cutter(before, size, stride, 1).iter_unpack(memory[rest : first + count * stride])
    if many:
        pieces = chain(_cutter(before, size, stride, _AT_ONCE).iter_unpack(memory[first:rest]), pieces)
    return _flatten(pieces)


def _cutter(before: int, size: int, stride: int, count: int) -> Struct:
    key = before, size, stride, count
    cutter = _cutters.get(key)
    if cutter is None:
        if len(_cutters) >= _MOST_CUTTERS:
            _cutters.clear()
        cutter = _cutters[key] = Struct("=" + count * f"{before}x{size}s{stride - before - size}x")
    return cutter
