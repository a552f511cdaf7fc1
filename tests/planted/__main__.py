"""Plants each bug in a copy of rawbpf and lets the general comparison of kernels and models look for it.

    python -m planted [--jobs 2] [--parties sim] [WORD ...]     from the folder tests; WORD: only bugs named so

Exit status 1 if a bug was not found, or if the simulator without a bug is found wrong. What looks is what
looks at every change, the tests of HUNT; none of them knows a bug. Their operations are RAWBPF_ORACLE_OPERATIONS per
map type, 200 unless said otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planted.bugs import BUGS, Bug

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "rawbpf"
HUNT = ("test_oracle_refinement.py", "test_oracle_aliases.py", "test_oracle_properties.py", "test_oracle_creation.py")
COUNT = "test_operations_fall_into_every_cell"
"""A test of HUNT's that only counts what the others do, at length."""
_FOUND, _CLEAN = 1, 0


def plant(bug: Bug, directory: Path) -> None:
    """Change the copy of rawbpf in `directory`. Raises: ValueError where the bug does not fit the code any more."""
    file = directory / "rawbpf/sim" / bug.file
    text = file.read_text(encoding="utf-8")
    if text.count(bug.before) != 1:
        raise ValueError(f"{bug.file} has {text.count(bug.before)} times, not once: {bug.before!r}")
    file.write_text(text.replace(bug.before, bug.after), encoding="utf-8")


def hunt(bug: Bug | None, parties: str) -> tuple[int, str]:
    """Return pytest's exit status for a rawbpf with this bug, or none, and the line that says what was found."""
    with tempfile.TemporaryDirectory(prefix="planted-") as made:
        directory = Path(made)
        shutil.copytree(PACKAGE, directory / "rawbpf", ignore=shutil.ignore_patterns("__pycache__"))
        if bug is not None:
            plant(bug, directory)
        # -P: the copy comes before what lies in the current directory.
        command = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-x",
            "-q",
            "--tb=line",
            "--timeout=600",
            "-p",
            "no:cacheprovider",
        ]
        environment = os.environ | {
            "PYTHONPATH": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RAWBPF_BACKEND": "kernel" if "kernel" in parties else "sim",
            "RAWBPF_ORACLE_PARTIES": parties,
            "RAWBPF_ORACLE_OPERATIONS": os.environ.get("RAWBPF_ORACLE_OPERATIONS", "200"),
        }
        done = subprocess.run(
            [*command, "-k", f"not {COUNT}", *(str(TESTS / name) for name in HUNT)],
            cwd=TESTS.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    said = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, [*said[:1], *done.stdout.splitlines()[-1:], done.stderr][0]


def main() -> None:
    """Hunt the bugs and say of each whether it was found, and by which test."""
    parser = argparse.ArgumentParser(prog="planted", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--parties", default="sim", help="who is compared: sim (with the models), or kernel,sim")
    parser.add_argument("words", nargs="*", metavar="WORD")
    options = parser.parse_args()
    chosen = [name for name in BUGS if not options.words or any(word in name for word in options.words)]
    with ThreadPoolExecutor(options.jobs) as pool:
        hunts: dict[str, Bug | None] = {"no bug": None} | {name: BUGS[name] for name in chosen}
        missed = []
        for name, (status, said) in zip(
            hunts, pool.map(hunt, hunts.values(), [options.parties] * len(hunts)), strict=True
        ):
            right = _CLEAN if hunts[name] is None else _FOUND
            print(f"{'ok  ' if status == right else 'BAD '} {name}: {said}", flush=True)
            if status != right:
                missed.append(name)
    print(f"{len(hunts) - 1} bugs planted, {len(missed)} answers wrong")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
