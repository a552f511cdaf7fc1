"""Looks for bytes that a reader does not withstand, guided by the code that they reach.

    python -m fuzz TARGET [--minutes 10] [--folder DIR] [--seed 0] [FILE ...]     from the folder tests

It needs atheris (`pip install --group fuzz`). TARGET is one of `targets.TARGETS`. What it learns is kept in
DIR/TARGET/known, and the next run goes on from there; what is wrong lies in DIR/TARGET/found with its traceback beside
it, once for each line of the code that raised. FILE: inputs to be replayed instead, without atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import pkgutil
import random
import resource
import sys
import time
import traceback
from pathlib import Path

MEMORY = 3 << 30
"""Bytes of address space: what needs more ends in a MemoryError, which is a finding."""
LARGE = 96 << 10
"""By how many KiB an input may raise the most memory that the process ever had."""
SECONDS, FOREVER = 4.0, 60
"""Processor time that an input may take, instrumented; and after how long it is given up."""
LARGEST = 20 << 10
ROOMS = ("asm", "btf", "codec", "elf", "loader", "spec")
"""The packages whose paths guide the fuzzer, with what they import."""


class Excess(Exception):
    """An input took more time or memory than it may."""


def main() -> int:
    """Fuzz, or replay."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.files:
        return _replay(options.target, options.files)
    _fuzz(options.target, options.folder / options.target, options.minutes, options.seed)
    return 0


def _replay(name: str, files: list[Path]) -> int:
    from fuzz.targets import TARGETS

    failed = 0
    for path in files:
        if path.suffix == ".txt":
            continue
        begun = time.process_time()
        try:
            TARGETS[name][0](path.read_bytes())
        except Exception:  # noqa: BLE001
            failed += 1
            traceback.print_exc()
        sys.stderr.write(f"{path}: {time.process_time() - begun:.2f} s\n")
    return failed


def _fuzz(name: str, folder: Path, minutes: float, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["rawbpf", "elftools"], enable_loader_override=False):
        # Most of it is imported when it is needed; what is imported later would not be seen.
        for room in ROOMS:
            package = importlib.import_module(f"rawbpf.{room}")
            for module in pkgutil.iter_modules(package.__path__, f"rawbpf.{room}."):
                importlib.import_module(module.name)
        from fuzz.targets import TARGETS
    from fuzz.mutators import mutate
    from fuzz.parts import join, split
    from fuzz.seeds import seeds

    run, parts = TARGETS[name]
    known, found = folder / "known", folder / "found"
    for each in (known, found):
        each.mkdir(parents=True, exist_ok=True)
    for content in seeds(name):
        if len(content) <= LARGEST:
            (known / hashlib.sha1(content).hexdigest()).write_bytes(content)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def one(content: bytes) -> None:
        begun, had = time.process_time(), _most_memory()
        try:
            run(content)
            if time.process_time() - begun > SECONDS:
                raise Excess(f"{time.process_time() - begun:.1f} s")
            if _most_memory() - had > LARGE:
                raise Excess(f"{_most_memory() - had} KiB")
        except Exception as error:  # noqa: BLE001
            _note(found, content, error)

    def mutated(content: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        files = split(content, parts)
        chosen = rng.randrange(parts)
        files[chosen] = mutate(files[chosen], most, rng, atheris.Mutate)
        return join(files)[:most]

    # libFuzzer's options.
    flags = [
        f"-max_total_time={int(60 * minutes)}",
        f"-timeout={FOREVER}",
        f"-max_len={LARGEST}",
        "-rss_limit_mb=2560",
        f"-seed={seed}",
        "-len_control=0",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(known)], one, custom_mutator=mutated, internal_libfuzzer=True)
    atheris.Fuzz()


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _note(found: Path, content: bytes, error: Exception) -> None:
    # One for each line of rawbpf that raised, or called what did; the smallest is kept.
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "/fuzz/__main__" not in each.filename]
    own = [each for each in frames if "/rawbpf/" in each.filename] or frames[-1:]
    place = f"{Path(own[-1].filename).stem}-{own[-1].lineno}" if own else str(error).rpartition(" ")[2]
    path = found / f"{type(error).__name__}-{place}"
    if not path.exists() or path.stat().st_size > len(content):
        if not path.exists():
            traceback.print_exception(error)
        path.write_bytes(content)
        path.with_name(f"{path.name}.txt").write_text("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    sys.exit(main())
