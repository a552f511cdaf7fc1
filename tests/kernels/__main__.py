"""Runs the tests marked `guest` under other kernels, in QEMU: of all targets, or of those that are named.

Exit status: 0 if they passed everywhere, 1 if not, 2 for a wrong command line, 3 if they could not be run at all,
because QEMU, a package or the network is missing.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import functools
import shlex
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernels import deb, kernel, machine, suite, userland
from kernels.cpio import Entry, archive
from kernels.debian import Unavailable, cache_folder, source, write
from kernels.target import TARGETS, Target

_FAILED = 1
_NOT_RUN = 3
_AT_ONCE = 2
_CONSOLE_TAIL = 4000
_HERE = Path(__file__).resolve().parent


class Runner:
    """Runs one target after the other, or several at once from different threads."""

    def __init__(self, cache: Path, limit: float, options: Sequence[str]) -> None:
        self._cache = cache
        self._source = source(cache)
        self._limit = limit
        self._options = options
        # What is fetched is for several targets, so one thread fetches while others wait for their guests.
        self._preparing = threading.Lock()

    def run(self, target: Target) -> int:
        """Run the tests on `target`, print how it went, and return what the exit status of a run of it alone is."""
        folder = self._cache / "runs" / target.name
        waiting = f"{target.name}: another run has it; waiting"
        with machine.alone(folder, lambda: print(waiting, flush=True)):
            return self._run(target, folder)

    def _run(self, target: Target, folder: Path) -> int:
        try:
            with self._preparing:
                booted = self._prepare(target, folder)
        except (Unavailable, deb.BadPackage) as error:
            print(f"{target.name}: could not be run: {error}", flush=True)
            return _NOT_RUN
        print(f"{target.name}: Linux {booted.version} boots; the tests' output goes to {folder / 'output'}", flush=True)
        words = machine.command(target.machine, booted.image, folder)
        done = machine.run(words, folder, self._limit, lambda: print(f"{target.name}: died at boot; again", flush=True))
        (folder / "initrd").unlink()
        return 0 if self._judge(target, folder, done) else _FAILED

    # Everything that QEMU reads lies in `folder` and in the cache afterwards.
    def _prepare(self, target: Target, folder: Path) -> kernel.Kernel:
        booted = kernel.kernel(target, self._source, self._cache)
        init = Entry((_HERE / "init.py").read_bytes(), 0o100755)
        project = suite.selected(self._project, target)
        own = {
            **project,
            **suite.rewritten(project),
            "init": Entry(b"#!/usr/bin/python3 -B\n" + init.content, init.mode),
            "job.json": suite.job(target, self._options),
        }
        base = userland.base(target.machine.arch, self._source, self._cache)
        write(folder / "initrd", base.read_bytes() + booted.modules.read_bytes() + archive(own))
        return booted

    # The same for all targets, so it is made once.
    @functools.cached_property
    def _project(self) -> dict[str, Entry]:
        return userland.project()

    def _judge(self, target: Target, folder: Path, done: machine.Run) -> bool:
        output = (folder / "output").read_text(encoding="utf-8", errors="replace")
        # With options of one's own less may run than must.
        at_least = 0 if self._options else target.at_least
        found = list(suite.problems(done, self._limit, suite.counts((folder / "result").read_bytes()), at_least))
        if found:
            print(output)
            if done.report.status is None:
                console = (folder / "console").read_text(encoding="utf-8", errors="replace")
                print((folder / "qemu").read_text(encoding="utf-8", errors="replace"), console[-_CONSOLE_TAIL:])
        closing = "; ".join([suite.closing_line(output), *found])
        print(f"{target.name}: {closing} ({done.seconds:.0f} s with its boot)", flush=True)
        return not found


def main() -> int:
    """Do what the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="tox -e kernels --", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all if none is named"
    )
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="how long a guest may take")
    parser.add_argument(
        "--pytest", default="", metavar="OPTIONS", help="for pytest in the guest, such as '-k batch -x'"
    )
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    targets = [TARGETS[name] for name in dict.fromkeys(given.targets or TARGETS)]
    if missing := machine.missing([target.machine for target in targets]):
        print(f"the tests could not be run on other kernels: {missing}")
        return _NOT_RUN
    runner = Runner(cache_folder(), given.limit, shlex.split(given.pytest))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return max(pool.map(runner.run, targets))


if __name__ == "__main__":
    sys.exit(main())
