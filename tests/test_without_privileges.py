"""The suite passes on the simulator as an ordinary user with no capability, and where seccomp refuses bpf(2)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from errno import ENOSYS, EPERM
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support import seccomp
from support.child import become_nobody
from support.needs import capabilities

TESTS = Path(__file__).resolve().parent
# A part of the suite that takes seconds: elements, batches, pins, opening, mapped memory, fds, messages.
PART = (
    "test_map_hash.py",
    "test_map_array.py",
    "test_map_batch.py",
    "test_map_pin.py",
    "test_map_open.py",
    "test_map_queue.py",
    "test_map_ringbuf.py",
    "test_map_prog_array.py",
    "test_map_in_map.py",
    "test_map_mapped_array.py",
    "test_map_bad_input.py",
    "test_syscall_commands.py",
)


def _environment() -> dict[str, str]:
    # rawbpf and pytest from where this process has them, also for another interpreter of the same version.
    path = os.pathsep.join([str(TESTS.parent), *(each for each in sys.path if each.endswith("-packages"))])
    return {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAWBPF_BACKEND": "sim",
    }


def _run(command: list[str], confine: Callable[[], object], **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, **_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=confine,
    )
    return done.returncode, done.stdout


def _drop(errno: int) -> None:
    become_nobody()
    seccomp.confine(errno)


def _ordinary() -> tuple[str, Callable[[int], None]]:
    # An interpreter that an ordinary user may run, and how to become one; ours may lie where root alone can read.
    if capabilities():
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            probe = [python, "-c", "import pytest, hypothesis, rawbpf"]
            try:
                status, _ = _run(probe, become_nobody)
            except OSError:
                continue
            if status == 0:
                return python, _drop
    return sys.executable, seccomp.confine


@pytest.mark.parametrize("errno", [EPERM, ENOSYS], ids=["EPERM", "ENOSYS"])
def test_a_part_of_the_suite_passes_where_bpf_is_refused(errno: int) -> None:
    python, confine = _ordinary()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(TESTS / name) for name in PART)]
    with TemporaryDirectory() as examples:
        os.chmod(examples, 0o777)
        status, output = _run(command, lambda: confine(errno), HYPOTHESIS_STORAGE_DIRECTORY=examples)
    assert status == 0, output
    summary = output.splitlines()
    assert not any("skip" in line for line in summary), output
    passed = next(int(line.split()[0]) for line in summary if " passed" in line)
    assert passed > 500


def test_without_the_simulator_the_refusal_names_it() -> None:
    python, confine = _ordinary()
    code = 'import os, rawbpf; rawbpf.HashMap.create(key="u32", value="u32", max_entries=1)'
    status, output = _run(
        [python, "-c", f"import os; os.environ.pop('RAWBPF_BACKEND')\n{code}"], lambda: confine(EPERM)
    )
    assert status == 1
    assert "RAWBPF_BACKEND=sim" in output.splitlines()[-1]
