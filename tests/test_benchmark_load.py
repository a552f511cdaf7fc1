"""The benchmark of loading runs, and says of each target whether it is met; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.objects import native

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

ROOT = Path(__file__).resolve().parents[1]
ROWS = {
    "an object": {"read", "read and relocate", "read, relocate and load"},
    "the kernel's types": {
        "read, first type by name", "another by name", "an absent name", "the same again", "a member of a struct"
    },
}  # fmt: skip
BESIDE_LIBBPF = {"read", "read, relocate and load", "read, first type by name"}


@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "tracepoint:syscalls/sys_enter_execve")
@pytest.mark.real_kernel("the running kernel is measured")
def test_every_row_is_measured_and_compared_with_libbpf_if_it_is_there(backend: Backend, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    command = [sys.executable, "-W", "error", str(ROOT / "benchmarks/load.py"), "--rounds", "1", "--json", str(file)]
    done = subprocess.run([*command, "--object", str(native("execcount"))], check=True, capture_output=True, text=True)
    report = json.loads(file.read_text(encoding="utf-8"))
    found: dict[str, set[str]] = {}
    for row in report["rows"]:
        found.setdefault(row["section"], set()).add(row["row"])
        assert row["milliseconds"].keys() == row["ratios"].keys()
        assert all(value > 0 for value in row["milliseconds"].values())
        assert ("libbpf" in row["milliseconds"]) == (row["row"] in BESIDE_LIBBPF and not report["left_out"])
        assert row.get("met") == (row["milliseconds"]["rawbpf"] <= row["limit"] if "limit" in row else None)
        assert row["row"] in done.stdout
    assert found == ROWS
    assert [each["what"] for each in report["memory"]] == [
        "a specification", "a loaded object", "the kernel's types, one found"
    ]  # fmt: skip
    assert all(0 < each["kept"] <= each["peak"] for each in report["memory"])
