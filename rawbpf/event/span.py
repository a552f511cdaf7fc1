"""Records that lie one behind the other in one piece of memory: where each is, and what positions they have.

What a source of events finds at a time. Pure: it reads nothing but what it is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Run = tuple[int, int, int, int]


class Span:
    """`count` records in `memory`, from offset `start` up to `end`; what was taken is behind it.

    `runs`: (offset of the first, bytes of each, bytes from one to the next, how many) of records of equal length;
    between runs lies what is passed over. A record's bytes begin `lead` bytes behind its offset. `position` is what the
    consumer's is as long as none is taken, that of the byte at `start`. `discarded` and `lost` count what producers
    threw away, and had no room for, among them. `more`: there was more when this was found, for another span.
    """

    __slots__ = ("count", "discarded", "end", "lead", "lost", "memory", "more", "position", "runs", "start")

    def __init__(
        self,
        memory: memoryview,
        runs: list[Run],
        lead: int,
        start: int,
        end: int,
        position: int,
        *,
        discarded: int = 0,
        lost: int = 0,
        more: bool = False,
    ) -> None:
        self.memory = memory
        self.runs = runs
        self.lead = lead
        self.start = start
        self.end = end
        self.position = position
        self.discarded = discarded
        self.lost = lost
        self.more = more
        self.count = sum([run[3] for run in runs])

    def after(self, taken: int) -> tuple[int, int, int, list[Run]]:
        """Return position, start, count and runs as they are behind the first `taken` records; nothing is changed.

        With the last record goes what is behind it.
        """
        if taken >= self.count:
            return self.position + self.end - self.start, self.end, 0, []
        if not taken:
            return self.position, self.start, self.count, self.runs
        left = taken
        index = 0
        while left > self.runs[index][3]:
            left -= self.runs[index][3]
            index += 1
        first, length, stride, count = self.runs[index]
        at = first + left * stride
        rest = self.runs[index + 1 :]
        if left < count:
            rest = [(at, length, stride, count - left), *rest]
        return self.position + at - self.start, at, self.count - taken, rest

    def first(self) -> memoryview:
        """Return the bytes of the first record, where they lie."""
        at, length = self.runs[0][0] + self.lead, self.runs[0][1]
        return self.memory[at : at + length]
