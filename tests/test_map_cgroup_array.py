"""Arrays of cgroups: a program tells whether the task that runs it is in one."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support import cgroup_tree

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from pathlib import Path

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.needs("map_type:cgroup_array", *cgroup_tree.NEEDS)]

OUTSIDE, INSIDE, EMPTY = "0", "1", str(2**32 - errno.EAGAIN)


def _current_task_is_in(array_fd: int, slot: int) -> list[Instruction]:
    return [
        b.ld_map_fd(b.R1, array_fd),
        b.mov_imm(b.R2, slot),
        b.call(helper_number("current_task_under_cgroup")),
        b.exit_(),
    ]


@pytest.fixture
def array(backend: Backend) -> Iterator[rawbpf.CgroupArrayMap]:
    with rawbpf.Map.create("cgroup_array", max_entries=2, name="groups") as made:
        yield made


@pytest.fixture
def group(backend: Backend) -> Iterator[Path]:
    if backend.name == "sim":
        yield cgroup_tree.ROOT  # any will do, and an ordinary user makes none
        return
    with cgroup_tree.new_cgroup() as made:
        yield made


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:raw_tracepoint")
def test_a_program_tells_whether_the_task_is_in_the_cgroup(array: rawbpf.CgroupArrayMap, group: Path) -> None:
    with rawbpf.Program.load("raw_tracepoint", _current_task_is_in(array.fileno(), 1)) as program:

        def ask() -> str:
            return str(program.run().retval)

        assert ask() == EMPTY
        array[1] = group
        assert (ask(), cgroup_tree.run_inside(group, ask)) == (OUTSIDE, INSIDE)
        with cgroup_tree.new_cgroup(group) as below:
            assert cgroup_tree.run_inside(below, ask) == INSIDE
            array[1] = str(below)
            assert (cgroup_tree.run_inside(below, ask), cgroup_tree.run_inside(group, ask)) == (INSIDE, OUTSIDE)
        array.put_many({0: group, 1: group})
        assert cgroup_tree.run_inside(group, ask) == INSIDE
        del array[1]
        assert (ask(), cgroup_tree.run_inside(group, ask)) == (EMPTY, EMPTY)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:raw_tracepoint")
def test_a_cgroup_is_a_path_of_any_kind_or_what_is_open_on_it(array: rawbpf.CgroupArrayMap, group: Path) -> None:
    class Directory:
        def __init__(self) -> None:
            self.fd = os.open(group, os.O_RDONLY)

        def fileno(self) -> int:
            return self.fd

    directory = Directory()
    cgroup: Any
    try:
        with rawbpf.Program.load("raw_tracepoint", _current_task_is_in(array.fileno(), 0)) as program:
            for cgroup in (group, str(group), directory):
                array[0] = cgroup_tree.ROOT
                array.put(0, cgroup)
                assert cgroup_tree.run_inside(group, lambda: str(program.run().retval)) == INSIDE
                assert str(program.run().retval) == OUTSIDE
    finally:
        os.close(directory.fd)


def test_what_cannot_be_read_has_no_verbs_for_it(array: rawbpf.CgroupArrayMap) -> None:
    for verb in ("get", "keys", "values", "items", "snapshot", "batches", "clear", "open", "insert", "replace"):
        assert not hasattr(array, verb)
    verbs: list[Any] = [lambda m: m[0], len, iter, reversed, lambda m: 0 in m]
    for ask in verbs:
        with pytest.raises(TypeError):
            ask(array)
    assert array


def test_what_is_no_cgroup_is_refused(array: rawbpf.CgroupArrayMap, group: Path, tmp_path: Path) -> None:
    with pytest.raises(rawbpf.BpfError, match="EBADF: it is no directory of cgroup version 2, which is mounted at"):
        array[0] = tmp_path
    with pytest.raises(rawbpf.BpfError, match="no directory of cgroup version 2") as caught:
        array.update({0: group, 1: tmp_path})
    assert caught.value.applied == 1
    with pytest.raises(FileNotFoundError):
        array[0] = tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        array.update({0: group, 1: tmp_path / "missing"})
    with pytest.raises(NotADirectoryError):
        array[0] = group / "cgroup.procs"
    assert "-> descriptor of a cgroup, max_entries" in repr(array)
    with pytest.raises(
        TypeError, match=r"expected a cgroup, by the path of its directory, or that, open, as an object"
    ):
        array[0] = 5  # type: ignore[assignment]
    with open(group / "cgroup.procs", "rb") as gone:
        pass
    with pytest.raises(ValueError, match="closed file"):
        array[0] = gone


def test_slots_are_emptied_once_and_counted_from_0(array: rawbpf.CgroupArrayMap, group: Path) -> None:
    array[1] = group
    del array[1]
    with pytest.raises(rawbpf.KeyNotFound):
        del array[1]
    verbs: list[Any] = [lambda: array.put(2, group), lambda: array.__delitem__(2)]
    for verb in verbs:
        with pytest.raises(rawbpf.IndexOutOfRange, match="no index 2: max_entries is 2"):
            verb()


def test_a_closed_array_says_so(array: rawbpf.CgroupArrayMap, group: Path) -> None:
    array.close()
    with pytest.raises(rawbpf.Closed):
        array[0] = group
    with pytest.raises(rawbpf.Closed):
        array.update({0: group})
    with pytest.raises(rawbpf.Closed):
        del array[0]


def test_the_raw_array_takes_descriptors_as_bytes(array: rawbpf.CgroupArrayMap, group: Path) -> None:
    fd = os.open(group, os.O_RDONLY)
    try:
        array.raw[bytes(4)] = fd.to_bytes(4, sys.byteorder)
        del array[0]
    finally:
        os.close(fd)
