"""Maps are opened by descriptor, id, pin and name, with the types that they carry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs
from support.leaks import Snapshot, left_since

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.map.create import open_map
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.host import KernelHost
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("settled")]

VALUE = {"count": "u64", "comm": "char[16]"}


def _map(name: str = "opened") -> rawbpf.HashMap[int, Any]:
    return rawbpf.HashMap.create(key="u32", value=VALUE, max_entries=8, name=name)


def test_an_opened_map_has_the_class_and_types_of_the_original(backend: Backend) -> None:
    with _map() as m:
        m[1] = {"count": 2, "comm": "cat"}
        with (
            rawbpf.Map.from_id(m.id) as by_id,
            rawbpf.Map.from_fd(m.fileno()) as by_fd,
            rawbpf.Map.from_name("opened") as by_name,
        ):
            for other in (by_id, by_fd, by_name):
                assert isinstance(other, rawbpf.HashMap)
                assert other.same_as(m)
                assert other[1].comm == "cat"
                assert other.max_entries == 8
                assert other.name == "opened"
        assert m[1].count == 2


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("hash", rawbpf.HashMap),
        ("array", rawbpf.ArrayMap),
        ("lru_hash", rawbpf.LruHashMap),
        ("percpu_hash", rawbpf.PerCpuHashMap),
        ("percpu_array", rawbpf.PerCpuArrayMap),
        ("lru_percpu_hash", rawbpf.LruPerCpuHashMap),
    ],
)
def test_each_type_opens_as_its_class(backend: Backend, kind: str, family: type[rawbpf.Map[object, object]]) -> None:
    with (
        rawbpf.Map.create(kind, key="u32", value="s32", max_entries=4) as m,
        rawbpf.Map.from_id(m.id) as again,
    ):
        assert isinstance(m, family)
        assert isinstance(again, family)
        assert again.value_type.name == m.value_type.name
        assert type(again).__name__ == family.__name__


@pytest.mark.real_kernel("another process is to see the map, too")
def test_a_pin_outlives_the_object_and_opens_in_another_process(backend: Backend) -> None:
    with bpffs(backend) as root:
        path = root / "m"
        with _map() as m:
            m.pin(path)
            m[1] = {"count": 5, "comm": "dog"}
        code = """if True:
            import sys, rawbpf
            with rawbpf.Map.from_pin(sys.argv[1]) as m:
                print(m[1].comm, m[1].count)
                m[2] = m[1]
        """
        output = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert output.stdout.split() == ["dog", "5"]
        with rawbpf.Map.from_pin(path) as again:
            assert again[2].count == 5
            again.unpin()
            assert not path.exists()
            with pytest.raises(ValueError, match="not pinned"):
                again.unpin()


def test_a_relative_pin_is_found_again_from_elsewhere(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with bpffs(backend) as root, _map() as m:
        monkeypatch.chdir(root.parent)
        m.pin(f"{root.name}/here")
        with rawbpf.Map.from_pin(f"{root.name}/here") as again:
            monkeypatch.chdir("/")
            again.unpin()
        assert not (root / "here").exists()
        m.unpin()  # gone already, which is what was wanted


@pytest.mark.parametrize(("mode", "reads", "writes"), [("r", True, False), ("w", False, True), ("rw", True, True)])
def test_the_mode_of_a_pin_is_kept(backend: Backend, mode: str, reads: bool, writes: bool) -> None:
    with bpffs(backend) as root, _map() as m:
        m.pin(root / "m")
        m[1] = {"count": 5, "comm": "dog"}
        with rawbpf.Map.from_pin(root / "m", mode=mode) as opened:
            operations: list[tuple[bool, Callable[[], object]]] = [
                (reads, lambda: opened[1]),
                (writes, lambda: opened.put(2, m[1])),
            ]
            for allowed, operation in operations:
                if allowed:
                    operation()
                else:
                    with pytest.raises(rawbpf.PermissionDenied, match="opened"):
                        operation()
        with pytest.raises(ValueError, match="'r', 'w' or 'rw'"):
            rawbpf.Map.from_pin(root / "m", mode="x")


def test_what_is_not_there_is_said(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(rawbpf.BpfError, match="no-such"):
        rawbpf.Map.from_pin("/no-such/pin")
    with pytest.raises(rawbpf.BpfError, match="no map has this name"):
        rawbpf.Map.from_name("no-such-map")
    with pytest.raises(rawbpf.BpfError) as caught:
        rawbpf.Map.from_id(2**31 - 2)
    assert caught.value.errno == 2
    with pytest.raises(rawbpf.Closed):
        rawbpf.Map.from_fd(2**20, own=True)
    with pytest.raises(TypeError, match=r"from_id\(\) takes the number of a map, got 'x'"):
        rawbpf.Map.from_id("x")  # type: ignore[arg-type]
    with open(os.devnull, "rb") as file, pytest.raises(rawbpf.BpfError, match="no bpf object, not a map"):
        rawbpf.Map.from_fd(file.fileno())
    with rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()]) as program:
        for own in (False, True):
            with pytest.raises(rawbpf.BpfError, match="a program, not a map"):
                rawbpf.Map.from_fd(program.fileno(), own)
        assert program.info.id == program.id
    with _map() as m, pytest.raises(rawbpf.PermissionDenied, match=r"bpf file system|bpffs"):
        m.pin(tmp_path / "m")


def test_a_name_that_several_maps_have_lists_their_ids(backend: Backend) -> None:
    with _map("twice") as one, _map("twice") as two:
        with pytest.raises(ValueError, match=rf"{one.id}.*{two.id}"):
            rawbpf.Map.from_name("twice")
        assert {info.id for info in rawbpf.maps(name="twice")} == {one.id, two.id}
        assert rawbpf.maps(name="twice", type="array") == []


def test_a_frozen_map_is_read_only_to_user_space(backend: Backend) -> None:
    with _map() as m:
        m[1] = {"count": 5, "comm": "dog"}
        frozen = [m.info.frozen]
        m.freeze()
        assert [*frozen, m.info.frozen] == [False, True]
        assert m[1].count == 5
        for refused in (lambda: m.put(1, m[1]), lambda: m.pop(1), m.clear, lambda: m.update({2: m[1]})):
            with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
                refused()


def test_info_tells_what_the_kernel_knows(backend: Backend) -> None:
    with _map() as m:
        info = m.info
        assert (info.name, info.key_size, info.value_size, info.max_entries) == ("opened", 4, 24, 8)
        assert info.type == 1
        assert repr(info.type) == "<MapType.HASH: 1>"
        assert info.memory is not None
        assert info.memory > 0
        assert "opened" in repr(info)


def test_a_descriptor_handed_over_stays_the_callers_when_opening_fails(backend: Backend) -> None:
    with rawbpf.Map.create("hash", key="u32", value="u32", max_entries=1) as m:
        fd = os.dup(m.fileno())
        try:
            refusing = FaultBackend(backend, {c.BPF_OBJ_GET_INFO_BY_FD: [(1, 1)]})
            with pytest.raises(rawbpf.PermissionDenied):
                rawbpf.Map.from_fd(fd, own=True, backend=refusing)
            with rawbpf.Map.from_fd(fd) as opened:
                assert opened.same_as(m)
        finally:
            os.close(fd)


@pytest.mark.real_kernel("it asks about the running kernel")
def test_no_descriptor_is_left_where_the_number_of_cpus_cannot_be_read(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: KernelHost) -> int:
        raise PermissionError(13, "no sysfs here")

    monkeypatch.setattr(KernelHost, "possible_cpus", property(refuse))
    with pytest.raises(PermissionError, match="no sysfs"):
        rawbpf.Map.create("percpu_hash", key="u32", value="u32", max_entries=1)


def test_codecs_of_another_size_than_the_maps_are_refused(backend: Backend) -> None:
    with rawbpf.Map.create("hash", key="u32", value=64, max_entries=1) as m, pytest.raises(rawbpf.SpecError) as caught:
        open_map(backend, m.fileno(), m._shape, m.key_type, rawbpf.codec_for("u64"))
    assert "4 and 64 bytes, but their types do not: u32 has 4 and u64 8" in str(caught.value)


def test_btf_objects_are_listed(backend: Backend) -> None:
    with _map() as m:
        (mine,) = [info for info in rawbpf.btfs() if info.id == m.info.btf_id]
        assert (mine.name, mine.kernel) == ("", False)
        assert mine.size > 24
        assert f"{mine.id}: loaded" in repr(mine)


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.needs("btf_name:kernel_btf")
def test_the_kernels_own_btf_is_listed_by_name(backend: Backend) -> None:
    (kernel,) = rawbpf.btfs(name="vmlinux")
    assert kernel.kernel
    assert kernel.size == len(backend.host.btf())


def test_where_btf_objects_have_no_names_they_are_listed_all_the_same(backend: Backend) -> None:
    # Before Linux 5.11: what asks for the name is refused, what does not is answered.
    old = FaultBackend(backend, {c.BPF_OBJ_GET_INFO_BY_FD: [(n, 7) for n in range(1, 4001, 2)]})
    with _map() as m:
        btf_id = m.info.btf_id
        with rawbpf.using(old):
            listed = {info.id: info for info in rawbpf.btfs()}
    assert listed[btf_id].size > 24
    assert {info.name for info in listed.values()} == {""}
    assert old.calls[c.BPF_OBJ_GET_INFO_BY_FD] == 2 * len(listed)


def test_a_token_that_is_closed_is_for_the_kernel_to_refuse(backend: Backend) -> None:
    with pytest.raises(rawbpf.BpfError) as caught:
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, token=-1)
    assert caught.value.errno in {9, 22}  # EINVAL before there were tokens


def test_a_class_opens_maps_of_its_type_and_no_others(backend: Backend) -> None:
    with bpffs(backend) as pins, _map("of_one_class") as m:
        m.pin(pins / "wanted")
        opened: list[Callable[[type[rawbpf.Map[Any, Any]]], rawbpf.Map[Any, Any]]] = [
            lambda family: family.from_pin(pins / "wanted"),
            lambda family: family.from_id(m.id),
            lambda family: family.from_fd(m),
            lambda family: family.from_name("of_one_class"),
        ]
        before = Snapshot()
        for way in opened:
            with way(rawbpf.HashMap) as again, way(rawbpf.Map) as other:
                assert isinstance(again, rawbpf.HashMap)
                assert again.id == other.id == m.id
            with pytest.raises(TypeError, match=r"'of_one_class'.*: QueueMap opens no such map; HashMap and Map do"):
                way(rawbpf.QueueMap)
        assert left_since(before) == []
