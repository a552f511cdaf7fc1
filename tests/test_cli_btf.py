"""`rawbpf btf dump`: from where types are read, in what form they are shown, and what is said when they cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.btf_samples import VMLINUX, sample
from support.command import run
from support.elf_writer import ElfWriter
from support.objects import native

import rawbpf
from rawbpf.btf import Btf, Builder

KERNEL = pytest.mark.needs(f"file:{VMLINUX}")
ELF = pytest.mark.needs("module:elftools")
EM_X86_64 = 62


def dump(*arguments: object) -> str:
    status, out, told = run("dump", *arguments, command="btf")
    assert (status, told) == (0, "")
    return out


def refusal(*arguments: object) -> str:
    status, out, told = run("dump", *arguments, command="btf")
    assert (status, out) == (1, "")
    return told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sample.btf"
    path.write_bytes(sample(sys.byteorder)[0])
    return path


@KERNEL
def test_without_arguments_it_writes_the_header_of_the_running_kernel() -> None:
    assert dump() == Btf.from_bytes(Path(VMLINUX).read_bytes()).to_c()


@KERNEL
@pytest.mark.parametrize("source", ["vmlinux", VMLINUX])
def test_the_kernel_goes_by_its_name_and_by_its_file(source: str) -> None:
    text = dump(source, "--type", "list_head", "--type", "pid_t")
    assert text == Btf.from_bytes(Path(VMLINUX).read_bytes()).to_c(["list_head", "pid_t"])


def test_a_file_of_btf_is_shown_in_each_form(file: Path) -> None:
    btf = Btf.from_bytes(file.read_bytes())
    assert dump(file) == dump(file, "--format", "c") == btf.to_c()
    assert dump(file, "--format", "python", "--type", "event") == btf.to_python("event")
    first, second, *_ = dump(file, "--format", "raw", "--type", "number").splitlines()
    assert first.endswith("UNION 'number' size=8 vlen=2")
    assert second == f"\t'i' type_id={btf['int'].id} bits_offset=0"


@pytest.mark.needs("tool:bpftool")
def test_the_raw_form_is_bpftools(file: Path) -> None:
    command = ["bpftool", "btf", "dump", "file", str(file)]
    assert dump(file, "--format", "raw") == subprocess.run(command, capture_output=True, text=True, check=True).stdout


@ELF
def test_an_object_is_shown_as_the_compiler_wrote_it() -> None:
    assert "typedef __u32 uid_t;" in dump(native("execcount"))
    assert "DATASEC '.maps' size=0 " in dump(native("execcount"), "--format", "raw")
    assert "uid_t = ctypes.c_uint32\n" in dump(native("execcount"), "--format", "python")


def module_file(tmp_path: Path, *, own_base: bool) -> tuple[Path, Path]:
    """Return a kernel's BTF and a module's file, which may bring a base of its own."""
    kernel = Builder()
    kernel.struct("list_head", 8, [("next", kernel.ptr(0), 0)])
    (tmp_path / "kernel").write_bytes(kernel.to_bytes())
    small = Builder()
    small.struct("list_head", 8, [])
    base = Btf.from_bytes((small if own_base else kernel).to_bytes())
    module = Builder(base=base)
    module.struct("driver", 8, [("list", base["list_head"].id, 0)])
    elf = ElfWriter(machine=EM_X86_64)
    elf.section(".BTF", module.to_bytes())
    if own_base:
        elf.section(".BTF.base", base.raw)
    (tmp_path / "driver.ko").write_bytes(elf.build())
    return tmp_path / "kernel", tmp_path / "driver.ko"


@ELF
@pytest.mark.parametrize("own_base", [False, True], ids=["beside its kernel", "apart from it"])
def test_types_of_a_modules_file_continue_those_of_the_base(own_base: bool, tmp_path: Path) -> None:
    kernel, module = module_file(tmp_path, own_base=own_base)
    text = dump(module, "--base", kernel)
    assert "struct list_head {\n\tvoid *next;\n};" in text
    assert "struct driver {\n\tstruct list_head list;\n};" in text
    assert dump(module, "--base", kernel, "--format", "raw").startswith("[3] STRUCT 'driver' size=8 vlen=1\n")


@ELF
def test_a_module_without_its_base_is_refused_with_the_option_that_it_needs(tmp_path: Path) -> None:
    _, module = module_file(tmp_path, own_base=False)
    assert "types of a module continue the kernel's: --base vmlinux" in refusal(module)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["absent"], "rawbpf: absent: no such file, and no module of that name is loaded", id="no module"),
        pytest.param(["./absent"], "rawbpf: ./absent: No such file or directory", id="no file"),
        pytest.param(["/"], "rawbpf: /: Is a directory", id="directory"),
        pytest.param([""], "rawbpf: : no such file", id="nothing"),
        pytest.param(["/dev/zero"], "rawbpf: /dev/zero: a device is no file with types", id="endless"),
        pytest.param(["/dev/null", "--base", "vmlinux"], "/dev/null: a device is no file with types", id="device"),
        pytest.param(["FILE", "--type", "no\x1bthing"], "has no type 'no\\x1bthing'", id="no such type"),
        pytest.param(["FILE", "--base", "absent"], "rawbpf: absent: no such file", id="no base"),
        pytest.param(["FILE", "--format", "python", "--type", "count"], "has no type 'count'", id="no value type"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(arguments: list[str], text: str, file: Path) -> None:
    told = refusal(*(str(file) if word == "FILE" else word for word in arguments))
    assert text in told
    assert told.count("\n") == 1


@ELF
def test_files_without_types_and_damaged_ones_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "some"
    for content, text in (
        (b"\x9f\xeb\x02", "too few for a header"),
        (b"#!/bin/sh", "some: neither BTF nor an ELF file (it begins with b'#!/b')"),
        (b"", "some: is empty"),
        (ElfWriter(machine=EM_X86_64).build(), "has no .BTF section"),
    ):
        path.write_bytes(content)
        assert text in refusal(path)


@pytest.mark.parametrize(
    ("start", "text"),
    [(b"", "neither BTF nor an ELF file"), (b"\x7fELF", "is too large: 1099511627776 bytes, and at most 2147483648")],
)
def test_a_file_that_memory_would_not_hold_is_told_by_its_beginning(tmp_path: Path, start: bytes, text: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(start)
    os.truncate(path, 1 << 40)
    assert text in refusal(path)
    with pytest.raises(rawbpf.FormatError, match=r"image: (not an ELF file|is too large)"):
        rawbpf.ObjectSpec.from_file(path)
