"""The benchmark of the simulator runs, with and without a kernel beside it; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "beside",
    [pytest.param("kernel", marks=pytest.mark.real_kernel("the running kernel is measured")), "nothing"],
)
def test_each_operation_has_a_time_on_each_backend(tmp_path: Path, beside: str) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "benchmarks/simulator.py"), "--rounds", "1"]
    if beside == "kernel":
        needs.require("kernel")
    elif needs.may_use_bpf():
        needs.require("tool:setpriv")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    file = tmp_path / "simulator.json"
    done = subprocess.run([*command, "--json", str(file)], check=True, capture_output=True, text=True)
    results = json.loads(file.read_text(encoding="utf-8"))
    assert set(results["start"]) == {"import rawbpf.sim", "import and first map"}
    wanted = {"sim", "kernel", "ratio"} if beside == "kernel" else {"sim"}
    assert results["operations"]
    for name, found in results["operations"].items():
        assert set(found) == wanted
        assert f"{name} " in done.stdout
