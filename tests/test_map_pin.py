"""Pins, also in file systems that are mounted nowhere; what each mode allows; and lists of maps that come and go."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs
from support.objects import native
from support.verbs import BOTH, EITHER, READS, WRITES, Verb

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.map import map_update_elem
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("settled")]


@pytest.fixture
def root(backend: Backend) -> Iterator[Path]:
    with bpffs(backend) as path:
        yield path


@pytest.fixture
def directory(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _map(**options: Any) -> rawbpf.HashMap[int, int]:
    return rawbpf.HashMap.create(key="u32", value="u64", max_entries=8, name="pinned", **options)


@pytest.mark.needs("btf_name:BPF_F_PATH_FD")
def test_a_pin_below_a_directory_is_made_opened_and_removed_through_its_descriptor(
    backend: Backend, root: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    calls: list[Call] = []
    with _map(backend=TraceBackend(backend, calls.append)) as m:
        m[1] = 5
        m.pin("here", dir_fd=directory)
        assert calls[-1].fields["path_fd"] == directory
        assert calls[-1].fields["file_flags"] == c.BPF_F_PATH_FD
        assert (root / "here").exists()
        with rawbpf.Map.from_pin("here", "r", dir_fd=directory) as again:
            assert again.same_as(m) or again.id == m.id
            assert again[1] == 5
            with pytest.raises(rawbpf.PermissionDenied):
                again[1] = 6
            again.unpin()
        assert not (root / "here").exists()
        m.unpin()  # gone already, which is what was wanted


@pytest.mark.needs("btf_name:BPF_F_PATH_FD")
def test_an_object_with_a_descriptor_names_the_directory_as_well(root: Path, directory: int) -> None:
    class Directory:
        def fileno(self) -> int:
            return directory

    os.mkdir("inner", dir_fd=directory)
    with _map() as m:
        m.pin("inner/there", dir_fd=Directory())
        with rawbpf.Map.from_pin(b"inner/there".decode(), dir_fd=Directory()) as again:
            assert again.id == m.id
        m.unpin()
    assert os.listdir(root / "inner") == []


@pytest.mark.needs("btf_name:BPF_F_PATH_FD")
def test_another_directory_under_the_same_number_loses_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("theirs")
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    with _map() as m:
        m.pin("here", dir_fd=fd)
        other = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        os.dup2(other, fd)  # closed by its owner, the number used again
        os.close(other)
        with pytest.raises(ValueError, match=r"dir_fd \d+\) has been closed"):
            m.unpin()
        os.close(fd)
        with pytest.raises(ValueError, match="has been closed"):
            m.unpin()
        m._pins.clear()
    assert (tmp_path / "here").exists()
    assert (root / "here").exists()


@pytest.mark.parametrize("dir_fd", ["x", 1.5, object()])
def test_what_is_no_directory_is_refused_before_the_call(root: Path, dir_fd: Any) -> None:
    with _map() as m:
        with pytest.raises(TypeError, match="dir_fd=: expected a descriptor"):
            m.pin("here", dir_fd=dir_fd)
        with pytest.raises(TypeError, match="dir_fd=: expected a descriptor"):
            rawbpf.Map.from_pin("here", dir_fd=dir_fd)
        with pytest.raises(ValueError, match="not pinned by this object"):
            m.unpin()


@pytest.mark.parametrize("batches", [True, False], ids=["batches", "one by one"])
@pytest.mark.parametrize("mode", ["r", "w", "rw"])
def test_each_verb_keeps_to_the_mode(backend: Backend, root: Path, mode: str, batches: bool) -> None:
    commands = (
        c.BPF_MAP_LOOKUP_BATCH,
        c.BPF_MAP_UPDATE_BATCH,
        c.BPF_MAP_DELETE_BATCH,
        c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    )
    faults: dict[int, list[tuple[int, int]]] = (
        {} if batches else {cmd: [(n, 22) for n in range(1, 50)] for cmd in commands}
    )
    old = FaultBackend(backend, faults)
    wrong = []
    for allowed, table in (("r" in mode, READS), ("w" in mode, WRITES), (mode == "rw", BOTH), (True, EITHER)):
        for name, verb in table.items():
            with _map(pin=root / "m") as m:
                m.update({1: 1, 2: 2})
                before = m.snapshot()
                with rawbpf.Map.from_pin(root / "m", mode, backend=old) as opened:
                    refusal = _refusal(verb, opened)
                if (refusal is None) != allowed:
                    wrong.append(f"{name}: {refusal or 'allowed'}")
                elif refusal is not None and (refusal.errno != 1 or "only" not in refusal.hint):
                    wrong.append(f"{name}: {refusal}")
                elif not allowed and m.snapshot() != before:
                    wrong.append(f"{name}: refused and changed the map")
                m.unpin()
    assert not wrong, "\n".join(wrong)


def _refusal(verb: Verb, m: Any) -> rawbpf.PermissionDenied | None:
    try:
        verb(m)
    except rawbpf.PermissionDenied as error:
        return error
    return None


@pytest.mark.parametrize("mode", ["r", "w"])
def test_an_array_in_memory_keeps_to_the_mode(root: Path, mode: str) -> None:
    with rawbpf.Map.create("array", value="u64", max_entries=4, flags=c.BPF_F_MMAPABLE, pin=root / "m") as m:
        with rawbpf.Map.from_pin(root / "m", mode) as opened, pytest.raises(rawbpf.BpfError):
            opened.memory()
        m.unpin()


@pytest.mark.real_kernel("another process is to see the map, too")
def test_another_process_opens_each_mode(root: Path) -> None:
    code = """if True:
        import sys, rawbpf
        for mode in ("r", "w", "rw"):
            with rawbpf.Map.from_pin(sys.argv[1], mode) as m:
                said = []
                for verb in (lambda: m[1], lambda: m.put(2, 7), lambda: m.pop(2), m.clear):
                    try:
                        verb()
                        said.append("ok")
                    except rawbpf.PermissionDenied:
                        said.append("no")
                print(mode, *said)
    """
    with _map(pin=root / "m") as m:
        m[1] = 5
        output = subprocess.run(
            [sys.executable, "-c", code, str(root / "m")], capture_output=True, text=True, check=True
        )
        assert output.stdout.splitlines() == ["r ok no no no", "w no ok no no", "rw ok ok ok ok"]
        assert m.snapshot() == {}


@pytest.mark.needs("capability:CAP_SYS_ADMIN")
@pytest.mark.parametrize(
    ("by_id", "listing", "mine"),
    [
        pytest.param(c.BPF_MAP_GET_FD_BY_ID, rawbpf.maps, lambda m, _: m.id, id="maps"),
        pytest.param(c.BPF_PROG_GET_FD_BY_ID, rawbpf.programs, lambda _, program: program.id, id="programs"),
        pytest.param(c.BPF_BTF_GET_FD_BY_ID, rawbpf.btfs, lambda m, _: m.info.btf_id, id="btfs"),
    ],
)
def test_what_vanishes_while_it_is_listed_disturbs_nobody(
    backend: Backend,
    by_id: int,
    listing: Callable[[], list[Any]],
    mine: Callable[[Any, Any], int],
) -> None:
    nothing = [mov_imm(0, 0), exit_()]
    with (
        rawbpf.Program.load("socket_filter", nothing),
        rawbpf.Program.load("socket_filter", nothing) as program,
        _map(),
        _map() as stays,
    ):
        first = listing()[0].id
        # Between the listing of its id and the opening its owner has closed it.
        with rawbpf.using(FaultBackend(backend, {by_id: [(1, 2)]})):
            found = [info.id for info in listing()]
        assert mine(stays, program) in found
        assert first not in found


def test_what_a_list_tells_of_a_map_agrees_with_its_info(backend: Backend) -> None:
    with _map() as m:
        (info,) = [each for each in rawbpf.maps(name="pinned", type="hash") if each.id == m.id]
        assert (info.memory, info.frozen, info.owner_prog_type) == (m.info.memory, False, None)
        m.freeze()
        assert m.info.frozen
        assert not info.frozen  # as it was when asked


def test_the_info_of_an_array_of_programs_says_which_it_takes(backend: Backend) -> None:
    with (
        rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()]) as program,
        rawbpf.Map.create("prog_array", max_entries=1) as m,
    ):
        assert m.info.owner_prog_type is None
        map_update_elem(backend, m.fileno(), ctypes.c_uint32(0), ctypes.c_uint32(program.fileno()))
        info = m.info
        compiled = os.path.exists("/proc/sys/net/core/bpf_jit_enable")
        assert (info.owner_prog_type, info.owner_jited) == (c.BPF_PROG_TYPE_SOCKET_FILTER, compiled)


@pytest.mark.needs("module:elftools", "btf_name:BTF_KIND_FLOAT")
def test_a_map_under_its_pin_whose_types_read_other_values_is_not_reused(backend: Backend, root: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.maps["exec_count"].pinning = 1
    for key, value, words in (
        ("s32", "u64", "of its keys it is s32 instead of u32"),
        ("u32", "f64", "of its values it is f64 instead of u64"),
        ("f32", "s64", "of its keys it is f32 instead of u32, of its values it is s64 instead of u64"),
    ):
        with rawbpf.HashMap.create(key=key, value=value, max_entries=10240, pin=root / "exec_count") as theirs:
            with pytest.raises(rawbpf.SpecError, match=words):
                spec.load(pin_dir=root)
            with pytest.raises(rawbpf.SpecError, match=words):
                spec.load(maps={"exec_count": theirs})
            theirs.unpin()
    with rawbpf.HashMap.create(key=4, value=8, max_entries=10240, pin=root / "exec_count") as bare:
        with spec.load(pin_dir=root) as obj:  # bytes fit everything of their size
            assert obj.maps["exec_count"].id == bare.id
        bare.unpin()


def test_a_kernel_that_takes_no_directory_for_a_pin_is_told_as_such(backend: Backend, directory: int) -> None:
    old = FaultBackend(backend, {c.BPF_OBJ_PIN: [(1, 22)], c.BPF_OBJ_GET: [(1, 22)]})
    with _map(backend=old) as m, pytest.raises(rawbpf.BpfError, match=r"dir_fd: since Linux 6\.5"):
        m.pin("here", dir_fd=directory)
    with pytest.raises(rawbpf.BpfError, match=r"dir_fd: since Linux 6\.5"):
        rawbpf.Map.from_pin("here", dir_fd=directory, backend=old)
