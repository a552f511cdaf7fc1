"""What clang leaves to DWARF is read as what it would have put into BTF, and the line of a message makes it do so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.objects import OBJECTS

import rawbpf
from rawbpf.codec import codec_for
from rawbpf.elf.dwarf_types import find_type
from rawbpf.errors import SpecError

if TYPE_CHECKING:
    from rawbpf.btf import Btf
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("tool:clang", "file:/usr/include/bpf/bpf_helpers.h", "module:elftools")

SOURCE = (OBJECTS / "events.bpf.c").read_text()
NATIVE = "bpf" if sys.byteorder == "little" else "bpfeb"
NAMES = ["started", "ended", "header", "packed", "kind", "door_t", "__be16", "unsigned int", "_Bool"]


def compiled(directory: Path, *flags: str, target: str = NATIVE, source: str = SOURCE) -> bytes:
    (directory / "made.c").write_text(source)
    # Debian keeps asm/ per architecture, and clang -target bpf does not look there; any will do.
    asm = next(Path("/usr/include").glob("*-linux-gnu*/asm/types.h")).parents[1]
    command = ["clang", "-O2", "-g", "-mcpu=v2", "-target", target, f"-I{asm}", *flags, "-c", "made.c", "-o", "made.o"]
    subprocess.run(command, cwd=directory, check=True)
    return (directory / "made.o").read_bytes()


def btf_of(data: bytes) -> Btf:
    btf = rawbpf.ObjectSpec.from_bytes(data).btf
    assert btf is not None
    return btf


@pytest.mark.parametrize("target", ["bpf", "bpfeb"])
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["-gdwarf-2"], id="2"),
        pytest.param(["-gdwarf-3"], id="3"),
        pytest.param(["-gdwarf-4"], id="4"),
        pytest.param(["-gdwarf-5"], id="5"),
        pytest.param(["-gdwarf-5", "-gdwarf64"], id="5-64-bit"),
        pytest.param(["-gdwarf-4", "-gz=zlib"], id="4-compressed"),
        pytest.param(["-gdwarf-5", "-gz=zlib"], id="5-compressed"),
    ],
)
def test_every_type_is_the_one_that_btf_has_where_the_compiler_keeps_it(
    tmp_path: Path, target: str, flags: list[str]
) -> None:
    kept = btf_of(compiled(tmp_path, "-DKEPT", target=target))
    data = compiled(tmp_path, *flags, target=target)
    assert "started" not in btf_of(data)
    for name in NAMES:
        found = find_type(data, "events.o", name)
        assert found is not None, name
        assert str(found) == str(kept[name])
        assert codec_for(found).explain() == codec_for(kept[name]).explain()


@pytest.mark.needs("tool:llvm-strip", "map_type:ringbuf")
def test_the_line_of_the_message_makes_clang_keep_the_type(backend: Backend, tmp_path: Path) -> None:
    def load(source: str) -> rawbpf.ObjectSpec:
        compiled(tmp_path, source=source)
        subprocess.run(["llvm-strip", "-g", "made.o"], cwd=tmp_path, check=True)
        return rawbpf.ObjectSpec.from_file(tmp_path / "made.o")

    with load(SOURCE).load(only=[]) as obj, pytest.raises(SpecError) as error:
        obj.maps["events"]._struct("started")
    line = re.search(r"struct started \*.*;", str(error.value))
    assert line is not None
    with load(SOURCE.replace('SEC("xdp")', f'{line[0]}\n\nSEC("xdp")')).load(only=[]) as obj:
        assert obj.maps["events"]._struct("started").size == 128
