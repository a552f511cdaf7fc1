"""Guests are booted, tried again, given up and judged; a small program stands in for QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from kernels import machine, suite
from kernels.cpio import Entry
from kernels.machine import Report, Run
from kernels.suite import Counts
from kernels.target import TARGETS

TESTS = Path(__file__).parent
PASSED = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest"
errors="1" failures="2" skipped="3" tests="10" time="1.5"><testcase name="a"/></testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("", Report(None, None, None)),
        ("started 3.25\n", Report(3.25, None, None)),
        ("started 3.25\nended 9.5\nstatus 1\n", Report(3.25, 9.5, 1)),
        ("started 3.25\nended 9.5\nstatus 1", Report(3.25, 9.5, None)),
        ("sta", Report(None, None, None)),
        ("started 3.25\nsomething else entirely\n\n", Report(3.25, None, None)),
    ],
    ids=["nothing", "started", "whole", "cut off in a line", "cut off in a word", "with noise"],
)
def test_a_report_says_how_far_the_guest_came(text: str, report: Report) -> None:
    assert machine.parse_report(text) == report


# Each boot adds a line to `boots`; `after` are lines of shell.
def _stand_in(folder: Path, *after: str) -> list[str]:
    return ["sh", "-c", "\n".join([f"cd {folder}", "echo boot >> boots", "echo talk >> console", *after])]


def _boots(folder: Path) -> int:
    return len((folder / "boots").read_text(encoding="ascii").splitlines())


def test_a_guest_that_ends_well_boots_once(tmp_path: Path) -> None:
    done = machine.run(_stand_in(tmp_path, "printf 'started 1\\nended 2\\nstatus 0\\n' > report"), tmp_path, 60)
    assert done.report == Report(1, 2, 0)
    assert not done.timed_out
    assert _boots(tmp_path) == 1


def test_a_boot_that_dies_before_the_tests_start_is_tried_again(tmp_path: Path) -> None:
    told: list[str] = []
    lines = ('[ "$(wc -l < boots)" = 1 ] && exit 1', "printf 'started 1\\nended 2\\nstatus 5\\n' > report")
    done = machine.run(_stand_in(tmp_path, *lines), tmp_path, 60, lambda: told.append("again"))
    assert done.report.status == 5
    assert told == ["again"]
    assert _boots(tmp_path) == 2
    assert (tmp_path / "console").read_text(encoding="ascii") == "talk\n"


def test_a_boot_that_always_dies_is_given_up(tmp_path: Path) -> None:
    done = machine.run(_stand_in(tmp_path, "exit 1"), tmp_path, 60)
    assert done.report == Report(None, None, None)
    assert _boots(tmp_path) == 3


def test_a_guest_that_dies_while_the_tests_run_is_not_tried_again(tmp_path: Path) -> None:
    done = machine.run(_stand_in(tmp_path, "echo started 1 > report", "exit 1"), tmp_path, 60)
    assert done.report == Report(1, None, None)
    assert _boots(tmp_path) == 1


def test_a_guest_that_hangs_is_ended_and_not_tried_again(tmp_path: Path) -> None:
    done = machine.run(_stand_in(tmp_path, "exec sleep 1000"), tmp_path, 0.5)
    assert done.timed_out
    assert _boots(tmp_path) == 1


@pytest.mark.parametrize("name", TARGETS)
def test_a_missing_qemu_is_named_with_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    of = TARGETS[name].machine
    alike = [target.machine for target in TARGETS.values() if target.machine.program == of.program]
    assert machine.missing([of, *alike]) == f"{of.program} is not installed, Debian has it in {of.package}"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_boots_a_kernel_with_a_console_and_a_port_per_file(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    words = machine.command(target.machine, tmp_path / "image", tmp_path)
    assert words[words.index("-kernel") + 1] == str(tmp_path / "image")
    assert target.machine.parameters in words[words.index("-append") + 1]
    for port in machine.PORTS:
        assert f"file,id={port},path={tmp_path / port}" in words
        assert f"virtserialport,chardev={port},name={port}" in words
    assert name.endswith(f"-{target.machine.arch}")
    assert target.at_least > 1
    assert (TESTS / "kernels/expected-skips" / f"{name}.txt").is_file()


def test_every_list_of_skips_belongs_to_a_target() -> None:
    assert {path.stem for path in (TESTS / "kernels/expected-skips").iterdir()} == TARGETS.keys()


def test_of_two_runs_of_one_target_the_second_waits_for_the_first(tmp_path: Path) -> None:
    told = threading.Event()
    order = []

    def second() -> None:
        with machine.alone(tmp_path / "6.1", told.set):
            order.append("second")

    other = threading.Thread(target=second)
    with machine.alone(tmp_path / "6.1", pytest.fail):
        other.start()
        assert told.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_counts_come_from_the_report_of_pytest() -> None:
    assert suite.counts(PASSED) == Counts(passed=4, failed=3, skipped=3)


@pytest.mark.parametrize("junit", [b"", PASSED[:150], b"<testsuites/>"], ids=["none", "cut off", "empty"])
def test_what_is_no_report_has_no_counts(junit: bytes) -> None:
    assert suite.counts(junit) is None


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("....\n12 passed, 3 skipped in 4.21s\n", "12 passed, 3 skipped in 4.21s"),
        ("x\n=== 1 failed, 2 errors in 61.00s (0:01:01) ===\n", "1 failed, 2 errors in 61.00s (0:01:01)"),
        ("5 passed in 1.00s\nlater words\n", "5 passed in 1.00s"),
        ("....F", "pytest did not finish"),
        ("", "pytest did not finish"),
    ],
    ids=["quiet", "framed", "not last", "cut off", "none"],
)
def test_the_closing_line_is_found_in_what_pytest_printed(output: str, line: str) -> None:
    assert suite.closing_line(output) == line


@pytest.mark.parametrize(
    ("report", "timed_out", "counts", "said"),
    [
        (Report(1, 2, 0), False, Counts(10, 0, 0), None),
        (Report(1, 2, 0), False, Counts(9, 0, 1), "9 tests passed, expected at least 10"),
        (Report(1, 2, 0), False, None, "pytest wrote no report"),
        (Report(1, 2, 1), False, Counts(10, 1, 0), "pytest ended with status 1"),
        (Report(1, None, None), False, None, "the kernel died while the tests ran"),
        (Report(1, None, None), True, None, "the tests ran for more than 30 s"),
        (Report(None, None, None), False, None, "the kernel did not start the tests"),
        (Report(None, None, None), True, None, "the kernel did not start the tests within 30 s"),
    ],
    ids=["passed", "too few", "no report", "failed", "died", "hung", "no boot", "hung at boot"],
)
def test_a_guest_passes_only_if_enough_tests_did(
    report: Report, timed_out: bool, counts: Counts | None, said: str | None
) -> None:
    assert list(suite.problems(Run(report, 3.0, timed_out), 30, counts, 10)) == ([] if said is None else [said])


def test_of_the_files_of_tests_those_with_marked_ones_go_to_the_guest() -> None:
    texts = {
        "project/tests/test_old.py": "@pytest.mark.guest\n",
        "project/tests/test_order.py": "pytestmark = pytest.mark.guest_byte_order\n",
        "project/tests/test_neither.py": "def test_b(): ...\n",
        "project/tests/support/helper.py": "",
        "site/test_other.py": "",
    }
    project = {name: Entry(text.encode()) for name, text in texts.items()}
    everywhere = {"project/tests/test_old.py", "project/tests/support/helper.py", "site/test_other.py"}
    assert suite.selected(project, TARGETS["5.10-amd64"]).keys() == everywhere
    assert suite.selected(project, TARGETS["6.12-s390x"]).keys() == everywhere | {"project/tests/test_order.py"}


def test_a_guest_runs_the_tests_that_are_marked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(suite.OPERATIONS, raising=False)
    job = json.loads(suite.job(TARGETS["5.10-amd64"], ["-k", "batch"]).content)
    assert job["command"][-3:] == ["tests", "-k", "batch"]
    assert job["command"][job["command"].index("-m", 3) + 1] == "guest"
    assert "--expected-skips=tests/kernels/expected-skips/5.10-amd64.txt" in job["command"]
    assert job["environment"][suite.OPERATIONS] == "200"


def test_property_tests_in_a_guest_do_as_many_operations_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(suite.OPERATIONS, "7")
    job = json.loads(suite.job(TARGETS["6.12-s390x"]).content)
    assert job["command"][job["command"].index("-m", 3) + 1] == "guest or guest_byte_order"
    assert job["environment"][suite.OPERATIONS] == "7"


def _run(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "kernels", *arguments],
        env={**os.environ, "PYTHONPATH": path, "RAWBPF_KERNELS_CACHE": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )


def test_an_unknown_target_is_a_wrong_command_line(tmp_path: Path) -> None:
    done = _run(tmp_path, "6.12-vax")
    assert done.returncode == 2
    assert "no target 6.12-vax; there are 5.10-amd64" in done.stderr


def test_without_qemu_the_command_says_so_and_fails(tmp_path: Path) -> None:
    done = _run(tmp_path, "6.12-s390x", PATH="/nonexistent")
    assert done.returncode == 3
    assert "could not be run on other kernels: qemu-system-s390x is not installed" in done.stdout


def test_without_a_network_the_command_says_so_and_fails(tmp_path: Path) -> None:
    (tmp_path / "qemu-system-s390x").touch(mode=0o755)
    done = _run(tmp_path, "6.12-s390x", PATH=str(tmp_path), RAWBPF_DEBIAN_MIRROR="http://127.0.0.1:1")
    assert done.returncode == 3
    assert "http://127.0.0.1:1/debian/dists/trixie/InRelease: <urlopen error" in done.stdout
