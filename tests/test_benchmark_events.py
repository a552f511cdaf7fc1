"""The benchmark of events runs, and its table and JSON have the shape that its page tells; no time is asserted."""

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
COMMAND = [sys.executable, str(ROOT / "benchmarks/events.py"), "--quick", "--rounds", "1"]
ROWS = [
    "list of bytes",
    "one column, summed",
    "numpy column, summed",
    "per record, bytes",
    "per record, struct",
    "callback, bytes",
]

PERF_ROWS = [
    "perf, list of bytes",
    "perf, one column",
    "perf, per record, bytes",
    "perf, callback, bytes",
    "perf, per record, struct",
]

pytestmark = [
    pytest.mark.real_kernel("the running kernel is measured"),
    pytest.mark.needs("map_type:ringbuf", "module:numpy"),
]


@functools.cache
def _quick(*options: str, path: str | None = None) -> tuple[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "events.json")
        environment = None if path is None else {"PATH": path}
        command = [*COMMAND, "--json", str(file), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return done.stdout, report


def test_every_row_is_measured_and_compared_with_the_peers_that_there_are(backend: Backend) -> None:
    _, report = _quick()
    peers = {"C", "BCC"} - {word.partition(" ")[0] for word in report["left_out"]}
    found = [(row["row"], row["types"]) for row in report["rows"]]
    ring = [(row, f"{size} bytes") for size in (16, 64, 256) for row in ROWS]
    assert found == ring + [(row, "24 bytes") for row in PERF_ROWS]
    for row in report["rows"]:
        assert row["nanoseconds"]["rawbpf"] > 0
    for row in report["rows"][: len(ring)]:
        assert row["ratios"].keys() == peers


def test_rows_with_targets_say_whether_they_were_met(backend: Backend) -> None:
    _, report = _quick()
    targets = [target for row in report["rows"] for target in row["targets"]]
    left_out = {word.partition(" ")[0] for word in report["left_out"]}
    assert len(targets) == 8 * ("BCC" not in left_out) + ("C" not in left_out) + 1
    for target in targets:
        assert target["met"] == (target["ratio"] <= target["limit"])


def test_the_time_to_a_reader_that_waits_is_reported(backend: Backend) -> None:
    text, report = _quick()
    assert {"rawbpf, blocking", "rawbpf, asyncio"} <= report["latency"].keys()
    for name, found in report["latency"].items():
        assert 0 < found["median_us"] <= found["p99_us"]
        assert f"| {name}" in text


def test_peers_that_are_not_installed_are_left_out_with_a_word(backend: Backend, tmp_path: Path) -> None:
    text, report = _quick("--only", "list", path=str(tmp_path))
    assert "C is left out: there is no gcc" in report["left_out"]
    assert set(report["left_out"]) <= set(text.splitlines())
    assert all("C" not in row["nanoseconds"] for row in report["rows"])
    assert "latency" not in report
