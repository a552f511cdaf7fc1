"""Objects with what others' lack: built from the sources beside this by the clang that is installed."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

NEEDS = ("tool:clang", "file:/usr/include/bpf/bpf_core_read.h")
"""What building them needs."""
_SOURCES = Path(__file__).with_name("sources")


def objects(folder: Path) -> list[Path]:
    """Build every source into `folder`, in the byte order of this machine, and return the objects."""
    return [_built(source, folder) for source in sorted(_SOURCES.glob("*.bpf.c"))]


def layouts(folder: Path) -> tuple[Path, Path]:
    """Build into `folder`, and return, an object with a program for each question about fields, and other types."""
    return _built(_SOURCES / "layouts.c", folder), _built(_SOURCES / "layouts.kernel.c", folder)


def _built(source: Path, folder: Path) -> Path:
    # <linux/types.h> includes headers of the machine's, which clang does not look for when it builds for BPF.
    flags = ["-O2", "-g", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"]
    include = ["-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"]
    made = folder / f"{source.stem}.o"
    subprocess.run(["clang", *flags, *include, "-c", source, "-o", made], check=True)
    return made
