"""Reads the files of a Debian package in memory: neither dpkg nor root is needed, and nothing is unpacked on disk.

A package is an `ar` archive with a compressed tar archive in it. Source: deb(5).
"""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
from collections.abc import Iterator

from kernels.cpio import Entry, link

_MAGIC = b"!<arch>\n"
_HEADER = 60


class BadPackage(Exception):
    """A file is no Debian package, or is damaged."""


def files(package: bytes) -> Iterator[tuple[str, Entry]]:
    """Yield path (without a leading slash) and content of each file and symbolic link in `package`.

    Devices, and what is no file, are left out. A hard link is a file of its own.

    Raises: BadPackage.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_member(package, b"data.tar"))) as tar:
            for info in tar:
                name = info.name.removeprefix("./")
                if info.issym():
                    yield name, link(info.linkname)
                elif info.isfile() or info.islnk():
                    file = tar.extractfile(info)
                    assert file is not None
                    yield name, Entry(file.read(), stat.S_IFREG | info.mode & 0o777)
    except (tarfile.TarError, lzma.LZMAError, EOFError, KeyError) as error:
        raise BadPackage(f"its data cannot be read: {error}") from error


def _member(package: bytes, prefix: bytes) -> bytes:
    if not package.startswith(_MAGIC):
        raise BadPackage("not an ar archive")
    at = len(_MAGIC)
    while len(header := package[at : at + _HEADER]) == _HEADER:
        if not header[48:58].strip().isdigit():
            raise BadPackage("a header without a size")
        size = int(header[48:58])
        if header.startswith(prefix):
            content = package[at + _HEADER : at + _HEADER + size]
            if len(content) < size:
                raise BadPackage("cut off")
            return content
        at += _HEADER + size + size % 2
    raise BadPackage(f"no member {prefix.decode()}")
