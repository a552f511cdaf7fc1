"""The BPF objects of others: what is in Debian's packages of tools that come with libbpf or cilium/ebpf.

They are fetched, not committed, and kept beside the kernels for other tests. Some are files, some lie in
executables, as skeletons do; all are found by their ELF header. Of two that are equal the first is taken.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from kernels import deb
from kernels.debian import Archive, cache_folder, source, write

# Two releases, for the compilers and headers of two years.
_SUITES = ("bookworm", "trixie")
_PACKAGES = (
    "golang-github-cilium-ebpf-dev",
    "ir-keytable",
    "libbpf-tools",
    "libxdp1",
    "pcp",
    "xdp-tests",
    "xdp-tools",
)
_BTF_SUITE, _BTF_NAME = "trixie", "vmlinux.btf.gz"
_EM_BPF = 247
_ET_REL = 1
_HEADER = 64
_LARGEST = 16 << 20
_MOST_IN_A_FILE = 64
# Written last, so that a folder that an interrupted run left is filled again.
_COMPLETE = "complete"
_CONTENTS = f"{_SUITES} {_PACKAGES} {_BTF_SUITE}\n".encode()


def objects() -> list[Path]:
    """Return the files of all objects, each in a folder of its suite and package.

    Raises: kernels.debian.Unavailable where there is neither a network nor what an earlier run fetched.
    """
    return sorted(_folder().glob("*/*/*"))


def name(path: Path) -> str:
    """Return what an object of the corpus is called: suite, package and file."""
    return "/".join(path.parts[-3:])


def fixed_btf() -> Path:
    """Return the types of a kernel that are the same wherever the tests run: those that cilium/ebpf tests with.

    Raises: as `objects`.
    """
    return _folder() / _BTF_NAME.removesuffix(".gz")


@functools.cache
def _folder() -> Path:
    folder = cache_folder() / "objects"
    complete = folder / _COMPLETE
    if not complete.is_file() or complete.read_bytes() != _CONTENTS:
        fetch(folder, source(cache_folder()), _SUITES, _PACKAGES)
        write(complete, _CONTENTS)
    return folder


def fetch(folder: Path, archive: Archive, suites: Iterable[str], packages: Iterable[str]) -> None:
    """Write the objects in `packages` of `suites` into `folder`, and the types that are with them.

    Raises: as `objects`.
    """
    seen: set[bytes] = set()
    for suite in suites:
        for package in packages:
            found = archive.index(suite, "amd64").package(package)
            taken: dict[str, int] = {}
            for path, entry in deb.files(archive.fetch(found.url, found.sha256)):
                file = path.rpartition("/")[2]
                if (suite, file) == (_BTF_SUITE, _BTF_NAME):
                    write(folder / _BTF_NAME.removesuffix(".gz"), gzip.decompress(entry.content))
                for content in embedded(entry.content):
                    digest = hashlib.sha256(content).digest()
                    if digest in seen:
                        continue
                    seen.add(digest)
                    taken[file] = taken.get(file, 0) + 1
                    nth = "" if taken[file] == 1 else f"#{taken[file]}"
                    write(folder / suite / package / (file + nth), content)


def embedded(content: bytes) -> Iterator[bytes]:
    """Yield the BPF objects in `content`: itself, or those that lie in an executable."""
    at = -1
    for _ in range(_MOST_IN_A_FILE):
        at = content.find(b"\x7fELF\x02", at + 1)
        size = _size(content, at) if at >= 0 else 0
        if at < 0:
            return
        if size:
            yield content[at : at + size]


# How long the BPF object at `at` is, which ends with its section headers; 0 if there is none.
def _size(content: bytes, at: int) -> int:
    header = content[at : at + _HEADER]
    order = {1: "<", 2: ">"}.get(header[5]) if len(header) == _HEADER else None
    if order is None or struct.unpack_from(f"{order}HH", header, 16) != (_ET_REL, _EM_BPF):
        return 0
    (sections,) = struct.unpack_from(f"{order}Q", header, 40)
    entry, count = struct.unpack_from(f"{order}HH", header, 58)
    size: int = sections + entry * count
    return size if size <= min(len(content) - at, _LARGEST) else 0
