"""docs/reference/attach-errors.md shows the texts that this kernel really provokes, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tracers

from rawbpf.asm import build as b
from rawbpf.asm.instruction import Line
from rawbpf.errors import BpfError, SpecError
from rawbpf.program.program import Program

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("nothing can be attached to a simulated kernel")

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/attach-errors.md"


def _text(provoke: Callable[[], object]) -> str:
    with pytest.raises((BpfError, SpecError)) as caught:
        provoke()
    # Which other names are close depends on the kernel.
    return re.sub(r"(did you mean \w+)( or \w+)+", r"\1", str(caught.value))


@pytest.mark.needs("prog_type:xdp", "prog_type:tracing", "tracepoint:task/task_rename")
def test_the_page_shows_what_is_raised(backend: Backend) -> None:
    far = [b.load_mem(b.R0, b.R1, 4096), *tracers.returning(0)]
    refused = [b.mov_reg(b.R0, b.R2).replace(line=Line("count.bpf.c", "\treturn second;", 12)), b.exit_()]
    with (
        Program.load("tp", tracers.returning(0), name="count") as count,
        Program.load("raw_tp", tracers.returning(0), name="raw") as raw,
        Program.load("xdp", tracers.returning(2), name="filter") as packets,
        Program.load("tp", far, name="far") as beyond,
        count.attach_tracepoint("task", "task_rename"),
    ):
        texts = [
            _text(lambda: count.attach_tracepoint("task", "task_renam")),
            _text(lambda: count.attach_tracepoint("tsk", "task_rename")),
            _text(lambda: raw.attach_raw_tracepoint("task_renam")),
            _text(lambda: raw.attach_raw_tracepoint("task/task_rename")),
            _text(lambda: Program.load("tp_btf/task_renam", tracers.returning(0))),
            _text(lambda: packets.attach_tracepoint("task", "task_rename")),
            _text(lambda: count.attach_tracepoint("task", "task_rename")),
            _text(lambda: beyond.attach_tracepoint("task", "task_rename")),
            _text(packets.attach),
            _text(count.attach),
            _text(lambda: Program.load("tracepoint", refused, name="count")),
        ]
    shown = "".join(re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    assert shown.splitlines() == "\n".join(texts).splitlines()
