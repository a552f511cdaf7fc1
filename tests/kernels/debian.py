"""Finds packages in Debian's archive and fetches them into the cache: by index, at run time, checked by SHA256.

No version is written down here: the index of a suite says which there are, and what their files are called. A release
states the digest of its indices, an index that of its packages; the release itself is believed because of https.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

MIRRORS = ("https://deb.debian.org", "https://archive.debian.org")
"""Where suites are, and where they go when they are old; below lie `debian` and `debian-security`."""
MIRROR = "RAWBPF_DEBIAN_MIRROR"
CACHE = "RAWBPF_KERNELS_CACHE"
"""Variables of the environment: a mirror to take instead, and the folder that keeps what was fetched and made."""
_TRIES = 3
_SECONDS = 60
_FIRST_NAME = re.compile(r"\s*([a-z0-9.+-]+)")


class Unavailable(Exception):
    """What the run needs is not to be had here: no network, no such package, no QEMU."""


class Package(NamedTuple):
    """What an index says about one package; `url` is complete."""

    name: str
    version: str
    depends: tuple[str, ...]
    url: str
    sha256: str


class Index:
    """The packages of one suite and architecture, as `text` (a file Packages) lists them."""

    def __init__(self, text: str, base: str) -> None:
        self._base = base
        self._paragraphs = {
            paragraph.partition("\n")[0].removeprefix("Package: "): paragraph
            for paragraph in text.split("\n\n")
            if paragraph.startswith("Package: ")
        }

    def package(self, name: str) -> Package:
        """Return the package `name`.

        Raises: Unavailable if the suite has none.
        """
        if name not in self._paragraphs:
            raise Unavailable(f"{self._base} lists no package {name}")
        field = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", self._paragraphs[name], re.MULTILINE))
        wanted = ", ".join(field[key] for key in ("Pre-Depends", "Depends") if key in field)
        # Of alternatives the first is taken; versions agree within a suite.
        depends = [found[1] for part in wanted.split(",") if (found := _FIRST_NAME.match(part))]
        return Package(name, field["Version"], tuple(depends), f"{self._base}/{field['Filename']}", field["SHA256"])

    def closure(self, names: Iterable[str], follow: Callable[[str], bool]) -> list[Package]:
        """Return the packages `names` and those that they depend on, as far as `follow` says yes, by name."""
        found: dict[str, Package] = {}
        to_do = list(names)
        while to_do:
            name = to_do.pop()
            if name not in found:
                found[name] = self.package(name)
                to_do += filter(follow, found[name].depends)
        return [found[name] for name in sorted(found)]


class Archive:
    """Debian's archive behind `mirrors`, and the folder `cache` that keeps what came from there."""

    def __init__(self, cache: Path, mirrors: Sequence[str] = MIRRORS) -> None:
        self._cache = cache
        self._mirrors = mirrors
        self._indices: dict[tuple[str, str], Index] = {}

    def index(self, suite: str, arch: str) -> Index:
        """Return the index of `suite`, such as "trixie" or "trixie-security", for Debian's architecture `arch`.

        Without a network the one of the last run is taken.

        Raises: Unavailable.
        """
        if (suite, arch) not in self._indices:
            base, release = self._release(suite)
            name = f"main/binary-{arch}/Packages.xz"
            digest = re.search(rf"^ ([0-9a-f]{{64}}) +\d+ {re.escape(name)}$", release, re.MULTILINE)
            if digest is None:
                raise Unavailable(f"{base} has no {suite} for {arch}")
            folder = f"{base}/dists/{suite}"
            try:
                compressed = self.fetch(f"{folder}/{name}", digest[1])
            except Unavailable:
                # The suite changed between the two requests: this name stays for a while.
                compressed = self.fetch(f"{folder}/main/binary-{arch}/by-hash/SHA256/{digest[1]}", digest[1])
            self._indices[suite, arch] = Index(lzma.decompress(compressed).decode(), base)
        return self._indices[suite, arch]

    def fetch(self, url: str, sha256: str) -> bytes:
        """Return the file at `url`, whose digest is `sha256`; from the cache if it is there.

        Raises: Unavailable, also for a file whose digest is another.
        """
        kept = self._cache / "files" / sha256
        if kept.is_file() and hashlib.sha256(content := kept.read_bytes()).hexdigest() == sha256:
            return content
        content = _download(url)
        if (got := hashlib.sha256(content).hexdigest()) != sha256:
            raise Unavailable(f"{url} has the SHA256 {got}, the index says {sha256}")
        write(kept, content)
        return content

    # The mirror that has the suite, and its file InRelease.
    def _release(self, suite: str) -> tuple[str, str]:
        kept = self._cache / "releases" / suite
        failures = []
        for mirror in self._mirrors:
            base = f"{mirror}/debian-security" if suite.endswith("-security") else f"{mirror}/debian"
            try:
                release = _download(f"{base}/dists/{suite}/InRelease").decode()
            except Unavailable as error:
                failures.append(str(error))
            else:
                write(kept, f"{base}\n{release}".encode())
                return base, release
        if kept.is_file():
            base, _, release = kept.read_text(encoding="utf-8").partition("\n")
            return base, release
        raise Unavailable("; ".join(failures))


def cache_folder() -> Path:
    """Return the folder for what is downloaded and made of it, which later runs use again."""
    if CACHE in os.environ:
        return Path(os.environ[CACHE]).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "rawbpf" / "kernels"


def source(cache: Path) -> Archive:
    """Return Debian's archive, behind the mirror that the environment names if it does."""
    return Archive(cache, [os.environ[MIRROR]] if MIRROR in os.environ else MIRRORS)


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path` at once, so that another run never sees half of it; make the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _download(url: str) -> bytes:
    for last in range(_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise Unavailable(f"{url}: {error}") from error
        except OSError as error:
            if last == _TRIES - 1:
                raise Unavailable(f"{url}: {error}") from error
            time.sleep(last)
    raise AssertionError("the last try returns or raises")
