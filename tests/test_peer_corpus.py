"""The objects that libbpf and rawbpf are compared by are found in packages, wherever they lie in a file."""

from __future__ import annotations

import gzip
import struct
import tarfile
from pathlib import Path

import pytest
from kernels.debian import Archive
from peer.corpus import embedded, fetch
from support.deb_writer import offer, package


def _elf(machine: int, order: str = "<", sections: int = 2, at: int = 64) -> bytes:
    head = b"\x7fELF\x02" + (b"\1" if order == "<" else b"\2") + b"\1" + bytes(9)
    head += struct.pack(f"{order}HHIQQQIHHHHHH", 1, machine, 1, 0, 0, at, 0, 64, 0, 0, 64, sections, 1)
    return head + bytes(64 * 2)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", []),
        (_elf(247), [_elf(247)]),
        (_elf(247, ">"), [_elf(247, ">")]),
        (_elf(62), []),
        (_elf(62) + b"text" + _elf(247) + _elf(247, ">") + b"end", [_elf(247), _elf(247, ">")]),
        (_elf(247)[:63], []),
        (_elf(247)[:-1], []),
        (_elf(247, sections=0xFFFF), []),
        (_elf(247, at=1 << 63), []),
        (b"\x7fELF\x02" * 100 + _elf(247), []),
    ],
    ids=["empty", "whole", "big-endian", "other", "embedded", "header", "cut", "sections", "offset", "many"],
)
def test_objects_are_found_by_their_header(content: bytes, found: list[bytes]) -> None:
    assert list(embedded(content)) == found


def test_what_is_in_packages_is_written_once_and_by_suite_package_and_file(tmp_path: Path) -> None:
    first, second, third = (_elf(247, sections=number) for number in range(3))
    members = {
        "./usr/lib/first.o": first,
        "./usr/sbin/tool": _elf(62) + second + b"text" + first + third,
        "./usr/share/README": b"words",
        "./usr/share/vmlinux.btf.gz": gzip.compress(b"types"),
    }
    content = package([(tarfile.TarInfo(name), member) for name, member in members.items()])
    mirror = offer(tmp_path / "mirror", "trixie", "amd64", {"tools": (content, ""), "more": (content, "")})
    fetch(tmp_path / "objects", Archive(tmp_path / "cache", [mirror]), ["trixie"], ["tools", "more"])
    files = (path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    assert {str(path.relative_to(tmp_path / "objects")): path.read_bytes() for path in files} == {
        "trixie/tools/first.o": first[:64],
        "trixie/tools/tool": second[:128],
        "trixie/tools/tool#2": third,
        "vmlinux.btf": b"types",
    }
