"""docs/examples: each runs as a user runs it, on the real kernel, and shows what was done while it ran."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "docs/examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
LONG = "30"  # seconds, the deadline of each test, which ends the example once it has seen what it waits for

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs("capability:CAP_SETUID", "module:elftools"),
]


@contextmanager
def running(name: str, *arguments: str) -> Iterator[Iterator[str]]:
    """Start an example, wait until it has attached (it prints a line), yield the lines that follow; then Ctrl-C."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            first = process.stdout.readline()
            assert first, process.stderr.read()
            yield iter(process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            errors = process.stderr.read()
            assert "Warning" not in errors, errors


def wait_for(lines: Iterator[str], pattern: str) -> re.Match[str]:
    seen = []
    for line in lines:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"{pattern!r} not in: {''.join(seen[-20:])}")


def execute(uid: int, *commands: str) -> None:
    for command in commands:
        subprocess.run([command], user=uid, check=True, stdout=subprocess.DEVNULL)


def test_there_is_an_example_for_each_object() -> None:
    sources = (EXAMPLES.parents[1] / "bpf").glob("*.bpf.c")
    assert sorted(path.name.removesuffix(".bpf.c") for path in sources) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_example_ends_by_itself_and_is_short(name: str) -> None:
    path = EXAMPLES / f"{name}.py"
    command = [sys.executable, "-W", "error", str(path), "0.1", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert len(path.read_text().splitlines()) <= 40


def test_execcount_counts_100_executions_of_one_user_as_exactly_100() -> None:
    uid = 43001
    with running("execcount", LONG, "0.1", str(uid)) as lines:
        execute(uid, *["/bin/true"] * 100)
        wait_for(lines, rf"^ *{uid} +100$")


def test_uid_filter_counts_while_switched_on_and_not_while_switched_off() -> None:
    uid = 43002
    with running("uid_filter", LONG, "0.2", str(uid)) as lines:
        busy = subprocess.Popen(["/bin/sh", "-c", "while :; do /bin/true; done"], user=uid)
        try:
            for state in ("off", "on", "off"):
                wait_for(lines, f"uid {uid} is {state}")
                counted = int(wait_for(lines, r"^(\d+) executions counted")[1])
                assert (counted > 0) == (state == "on")
        finally:
            busy.kill()
            busy.wait()


def test_exec_details_names_the_program_that_started_last() -> None:
    uid = 43003
    with running("exec_details", LONG, "0.1") as lines:
        execute(uid, "/bin/true", "/bin/true", "/bin/uname")
        wait_for(lines, rf"^uid {uid}: 3 programs, uname at \d\d:\d\d:\d\d\.\d+$")


@pytest.mark.parametrize("name", ["exec_events", "exec_events_perf"])
def test_exec_events_tell_each_program_with_its_parent_and_its_file(name: str) -> None:
    uid = 43010
    with tempfile.TemporaryDirectory() as directory, running(name, LONG, "0.1") as lines:
        os.chmod(directory, 0o755)  # another user looks into it
        program = f"{directory}/{'x' * 40}"
        os.symlink("/bin/true", program)
        execute(uid, "/bin/uname", program)
        # Of the name, the kernel keeps so many characters.
        for comm, path in (("uname", "/bin/uname"), ("x" * 15, program)):
            wait_for(lines, rf"^\d+ of {os.getpid()}, uid {uid}: {comm} from {re.escape(path)}$")


def test_percpu_stats_sums_what_each_cpu_counted() -> None:
    uid = 43004
    cpus = sorted(os.sched_getaffinity(0))
    with running("percpu_stats", LONG, "0.1") as lines:
        for cpu in cpus:
            dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=10", "count=50", "status=none"]
            subprocess.run(["taskset", "--cpu-list", str(cpu), *dd], user=uid, check=True)
        wait_for(lines, rf"^uid {uid}: {50 * len(cpus)} calls, {500 * len(cpus)} bytes, 0 errors, most on CPU \d+$")


def test_signal_stats_counts_by_the_signals_number() -> None:
    unusual = signal.SIGRTMIN + 13
    before = signal.signal(unusual, signal.SIG_IGN)
    try:
        with running("signal_stats", LONG, "0.1") as lines:
            for _ in range(7):
                os.kill(os.getpid(), unusual)
            wait_for(lines, r"\bSIGRTMIN\+13 7\b")
    finally:
        signal.signal(unusual, before)


def test_global_counter_counts_every_fork() -> None:
    with running("global_counter", LONG, "0.1") as lines:
        execute(0, *["/bin/true"] * 20)
        next(line for line in lines if int(line.split()[0]) >= 20)


def test_last_seen_shows_the_wall_clock() -> None:
    uid = 43005
    with running("last_seen", LONG, "0.1") as lines:
        before = datetime.now()  # noqa: DTZ005  (the example shows local time)
        execute(uid, "/bin/true")
        after = datetime.now()  # noqa: DTZ005
        shown = datetime.fromisoformat(wait_for(lines, rf"^uid {uid} at (.+)$")[1])
        margin = timedelta(milliseconds=50)  # the clocks are read one after the other, and NTP may slew one
        assert before - margin <= shown <= after + margin


def test_process_count_counts_the_files_that_a_process_opened() -> None:
    opens = "import os\nfor _ in range(300): os.close(os.open('/dev/null', os.O_RDONLY))"
    with running("process_count", LONG, "0.1", "100000") as lines:
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", opens]) as process:
            assert process.wait() == 0
        counted = int(wait_for(lines, rf"^ *{process.pid} \(ended\) +(\d+)$")[1])
        assert 300 <= counted < 400


PINGPONG = """
import os
with open("/proc/self/comm", "w") as comm:
    comm.write("pingpong")
(a, b), (c, d) = os.pipe(), os.pipe()
if os.fork():
    os.close(c)
    for _ in range(20_000):
        os.write(d, b"x")
        os.read(a, 1)
    os.close(d)
    os.wait()
else:
    os.close(d)
    while os.read(c, 1):
        os.write(b, b"x")
"""


def test_queue_latency_draws_the_waits_of_threads_by_their_names() -> None:
    with running("queue_latency", LONG, "0.1") as lines:
        # Two processes that wake each other up, more often than any other is.
        subprocess.run([sys.executable, "-I", "-S", "-c", PINGPONG], check=True)
        wait_for(lines, "^comm = pingpong$")
        assert next(lines).split() == ["usecs", ":", "count", "distribution"]
        assert re.fullmatch(r" +0 -> 1 +: \d+ +\|\** *\|\n", next(lines))


def test_lru_cache_remembers_recent_programs() -> None:
    uid = 43006
    with running("lru_cache", LONG, "0.1", "1000") as lines:
        execute(uid, "/bin/uname")
        wait_for(lines, rf"^[\d:.]+ uid {uid} gid \d+ \d+ uname$")
