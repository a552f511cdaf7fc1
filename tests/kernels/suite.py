"""What runs in a guest and what counts as passed: pytest on the tests marked `guest`, judged by its own report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kernels.cpio import Entry
from kernels.machine import Run
from kernels.target import Target
from kernels.userland import PROJECT, PYTHON, SITE

_MARK = re.compile(r"\bmark\.(guest\w*)")
OPERATIONS = "RAWBPF_ORACLE_OPERATIONS"
"""The environment variable by which property tests are told how many operations they do on each type."""
_OPERATIONS_IN_GUEST = "200"
_RESULT = "/result.xml"
_SECONDS_PER_TEST = 300
_TESTS = re.compile(rf"{PROJECT}/tests/test_\w+\.py")
_CLOSING = re.compile(r"=*\s*(.*\b\d+ (?:passed|failed|errors?|skipped|deselected)\b.* in [\d.]+s.*?)\s*=*")


class Counts(NamedTuple):
    """What pytest's report says about all tests together."""

    passed: int
    failed: int
    skipped: int


def job(target: Target, options: Sequence[str] = ()) -> Entry:
    """Return what the first process of a guest reads: pytest's command line on the tests that are marked for it."""
    command = [
        *("python3", "-m", "pytest", "-v", "-p", "no:cacheprovider", f"--junitxml={_RESULT}"),
        *("-m", " or ".join(target.marks)),
        *("-o", f"timeout={_SECONDS_PER_TEST}", "-o", "junit_family=xunit1", "--durations=10"),
        f"--expected-skips=tests/kernels/expected-skips/{target.name}.txt",
        # Of a folder's files named one by one, pytest looks through the folder for each.
        "tests",
        *options,
    ]
    environment = {
        "PATH": "/usr/sbin:/usr/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONPATH": f"/{SITE}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAWBPF_BACKEND": "kernel",  # simulated ones are the same everywhere, and slow here
        OPERATIONS: os.environ.get(OPERATIONS, _OPERATIONS_IN_GUEST),
    }
    written = {"command": command, "folder": f"/{PROJECT}", "environment": environment, "result": _RESULT}
    return Entry(json.dumps(written).encode())


def selected(project: Mapping[str, Entry], target: Target) -> dict[str, Entry]:
    """Return `project` without the files of tests of which none is marked for `target`.

    Collecting those would take a guest a minute.
    """
    return {
        name: entry
        for name, entry in project.items()
        if not _TESTS.fullmatch(name) or not set(target.marks).isdisjoint(_MARK.findall(entry.content.decode()))
    }


def rewritten(project: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the bytecode that pytest makes of the marked tests among the files of `project`, by collecting them here.

    A guest would spend a minute on that. What fails here shows there.
    """
    if sys.version_info[:2] != PYTHON:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PROJECT
        for name, entry in project.items():
            if name.startswith(f"{PROJECT}/"):
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(entry.content)
                # The time that a file in a guest has: pytest compares it with the one in the bytecode.
                os.utime(path, (0, 0))
        subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"],
            cwd=copy,
            env={
                **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return {path.relative_to(folder).as_posix(): Entry(path.read_bytes()) for path in copy.rglob("*-pytest-*.pyc")}


def counts(junit: bytes) -> Counts | None:
    """Return what the report `junit` says, None if it is none."""
    try:
        suites = list(ET.fromstring(junit).iter("testsuite"))
        total, failures, errors, skipped = (
            sum(int(suite.attrib[name]) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
        )
    except (ET.ParseError, KeyError, ValueError):
        return None
    return Counts(total - failures - errors - skipped, failures + errors, skipped) if suites else None


def closing_line(output: str) -> str:
    """Return the line with which pytest closes, without its frame, or what to read instead."""
    for line in reversed(output.splitlines()):
        if found := _CLOSING.fullmatch(line.strip()):
            return found[1]
    return "pytest did not finish"


def problems(run: Run, limit: float, found: Counts | None, at_least: int) -> Iterator[str]:
    """Yield why the guest of `run` did not pass, nothing if it did."""
    if run.report.started is None:
        yield "the kernel did not start the tests" + (f" within {limit:.0f} s" if run.timed_out else "")
    elif run.report.status is None:
        yield f"the tests ran for more than {limit:.0f} s" if run.timed_out else "the kernel died while the tests ran"
    elif run.report.status:
        yield f"pytest ended with status {run.report.status}"
    elif found is None:
        yield "pytest wrote no report"
    elif found.passed < at_least:
        yield f"{found.passed} tests passed, expected at least {at_least}"
