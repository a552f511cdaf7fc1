"""What the fuzzer begins with: the project's objects, what the peer's sources and Debian's packages give, types."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.btf_samples import sample, shapes
from support.clang import LIBBPF, compiled
from support.congestion import PROGRAMS, STRUCT, table
from support.objects import BPF, OBJECTS

from fuzz.parts import join
from rawbpf.btf import Builder
from rawbpf.elf.container import read

_LARGEST = 10 << 10


def objects() -> list[bytes]:
    """Return object files of both byte orders, also those that other tests build and fetch, where they are there."""
    from peer import built, corpus

    files = [*sorted(BPF.glob("*.o")), *sorted(OBJECTS.glob("*.o"))]
    found = [path.read_bytes() for path in files]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found += [path.read_bytes() for path in built.objects(Path(folder))]
            for section in (".struct_ops", "?.struct_ops.link"):
                for target in ("bpfel", "bpfeb"):
                    source = STRUCT + PROGRAMS + table("first", section, ".flags = 1") + table("second", section, "")
                    found.append(compiled(Path(folder), source, target=target, prelude=LIBBPF).read_bytes())
        except (OSError, ValueError) as error:
            sys.stderr.write(f"no objects of clang's: {error}\n")
    try:
        found += [path.read_bytes() for path in corpus.objects() if path.stat().st_size <= _LARGEST]
    except OSError as error:
        sys.stderr.write(f"no objects of packages: {error}\n")
    return found


def types() -> list[bytes]:
    """Return small BTF of both byte orders."""
    return [sample("little")[0], sample("big")[0], *(_shaped(order) for order in ("little", "big"))]


def _shaped(order: str) -> bytes:
    builder = Builder("little" if order == "little" else "big")
    shapes(builder)
    return builder.to_bytes()


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs of `target`."""
    files = objects()
    if target in ("elf", "save"):
        yield from files
    elif target == "btf":
        yield from (join([each, b"", b""]) for each in types())
        yield from (join([types()[0], each, b""]) for each in types())
        for name, file in enumerate(files):
            sections = read(file, str(name))
            found = [
                bytes(section.content) if (section := sections.find(name)) else b"" for name in (".BTF", ".BTF.ext")
            ]
            yield join([found[0], b"", found[1]])
            yield join([found[0], found[0], found[1]])
    elif target == "relocate":
        for file in files:
            yield join([file, _section(file, ".BTF")])
            yield join([file, types()[0]])
    else:
        yield from (join([file, other]) for file, other in zip(files, files[1:] + files[:1], strict=True))
        yield from (join([file, file]) for file in files)


def _section(file: bytes, name: str) -> bytes:
    section = read(file, "").find(name)
    return b"" if section is None else bytes(section.content)
