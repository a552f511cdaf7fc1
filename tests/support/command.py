"""Runs the command `rawbpf run`, or another, as its users do, and waits for what it says, not for time to pass."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
BPF = ROOT / "bpf"
FOREVER = "1000"
_SECONDS = 30.0
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"LINES", "COLUMNS", "NO_COLOR"}}


class Running:
    """A `rawbpf run` that has attached: its output line by line, and its end."""

    def __init__(self, process: subprocess.Popen[str], told: list[str]) -> None:
        self.process = process
        self.told = told
        """The lines on stderr so far."""

    @property
    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        return iter(self.process.stdout)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match in the first line that has one."""
        seen = []
        for line in self.lines:
            seen.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} not in: {''.join(seen[-20:])}")

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Send the signal; return the exit status, and the rest of the output and of stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, out, err


@contextmanager
def running(*arguments: object, code: str = "") -> Iterator[Running]:
    """Start `rawbpf run` with `arguments`, or Python `code` with them, and yield it when it has attached."""
    process = subprocess.Popen(
        _command(arguments, code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_ENVIRONMENT
    )
    with process:
        try:
            yield Running(process, _told(process))
        finally:
            if process.poll() is None:
                process.kill()


def run(
    *arguments: object, code: str = "", stdout: IO[str] | int = subprocess.PIPE, command: str = "run"
) -> tuple[int, str, str]:
    """Run `rawbpf run`, or another command, to its end; return the exit status, its output, and the lines on stderr."""
    done = subprocess.run(
        _command(arguments, code, command),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_SECONDS,
        env=_ENVIRONMENT,
    )
    return done.returncode, done.stdout, done.stderr


class OnTerminal:
    """A `rawbpf run` on a terminal of its own, whose other end the test holds."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self.output = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what was written since the last one."""
        deadline = time.monotonic() + _SECONDS
        written = ""
        while not (found := re.search(pattern, written)):
            piece = self._read(deadline - time.monotonic())
            assert piece, f"{pattern!r} not in {written!r}"
            written += piece
        return found

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Close the window."""
        os.close(self._terminal)
        self._terminal = -1

    @property
    def is_open(self) -> bool:
        return self._terminal >= 0

    def rest(self) -> str:
        """Return what is written until the command ends."""
        deadline = time.monotonic() + _SECONDS
        written = ""
        while piece := self._read(deadline - time.monotonic()):
            written += piece
        return written

    def _read(self, seconds: float) -> str:
        if seconds <= 0 or not select.select([self._terminal], [], [], seconds)[0]:
            raise AssertionError("nothing was written in time")
        try:
            piece = os.read(self._terminal, 1 << 16).decode()
        except OSError:
            return ""  # the other end is closed
        self.output += piece
        return piece


@contextmanager
def on_terminal(
    *arguments: object, rows: int = 24, columns: int = 100, code: str = "", stderr: int | None = None
) -> Iterator[OnTerminal]:
    """Start `rawbpf run` on a terminal of that size, stderr included unless it is given."""
    terminal, other = os.openpty()
    command: OnTerminal | None = None
    environment = _ENVIRONMENT | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            _command(arguments, code),
            stdin=other,
            stdout=other,
            stderr=other if stderr is None else stderr,
            env=environment,
            start_new_session=True,
            # Only the controlling terminal turns Ctrl-C into a signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(other)
        other = -1
        with process:
            try:
                command = OnTerminal(process, terminal)
                yield command
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        if command is None or command.is_open:
            os.close(terminal)
        if other >= 0:
            os.close(other)


def _command(arguments: tuple[object, ...], code: str, command: str = "run") -> list[str]:
    # Warnings would be lines on stderr that a test sees, and a dropped open object is a warning.
    start = ["-c", code] if code else ["-m", "rawbpf"]
    return [sys.executable, "-W", "always::ResourceWarning", *start, command, *map(str, arguments)]


def _told(process: subprocess.Popen[str]) -> list[str]:
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line.rstrip("\n"))
        if line.startswith("rawbpf: attached"):
            return told
    raise AssertionError(f"it did not attach: {told}")
