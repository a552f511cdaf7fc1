"""CO-RE relocations arrive at the instructions they are of, in both byte orders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rawbpf.elf import parse

SOURCE = """
struct task { int pid; struct { long start; } times; } __attribute__((preserve_access_index));
__attribute__((section("raw_tp/x"), used)) int probe(struct task *task)
{
    return task->times.start + __builtin_preserve_field_info(task->pid, 2);
}
"""


@pytest.mark.needs("tool:clang")
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_an_instruction_knows_the_field_that_it_depends_on(tmp_path: Path, target: str) -> None:
    (tmp_path / "core.c").write_text(SOURCE)
    command = ["clang", "-O2", "-g", "-target", target, "-c", "core.c", "-o", "core.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    data = parse((tmp_path / "core.o").read_bytes(), "core.o")
    assert data.btf is not None
    found = [(i, i.core) for i in data.programs["probe"].instructions if i.core is not None]
    assert [(data.btf[core[0]].name, data.btf.string(core[1]), core[2]) for _, core in found] == [
        ("task", "0:1:0", 0),
        ("task", "0:0", 2),
    ]
    # The byte offset of `start` within the struct is what the first one asks for.
    assert (found[0][0].imm or found[0][0].offset) == 8
