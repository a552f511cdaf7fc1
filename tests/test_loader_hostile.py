"""Whatever text an object has, loading and attaching it works or raises the errors that are documented."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tracers
from support.bpffs import bpffs
from support.elf_writer import ElfWriter

import rawbpf
from rawbpf.asm.instruction import encode

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

BPF = Path(__file__).resolve().parents[1] / "bpf"
SHAPES = (Path(__file__).parent / "objects" / "shapes.bpf.o").read_bytes()
BIG = (Path(__file__).parent / "objects" / "shapes.bpfeb.o").read_bytes()

pytestmark = pytest.mark.needs("module:elftools")


def test_a_license_that_is_no_text_reaches_the_kernel_as_it_is(backend: Backend) -> None:
    suffix = "bpf" if backend.host.byteorder == "little" else "bpfeb"
    content = (BPF / f"execcount.{suffix}.o").read_bytes().replace(b"Dual BSD/GPL", b"Dual BSD/GP\xcc")
    spec = rawbpf.ObjectSpec.from_bytes(content)
    assert spec.license == "Dual BSD/GP\udccc"
    with spec.load() as obj:
        assert not obj.programs["count_execve"].info.gpl_compatible


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.parametrize(
    "section",
    ["tp/sched/sched_swit@", "raw_tp/sched_swit@", "tp_btf/sched_swit@", "fentry/@do_nanosleep"],
)
def test_a_target_that_is_no_text_is_not_found(backend: Backend, section: str) -> None:
    spec = _object(backend, section)
    assert spec.programs["main"].section.count("\udcff") == 1
    with pytest.raises(rawbpf.BpfError) as caught, spec.load() as obj:
        obj.attach()
    assert caught.value.errno == errno.ENOENT


def _object(backend: Backend, section: str) -> rawbpf.ObjectSpec:
    # The byte 0xff stands for @.
    elf = ElfWriter(backend.host.byteorder)
    code = encode(tracers.returning(0), backend.host.byteorder)
    elf.section("license", b"GPL\0")
    elf.symbol("main", elf.code(section, code), 0, len(code))
    written = section.encode()
    assert elf.build().count(written) == 1
    return rawbpf.ObjectSpec.from_bytes(elf.build().replace(written, written.replace(b"@", b"\xff")))


def test_no_text_of_an_object_raises_an_error_of_its_own(backend: Backend) -> None:
    # Invariant: load() and attach() succeed or raise BpfError, SpecError, FormatError or ValueError that tells the
    # name, whichever byte of the object's names is no text.
    whole = SHAPES if backend.host.byteorder == "little" else BIG
    names = [b"Dual", b"events\0", b"shared\0", b"jumps\0", b"count_execve", b"sum_up", b".rodata", b"sys_enter_execve"]
    with bpffs(backend) as pins:
        for name in names:
            for broken in (b"\xff", b"\0", b"/"):
                content = whole.replace(name, broken + name[1:])
                assert content != whole
                try:
                    with rawbpf.ObjectSpec.from_bytes(content).load(pin_dir=pins) as obj:
                        obj.attach()
                except UnicodeError as error:
                    raise AssertionError(f"{name!r} beginning with {broken!r}") from error
                except (rawbpf.BpfError, ValueError):
                    continue
