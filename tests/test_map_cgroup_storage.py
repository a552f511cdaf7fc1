"""Cgroup storage: one program, attached to several cgroups, counts for each of them; the value goes with the cgroup."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cgroup_tree import inside, new_cgroup

import rawbpf
from rawbpf.asm import build as b
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("map_type:cgroup_storage", "prog_type:cgroup_sock")

KINDS = ["cgroup_storage", "percpu_cgroup_storage"]
CREATE, RELEASE = "cgroup_inet_sock_create", "cgroup_inet_sock_release"
DEADLINE = 10.0


def _add_one(map_fd: int) -> list[Instruction]:
    return [
        b.ld_map_fd(b.R1, map_fd),
        b.mov_imm(b.R2, 0),
        b.call(helper_number("get_local_storage")),
        b.mov_imm(b.R1, 1),
        b.atomic_add(b.R0, 0, b.R1),
        b.mov_imm(b.R0, 1),
        b.exit_(),
    ]


def _open_sockets(cgroup: Path, times: int) -> None:
    with inside(cgroup):
        for _ in range(times):
            socket.socket().close()


def _total(value: Any) -> int:
    total: int = (value.sum() if isinstance(value, rawbpf.PerCpu) else value).n
    return total


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def cgroups(backend: Backend) -> Iterator[tuple[Path, Path]]:
    with new_cgroup() as one, new_cgroup() as two:
        yield one, two


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_a_program_counts_for_each_cgroup_that_it_is_attached_to(
    backend: Backend, kind: str, cgroups: tuple[Path, Path]
) -> None:
    one, two = cgroups
    with (
        rawbpf.Map.create(kind, value={"n": "u64"}, name="sockets") as sockets,
        rawbpf.Program.load("cgroup/sock_create", _add_one(sockets.fileno())) as program,
        program.attach_cgroup(one, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE),
        program.attach_cgroup(two, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE),
    ):
        _open_sockets(one, 3)
        _open_sockets(two, 5)
        assert _total(sockets[one, CREATE]) == 3
        assert _total(sockets[str(two), c.BPF_CGROUP_INET_SOCK_CREATE]) == 5
        inodes = {os.stat(path).st_ino: count for path, count in ((one, 3), (two, 5))}
        assert {key.cgroup_inode_id: _total(value) for key, value in sockets.items()} == inodes
        assert {key.attach_type for key in sockets} == {c.BPF_CGROUP_INET_SOCK_CREATE}
        assert len(sockets) == 2
        assert [sockets[key] for key in sockets] == [*sockets.values()]
        assert _total(sockets.top(1, by="n")[0][1]) == 5
        with rawbpf.Map.from_id(sockets.id) as again:
            assert _total(again[one, CREATE]) == 3
            assert again.snapshot() == sockets.snapshot()


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_with_the_cgroup_alone_as_key_attach_types_share_the_value(
    backend: Backend, kind: str, cgroups: tuple[Path, Path]
) -> None:
    one, _ = cgroups
    for key, at_creation in (("u64", 4), (None, 2)):
        with ExitStack() as stack:
            m = stack.enter_context(rawbpf.Map.create(kind, key=key, value={"n": "u64"}))
            for section, attach_type in (
                ("cgroup/sock_create", c.BPF_CGROUP_INET_SOCK_CREATE),
                ("cgroup/sock_release", c.BPF_CGROUP_INET_SOCK_RELEASE),
            ):
                program = stack.enter_context(rawbpf.Program.load(section, _add_one(m.fileno())))
                stack.enter_context(program.attach_cgroup(one, attach_type=attach_type))
            _open_sockets(one, 2)
            if key:
                assert list(m) == [one.stat().st_ino]
                assert _total(m[one]) == _total(m[one.stat().st_ino]) == at_creation
            else:
                assert (_total(m[one, CREATE]), _total(m[one, RELEASE])) == (at_creation, at_creation)


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_a_value_outlives_the_attachment_and_goes_with_the_cgroup(
    backend: Backend, kind: str, cgroups: tuple[Path, Path]
) -> None:
    one, two = cgroups
    with (
        rawbpf.Map.create(kind, key="u64", value={"n": "u64"}) as m,
        rawbpf.Program.load("cgroup/sock_create", _add_one(m.fileno())) as program,
    ):
        with pytest.raises(rawbpf.KeyNotFound, match="attach it first") as caught:
            m[one]
        assert caught.value.key == one
        for times in (1, 2):
            with program.attach_cgroup(one, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE):
                _open_sockets(one, 1)
            _open_sockets(one, 1)  # not counted
            assert _total(m[one]) == times
        with program.attach_cgroup(two, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE):
            assert len(m) == 2
        key = one.stat().st_ino
        one.rmdir()
        _wait_until_gone(m, key)
        assert list(m) == [two.stat().st_ino]


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_what_is_there_can_be_changed_but_not_inserted_or_deleted(
    backend: Backend, kind: str, cgroups: tuple[Path, Path]
) -> None:
    one, two = cgroups
    with (
        rawbpf.Map.create(kind, key="u64", value={"n": "u64"}) as m,
        rawbpf.Program.load("cgroup/sock_create", _add_one(m.fileno())) as program,
        program.attach_cgroup(one, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE),
    ):
        value: Any = (10,) if kind == "cgroup_storage" else rawbpf.PerCpu.filled((10,))
        read = m[one]
        m[one] = value
        m.replace(one, value)
        m.update({one: value})
        _open_sockets(one, 1)
        assert _total(m[one]) == _total(m.lookup(one)) == 10 * (1 if kind == "cgroup_storage" else len(read)) + 1
        for store, arguments in ((m.put, (two, value)), (m.replace, (two, value)), (m.update, ({two: value},))):
            with pytest.raises(rawbpf.KeyNotFound, match="attach it first"):
                store(*arguments)
        with pytest.raises(rawbpf.BpfError, match="EINVAL"):
            m.put(one, value, c.BPF_NOEXIST)
        assert m.get(two, "none") == "none"
        assert two not in m
        for verb in ("insert", "pop", "clear", "drain", "delete_many", "__delitem__"):
            assert not hasattr(m, verb)
        with pytest.raises(rawbpf.NotSupported, match="cannot be deleted"):
            _delete(backend, m, one)


def _delete(backend: Backend, m: Any, key: object) -> None:
    from rawbpf.map.memory import buffer_of
    from rawbpf.syscall.map import map_delete_elem

    map_delete_elem(backend, m.fileno(), buffer_of(m.key_type.pack(key)), map_type=c.BPF_MAP_TYPE_CGROUP_STORAGE)


class _Before(Wrapper):
    """Does something before the third step of a walk."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.steps = 0
        self.action: Callable[[], None] | None = None

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_MAP_GET_NEXT_KEY and self.action is not None:
            self.steps += 1
            if self.steps == 3:
                self.action()
        return call(cmd, attr, size)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_a_walk_that_loses_its_place_starts_anew_and_repeats_nothing(backend: Backend) -> None:
    wrapper = _Before(backend)
    with ExitStack() as stack:
        paths = [stack.enter_context(new_cgroup()) for _ in range(4)]
        m = stack.enter_context(rawbpf.Map.create("cgroup_storage", key="u64", value="u64", backend=wrapper))
        same = stack.enter_context(rawbpf.Map.from_id(m.id))
        program = stack.enter_context(rawbpf.Program.load("cgroup/sock_create", _add_one(m.fileno())))
        for path in paths:
            with program.attach_cgroup(path, attach_type=c.BPF_CGROUP_INET_SOCK_CREATE):
                pass
        inodes = {path.stat().st_ino: path for path in paths}
        order = list(m)
        assert sorted(order) == sorted(inodes)

        def remove_the_second() -> None:
            inodes[order[1]].rmdir()
            _wait_until_gone(same, order[1])

        wrapper.action = remove_the_second
        assert list(iter(m)) == order  # list(m) would walk once more, for the length
        assert wrapper.steps == 7  # two, the lost one, and four for the three that are left
        wrapper.action = None
        assert list(m) == [order[0], *order[2:]]


