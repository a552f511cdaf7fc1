"""Writes Debian packages and a mirror that offers them, small ones, for tests of what reads them."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def package(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a package whose data has `members`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    return b"!<arch>\n" + b"".join(_part(name, content) for name, content in parts.items())


def offer(mirror: Path, suite: str, arch: str, packages: Mapping[str, tuple[bytes, str]]) -> str:
    """Put `packages`, by name their content and what they depend on, into a mirror at `mirror`; return its URL."""
    paragraphs = []
    for name, (content, depends) in packages.items():
        file = f"pool/{name}.deb"
        digest = hashlib.sha256(content).hexdigest()
        paragraphs.append(
            f"Package: {name}\nVersion: 1.0-1\nDepends: {depends}\nDescription: one\n two\n"
            f"Filename: {file}\nSHA256: {digest}\n"
        )
        _write(mirror / "debian" / file, content)
    index = lzma.compress("\n".join(paragraphs).encode())
    folder = mirror / "debian" / "dists" / suite
    where = f"main/binary-{arch}/Packages.xz"
    digest = hashlib.sha256(index).hexdigest()
    _write(folder / where, index)
    _write(folder / f"main/binary-{arch}/by-hash/SHA256/{digest}", index)
    md5 = hashlib.md5(index).hexdigest()
    release = f"Origin: test\nMD5Sum:\n {md5} {len(index)} {where}\nSHA256:\n {digest} {len(index)} {where}\n"
    _write(folder / "InRelease", release.encode())
    return mirror.as_uri()


def _part(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
