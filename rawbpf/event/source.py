"""What the reader of events needs of where they come from. One source is one buffer with one consumer's position."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol, TypedDict

    from rawbpf.event.order import Order
    from rawbpf.event.span import Span
    from rawbpf.map.handle import Handle

    class Source(Protocol):
        """A buffer that the kernel fills and one reader empties.

        `cpu`: whose records it has; -1: those of all. `high_water`: the most bytes that `take` found. `lost`: how many
        records found no room behind those whose position was stored. `busy`: the last `take` found a record that is
        still being written, for which nobody can wait by poll(2).
        """

        cpu: int
        high_water: int
        lost: int
        busy: bool

        @property
        def fds(self) -> Sequence[int]:
            """What poll(2) is asked about; the source closes them."""

        @property
        def available(self) -> int:
            """How many bytes wait to be read."""

        def take(self, most: int, order: Order) -> Span | None:
            """Return the records behind those taken before, at most so many; None where there are none to be read.

            A span without records has something to be passed over or to be counted. Raises: FormatError, after which
            the reader closes: the memory is corrupt.
            """

        def commit(self, position: int, order: Order) -> None:
            """Store the consumer's position. The store is the last thing done: what is stored is never half known."""

        def rewind(self) -> None:
            """Take again what was taken and not committed."""

        def close(self) -> None:
            """Close what was opened. Idempotent."""

    class Buffers(TypedDict, total=False):
        """What a perf event array is told of the buffers that it is to have, as `PerfEventArrayMap.reader` is."""

        size_per_cpu: int
        wakeup_events: int
        wakeup_watermark: int | None
        overwrite: bool
        cpus: Iterable[int] | None

    class Sourced(Protocol):
        """A map whose records can be read."""

        _handle: Handle

        def _sources(self, **buffers: Any) -> Sequence[Source]: ...  # noqa: ANN401  # a map's own

        def _struct(self, name: str) -> Any: ...  # noqa: ANN401  # a codec of what is known only at run time
