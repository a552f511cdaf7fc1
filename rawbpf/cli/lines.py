"""Tables as plain lines, one element each, and as JSON, one object each time."""

from __future__ import annotations

import json
import re
import time

from rawbpf.cli.names import Names
from rawbpf.cli.table import shares
from rawbpf.cli.text import plain, printable, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from rawbpf.cli.output import Output
    from rawbpf.cli.table import Row, Table

    class View(Protocol):
        """A way to show tables again and again."""

        at_once: bool
        """Whether to show the tables before anything has happened."""

        def show(self, tables: Sequence[Table], when: float, *, last: bool = False) -> None:
            """Show `tables`, as they were at the Unix time `when`; `last`: for the last time."""

        def close(self) -> None:
            """Leave the output as it was found. Idempotent."""


_BARE = re.compile(r"[^\s\"'=()]+")


class Lines:
    """`12:00:05 exec_count uid=1000(alice) count=100`, for pipes, files, and terminals without rich.

    `height`: how many lines at most each time, 0 for any number.
    """

    at_once = False

    def __init__(self, output: Output, height: int = 0) -> None:
        self._output = output
        self._height = height
        self._names = Names()

    def show(self, tables: Sequence[Table], when: float, *, last: bool = False) -> None:  # noqa: ARG002
        """Write all rows of `tables`, or as many as there is height for."""
        rows = [table.shown for table in tables]
        counts = [len(each) for each in rows]
        room = shares(counts, self._height - len(tables)) if self._height else counts
        now = time.strftime("%H:%M:%S", time.localtime(when))
        for table, each, few in zip(tables, rows, room, strict=True):
            start = f"{now} {table.layout.name}"
            for row in each[:few]:
                self._output.write(f"{start} {self._line(table, row)}\n")
            if not each:
                self._output.write(f"{start} has {'only zeros' if table.rows else 'no elements'}\n")
            elif few < len(each):
                self._output.write(f"{start} has {len(each) - few} more, not shown\n")
        self._output.flush()

    def close(self) -> None:
        """Do nothing."""

    def _line(self, table: Table, row: Row) -> str:
        cells = []
        for column in table.layout.columns:
            value = column.cell(row)
            name = self._names.of(column.leaf.kind, value)
            shown = _quoted(text(value, column.leaf.kind, "T"))
            cells.append(f"{column.heading}={shown}" + (f"({printable(name)})" if name else ""))
        return " ".join(cells)


class Json:
    """One JSON object on one line each time: all elements, whatever their number."""

    at_once = False

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, tables: Sequence[Table], when: float, *, last: bool = False) -> None:  # noqa: ARG002
        """Write `{"time": ..., "maps": {name: [{"key": ..., "value": ...}]}}`."""
        maps = {table.layout.name: [_element(row) for row in table.rows] for table in tables}
        self._output.write(json.dumps({"time": round(when, 6), "maps": maps}) + "\n")
        self._output.flush()

    def close(self) -> None:
        """Do nothing."""


def _element(row: Row) -> dict[str, object]:
    value = plain(row.value)
    return {"key": plain(row.key), "value": value if row.cpus is None else {"total": value, "cpus": plain(row.cpus)}}


def _quoted(shown: str) -> str:
    return shown if _BARE.fullmatch(shown) else json.dumps(shown, ensure_ascii=False)
