"""The fixture bpf_pins: a directory to pin in, on both kernels, of which nothing is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_testing_plugin import OPTIONS, run

PINS = """
import os
from pathlib import Path

import rawbpf

seen = []

def test_pins(bpf_pins):
    assert isinstance(bpf_pins, Path) and not list(bpf_pins.iterdir())
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        m.pin(bpf_pins / "one")
        (bpf_pins / "below").mkdir()
        m.pin(bpf_pins / "below" / "two")
        with rawbpf.Map.from_pin(bpf_pins / "below" / "two") as other:
            assert other.id == m.id
    seen.append(bpf_pins)

def test_it_is_gone():
    assert seen and not seen[0].exists()
"""

# In a mount namespace of its own: nobody else sees what is mounted, and no other bpffs is seen here.
_ALONE = """\
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(0x20000), os.strerror(ctypes.get_errno())  # CLONE_NEWNS
assert not libc.mount(b"none", b"/", None, ctypes.c_ulong(1 << 18 | 1 << 14), None)  # MS_PRIVATE | MS_REC
for line in open("/proc/self/mountinfo").read().splitlines():
    if " - bpf " in line:
        assert not libc.umount2(line.split()[4].encode(), 2)
where, *command = sys.argv[1:]
if where:
    os.mkdir(where)
    assert not libc.mount(b"bpf", where.encode(), b"bpf", ctypes.c_ulong(0), None)
done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
print(done.stdout)
if where:
    print("left:", [name for name in os.listdir(where) if name.startswith("rawbpf")])
"""


@pytest.fixture(autouse=True)
def _nothing_is_chosen_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAWBPF_BACKEND", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def alone(pytester: pytest.Pytester, where: str, *options: str) -> str:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(PINS)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-rs", "--bpf-backend=kernel", *options]
    return subprocess.run(
        [sys.executable, "-c", _ALONE, where, *command], capture_output=True, text=True, check=True
    ).stdout


def test_on_the_simulator_it_is_the_file_system_of_the_simulated_kernel(pytester: pytest.Pytester) -> None:
    run(pytester, PINS).assert_outcomes(passed=2)


@pytest.mark.real_kernel("it is about a mounted bpf file system")
@pytest.mark.needs("kernel", "capability:CAP_SYS_ADMIN")
class TestOnTheKernel:
    @pytest.mark.parametrize("name", ["bpf", "a name"])
    def test_it_is_a_directory_of_a_mounted_bpffs(self, pytester: pytest.Pytester, tmp_path: Path, name: str) -> None:
        printed = alone(pytester, str(tmp_path / name))
        assert "2 passed" in printed
        assert "left: []" in printed

    def test_without_a_mounted_one_the_test_is_skipped_or_fails(self, pytester: pytest.Pytester) -> None:
        reason = "bpf_pins: no bpf file system is mounted that this process may write to"
        printed = alone(pytester, "", "-k", "test_pins")
        assert reason in printed
        assert "1 skipped" in printed
        printed = alone(pytester, "", "--bpf-strict", "-k", "test_pins")
        assert reason in printed
        assert "1 error" in printed
