"""bpftool, another implementation, dumps the same types as are read here: all of the kernel's and those of objects."""

from __future__ import annotations

import subprocess
import tracemalloc
from pathlib import Path

import pytest
from support.btf_samples import VMLINUX, ByteOrder, sample

from rawbpf.btf import Btf, Struct, Type
from rawbpf.btf.listing import raw_lines

pytestmark = pytest.mark.needs("tool:bpftool")
KERNEL = pytest.mark.needs(f"file:{VMLINUX}")


def dump(path: str | Path) -> list[str]:
    command = ["bpftool", "btf", "dump", "file", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def first_difference(mine: list[str], theirs: list[str]) -> tuple[str, str] | None:
    pairs = zip([*mine, "end"], [*theirs, "end"], strict=False)
    return next(((own, other) for own, other in pairs if own != other), None)


@KERNEL
def test_every_type_of_the_kernel_is_the_one_that_bpftool_dumps() -> None:
    btf = Btf.from_bytes(Path(VMLINUX).read_bytes())
    mine = [line for type in btf if type.id for line in raw_lines(type)]
    assert first_difference(mine, dump(VMLINUX)) is None


@KERNEL
def test_task_struct_has_the_members_that_bpftool_dumps() -> None:
    theirs = dump(VMLINUX)
    start = next(at for at, line in enumerate(theirs) if "STRUCT 'task_struct'" in line)
    task = Btf.from_bytes(Path(VMLINUX).read_bytes()).find("task_struct", Struct)
    assert task is not None
    assert raw_lines(task) == theirs[start : start + 1 + len(task.members)]
    assert task.member("comm").offset == task.members[[name for name, *_ in task.members].index("comm")].offset


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_what_is_built_here_is_what_bpftool_reads(byteorder: ByteOrder, tmp_path: Path) -> None:
    data, _ = sample(byteorder)
    path = tmp_path / "sample.btf"
    path.write_bytes(data)
    mine = [line for type in Btf.from_bytes(data) if type.id for line in raw_lines(type)]
    assert first_difference(mine, dump(path)) is None


@KERNEL
def test_finding_a_type_of_the_kernel_makes_few_objects_and_keeps_under_8_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    plain = Type.__init__

    def counting(self: Type, btf: Btf, id: int, at: int) -> None:
        nonlocal made
        made += 1
        plain(self, btf, id, at)

    monkeypatch.setattr(Type, "__init__", counting)
    tracemalloc.start()
    try:
        btf = Btf.from_bytes(Path(VMLINUX).read_bytes())
        names = ["task_struct", "list_head", "bpf_attr", "pid", "no_such_type", "u32"]
        found = [btf.find(name) for name in names]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type.name if type else None for type in found] == [
        "task_struct", "list_head", "bpf_attr", "pid", None, "u32",
    ]  # fmt: skip
    assert made == 5
    assert kept < 8 << 20
    assert peak < 16 << 20
