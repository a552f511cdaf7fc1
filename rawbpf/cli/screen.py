"""Tables redrawn in place on a terminal; the last ones stay there. The only file that knows rich.

Events are lines above the tables, which scroll up and away, to where the terminal keeps them.
"""

from __future__ import annotations

from typing import IO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from rawbpf.cli.lines import clock, line
from rawbpf.cli.names import HEADINGS, Names
from rawbpf.cli.table import shares
from rawbpf.cli.text import printable, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from rawbpf.cli.events import Event, Loss
    from rawbpf.cli.output import Output
    from rawbpf.cli.table import Row, Table
    from rawbpf.cli.variable import Reading

# An empty line, the title, the headings and the line under them; one more says how many rows are left out.
_AROUND = 4


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the error out, by which the command ends in order: rich would end the process with status 1."""
        raise  # noqa: PLE0704  (called while it is handled)


class Screen:
    """The tables one under the other below `title`, no higher than the terminal; half of it where there are events."""

    at_once = True

    def __init__(self, output: Output, title: str, *, has_events: bool = False) -> None:
        self._title = title
        self._has_events = has_events
        self._names = Names()
        self._console = _Console(file=cast("IO[str]", output), highlight=False, emoji=False, markup=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    @property
    def usable(self) -> bool:
        """Whether the terminal can move its cursor."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def show(
        self, tables: Sequence[Table], when: float, *, variables: Sequence[Reading] = (), last: bool = False
    ) -> None:
        """Draw `tables` over what was drawn before, and `variables` under them."""
        height = self._console.height // 2 if self._has_events else self._console.height - 1
        drawing = Group(*self.lines(tables, when, height, variables=variables, last=last))
        if self._live.is_started:
            self._live.update(drawing, refresh=True)
        else:
            self._live.update(drawing)
            self._live.start(refresh=True)
            # Whoever stops or kills the process finds the cursor where it is: nothing could bring it back then.
            self._console.show_cursor()

    def tell(self, events: Sequence[Event | Loss], when: float) -> None:
        """Write a line for each above the tables."""
        now = clock(when)
        lines = [f"{now} {event.line(self._names)}" for event in events]
        self._console.print(Text("\n".join(lines)), soft_wrap=True)

    def close(self) -> None:
        """Leave the tables as they are and give the cursor back. Idempotent."""
        self._live.stop()

    def lines(
        self, tables: Sequence[Table], when: float, height: int, *, variables: Sequence[Reading] = (), last: bool
    ) -> list[RenderableType]:
        """Return what to draw in `height` lines."""
        under = "   ".join(f"{printable(each.name)} {each.text(self._names)}" for each in variables if each.value)
        if under:
            height -= 2
        few = tables[: max(1, (height - 1) // (_AROUND + 1))]
        head = [printable(self._title), clock(when)]
        if len(few) < len(tables):
            head.append(f"{len(tables) - len(few)} more maps not shown")
        head.append("ended" if last else "Ctrl-C ends")
        drawn: list[RenderableType] = [_line("   ".join(head), "dim")]
        rows = [table.shown for table in few]
        counts = [len(each) for each in rows]
        room = height - 1 - _AROUND * len(few)
        # Where rows are left out, one line has to say so.
        given = counts if sum(counts) <= room else shares(counts, room - len(few))
        if any(counts) and not any(given):
            return self._short(drawn[0], few, height + 2 if under else height)
        for table, each, count in zip(few, rows, given, strict=True):
            drawn += [Text(), self._heading(table), self._grid(table, each[:count])]
            if count < len(each):
                drawn.append(_line(f"{len(each) - count} more not shown", "dim"))
        if under:
            drawn += [Text(), _line(under, "")]
        return drawn

    def _short(self, head: RenderableType, tables: Sequence[Table], height: int) -> list[RenderableType]:
        # Where headings would leave no room for rows: a line for each, and for anything else only what is left.
        lines = [
            _line(f"{table.layout.name} {line(table, row, self._names)}", "") for table in tables for row in table.shown
        ]
        drawn: list[RenderableType] = [head] if height > 2 else []
        room = max(1, height - len(drawn))
        if room < len(lines):
            room = max(1, room - 1)
        drawn += lines[:room]
        if room < len(lines) and len(drawn) < height:
            drawn.append(_line(f"{len(lines) - room} more not shown", "dim"))
        return drawn

    def _heading(self, table: Table) -> Text:
        layout = table.layout
        hidden = len(table.rows) - len(table.shown)
        if layout.is_array:
            words = f"{layout.words} of {layout.max_entries}" + (f", {hidden} of them zero" if hidden else "")
        else:
            words = f"{layout.words}, {len(table.rows)} of at most {layout.max_entries}"
        heading = _line(layout.name, "bold")
        heading.append(f"  {words}", "dim not bold")
        return heading

    def _grid(self, table: Table, rows: Sequence[Row]) -> Grid:
        grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="")
        for column in table.layout.columns:
            grid.add_column(_cell(column.heading), justify="right" if column.leaf.is_numeric else "left", no_wrap=True)
            if column.leaf.kind in HEADINGS:
                grid.add_column(_cell(HEADINGS[column.leaf.kind]), no_wrap=True)
        for row in rows:
            cells = []
            for column in table.layout.columns:
                kind, value = column.leaf.kind, column.cell(row)
                cells.append(_cell(text(value, kind)))
                if kind in HEADINGS:
                    cells.append(_cell(printable(self._names.of(kind, value))))
            grid.add_row(*cells)
        return grid


def _line(content: str, style: str) -> Text:
    return Text(content, style, no_wrap=True, overflow="ellipsis")


def _cell(content: str) -> Text:
    return Text(content, no_wrap=True, overflow="ellipsis")
