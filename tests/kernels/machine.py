"""Boots a kernel in QEMU and waits for what its first process reports.

Everything is emulated (TCG): no KVM, no disk, no network, no root. The guest writes to files of the host through
virtual serial ports; the console is another such file.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kernels.target import Machine

PORTS = ("report", "output", "result")
_MEMORY_MIB = 2048
_TRIES = 3
# A panic, an oops too, ends the run at once. BPF is in the list of security modules, which Debian's 5.10 leaves out.
_KERNEL_LINE = (
    "rdinit=/init panic=-1 oops=panic loglevel=4 random.trust_cpu=on nokaslr mitigations=off audit=0 "
    "lsm=lockdown,yama,landlock,bpf"
)


class Report(NamedTuple):
    """What the first process said: seconds since boot, and the exit status of its command; None if it did not."""

    started: float | None
    ended: float | None
    status: int | None


class Run(NamedTuple):
    """How a boot ended."""

    report: Report
    seconds: float
    """Wall time on the host."""
    timed_out: bool


def missing(machines: Iterable[Machine]) -> str:
    """Return what to install so that QEMU can emulate all of `machines`, nothing if it can."""
    return "; ".join(
        f"{program} is not installed, Debian has it in {package}"
        for program, package in dict.fromkeys((machine.program, machine.package) for machine in machines)
        if shutil.which(program) is None
    )


def command(machine: Machine, image: Path, folder: Path) -> list[str]:
    """Return the command line of QEMU: `image` boots with the `initrd` in `folder`, and files there are written."""
    words = [
        *(machine.program, *machine.options),
        # Two processors, but one thread: with two, patching code in a running kernel crashes some x86 guests.
        *("-accel", "tcg,thread=single", "-smp", "2", "-m", str(_MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image), "-initrd", str(folder / "initrd")),
        *("-append", f"{machine.parameters} {_KERNEL_LINE}"),
        *("-chardev", f"file,id=console,path={folder / 'console'}", "-serial", "chardev:console"),
        *("-device", machine.serial),
    ]
    for port in PORTS:
        words += ["-chardev", f"file,id={port},path={folder / port}"]
        words += ["-device", f"virtserialport,chardev={port},name={port}"]
    return words


def parse_report(text: str) -> Report:
    """Return what the lines of `text` say; one that is cut off, as the last one before a crash may be, says nothing."""
    said = dict(
        words for line in text.splitlines(keepends=True) if line[-1] == "\n" and len(words := line.split()) == 2
    )
    started, ended, status = (said.get(name) for name in Report._fields)
    return Report(
        None if started is None else float(started),
        None if ended is None else float(ended),
        None if status is None else int(status),
    )


@contextmanager
def alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Have `folder` for this block alone, of all runs that share the cache; call `wait` before waiting for another."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(words: Sequence[str], folder: Path, limit: float, again: Callable[[], None] = lambda: None) -> Run:
    """Run QEMU by the command line `words`, at most `limit` seconds, and return how that ended.

    A boot that dies before the tests start is tried again, after a call of `again`: emulation has its flakes. What
    dies later is a result.
    """
    for _ in range(_TRIES - 1):
        done = _boot(words, folder, limit)
        if done.report.started is not None or done.timed_out:
            return done
        again()
    return _boot(words, folder, limit)


def _boot(words: Sequence[str], folder: Path, limit: float) -> Run:
    for name in ("console", *PORTS):
        (folder / name).write_bytes(b"")
    began = time.monotonic()
    timed_out = False
    with open(folder / "qemu", "wb") as said:
        # subprocess.run kills QEMU when time is up, and on Ctrl-C.
        try:
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            timed_out = True
    report = parse_report((folder / "report").read_text(encoding="utf-8", errors="replace"))
    return Run(report, time.monotonic() - began, timed_out)
