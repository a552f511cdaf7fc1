"""`rawbpf run` on a terminal: a table redrawn in place that fits the screen, and Ctrl-C by the keyboard."""

from __future__ import annotations

import io
import re
import signal
from typing import TYPE_CHECKING, cast

import pytest
from support.command import BPF, FOREVER, on_terminal
from support.execs import execute_as

from rawbpf.cli.table import Layout, Table
from rawbpf.codec import codec_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.cli.output import Output
    from rawbpf.cli.variable import Reading

EXECCOUNT = BPF / "execcount.bpf.o"
UID = 43310
CURSOR_UP = "\x1b[1A"
WITHOUT_RICH = "import sys\nsys.modules['rich'] = None\nfrom rawbpf.cli import main\nsys.exit(main())"

needs_kernel = pytest.mark.needs("kernel", "capability:CAP_SETUID", "capability:CAP_PERFMON", "module:elftools")
needs_rich = pytest.mark.needs("module:rich")


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@needs_rich
def test_the_table_is_redrawn_in_place_until_ctrl_c() -> None:
    with on_terminal(EXECCOUNT, "--interval", 0.05) as command:
        command.wait_for(r"exec_count\S*  hash, \d+ of at most 10240")
        execute_as(UID, 5)
        drawn = command.wait_for(rf"(?s)uid +user +count.*{UID} +5\b")[0]
        assert CURSOR_UP in command.output
        assert drawn
        execute_as(UID, 4)
        command.press(b"\x03")
        last = command.rest()
        assert command.process.wait(timeout=30) == 0
    # What was counted until the end is what stays on the screen, and the cursor is visible again.
    assert re.search(rf"{UID} +9\b", last.rpartition(CURSOR_UP)[2])
    assert last.rindex("\x1b[?25h") > last.rindex(str(UID))
    assert "Traceback" not in command.output


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@needs_rich
def test_users_have_their_names_beside_them() -> None:
    # Many rows: other users may have executed more.
    with on_terminal(EXECCOUNT, "--interval", 0.05, rows=500) as command:
        command.wait_for(r"exec_count")  # the first look comes after attaching
        execute_as(0, 1)
        command.wait_for(r" 0   root +\d+")
        command.press(b"\x03")
        command.rest()


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@needs_rich
def test_a_changed_size_is_redrawn_at_once() -> None:
    with on_terminal(BPF / "uid_filter.bpf.o", "--interval", FOREVER) as command:
        command.wait_for(r"exec_count")
        command.resize(7, 80)
        command.wait_for(r"1 more maps not shown")
        command.press(b"\x03")
        command.rest()


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@needs_rich
def test_variables_that_are_not_zero_are_a_line_under_the_tables() -> None:
    with on_terminal(EXECCOUNT, "--set", "dropped=12", "--interval", FOREVER) as command:
        command.wait_for(r"(?s)exec_count.*\n *dropped 12\b")
        command.press(b"\x03")
        command.rest()


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@needs_rich
def test_the_cursor_stays_visible_whatever_ends_or_stops_it() -> None:
    with on_terminal(EXECCOUNT, "--interval", FOREVER) as command:
        command.wait_for(r"(?s)exec_count.*\x1b\[\?25h")
        command.press(b"\x1c")
        command.rest()
        assert command.process.wait(timeout=30) == -signal.SIGQUIT
    assert command.output.rindex("\x1b[?25h") > command.output.rindex("\x1b[?25l")


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
def test_without_rich_a_terminal_gets_as_many_lines_as_it_has() -> None:
    with on_terminal(EXECCOUNT, "--interval", FOREVER, rows=5, code=WITHOUT_RICH) as command:
        command.wait_for("pip install 'rawbpf.cli.'")
        for uid in range(UID, UID + 9):
            execute_as(uid, 1)
        command.press(b"\x03")
        out = command.rest()
        assert command.process.wait(timeout=30) == 0
    assert len(re.findall(r"^(?:\^C)?\d\d:\d\d:\d\d exec_count uid=", out, re.MULTILINE)) == 4
    assert re.search(r"exec_count has \d+ more, not shown", out)
    assert CURSOR_UP not in command.output


def tables(*counts: int) -> list[Table]:
    made = []
    for index, count in enumerate(counts):
        layout = Layout(
            f"map{index}", codec_for("u32"), codec_for("u64"), words="hash", max_entries=999, is_array=False
        )
        made.append(layout.read((key, key) for key in range(count)))
    return made


def drawn_lines(counts: Sequence[int], height: int, variables: Sequence[Reading] = ()) -> list[str]:
    from rich.console import Console, Group

    from rawbpf.cli.screen import Screen

    drawing = Screen(cast("Output", io.StringIO()), "x.o").lines(
        tables(*counts), 0.0, height, variables=variables, last=False
    )
    console = Console(width=80, height=height, file=io.StringIO())
    return [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(Group(*drawing), console.options)
    ]


@needs_rich
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("counts", [(3,), (100,), (3, 100)], ids=str)
def test_the_smallest_terminal_shows_a_row(height: int, counts: tuple[int, ...]) -> None:
    from rawbpf.cli.variable import Reading

    for variables in ([], [Reading("dropped", 12, "count")]):
        lines = drawn_lines(counts, height, variables)
        assert len(lines) <= height
        assert any(re.fullmatch(r"map0 key=\d+ value=\d+| *\d+ +\d+", line) for line in lines)


@needs_rich
@pytest.mark.parametrize("height", [8, 10, 14, 24, 60])
@pytest.mark.parametrize("counts", [(0,), (3,), (100,), (3, 100), (100, 100), (1, 2, 3, 4, 5, 6)], ids=str)
def test_the_drawing_fits_its_height_and_says_what_it_leaves_out(height: int, counts: tuple[int, ...]) -> None:
    lines = drawn_lines(counts, height)
    assert len(lines) <= height
    drawn = [sum(re.fullmatch(r" *\d+ +\d+", line) is not None for line in lines)]
    left_out = [int(found[1]) for line in lines if (found := re.fullmatch(r"(\d+) more not shown", line))]
    maps = [int(found[1]) for line in lines if (found := re.search(r"(\d+) more maps not shown", line))]
    shown = counts[: len(counts) - sum(maps)]
    assert sum(drawn) + sum(left_out) == sum(shown)
    if sum(counts) + 5 * len(counts) < height:
        assert not left_out
        assert not maps


@needs_rich
def test_a_program_cannot_move_the_cursor_by_its_name() -> None:
    from rich.console import Console, Group

    from rawbpf.cli.screen import Screen

    codec = codec_for("char[16]")
    layout = Layout("m", codec_for("u32"), codec, words="hash", max_entries=9, is_array=False)
    drawing = Screen(cast("Output", io.StringIO()), "x.o").lines(
        [layout.read([(1, "\x1b[2J[red]")])], 0.0, 20, last=True
    )
    console = Console(width=80, file=io.StringIO())
    text = "".join(segment.text for line in console.render_lines(Group(*drawing)) for segment in line)
    assert "\\x1b[2J[red]" in text
    assert "\x1b" not in text
