"""The end of a reader with its map: what the map knows of those that read it.

Stands among the memory that a map lets go of when it is closed.
"""

from __future__ import annotations

from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rawbpf.event.stream import Stream
    from rawbpf.map.handle import Handle


class Ending:
    """Ends a reader when its map is closed, saying `why`."""

    __slots__ = ("_why", "reader")

    def __init__(self, reader: Stream[Any], why: str) -> None:
        self.reader = ref(reader)
        self._why = why

    def stop_writing(self) -> None:
        """A frozen map is read as before."""

    def drop(self) -> None:
        """End the reader, if there still is one."""
        reader = self.reader()
        if reader is not None:
            reader._end(self._why)


def readers_of(handle: Handle) -> list[Stream[Any]]:
    """Return the open readers of the map behind `handle`."""
    found = [each.reader() for each in handle.mapped if isinstance(each, Ending)]
    return [reader for reader in found if reader is not None]
