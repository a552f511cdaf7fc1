"""Simulated local storage answers as the running kernel does, for owners of every kind, alive and gone."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support import cgroup_tree
from support.btf_image import Image
from support.twin import Side, agree, u32

from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from pathlib import Path


needs_kernel = pytest.mark.needs("kernel")
KINDS = {
    "sk_storage": c.BPF_MAP_TYPE_SK_STORAGE,
    "inode_storage": c.BPF_MAP_TYPE_INODE_STORAGE,
    "task_storage": c.BPF_MAP_TYPE_TASK_STORAGE,
    "cgrp_storage": c.BPF_MAP_TYPE_CGRP_STORAGE,
}
VALUE = b"abcdefgh"
FLAGS = (0, c.BPF_NOEXIST, c.BPF_EXIST, 3, c.BPF_F_LOCK, c.BPF_F_LOCK | c.BPF_EXIST, 8, 1 << 32)


def _load_btf(side: Side, image: Image) -> str:
    content = image.to_bytes()
    buffer = ctypes.create_string_buffer(content, len(content))
    return side.keep("btf", side.call(a.BTF_LOAD, btf=ctypes.addressof(buffer), btf_size=len(content))[0])


def _with_types(side: Side, lock: bool) -> dict[str, int]:
    # Types of a key and of a value of eight bytes, with or without a lock; fields for MAP_CREATE.
    image = Image()
    key = image.integer()
    front = image.struct("bpf_spin_lock" if lock else "plain", 4, [("val", key, 0)])
    value = image.struct("value", 8, [("front", front, 0), ("count", key, 32)])
    assert _load_btf(side, image) == ""
    return {"btf_fd": side.fds["btf"], "btf_key_type_id": key, "btf_value_type_id": value}


def _make(side: Side, kind: str, lock: bool = False) -> str:
    return side.make_map("map", KINDS[kind], 4, 8, 0, c.BPF_F_NO_PREALLOC, **_with_types(side, lock))


def _owners(side: Side, tmp_path: Path) -> Iterator[tuple[str, int]]:
    # A descriptor of each kind of thing that may own something, and of some that may not.
    near, far = socket.socketpair()
    side.stack.callback(far.close)
    side.stack.callback(near.close)
    yield "unix socket", near.fileno()
    yield "its other end", far.fileno()
    tcp = socket.socket()
    side.stack.callback(tcp.close)
    yield "TCP socket", tcp.fileno()

    def opened(path: str, flags: int) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        side.stack.callback(os.close, fd)
        return fd

    (tmp_path / "file").touch()
    yield "file", opened(str(tmp_path / "file"), os.O_RDONLY)
    yield "the same file", opened(str(tmp_path / "file"), os.O_RDWR)
    yield "name of a file", opened(str(tmp_path / "file"), os.O_PATH)
    yield "directory", opened(str(tmp_path), os.O_RDONLY)
    yield "device", opened("/dev/null", os.O_RDONLY)
    yield "this process", _pidfd(side, os.getpid())
    yield "this process again", _pidfd(side, os.getpid())
    yield "the map itself", side.fds["map"]
    with suppress(LookupError):
        yield "cgroup", opened(str(cgroup_tree.current()), os.O_RDONLY)
        yield "name of a cgroup", opened(str(cgroup_tree.current()), os.O_PATH)
        yield "file of a cgroup", opened(f"{cgroup_tree.current()}/cgroup.procs", os.O_RDONLY)
    yield "nothing", -1
    yield "no descriptor", 1_000_000


def _pidfd(side: Side, pid: int) -> int:
    fd = os.pidfd_open(pid)
    side.stack.callback(os.close, fd)
    return fd


@needs_kernel
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lock", [False, True], ids=["plain", "with a lock"])
def test_every_verb_agrees_for_every_owner(kind: str, lock: bool, tmp_path: Path) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield _make(side, kind, lock)
        for name, fd in list(_owners(side, tmp_path)):
            key = u32(fd)
            yield name, "miss", side.lookup("map", key), side.delete("map", key), side.next_key("map", key)
            for flags in FLAGS:
                yield name, flags, side.update("map", key, VALUE, flags), side.lookup("map", key)
            yield name, "hit", side.delete("map", key), side.lookup("map", key), side.lookup_and_delete("map", key)
            yield name, "again", side.update("map", key, VALUE, c.BPF_NOEXIST)
        yield side.next_key("map", None)
        for layout in (a.MAP_LOOKUP_BATCH, a.MAP_UPDATE_BATCH, a.MAP_DELETE_BATCH, a.MAP_LOOKUP_AND_DELETE_BATCH):
            yield side.batch(layout, "map", 1, u32(0), VALUE)
        yield side.call(a.MAP_FREEZE, map_fd=side.fds["map"])[0]

    answers = agree(scenario)
    assert answers[0] == ""
    assert any(isinstance(answer, tuple) and answer[1:] == (0, "", VALUE) for answer in answers) is not lock


def _child() -> tuple[int, Callable[[], object]]:
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)

    def reap() -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    return pid, reap


@needs_kernel
def test_a_task_that_died_has_no_storage_once_it_was_waited_for() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield _make(side, "task_storage")
        pid, kill = _child()
        key = u32(_pidfd(side, pid))
        yield side.update("map", key, VALUE), side.lookup("map", key)
        kill()
        yield "zombie", side.lookup("map", key)
        os.waitpid(pid, 0)
        yield "gone", side.lookup("map", key), side.update("map", key, VALUE), side.delete("map", key)

    assert agree(scenario)[1:] == [("", VALUE), ("zombie", VALUE), ("gone", "ENOENT", "ENOENT", "ENOENT")]


@needs_kernel
@pytest.mark.needs("capability:CAP_SYS_ADMIN", f"file:{cgroup_tree.ROOT}/cgroup.controllers")
def test_a_cgroup_that_was_removed_has_no_storage() -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield _make(side, "cgrp_storage")
        with cgroup_tree.new_cgroup() as path:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            side.stack.callback(os.close, fd)
            yield side.update("map", u32(fd), VALUE), side.lookup("map", u32(fd))
            path.rmdir()
            yield side.lookup("map", u32(fd)), side.update("map", u32(fd), VALUE)

    assert agree(scenario)[1:] == [("", VALUE), ("ENOENT", "ENOENT")]


@needs_kernel
@pytest.mark.parametrize("kind", KINDS)
def test_creation_agrees(kind: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        image = Image()
        key, char = image.integer(), image.integer("char", 1)
        values = {size: image.array(char, key, size) for size in (4, 65407, 65408)}
        yield _load_btf(side, image)
        types = {"btf_fd": side.fds["btf"], "btf_key_type_id": key, "btf_value_type_id": values[4]}
        for flags in (0, 1, 1 | c.BPF_F_CLONE, c.BPF_F_CLONE, 1 | c.BPF_F_RDONLY, 1 | c.BPF_F_RDONLY_PROG, 1 | 4):
            yield flags, side.make_map(f"flags {flags}", KINDS[kind], 4, 4, 0, flags, **types)
        for key_size, value_size, entries in ((4, 4, 1), (8, 4, 0), (0, 4, 0), (4, 0, 0), (4, 8, 0)):
            yield side.make_map("m", KINDS[kind], key_size, value_size, entries, 1, **types)
        for size, number in values.items():
            more = types | {"btf_value_type_id": number}
            yield size, side.make_map(f"size {size}", KINDS[kind], 4, size, 0, 1, **more)
        for field in ("btf_key_type_id", "btf_value_type_id", "btf_fd"):
            yield field, side.make_map("none", KINDS[kind], 4, 4, 0, 1, **(types | {field: 0}))
        yield side.make_map("char key", KINDS[kind], 4, 4, 0, 1, **(types | {"btf_key_type_id": char}))

    assert (1, "") in agree(scenario)


CGROUP_STORAGES = {
    "cgroup_storage": (c.BPF_MAP_TYPE_CGROUP_STORAGE, 65407),
    "percpu_cgroup_storage": (c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 32768),
}


@needs_kernel
@pytest.mark.parametrize(("kind", "limit"), CGROUP_STORAGES.values(), ids=CGROUP_STORAGES)
def test_cgroup_storage_without_a_program_agrees(kind: int, limit: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        for key_size in (4, 8, 12, 16):
            for size, entries, flags in ((4, 0, 0), (0, 0, 0), (4, 1, 0), (4, 0, 1), (4, 0, c.BPF_F_RDONLY_PROG)):
                name = f"{key_size} {size} {entries} {flags}"
                yield name, side.make_map(name, kind, key_size, size, entries, flags)
        yield side.make_map("largest", kind, 8, limit, 0), side.make_map("too large", kind, 8, limit + 1, 0)
        yield side.make_map("map", kind, 16, 8, 0)
        key = bytes(16)
        yield side.lookup("map", key), side.delete("map", key), side.next_key("map", None), side.next_key("map", key)
        for flags in FLAGS:
            yield flags, side.update("map", key, VALUE, flags)
        yield side.lookup_and_delete("map", key), side.call(a.MAP_FREEZE, map_fd=side.fds["map"])[0]

    assert ("8 4 0 0", "") in agree(scenario)


@needs_kernel
@pytest.mark.needs("map_type:struct_ops")
def test_a_struct_of_the_kernel_is_made_and_never_registered() -> None:
    import rawbpf

    types = rawbpf.btf.vmlinux()
    known = types["bpf_struct_ops_tcp_congestion_ops"]
    assert isinstance(known, rawbpf.btf.Composite)
    other = types["task_struct"]

    def scenario(side: Side) -> Iterator[object]:
        image = Image()
        number = image.integer()
        yield _load_btf(side, image)
        fields = {"btf_fd": side.fds["btf"], "btf_vmlinux_value_type_id": known.id}

        def make(name: str, key: int = 4, size: int = known.size, entries: int = 1, flags: int = 0, **more: int) -> str:
            return side.make_map(name, c.BPF_MAP_TYPE_STRUCT_OPS, key, size, entries, flags, **(fields | more))

        yield make("map"), make("link", flags=c.BPF_F_LINK), make("key", key=8), make("size", size=known.size + 8)
        yield make("entries", entries=2), make("flags", flags=1), make("mod", flags=c.BPF_F_VTYPE_BTF_OBJ_FD)
        yield make("mine", flags=c.BPF_F_VTYPE_BTF_OBJ_FD, value_type_btf_obj_fd=side.fds["btf"])
        yield make("other", btf_vmlinux_value_type_id=other.id), make("none", btf_vmlinux_value_type_id=1 << 30)
        yield make("no fd", btf_fd=-1), make("both", btf_value_type_id=number), make("0", btf_vmlinux_value_type_id=0)
        for name in ("map", "link"):
            yield side.next_key(name, None), side.next_key(name, u32(0)), side.next_key(name, u32(7))
            yield side.delete(name, u32(0)), side.delete(name, u32(1)), side.lookup(name, u32(1))
            yield side.update(name, u32(1), b""), side.update(name, u32(0), b"", 1)
            yield side.call(a.MAP_FREEZE, map_fd=side.fds[name])[0]
            yield side.info(name, "btf_vmlinux_value_type_id") == known.id

    made = agree(scenario)[1]
    assert isinstance(made, tuple)
    assert made[:2] == ("", "")
