"""Tables and events as plain lines, one element or event each, and as JSON, one object each time."""

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

    from rawbpf.cli.events import Event, Loss
    from rawbpf.cli.output import Output
    from rawbpf.cli.table import Row, Table
    from rawbpf.cli.variable import Reading

    class View(Protocol):
        """A way to show tables again and again."""

        at_once: bool
        """Whether to show the tables before anything has happened."""

        def show(
            self, tables: Sequence[Table], when: float, *, variables: Sequence[Reading] = (), last: bool = False
        ) -> None:
            """Show `tables` and `variables`, as they were at the Unix time `when`; `last`: for the last time."""

        def tell(self, events: Sequence[Event | Loss], when: float) -> None:
            """Show `events`, which were read at the Unix time `when`."""

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
        self._variables: dict[str, object] = {}

    def show(
        self,
        tables: Sequence[Table],
        when: float,
        *,
        variables: Sequence[Reading] = (),
        last: bool = False,  # noqa: ARG002
    ) -> None:
        """Write all rows of `tables`, or as many as there is height for, and the `variables` that changed."""
        rows = [table.shown for table in tables]
        counts = [len(each) for each in rows]
        changed = [each for each in variables if each.value != self._variables.get(each.name, 0)]
        self._variables.update((each.name, each.value) for each in changed)
        room = shares(counts, self._height - len(tables) - len(changed)) if self._height else counts
        now = clock(when)
        for table, each, few in zip(tables, rows, room, strict=True):
            start = f"{now} {table.layout.name}"
            for row in each[:few]:
                self._output.write(f"{start} {line(table, row, self._names)}\n")
            if not each:
                self._output.write(f"{start} has {'only zeros' if table.rows else 'no elements'}\n")
            elif few < len(each):
                self._output.write(f"{start} has {len(each) - few} more, not shown\n")
        for variable in changed:
            shown = _quoted(variable.text(self._names, "T"))
            self._output.write(f"{now} {printable(variable.name)}={shown}\n")
        self._output.flush()

    def tell(self, events: Sequence[Event | Loss], when: float) -> None:
        """Write a line for each, however many there are."""
        now = clock(when)
        self._output.write("".join([f"{now} {event.line(self._names)}\n" for event in events]))
        self._output.flush()

    def close(self) -> None:
        """Do nothing."""


class Json:
    """One JSON object on one line each time: all elements, whatever their number."""

    at_once = False

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(
        self,
        tables: Sequence[Table],
        when: float,
        *,
        variables: Sequence[Reading] = (),
        last: bool = False,  # noqa: ARG002
    ) -> None:
        """Write `{"time": ..., "maps": {name: [{"key": ..., "value": ...}]}, "variables": {name: ...}}`."""
        maps = {table.layout.name: [_element(row) for row in table.rows] for table in tables}
        values = {each.name: plain(each.value) for each in variables}
        self._output.write(json.dumps({"time": round(when, 6), "maps": maps, "variables": values}) + "\n")
        self._output.flush()

    def tell(self, events: Sequence[Event | Loss], when: float) -> None:
        """Write `{"time": ..., "event": map, "type": struct, "value": ...}` for each."""
        now = {"time": round(when, 6)}
        self._output.write("".join([json.dumps(now | event.plain()) + "\n" for event in events]))
        self._output.flush()

    def close(self) -> None:
        """Do nothing."""


def clock(when: float) -> str:
    """Return the time of day at the Unix time `when`."""
    return time.strftime("%H:%M:%S", time.localtime(when))


def line(table: Table, row: Row, names: Names) -> str:
    """Return `row` of `table` as a line: `uid=1000(alice) count=100`."""
    return " ".join(
        [cell(column.heading, column.leaf.kind, column.cell(row), names) for column in table.layout.columns]
    )


def cell(heading: str, kind: str, value: object, names: Names) -> str:
    """Return a value with its heading: `uid=1000(alice)`."""
    name = names.of(kind, value)
    return f"{heading}={_quoted(text(value, kind, 'T'))}" + (f"({printable(name)})" if name else "")


def _element(row: Row) -> dict[str, object]:
    value = plain(row.value)
    return {"key": plain(row.key), "value": value if row.cpus is None else {"total": value, "cpus": plain(row.cpus)}}


def _quoted(shown: str) -> str:
    return shown if _BARE.fullmatch(shown) else json.dumps(shown, ensure_ascii=False)
