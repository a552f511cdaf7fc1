"""Split BTF, as kernel modules have: built on a base, read back, flattened, and moved to another base."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.btf_samples import VMLINUX, ByteOrder, sample

import rawbpf
from rawbpf.btf import Btf, Builder, Composite, Struct
from rawbpf.btf.listing import raw_lines
from rawbpf.errors import BpfError, FormatError
from rawbpf.sim import Simulator
from rawbpf.sim.btf import KernelBtf
from rawbpf.syscall.btf import btf_load

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


def kernel(byteorder: ByteOrder = sys.byteorder) -> Btf:
    """Return a small kernel's types."""
    b = Builder(byteorder)
    int_, long = b.int("int", 4, signed=True), b.int("long unsigned int", 8)
    list_head = b.struct("list_head", 16, [("next", len(b) + 1, 0), ("prev", len(b) + 1, 64)])
    b.ptr(list_head)
    b.struct("task_struct", 32, [("pid", int_, 0), ("tasks", list_head, 64), ("flags", long, 192)])
    b.enum("pid_type", [("PIDTYPE_PID", 0)])
    b.union("sigval", 8, [("i", int_, 0), ("p", b.ptr(0), 0)])
    b.typedef("pid_t", int_)
    return Btf.from_bytes(b.to_bytes())


def module(base: Btf) -> Btf:
    """Return the types of a module: its own, which refer to the kernel's and share names with them."""
    b = Builder(base=base)
    task = b.ptr(base["task_struct"].id)
    b.struct("driver", 40, [("list", base["list_head"].id, 0), ("task", task, 128), ("pid", base["pid_t"].id, 192),
                            ("mode", b.enum("mode", [("FAST", 1)]), 224), ("own", len(b) + 1, 256)])  # fmt: skip
    b.ptr(len(b) - 1)
    b.struct("task_struct", 4, [("pid", base["int"].id, 0)])
    return Btf.from_bytes(b.to_bytes(), base)


@ORDERS
def test_ids_and_strings_continue_those_of_the_base(byteorder: ByteOrder) -> None:
    base = kernel(byteorder)
    builder = Builder(base=base)
    assert (builder.byteorder, len(builder)) == (byteorder, len(base))
    assert builder.typedef("own_t", base["int"].id) == len(base)
    split = Btf.from_bytes(builder.to_bytes(), base)
    assert (split.first_id, len(split)) == (len(base), len(base) + 1)
    assert split.strings == b"own_t\0"
    assert str(split["own_t"]) == "typedef int own_t;"
    assert split["own_t"].id == len(base)


@ORDERS
def test_types_refer_to_the_base_and_to_one_another(byteorder: ByteOrder) -> None:
    base = kernel(byteorder)
    split = module(base)
    driver = split.find("driver", Struct)
    assert driver is not None
    assert [member.type.btf for member in driver.members] == [base, split, base, split, split]
    assert str(driver) == (
        "struct driver {\n\tstruct list_head list;\n\tstruct task_struct *task;\n\tpid_t pid;\n"
        "\tenum mode mode;\n\tstruct driver *own;\n};"
    )
    assert [type.id for type in split.find_all("task_struct")] == [base["task_struct"].id, len(split) - 1]


def test_a_name_that_the_base_has_is_not_stored_again() -> None:
    base = kernel()
    assert b"task_struct" not in module(base).strings
    assert b"driver\0" in module(base).strings
    for text in ("task_struct", "int", "", "struct", "absent", "task_structs"):
        lies = text if text in ("task_struct", "int", "") else None
        offset = base.string_offset(text)
        assert (None if offset is None else base.string(offset)) == lies


@ORDERS
def test_every_kind_lies_in_a_split_btf_as_elsewhere(byteorder: ByteOrder) -> None:
    whole = Btf.from_bytes(sample(byteorder)[0])
    base = kernel(byteorder)
    builder = Builder(base=base)
    first = builder.add_all(whole)
    split = Btf.from_bytes(builder.to_bytes(), base)
    assert first == len(base)
    assert [str(split[first + type.id - 1]) for type in whole if type.id] == [str(type) for type in whole if type.id]
    assert Btf.from_bytes(split.raw, base).raw == split.raw


