"""Many records at once, where they lie: columns, arrays, lists; and one at a time, where it lies.

Both lend memory of a buffer. The producer may use it again as soon as it was given back, so that what was handed out
is released then: whoever still uses it gets a ValueError and not another record's bytes. What was cast or sliced from
it, and arrays, cannot be taken back, and show what comes next. Knows spans and codecs.
"""

from __future__ import annotations

from rawbpf.errors import FormatError
from rawbpf.event.decode import cut, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.codec.dtype import Array
    from rawbpf.event.decode import Decoder
    from rawbpf.event.span import Span

    Bytes = bytes

# Runs of so many records are joined as arrays; shorter ones are quicker as bytes.
_LONG = 8


class Batch:
    """The records that were there when `Reader.batches()` looked: `len()` tells how many.

    It is good until the loop asks for the next one or ends. Records of equal length that lie in a row are read where
    they lie; where lengths differ, columns and arrays are put together from copies. Copy what is to outlive the batch:
    its views are released, and what was cast or sliced from them shows other records then.
    """

    __slots__ = ("_cpu", "_decoder", "_seen", "_span", "_views")

    def __init__(self, span: Span, decoder: Decoder, cpu: int = -1) -> None:
        self._cpu = cpu
        self._span: Span | None = span
        self._decoder = decoder
        self._views: list[memoryview] = []
        # Whether something was handed out: then the batch was delivered, however the loop goes on.
        self._seen = False

    def __len__(self) -> int:
        """Return how many records there are. Raises: ValueError when the batch was given back, as all that follows."""
        return self._records().count

    @property
    def cpu(self) -> int | None:
        """The CPU whose programs wrote the records to a perf event array; None for those of a ring buffer."""
        return None if self._cpu < 0 else self._cpu

    def bytes(self) -> list[Bytes]:
        """Return a copy of each record."""
        span = self._records()
        found: list[Bytes] = []
        for run in span.runs:
            found += cut(span.memory, span.lead, run, 0, run[1])
        self._seen = True
        return found

    def records(self) -> list[Any]:
        """Return the events, as a loop over the reader would. Raises: what the first that is refused raises."""
        span = self._records()
        events = self._decoder.decode(span)
        if len(events) < span.count:
            # Decoded once more, it says itself why.
            position, start, _, runs = span.after(len(events))
            self._decoder.decode(type(span)(span.memory, runs, span.lead, start, span.end, position))
        self._seen = True
        return events

    def column(self, field: str | None = None) -> memoryview:
        """Return a field of all records as a view of numbers, an item for each; without `field` the records themselves.

        `field` may be a path, such as `pos.x`. The view is of the memory of the buffer where records lie in a row.
        Raises: ValueError for no such field, and one that is no number in the machine's byte order; TypeError where
        the records have no type, or several; FormatError for a record that is too short.
        """
        codec = self._codec()
        column = self._joined(codec.view if field is None else lambda memory: codec.column(memory, field))
        self._seen = True
        return column

    def columns(self) -> dict[str, memoryview]:
        """Return the fields of the records by name: numbers as `column`, all else as rows of bytes, which are copies.

        Bit-fields are left out. Raises: as `column`.
        """
        codec = self._codec()
        span = self._records()
        fields = getattr(codec, "fields", None)
        if fields is None:
            raise TypeError(f"{codec.name} has no fields: column() has the numbers")
        found = {}
        for field in fields:
            if field.width:
                continue
            try:
                found[field.attribute] = self.column(field.attribute)
            except FormatError:
                raise
            except ValueError:
                parts = [b"".join(cut(span.memory, span.lead, run, field.offset, field.size)) for run in span.runs]
                found[field.attribute] = memoryview(b"".join(parts)).cast("B", [span.count, field.size])
        self._seen = True
        return found

    def to_numpy(self) -> Array:
        """Return the records as one array, of the dtype of their type; where it is bytes, as rows of numbers `u1`.

        It is a view of the buffer where records lie in a row: copy what is to outlive the batch. Raises: ImportError
        without numpy; ValueError for untyped records of several lengths; TypeError, FormatError as `column`.
        """
        span = self._records()
        codec = self._decoder.codec
        if codec is None:
            lengths = {run[1] for run in span.runs}
            if len(lengths) != 1:
                raise ValueError(f"records of {', '.join(map(str, sorted(lengths)))} bytes make no array")
            from rawbpf.codec import codec_for

            codec = codec_for(lengths.pop())
        self._long_enough(codec)
        if len(span.runs) == 1:
            view = rows(span.memory, span.lead, span.runs[0])
            self._views.append(view)
            array = codec.as_numpy(view)
        elif len(span.runs) <= span.count // _LONG:
            from rawbpf.codec.dtype import joined

            array = joined([codec.as_numpy(rows(span.memory, span.lead, run)) for run in span.runs])
        else:
            parts = [b"".join(cut(span.memory, span.lead, run, 0, codec.size)) for run in span.runs]
            array = codec.as_numpy(b"".join(parts))
        self._seen = True
        return array

    def _joined(self, viewed: Callable[[memoryview], memoryview]) -> memoryview:
        span = self._records()
        views = [viewed(rows(span.memory, span.lead, run)) for run in span.runs]
        if len(views) == 1:
            self._views += views
            return views[0]
        whole = memoryview(b"".join([view.tobytes() for view in views]))
        return whole.cast(views[0].format)  # type: ignore[call-overload,no-any-return]  # known only at run time

    def _records(self) -> Span:
        if self._span is None:
            raise ValueError("the batch was given back when the loop asked for the next one: copy what is to be kept")
        return self._span

    def _codec(self) -> Codec[Any]:
        codec = self._decoder.codec
        if codec is None:
            raise TypeError("the records have not one type, whose fields could be columns: m.reader(type) gives it")
        self._long_enough(codec)
        return codec

    def _long_enough(self, codec: Codec[Any]) -> None:
        shortest = min([run[1] for run in self._records().runs])
        if shortest < codec.size:
            raise FormatError(f"a record of {shortest} bytes is too short for {codec!r}")

    def _end(self) -> None:
        self._span = None
        _release(self._views)

    def __repr__(self) -> str:
        return "<Batch, given back>" if self._span is None else f"<Batch of {self._span.count} records>"


class Lease:
    """The next record, where it lies: what `with` hands out is a view of its bytes, None where none came in time.

    It is good until the end of the block, or `give_back()`; the record was delivered then, if anybody saw it. What was
    cast or sliced from the view, and kept, shows other records afterwards.
    """

    __slots__ = ("_returned", "_seen", "_view")

    def __init__(self, span: Span | None, returned: Callable[[bool], object]) -> None:
        self._view = None if span is None else span.first()
        self._seen = False
        self._returned = returned

    @property
    def view(self) -> memoryview | None:
        """The bytes of the record. Raises: ValueError when they are used after they were given back."""
        self._seen = True
        return self._view

    def give_back(self) -> None:
        """Let the producer have the memory. Idempotent."""
        if self._view is not None:
            _release([self._view])
            self._returned(self._seen)

    def __enter__(self) -> memoryview | None:
        self._seen = True
        return self._view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def __del__(self) -> None:
        if getattr(self, "_returned", None) is not None:
            self.give_back()


def _release(views: list[memoryview]) -> None:
    while views:
        try:
            views.pop().release()
        except BufferError:
            # An array, or something else that took the memory itself, still has it, which cannot be taken away.
            continue