class _Endless(Wrapper):
    """Lets a key follow the last one, as the kernels do that take the head of their list for an element."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.behind = b""

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = call(cmd, attr, size)
        if cmd == c.BPF_MAP_GET_NEXT_KEY and result < 0:
            key, following = struct.unpack_from("QQ", ctypes.string_at(attr, 24), 8)
            if key and ctypes.string_at(key, 8) != self.behind:
                ctypes.memmove(following, self.behind, 8)
                return 0
        return result


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.parametrize("behind", ["no key", "the first key", "the last key but one"])
def test_a_walk_ends_where_a_kernel_lets_its_own_bytes_follow_the_last_key(backend: Backend, behind: str) -> None:
    wrapper = _Endless(backend)
    with ExitStack() as stack:
        paths = [stack.enter_context(new_cgroup()) for _ in range(3)]
        m = stack.enter_context(rawbpf.Map.create("cgroup_storage", key="u64", value="u64", backend=wrapper))
        same = stack.enter_context(rawbpf.Map.from_id(m.id))
        program = stack.enter_context(rawbpf.Program.load("cgroup/sock_create", _add_one(m.fileno())))
        for path in paths:
            with program.attach_cgroup(path):
                pass
        order = list(same)
        number = {"no key": 1 << 40, "the first key": order[0], "the last key but one": order[1]}[behind]
        wrapper.behind = number.to_bytes(8, sys.byteorder)
        assert list(m) == order


def _wait_until_gone(m: Any, key: object) -> None:
    # The kernel frees it in the background, and nothing signals that.
    deadline = time.monotonic() + DEADLINE
    while key in m:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


KEYS: list[Any] = [
    pytest.param("u32", ValueError, "a key of cgroup_storage maps has 8 or 16 bytes", id="u32"),
    pytest.param({"a": "u64", "b": "u64", "c": "u8"}, ValueError, "8 or 16 bytes", id="too-wide"),
    pytest.param("u8[8]", rawbpf.BpfError, "the key is a u64, or a struct of a u64 and a u32", id="bytes"),
    pytest.param({"a": "u32", "b": "u32", "c": "u64"}, rawbpf.BpfError, "leave key= out", id="another-struct"),
]


@pytest.mark.guest
@pytest.mark.parametrize(("key", "error", "message"), KEYS)
def test_keys_of_another_shape_are_refused(backend: Backend, key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rawbpf.Map.create("cgroup_storage", key=key, value="u64")


@pytest.mark.guest
def test_a_key_that_means_no_cgroup_is_refused(backend: Backend, tmp_path: Path) -> None:
    with rawbpf.Map.create("cgroup_storage", value="u64") as m:
        with pytest.raises(FileNotFoundError):
            m[tmp_path / "absent", CREATE]
        with pytest.raises(ValueError, match="no attach type 'cgroup_inet_sock_crate': did you mean"):
            m[tmp_path, "cgroup_inet_sock_crate"]
        with pytest.raises(TypeError, match="expected a record, dict or tuple of cgroup_inode_id, attach_type"):
            m[5]
        assert (tmp_path, CREATE) not in m
        assert m.key_type(tmp_path, CREATE) == (tmp_path.stat().st_ino, c.BPF_CGROUP_INET_SOCK_CREATE)
        assert m.key_type(cgroup_inode_id=5, attach_type=2) == (5, 2)
        assert "attach_type: u32" in m.key_type.explain()
