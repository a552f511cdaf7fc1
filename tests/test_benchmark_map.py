"""The benchmark of maps runs, and its table and JSON are of the shape that its page describes; no time is asserted."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, str(ROOT / "benchmarks/map.py"), "--quick", "--rounds", "1"]

ROWS = {
    "one element": {
        "m[k]",
        "m.get(k), present",
        "m.get(k), missing",
        "k in m, present",
        "k in m, missing",
        "m[k] = v",
        "del m[k]",
    },
    "whole maps": {"m.columns()", "m.snapshot()", "for k, v in m.items()", "m.update(dict)", "for k, v in m.drain()"},
    "arrays": {"m[i], mapped array", "m[i] = v, mapped array", "list(m), mapped array"},
    "growth with entries": {"m[k]", "m.snapshot()"},
    "growth with threads": {"m[k], 1 thread", "m[k], 2 threads", "m[k], 4 threads"},
}


def _run(directory: Path, *options: str, path: str | None = None) -> tuple[str, dict[str, Any]]:
    file = directory / "map.json"
    environment = None if path is None else {"PATH": path}
    done = subprocess.run(
        [*COMMAND, "--json", str(file), *options], check=True, capture_output=True, text=True, env=environment
    )
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return done.stdout, report


@functools.cache
def _quick() -> tuple[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        return _run(Path(directory))


@pytest.mark.real_kernel("the running kernel is measured")
def test_every_row_is_measured_and_compared_with_the_peers_that_there_are(backend: Backend) -> None:
    _, report = _quick()
    absent = {word.partition(" ")[0] for word in report["left_out"]}
    found: dict[str, set[str]] = {}
    for row in report["rows"]:
        found.setdefault(row["section"], set()).add(row["row"])
        assert row["nanoseconds"]["rawbpf"] > 0
        assert row["ratios"].keys() == row["nanoseconds"].keys() - {"rawbpf"}
        assert ("C" in row["ratios"]) == ("C" not in absent and not row["row"].startswith("list(m)"))
    assert found == ROWS
    assert {row["types"] for row in report["rows"]} == {"u32 -> u64", "16 -> 64 bytes", "u64"}
    assert ("bpftool" in report) == ("bpftool" not in absent)


@pytest.mark.real_kernel("the running kernel is measured")
def test_rows_with_targets_say_whether_they_were_met(backend: Backend) -> None:
    _, report = _quick()
    targets = [target for row in report["rows"] for target in row["targets"]]
    assert {"<= 1.1 x floor", "<= 1 x hit"} <= {target["target"] for target in targets}
    for target in targets:
        assert target["met"] == (target["ratio"] <= target["limit"])


@pytest.mark.real_kernel("the running kernel is measured")
def test_the_table_describes_the_machine_and_has_a_line_per_row(backend: Backend) -> None:
    text, report = _quick()
    assert report["machine"].keys() == {"cpu", "cpus", "machine", "kernel", "jit", "python", "load"}
    assert text.startswith(f"cpu {report['machine']['cpu']}, cpus")
    lines = [
        line for line in text.splitlines() if line.startswith("| ") and " --- " not in line and "| types" not in line
    ]
    assert len(lines) == len(report["rows"])
    for line, row in zip(lines, report["rows"], strict=True):
        assert line.startswith(f"| {row['row']}")


@pytest.mark.real_kernel("the running kernel is measured")
def test_peers_that_are_not_installed_are_left_out_with_a_word(backend: Backend, tmp_path: Path) -> None:
    text, report = _run(tmp_path, "--only", "one element: m[k]", path=str(tmp_path))
    assert {"C is left out: there is no gcc", "bpftool is left out: there is none"} <= set(report["left_out"])
    assert set(report["left_out"]) <= set(text.splitlines())
    assert "bpftool" not in report
    assert all("C" not in row["nanoseconds"] for row in report["rows"])
