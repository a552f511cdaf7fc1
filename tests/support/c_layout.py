"""What clang makes of a C header: the types that it lays out, to compare with those that it was written from."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import rawbpf
from rawbpf.btf import Btf, Composite, Enum, Type, size_of, strip

# Offset in bits, width in bits of a bit-field, size in bytes, length of an array.
Place = tuple[str, int, int, int, int]


def compiled(header: str, lines: Iterable[str], directory: Path, target: str = "bpf") -> Btf:
    """Compile `lines` of C behind `header`, without a warning, and return their types."""
    found = compiled_object(header, lines, directory, target).btf
    assert found is not None
    return found


def compiled_object(
    header: str, lines: Iterable[str], directory: Path, target: str = "bpf", *flags: str
) -> rawbpf.ObjectSpec:
    """Compile as `compiled` does, and return the object."""
    (directory / "vmlinux.h").write_text(header)
    (directory / "a.c").write_text('#include "vmlinux.h"\n' + "".join(f"{line}\n" for line in lines))
    command = ["clang", "-O2", "-g", "-Wall", "-Werror", "-target", target, *flags, "-c", "a.c", "-o", "a.o"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return rawbpf.ObjectSpec.from_file(directory / "a.o")


def uses(types: Iterable[Type]) -> list[str]:
    """Return C that makes the compiler lay out named `types`, pointed to and held."""
    return [
        f"struct use_{at} {{ {word(type)} *p; {word(type)} m[2]; }} used_{at};"
        for at, type in enumerate(types)
        if not isinstance(type, Composite) or type.size
    ]


def word(type: Type) -> str:
    """Return what a named struct, union, enum or typedef is called in C."""
    if isinstance(type, Enum):
        return f"enum {type.name}"
    return f"{type.kind_name} {type.name}" if isinstance(type, Composite) else type.name


def places(type: Type) -> tuple[int, list[Place]]:
    """Return the size of a struct, and where its members are, also those of anonymous structs in it."""
    return size_of(type), sorted(_places(type, 0))


def _places(type: Type, base: int) -> Iterator[Place]:
    assert isinstance(type, Composite)
    for name, own, offset, bits in type.members:
        bare = strip(own)
        if not name and isinstance(bare, Composite):
            yield from _places(bare, base + offset)
        elif not name.startswith("__pad"):
            yield name, base + offset, bits, size_of(own), getattr(bare, "length", 0)


def differences(wanted: Btf, got: Btf, types: Iterable[Type]) -> list[str]:
    """Return the names of those of `types` that are not in `got` as they are in `wanted`."""
    different = []
    for type in types:
        kind = Enum if isinstance(type, Enum) else type.__class__
        own = got.find(type.name, kind)
        if own is None:
            different.append(f"no {type.name}")
        elif isinstance(type, Enum):
            if size_of(type) != size_of(own):
                different.append(type.name)
        elif places(strip(type)) != places(strip(own)):
            different.append(f"{type.name}: {places(strip(type))} became {places(strip(own))}")
    return different
