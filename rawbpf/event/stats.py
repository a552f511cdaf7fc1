"""What a reader of events has seen so far, in numbers."""

from __future__ import annotations


class Stats:
    """Numbers of a reader, as they were when they were asked for.

    `available`: bytes that wait to be read, in all of its buffers. `high_water`: the most that ever waited in one of
    them when the reader looked. `records`: how many it delivered. `discarded`: how many it passed over, because their
    producers discarded them. `lost`: how many the kernel says found no room, which it says of perf buffers alone.
    """

    __slots__ = ("available", "discarded", "high_water", "lost", "records")

    def __init__(self, available: int, high_water: int, records: int, discarded: int, lost: int) -> None:
        self.available = available
        self.high_water = high_water
        self.records = records
        self.discarded = discarded
        self.lost = lost

    def __repr__(self) -> str:
        return f"Stats({', '.join(f'{name}={getattr(self, name)}' for name in sorted(self.__slots__))})"
