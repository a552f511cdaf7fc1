"""support.seccomp: a child process in which bpf(2) is refused with the errno asked for, and nothing else is."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest
from support import seccomp

import rawbpf

# Without the bounding set: only who has CAP_SETPCAP can give up that.
PROBE = """
import rawbpf

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("capabilities", *{int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")})
print("filter", status["Seccomp"].strip(), status["NoNewPrivs"].strip())
try:
    rawbpf.HashMap.create(key=4, value=4, max_entries=1)
except rawbpf.BpfError as error:
    print("refused", error.errno)
"""


@pytest.fixture(autouse=True)
def _the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "kernel")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_bpf_is_refused_and_there_is_no_capability(number: int) -> None:
    done = seccomp.run([sys.executable, "-c", PROBE], number)
    assert done.stdout.splitlines() == ["capabilities 0", "filter 2 1", f"refused {number}"]
    assert done.returncode == 0


def test_children_are_confined_as_well() -> None:
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROBE!r}])"
    done = seccomp.run([sys.executable, "-c", script])
    assert done.stdout.splitlines()[2] == f"refused {errno.EPERM}"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_pytest_session_runs_there(tmp_path: Path, number: int) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import os, pytest, rawbpf\n"
        "def test_refused():\n"
        "    with pytest.raises(rawbpf.BpfError) as caught:\n"
        "        rawbpf.HashMap.create(key=4, value=4, max_entries=1)\n"
        "    assert caught.value.errno == int(os.environ['NUMBER'])\n"
    )
    done = seccomp.run_pytest("-q", errno=number, cwd=tmp_path, environment={"NUMBER": str(number)})
    assert "1 passed" in done.stdout, done.stdout
    assert done.returncode == 0


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel")
def test_this_process_stays_as_it_was() -> None:
    seccomp.run([sys.executable, "-c", ""])
    with rawbpf.HashMap.create(key=4, value=4, max_entries=1) as m:
        assert m.fileno() >= 0