@pytest.mark.needs("tool:bpftool")
def test_bpftool_reads_what_was_built(tmp_path: Path) -> None:
    base = kernel()
    builder = Builder(base=base)
    builder.add_all(Btf.from_bytes(sample()[0]))
    split = Btf.from_bytes(builder.to_bytes(), base)
    (tmp_path / "base").write_bytes(base.raw)
    (tmp_path / "split").write_bytes(split.raw)
    command = ["bpftool", "-B", str(tmp_path / "base"), "btf", "dump", "file", str(tmp_path / "split")]
    theirs = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert theirs == [line for type in split if type.id >= split.first_id for line in raw_lines(type)]


def test_a_copy_of_what_the_base_has_is_a_reference() -> None:
    base = kernel()
    split = module(base)
    builder = Builder(base=base)
    assert builder.add(base["pid_t"]) == base["pid_t"].id
    assert builder.add(split["driver"]) > len(base)
    copied = Btf.from_bytes(builder.to_bytes(), base)["driver"]
    assert isinstance(copied, Composite)
    assert copied.members[0].type == base["list_head"]


def test_the_byte_order_is_the_bases() -> None:
    with pytest.raises(ValueError, match="byteorder='little': the base is big-endian"):
        Builder("little", base=kernel("big"))


@ORDERS
def test_flattened_it_is_the_same_without_a_base(byteorder: ByteOrder) -> None:
    split = module(kernel(byteorder))
    builder = Builder(byteorder)
    assert builder.add_all(split) == 1
    flat = Btf.from_bytes(builder.to_bytes())
    assert flat.base is None
    assert [str(type) for type in flat] == [str(type) for type in split]
    assert flat.to_c() == split.to_c()


@pytest.mark.needs(f"file:{VMLINUX}")
def test_types_on_all_of_the_kernels_are_written_with_them() -> None:
    base = Btf.from_bytes(Path(VMLINUX).read_bytes())
    split = module_on(base)
    text = split.to_c()
    assert "\nstruct driver {\n\tstruct list_head list;\n};\n" in text
    assert "\nstruct task_struct {\n" in text
    assert "class driver(ctypes.Structure):" in split.to_python()


def module_on(base: Btf) -> Btf:
    builder = Builder(base=base)
    builder.struct("driver", 16, [("list", base["list_head"].id, 0)])
    return Btf.from_bytes(builder.to_bytes(), base)


def test_several_are_appended_one_after_the_other() -> None:
    builder = Builder()
    first, second = builder.add_all(kernel()), builder.add_all(kernel())
    both = Btf.from_bytes(builder.to_bytes())
    assert (first, second) == (1, len(kernel()))
    assert [type.id for type in both.find_all("pid_t")] == [kernel()["pid_t"].id, kernel()["pid_t"].id + second - 1]
    assert str(both[both.find_all("pid_t")[1].id]) == "typedef int pid_t;"


@pytest.mark.parametrize("nowhere", [2, 0xFFFFFFFF])
def test_a_reference_to_nowhere_is_not_copied(nowhere: int) -> None:
    broken = Builder()
    broken.ptr(nowhere)
    with pytest.raises(FormatError, match=f"refers to type {nowhere}, but ids end at 1"):
        Builder().add_all(Btf.from_bytes(broken.to_bytes()))


@pytest.mark.guest
def test_the_kernel_takes_no_split_btf_from_programs_but_the_same_flattened(backend: Backend) -> None:
    split = module(kernel())
    with pytest.raises(BpfError) as caught:
        btf_load(backend, split.raw)
    assert caught.value.errno == 22
    builder = Builder()
    builder.add_all(split)
    fd = btf_load(backend, builder.to_bytes())
    backend.close(fd)


# Another base ---------------------------------------------------------------------


def distilled() -> Btf:
    """Return a base as a module has it that was built apart: names, sizes, and no members."""
    b = Builder()
    b.int("int", 4, signed=True)
    b.struct("list_head", 16, [])
    b.fwd("task_struct")
    b.enum("pid_type", [])
    b.fwd("sigval", union=True)
    return Btf.from_bytes(b.to_bytes())


def apart(base: Btf) -> Btf:
    """Return types of a module on such a base."""
    b = Builder(base=base)
    b.typedef("pid_t", base["int"].id)
    b.struct("driver", 48, [("list", base["list_head"].id, 0), ("task", b.ptr(base["task_struct"].id), 128),
                            ("pid", len(base), 192), ("type", base["pid_type"].id, 224),
                            ("value", b.ptr(base["sigval"].id), 256), ("own", len(b) + 1, 320)])  # fmt: skip
    b.ptr(len(b) - 1)
    return Btf.from_bytes(b.to_bytes(), base)


