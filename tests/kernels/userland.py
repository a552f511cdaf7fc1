"""Makes the user space of a guest: Debian's Python, the Python packages of this environment, and this checkout.

Python files are compiled here, because the guest is ten times slower; that takes the same Python on both sides. What
the host has compiled for its own processor stays out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import marshal
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from kernels import deb
from kernels.cpio import Entry, archive, link
from kernels.debian import Archive, Unavailable, write

SUITE = "bookworm"
PYTHON = (3, 11)
"""The Python of `SUITE`."""
PACKAGES = ("python3.11", "busybox-static", "dash", "iproute2", "bpftool")
SITE = "site-packages"
"""The folder of the guest that has what pip installed here: by its name Hypothesis knows that it need not read it."""
PROJECT = "project"
"""The folder of the guest that has what the tests need of this checkout."""
DISTRIBUTIONS = ("pytest", "pytest-timeout", "hypothesis", "pyelftools")
_CHECKOUT = Path(__file__).resolve().parents[2]
_PARTS = ("tests", "bpf", "docs/examples", "pyproject.toml")
# Debian's own tools, which are needed to configure packages, and here nothing is.
_UNNEEDED = re.compile(r"debconf|dpkg|perl.*|tzdata|media-types|mime-support|install-info|mawk|coreutils")
_KEPT = re.compile(
    r"(etc|usr/s?bin|usr/lib|usr/lib64)/(?!python3[.0-9]*/(idlelib|lib2to3|ensurepip|pydoc_data|tkinter)/)"
)
_MERGED = re.compile(r"^(bin|sbin|lib|lib64)/")
_APPLETS = (
    "cat",
    "echo",
    "false",
    "insmod",
    "kill",
    "ls",
    "mount",
    "ping",
    "pwd",
    "sleep",
    "true",
    "umount",
    "unshare",
)
_LEFT_OUT = re.compile(r".*\.(pyc|so)|.*/(__pycache__|\..*)(/.*)?")


def base(arch: str, source: Archive, cache: Path) -> Path:
    """Return the archive (cpio) of Debian's Python and a few tools for `arch`, made if the cache has not got it.

    Raises: Unavailable.
    """
    packages = source.index(SUITE, arch).closure(PACKAGES, lambda name: not _UNNEEDED.fullmatch(name))
    ingredients = [*(package.sha256 for package in packages), str(sys.version_info), Path(__file__).read_text("utf-8")]
    path = cache / "userlands" / f"{hashlib.sha256(''.join(ingredients).encode()).hexdigest()}.cpio"
    if not path.is_file():
        files: dict[str, Entry] = {}
        for package in packages:
            files |= deb.files(source.fetch(package.url, package.sha256))
        write(path, archive(compiled(debian(files))))
    return path


def debian(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return those of the packages' `files` that a guest needs, where a merged /usr has them, and links to them."""
    merged = {_MERGED.sub(lambda match: f"usr/{match[0]}", name, count=1): entry for name, entry in files.items()}
    return {
        **{f"usr/bin/{name}": link("busybox") for name in _APPLETS},
        **{name: entry for name, entry in merged.items() if _KEPT.match(name)},
        **{name: link(f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")},
        "usr/bin/sh": link("dash"),
        "usr/bin/python3": link("python{}.{}".format(*PYTHON)),
        "etc/passwd": Entry(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        "etc/group": Entry(b"root:x:0:\nnogroup:x:65534:\n"),
        "etc/hosts": Entry(b"127.0.0.1 localhost\n::1 localhost\n"),
    }


def project() -> dict[str, Entry]:
    """Return what pip installed here of the packages that the tests need, rawbpf, and its tests.

    Raises: Unavailable if one of the packages is not installed, or runs on no other processor.
    """
    found = dict(_distributions(DISTRIBUTIONS))
    # Its metadata makes pytest load its plug-in; a checkout on PYTHONPATH has none.
    if any(importlib.metadata.distributions(name="rawbpf")):
        found |= _distributions(["rawbpf"])
    package = importlib.util.find_spec("rawbpf")
    if package is None or not package.submodule_search_locations:
        raise Unavailable("rawbpf is not installed in this Python")
    found |= {f"{SITE}/rawbpf/{name}": entry for name, entry in _tree(Path(package.submodule_search_locations[0]))}
    for part in _PARTS:
        path = _CHECKOUT / part
        if path.is_dir():
            found |= {f"{PROJECT}/{part}/{name}": entry for name, entry in _tree(path)}
        else:
            found[f"{PROJECT}/{part}"] = _entry(path)
    return compiled(found)


def compiled(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return `files` and the bytecode of the modules in them, if this Python is the guest's."""
    if sys.version_info[:2] != PYTHON:
        return dict(files)
    made = dict(files)
    for name, entry in files.items():
        if name.endswith(".py") and stat.S_ISREG(entry.mode) and (code := bytecode(entry.content, f"/{name}")):
            path = PurePosixPath(name)
            made[f"{path.parent}/__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc"] = Entry(code)
    return made


def bytecode(source: bytes, name: str) -> bytes | None:
    """Return the content of a .pyc that is taken without a look at its source (PEP 552), None for a syntax error."""
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return None
    unchecked_hash = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code)


# The files of the distributions `names` and of those that they require, without extras.
def _distributions(names: Iterable[str]) -> Iterator[tuple[str, Entry]]:
    to_do = list(names)
    seen = set()
    while to_do:
        name = to_do.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise Unavailable(f"{name} is not installed in this Python; run this by tox -e kernels") from error
        to_do += required(distribution.requires or [])
        for file in distribution.files or []:
            if file.suffix == ".so":
                raise Unavailable(f"{name} {distribution.version} has code for this processor only: {file}")
            if not str(file).startswith("..") and not _LEFT_OUT.fullmatch(str(file)):
                yield f"{SITE}/{file}", _entry(Path(str(file.locate())))


def required(requirements: Iterable[str]) -> list[str]:
    """Return the names in `requirements` that have no condition: those are for extras and for other Pythons."""
    return [re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0] for line in requirements if ";" not in line]


def _tree(folder: Path) -> Iterator[tuple[str, Entry]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not _LEFT_OUT.fullmatch(f"/{name}"):
            yield name, _entry(path)


def _entry(path: Path) -> Entry:
    return Entry(path.read_bytes(), stat.S_IFREG | path.stat().st_mode & 0o777)
