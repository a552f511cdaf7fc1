"""Makes a kernel ready to boot: its image, and the modules that the tests and their channel to the host need.

Most of them are loaded when the guest starts; some are there for tests that insert and remove them.

Debian's packages of kernels hold both; what is taken from them stays in the cache, by the package's digest.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kernels import deb
from kernels.cpio import Entry, archive
from kernels.debian import Archive, Package, Unavailable, write
from kernels.target import Target

MODULES = (
    *("virtio_pci", "virtio_mmio", "virtio_console"),
    *("veth", "dummy", "tun", "sch_ingress", "cls_bpf", "act_bpf"),
)
"""Loaded before the tests start. A kernel that lacks one has it built in, or not at all."""
FOR_TESTS = ("nf_conntrack", "nf_nat", "fou", "tcp_dctcp", "x_tables")
"""Inserted by tests: see support/kernel_modules.py."""
FOLDER = "modules"
"""Where they are in the guest, with a file `order` that names what is loaded at the start."""
_PARTS = re.compile(r"linux-(image|binary|modules|base)-\d.*")
_MAIN = re.compile(r"linux-image-\d")
_IMAGE = re.compile(r"(boot|usr/lib/modules/[^/]+)/vmlinu[xz][^/]*")
_MODULE = re.compile(r".*/([^/]+)\.ko(\.[a-z]+)?")
_UNPACK: dict[str | None, Callable[[bytes], bytes]] = {None: bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}


class Kernel(NamedTuple):
    """Files to boot, and what the package calls this version."""

    image: Path
    modules: Path
    """An archive of cpio."""
    version: str


def kernel(target: Target, source: Archive, cache: Path) -> Kernel:
    """Return the newest kernel of `target`, fetched and unpacked if the cache has not got it.

    Raises: Unavailable if none of the target's suites has one.
    """
    failures = []
    for suite in target.suites:
        try:
            return _of_suite(suite, target, source, cache)
        except Unavailable as error:
            failures.append(f"{suite}: {error}")
    raise Unavailable("; ".join(failures))


def is_part_of_kernel(name: str) -> bool:
    """Return whether the package `name`, on which one with a kernel depends, holds a part of that kernel."""
    return _PARTS.match(name) is not None


def modules(
    files: Mapping[str, Entry], wanted: Iterable[str] = MODULES, more: Iterable[str] = FOR_TESTS
) -> dict[str, Entry]:
    """Return the files of modules `wanted` and `more`, and of those that they depend on, and the order of `wanted`."""
    found = {match[1].replace("-", "_"): match for name in files if (match := _MODULE.fullmatch(name))}
    content: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name not in found or name in content:
            return
        packed = files[found[name][0]].content
        plain = _UNPACK[found[name][2]](packed)
        for other in dependencies(plain):
            add(other)
        content[name] = plain

    for name in wanted:
        add(name)
    order = "".join(f"{name}.ko\n" for name in content)
    for name in more:
        add(name)
    return {
        **{f"{FOLDER}/{name}.ko": Entry(plain) for name, plain in content.items()},
        f"{FOLDER}/order": Entry(order.encode(), stat.S_IFREG | 0o644),
    }


def dependencies(module: bytes) -> list[str]:
    """Return the modules that the object `module` says it depends on, in its section .modinfo."""
    stated = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in stated[1].decode().split(",") if name] if stated else []


def _of_suite(suite: str, target: Target, source: Archive, cache: Path) -> Kernel:
    packages = source.index(suite, target.machine.arch).closure([target.kernel], is_part_of_kernel)
    # The package with the image speaks for all of them: it depends on the others in exactly its version.
    main = next(package for package in packages if _MAIN.match(package.name))
    folder = cache / "kernels" / main.sha256
    # Another list of modules is another file.
    names = hashlib.sha256(repr((MODULES, FOR_TESTS)).encode()).hexdigest()[:16]
    made = Kernel(folder / "image", folder / f"modules-{names}.cpio", main.version)
    if not (made.image.is_file() and made.modules.is_file()):
        found = _files(packages, source)
        write(made.modules, archive(modules(found)))
        write(made.image, next(entry.content for name, entry in found.items() if _IMAGE.fullmatch(name)))
    return made


def _files(packages: Iterable[Package], source: Archive) -> dict[str, Entry]:
    return {name: entry for package in packages for name, entry in deb.files(source.fetch(package.url, package.sha256))}