def test_types_of_the_kernel_take_the_place_of_a_base_without_members() -> None:
    moved = apart(distilled()).rebase(kernel())
    assert moved.base is not None
    assert len(moved.base) == len(kernel())
    driver = moved.find("driver", Struct)
    assert driver is not None
    assert driver.member("list").type == moved.base["list_head"]
    assert moved.to_c("driver") == apart(kernel()).to_c("driver")
    assert "struct list_head {\n\tstruct list_head *next;" in moved.to_c("driver")


@pytest.mark.needs(f"file:{VMLINUX}")
def test_the_running_kernel_takes_the_place_of_such_a_base() -> None:
    b = Builder()
    b.fwd("task_struct")
    b.struct("list_head", 16, [])
    base = Btf.from_bytes(b.to_bytes())
    own = Builder(base=base)
    own.struct("driver", 24, [("list", 2, 0), ("task", own.ptr(1), 128)])
    target = Btf.from_bytes(Path(VMLINUX).read_bytes())
    driver = Btf.from_bytes(own.to_bytes(), base).rebase(target)["driver"]
    assert isinstance(driver, Struct)
    assert driver.members[0].type == target["list_head"]
    assert driver.id == len(target) + 1


REFUSED: list[tuple[str, Callable[[Builder], object], str]] = [
    ("absent", lambda b: b.struct("absent", 8, []), "is no type of the other"),
    ("another size", lambda b: b.struct("list_head", 24, []), "is no type of the other"),
    ("another kind", lambda b: b.fwd("list_head", union=True), "is no type of the other"),
    ("another sign", lambda b: b.int("int", 4), "is no type of the other"),
    ("without a name", lambda b: b.struct("", 16, []), "is no type of the other"),
    ("what has no counterpart", lambda b: b.ptr(0), "is no type of the other"),
    ("several", lambda b: b.struct("twice", 8, []), "is 2 types of the other"),
]


@pytest.mark.parametrize(("build", "text"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_base_that_the_kernel_does_not_have_is_refused(build: Callable[[Builder], object], text: str) -> None:
    target = Builder()
    target.add_all(kernel())
    target.struct("twice", 8, [])
    target.struct("twice", 8, [("a", 1, 0)])
    b = Builder()
    build(b)
    split = Btf.from_bytes(Builder(base=Btf.from_bytes(b.to_bytes())).to_bytes(), Btf.from_bytes(b.to_bytes()))
    with pytest.raises(FormatError, match=text):
        split.rebase(Btf.from_bytes(target.to_bytes()))


def test_only_what_has_a_base_gets_another() -> None:
    with pytest.raises(ValueError, match="only a split BTF has a base"):
        kernel().rebase(kernel())


# In the kernel --------------------------------------------------------------------


class _Module(KernelBtf):
    name = b"driver"
    content = b""


@pytest.mark.guest
@pytest.mark.needs("kernel")
def test_loaded_types_are_read_by_id(backend: Backend) -> None:
    fd = btf_load(backend, kernel().raw)
    try:
        before = {info.id for info in rawbpf.btfs()}
        (info,) = [info for info in rawbpf.btfs() if info.id == max(before)]
        assert info.types().raw == kernel().raw
    finally:
        backend.close(fd)
    with pytest.raises(BpfError) as caught:
        info.types()
    assert caught.value.errno == 2


def test_the_kernels_own_types_are_read_by_id(backend: Backend) -> None:
    (info,) = rawbpf.btfs("vmlinux")
    assert info.types() is rawbpf.btf.vmlinux()


@pytest.mark.needs(f"file:{VMLINUX}")
def test_a_modules_types_continue_the_kernels() -> None:
    with Simulator() as sim, rawbpf.using(sim):
        builder = Builder(base=rawbpf.btf.vmlinux())
        builder.struct("driver", 16, [("list", rawbpf.btf.vmlinux()["list_head"].id, 0)])
        loaded = _Module(sim.host)
        loaded.content = builder.to_bytes()
        sim._kernel.btfs.add(loaded)
        (info,) = rawbpf.btfs("driver")
        types = info.types()
        assert types.base is rawbpf.btf.vmlinux()
        assert types["driver"].id == len(types.base)
        assert types["list_head"] == types.base["list_head"]
