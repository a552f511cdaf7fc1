"""Local storage: programs keep a value per socket, task and cgroup, which is read by its owner and dies with it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import tracers
from support.cgroup_tree import current, inside, new_cgroup
from support.needs import require

import rawbpf
from rawbpf.asm import build as b
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

KINDS = ["sk_storage", "inode_storage", "task_storage", "cgrp_storage"]
COUNT = {"count": "u64"}


def _add_one(map_fd: int, helper: str, skip: int = 0) -> list[Instruction]:
    # R2 is the owner. Adds one to its value, which is made if need be, and returns 1.
    return [
        b.ld_map_fd(b.R1, map_fd),
        b.mov_imm(b.R3, 0),
        b.mov_imm(b.R4, 1),  # BPF_LOCAL_STORAGE_GET_F_CREATE
        b.call(helper_number(helper)),
        b.jump_imm(b.R0, "==", 0, 2 + skip),
        b.mov_imm(b.R1, 1),
        b.atomic_add(b.R0, 0, b.R1),
        b.mov_imm(b.R0, 1),
        b.exit_(),
    ]


def _per_socket(map_fd: int) -> list[Instruction]:
    # Of cgroup_skb: one for each packet of the socket. Its context has the socket at byte 168.
    # Source: include/uapi/linux/bpf.h:struct __sk_buff (v6.12)
    leave = len(_add_one(map_fd, "sk_storage_get")) - 2
    return [
        b.load_mem(b.R1, b.R1, 168),
        b.jump_imm(b.R1, "==", 0, leave + 4),
        b.call(helper_number("sk_fullsock")),
        b.jump_imm(b.R0, "==", 0, leave + 2),
        b.mov_reg(b.R2, b.R0),
        *_add_one(map_fd, "sk_storage_get"),
    ]


def _per_task(map_fd: int) -> list[Instruction]:
    # Of tp_btf/task_rename: one for each renaming of the current task.
    return [
        b.call(helper_number("get_current_task_btf")),
        b.mov_reg(b.R2, b.R0),
        *_add_one(map_fd, "task_storage_get"),
    ]


def _per_cgroup(map_fd: int) -> list[Instruction]:
    # Of tp_btf/task_rename: one for each renaming by a task of the cgroup.
    types = rawbpf.btf.vmlinux()
    return [
        b.call(helper_number("get_current_task_btf")),
        b.load_mem(b.R1, b.R0, _offset(types["task_struct"], "cgroups")),
        b.load_mem(b.R2, b.R1, _offset(types["css_set"], "dfl_cgrp")),
        *_add_one(map_fd, "cgrp_storage_get"),
    ]


def _offset(struct: Any, member: str) -> int:
    found: int = next(offset // 8 for name, _, offset, _ in struct.members if name == member)
    return found


@contextmanager
def _udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def _send(sender: socket.socket, receiver: socket.socket, times: int) -> None:
    for _ in range(times):
        sender.sendto(b"x", receiver.getsockname())


# What they are for -----------------------------------------------------------------


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("map_type:sk_storage", "prog_type:cgroup_skb")
def test_packets_are_counted_per_socket_and_the_count_goes_with_it(backend: Backend) -> None:
    with (
        rawbpf.SkStorageMap.create(value=COUNT, name="packets") as packets,
        rawbpf.Program.load("cgroup_skb/egress", _per_socket(packets.fileno())) as program,
        new_cgroup() as cgroup,
        program.attach_cgroup(cgroup, attach_type=c.BPF_CGROUP_INET_EGRESS),
        _udp() as receiver,
    ):
        with inside(cgroup):
            one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with one, two:
            _send(one, receiver, 5)
            _send(two, receiver, 3)
            assert (packets[one].count, packets[two.fileno()].count) == (5, 3)
            assert receiver not in packets  # it is of another cgroup
            packets[one] = (100,)
            _send(one, receiver, 2)
            assert packets[one] == (102,)
            number = one.fileno()
            with one.dup() as same:
                one.close()
                assert packets[same] == (102,)
            with inside(cgroup):
                new = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with new:
                assert (new.fileno(), new in packets) == (number, False)


@pytest.mark.real_kernel(
    "net/core/bpf_sk_storage.c:bpf_sk_storage_clone copies when the running kernel accepts a connection"
)
@pytest.mark.needs("map_type:sk_storage")
def test_an_accepted_connection_starts_with_a_copy_of_the_listeners_value(backend: Backend) -> None:
    with (
        rawbpf.SkStorageMap.create(value="u64", flags=c.BPF_F_CLONE) as cloned,
        rawbpf.SkStorageMap.create(value="u64") as plain,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        cloned[server] = plain[server] = 7
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
            assert (cloned[accepted], cloned.get(client)) == (7, None)
            assert accepted not in plain
            cloned[accepted] = 8
            assert (cloned[server], cloned[accepted]) == (7, 8)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("map_type:task_storage", "prog_type:tracing", "tracepoint:task/task_rename")
def test_events_are_counted_per_task_and_the_count_ends_with_it(backend: Backend) -> None:
    ready, done = os.pipe(), os.pipe()
    with (
        rawbpf.TaskStorageMap.create(value=COUNT, name="renames") as renames,
        rawbpf.Program.load("tp_btf/task_rename", _per_task(renames.fileno())) as program,
        program.attach(),
    ):
        child = os.fork()
        if not child:
            tracers.rename_thread(3)
            os.write(ready[1], b"x")
            os.read(done[0], 1)
            os._exit(0)
        pidfd = os.pidfd_open(child)
        mine = os.pidfd_open(os.getpid())
        try:
            os.read(ready[0], 1)
            assert renames[pidfd].count == 4  # the last gave the old name back
            assert renames.get(mine) is None
            tracers.rename_thread()
            assert (renames[pidfd], renames[mine]) == ((4,), (2,))
            os.write(done[1], b"x")
            os.waitpid(child, 0)
            with pytest.raises(rawbpf.KeyNotFound, match="or the task has ended") as caught:
                renames[pidfd]
            assert caught.value.key == pidfd
            with pytest.raises(rawbpf.KeyNotFound):
                renames[pidfd] = (1,)
        finally:
            for fd in (pidfd, mine, *ready, *done):
                os.close(fd)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("map_type:cgrp_storage", "prog_type:tracing", "tracepoint:task/task_rename")
def test_events_are_counted_per_cgroup_and_read_by_path(backend: Backend) -> None:
    with (
        rawbpf.CgrpStorageMap.create(value=COUNT, name="renames") as renames,
        rawbpf.Program.load("tp_btf/task_rename", _per_cgroup(renames.fileno())) as program,
        program.attach(),
        new_cgroup() as one,
        new_cgroup(one) as inner,
    ):
        with inside(one):
            tracers.rename_thread(4)
        with inside(inner):
            tracers.rename_thread(1)
        assert (renames[one].count, renames[str(inner)].count) == (5, 2)
        directory = os.open(inner, os.O_RDONLY)
        try:
            assert renames[directory] == (2,)
            inner.rmdir()
            with pytest.raises(rawbpf.BpfError):
                renames[directory]
        finally:
            os.close(directory)
        inner.mkdir()
        assert inner not in renames


@pytest.mark.needs("map_type:inode_storage")
def test_a_files_value_is_the_inodes_whatever_its_names(backend: Backend, tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.touch()
    with rawbpf.InodeStorageMap.create(value="char[16]") as notes, path.open() as held:
        notes[path] = "seen"
        os.link(path, link)
        with path.open() as again:
            assert (notes[again], notes[again.fileno()], notes[link], notes[str(path)]) == ("seen",) * 4
        path.unlink()
        path.touch()
        assert path not in notes
        assert notes[held] == notes[link] == "seen"
        link.unlink()
        link.symlink_to(path)
        assert link not in notes  # it leads to the new file
        notes[tmp_path] = "folder"
        assert notes[tmp_path] == "folder"


# Verbs -----------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.needs(f"map_type:{kind}")) for kind in KINDS])
def stored(request: pytest.FixtureRequest, backend: Backend) -> Iterator[tuple[Any, int]]:
    """A map of each type, and the descriptor of an owner."""
    opener: Callable[[], int] = {
        "sk_storage": lambda: socket.socket().detach(),
        "inode_storage": lambda: os.open("/", os.O_PATH),
        "task_storage": lambda: os.pidfd_open(os.getpid()),
        "cgrp_storage": lambda: os.open(current(), os.O_RDONLY),
    }[request.param]
    owner = opener()
    try:
        with rawbpf.Map.create(request.param, value={"a": "u8", "b": "u64"}, name="stored") as m:
            yield m, owner
    finally:
        os.close(owner)


@pytest.mark.needs("map_type:inode_storage")
def test_a_file_that_cannot_be_opened_for_reading_has_a_value_by_its_path(backend: Backend, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        rawbpf.InodeStorageMap.create(value="u64") as m,
    ):
        listener.bind(str(place))
        m[place] = 5
        assert m[place] == 5


def test_each_verb_does_its_part(stored: tuple[Any, int]) -> None:
    m, owner = stored
    assert owner not in m
    assert m.get(owner, "none") == "none"
    with pytest.raises(rawbpf.KeyNotFound, match=r"'stored' .*nothing is stored for this owner"):
        m[owner]
    with pytest.raises(rawbpf.KeyNotFound):
        m.replace(owner, (1, 2))
    m.insert(owner, (1, 2))
    with pytest.raises(rawbpf.KeyExists) as caught:
        m.insert(owner, (1, 3))
    assert caught.value.key == owner
    m.replace(owner, {"a": 3, "b": 4})
    assert m[owner] == m.lookup(owner) == m.get(owner) == (3, 4)
    m.put(owner, (5, 6), c.BPF_EXIST)
    assert owner in m
    assert m.raw[owner.to_bytes(4, m._handle.backend.host.byteorder)] == m.value_type.pack((5, 6))
    del m[owner]
    with pytest.raises(rawbpf.KeyNotFound):
        del m[owner]
    assert owner not in m


def test_what_the_kernel_cannot_do_is_absent(stored: tuple[Any, int]) -> None:
    m, _ = stored
    for verb in ("keys", "values", "items", "pop", "update", "clear", "count", "batches", "snapshot", "drain"):
        assert not hasattr(m, verb)
    for function in (iter, len, reversed):
        with pytest.raises(TypeError):
            function(m)


def test_a_map_opened_again_has_its_types_and_takes_owners(stored: tuple[Any, int]) -> None:
    m, owner = stored
    m[owner] = (1, 2)
    with rawbpf.Map.from_id(m.id) as again:
        assert type(again).__mro__[1] is type(m).__mro__[1]
        assert again[owner].b == 2
        assert again.max_entries == 0
        assert again.info.map_flags == c.BPF_F_NO_PREALLOC
    m.close()
    for use in (lambda: m[owner], lambda: m.put(owner, (1, 2)), lambda: owner in m):
        with pytest.raises(rawbpf.errors.Closed):
            use()


VALUES = ["u8", 1, 16, 17, "char[5]", "ipv6", {"a": "u8", "b": {"c": "be32"}}, {"raw": 3}]


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.needs("map_type:task_storage")
def test_values_of_any_description_are_kept(backend: Backend, value: Any) -> None:
    with rawbpf.Map.create("task_storage", value=value) as m:
        pidfd = os.pidfd_open(os.getpid())
        try:
            m.raw[pidfd.to_bytes(4, backend.host.byteorder)] = raw = bytes(range(1, m.value_type.size + 1))
            assert m.value_type.pack(m[pidfd]) == raw
        finally:
            os.close(pidfd)


@pytest.mark.needs("map_type:inode_storage")
def test_an_update_beside_the_freeing_of_another_value_is_repeated(backend: Backend, tmp_path: Path) -> None:
    busy = FaultBackend(backend, {c.BPF_MAP_UPDATE_ELEM: [(n, errno.EAGAIN) for n in (1, 2, 3)]})
    with rawbpf.Map.create("inode_storage", value="u64", backend=busy) as m:
        m[tmp_path] = 5
        assert m[tmp_path] == 5
        assert busy.calls[c.BPF_MAP_UPDATE_ELEM] == 4
        busy.fail(c.BPF_MAP_UPDATE_ELEM, [(n, errno.EAGAIN) for n in range(5, 5000)])
        with pytest.raises(rawbpf.BpfError, match="EAGAIN: what the owner had is just being freed"):
            m[tmp_path] = 6
        assert m[tmp_path] == 5


@pytest.mark.real_kernel(
    "net/core/bpf_sk_storage.c:sk_storage_charge counts against the running kernel's sysctl net.core.optmem_max"
)
@pytest.mark.needs("map_type:sk_storage")
def test_a_socket_has_room_for_so_much(backend: Backend) -> None:
    with open("/proc/sys/net/core/optmem_max", encoding="ascii") as file:
        room = int(file.read())
    with ExitStack() as stack:
        one = stack.enter_context(socket.socket())
        maps = [stack.enter_context(rawbpf.SkStorageMap.create(value=32768)) for _ in range(room // 32768 + 1)]
        with pytest.raises(rawbpf.BpfError, match=r"ENOMEM: .* no room left for it \(net\.core\.optmem_max\)"):
            _fill(maps, one)


def _fill(maps: list[rawbpf.SkStorageMap[bytes]], one: socket.socket) -> None:
    for each in maps:
        each[one] = bytes(32768)


# What is refused ---------------------------------------------------------------------


WRONG = [
    pytest.param("sk_storage", "the descriptor is open, but not a socket", id="sk"),
    pytest.param("task_storage", r"EBADF: .*os\.pidfd_open\(pid\)", id="task"),
    pytest.param("cgrp_storage", "EBADF: .*a cgroup, which is its directory", id="cgrp"),
]


@pytest.mark.parametrize(("kind", "message"), WRONG)
def test_a_descriptor_of_another_kind_is_explained(backend: Backend, kind: str, message: str) -> None:
    require(f"map_type:{kind}")
    with rawbpf.Map.create(kind, value="u64") as m, open("/dev/null", "rb") as file:
        for use in (lambda: m[file], lambda: file in m, lambda: m.put(file, 1), lambda: m.__delitem__(file)):
            with pytest.raises(rawbpf.BpfError, match=message):
                use()


def test_a_number_that_is_no_open_descriptor_is_explained(stored: tuple[Any, int]) -> None:
    m, _ = stored
    with pytest.raises(rawbpf.BpfError, match=r"EBADF: the key is no open descriptor of a") as caught:
        m[1 << 30]
    assert not isinstance(caught.value, rawbpf.errors.Closed)


REFUSED = [
    pytest.param(None, TypeError, id="none"),
    pytest.param(True, TypeError, id="bool"),
    pytest.param(1.5, TypeError, id="float"),
    pytest.param(b"1234", TypeError, id="bytes"),
    pytest.param(-1, ValueError, id="negative"),
    pytest.param(1 << 31, ValueError, id="too-great"),
]


@pytest.mark.parametrize(("owner", "error"), REFUSED)
def test_what_has_no_descriptor_is_refused_before_any_call(
    stored: tuple[Any, int], owner: Any, error: type[Exception]
) -> None:
    m, _ = stored
    for use in (lambda: m[owner], lambda: owner in m, lambda: m.put(owner, (1, 2)), lambda: m.__delitem__(owner)):
        with pytest.raises(error, match=r"^key: expected a "):
            use()


def test_a_closed_object_is_no_owner(stored: tuple[Any, int]) -> None:
    m, _ = stored
    with closing(socket.socket()) as gone:
        pass
    with pytest.raises(ValueError, match=r"^key: expected a .* that is open, but <socket.* is closed"):
        m[gone]


@pytest.mark.parametrize("kind", ["sk_storage", "task_storage"])
def test_owners_without_paths_take_none(backend: Backend, kind: str) -> None:
    require(f"map_type:{kind}")
    with rawbpf.Map.create(kind, value="u64") as m, pytest.raises(TypeError, match="fileno"):
        m["/"]


@pytest.mark.parametrize("kind", ["inode_storage", "cgrp_storage"])
def test_a_path_that_leads_nowhere_is_an_error_of_the_path(backend: Backend, kind: str, tmp_path: Path) -> None:
    require(f"map_type:{kind}")
    with rawbpf.Map.create(kind, value="u64") as m:
        with pytest.raises(FileNotFoundError, match="absent"):
            m[tmp_path / "absent"]
        with pytest.raises(FileNotFoundError, match="absent"):
            m.get(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["inode_storage", "cgrp_storage"])
def test_a_paths_descriptor_is_closed_whatever_happens(backend: Backend, kind: str) -> None:
    require(f"map_type:{kind}")
    before = os.listdir("/proc/self/fd")
    faulty = FaultBackend(backend, {c.BPF_MAP_UPDATE_ELEM: [(1, errno.ENOMEM)]})
    with rawbpf.Map.create(kind, value="u64", backend=faulty) as m:
        path = current()
        assert path not in m
        with pytest.raises(rawbpf.KeyNotFound):
            del m[path]
        with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            m[path] = 1
        m[path] = 1
        with pytest.raises(TypeError):
            m[path] = "no number"
        assert m[path] == 1
    with pytest.raises(rawbpf.errors.Closed):
        m[path]
    assert os.listdir("/proc/self/fd") == before


def test_keys_of_another_size_are_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="leave key= out"):
        rawbpf.Map.create("sk_storage", key="u64", value="u64")
    with rawbpf.Map.create("sk_storage", key="s32", value="u64") as m, socket.socket() as one:
        m[one] = 1
        assert m[one] == 1


def test_a_value_without_bytes_or_btf_is_refused_in_words(backend: Backend) -> None:
    with pytest.raises(ValueError, match="value_size must not be 0"):
        rawbpf.Map.create("sk_storage", value=0)
    with pytest.raises(ValueError, match="max_entries of a sk_storage map must be 0, not 5"):
        rawbpf.Map.create("sk_storage", value="u64", max_entries=5)
    refusing = FaultBackend(backend, {c.BPF_BTF_LOAD: [(1, errno.EINVAL), (2, errno.EINVAL)]})
    with pytest.raises(rawbpf.BpfError, match="btf_load"):
        rawbpf.Map.create("sk_storage", value="u64", backend=refusing)


def test_a_value_of_a_kind_that_the_kernels_btf_lacks_is_stored_all_the_same(backend: Backend) -> None:
    # As f64 before Linux 5.13: the kernel is told of bytes, and so is who opens the map by id.
    old = FaultBackend(backend, {c.BPF_BTF_LOAD: [(1, errno.EINVAL)]})
    with (
        rawbpf.Map.create("sk_storage", value={"rate": "f64", "n": "u32"}, backend=old) as m,
        socket.socket() as one,
        rawbpf.Map.from_id(m.id) as again,
    ):
        m[one] = {"rate": 0.5, "n": 7}
        assert m[one] == (0.5, 7)
        assert again[one] == m.value_type.pack({"rate": 0.5, "n": 7})
