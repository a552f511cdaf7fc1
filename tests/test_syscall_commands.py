"""Each bpf command, once, against the kernel: what goes in, what comes back, what a refusal says."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs as private_bpffs

from rawbpf.btf.build import Builder
from rawbpf.errors import BpfError, Closed, NotFound, NotSupported, PermissionDenied
from rawbpf.syscall import btf, link, misc, obj, prog
from rawbpf.syscall import map as command
from rawbpf.uapi import constants as c
from rawbpf.uapi import perf
from rawbpf.uapi.info import BTF_INFO, LINK_INFO, LINK_INFOS, MAP_INFO, PROG_INFO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("kernel", "capability:CAP_SYS_ADMIN")


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = src << 4 | dst if struct.pack("=H", 1)[0] else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


def returning(number: int) -> bytes:
    return insn(0xB7, imm=number) + insn(0x95)


@pytest.fixture
def own(backend: Backend) -> Iterator[Callable[[int], int]]:
    """Takes descriptors that the test is done with at its end."""
    fds: list[int] = []

    def take(fd: int) -> int:
        fds.append(fd)
        return fd

    yield take
    for fd in fds:
        backend.close(fd)


@pytest.fixture
def hash_map(backend: Backend, own: Callable[[int], int]) -> int:
    return own(
        command.map_create(
            backend, map_type=c.BPF_MAP_TYPE_HASH, key_size=4, value_size=8, max_entries=8, name=b"a.map_1"
        )
    )


@pytest.fixture
def program(backend: Backend, own: Callable[[int], int]) -> int:
    return own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_XDP, insns=returning(2), name=b"passes"))


def put(backend: Backend, fd: int, items: dict[int, int]) -> None:
    for key, value in items.items():
        command.map_update_elem(backend, fd, ctypes.c_uint32(key), ctypes.c_uint64(value))


def walk(backend: Backend, fd: int) -> list[int]:
    found, key, following = [], None, ctypes.c_uint32()
    while command.map_get_next_key(backend, fd, key, following):
        key = ctypes.c_uint32(following.value)
        found.append(following.value)
    return found


def test_elements_are_stored_read_walked_taken_and_deleted(backend: Backend, hash_map: int) -> None:
    put(backend, hash_map, {1: 10, 2: 20, 3: 30})
    value = ctypes.c_uint64()
    command.map_lookup_elem(backend, hash_map, ctypes.c_uint32(2), value)
    assert value.value == 20
    assert sorted(walk(backend, hash_map)) == [1, 2, 3]
    command.map_lookup_and_delete_elem(backend, hash_map, ctypes.c_uint32(3), value)
    assert value.value == 30
    command.map_delete_elem(backend, hash_map, ctypes.c_uint32(1))
    assert walk(backend, hash_map) == [2]


@pytest.mark.guest
def test_batches_store_read_take_and_delete(backend: Backend, hash_map: int) -> None:
    keys, values, cursor = (ctypes.c_uint32 * 8)(1, 2, 3, 4), (ctypes.c_uint64 * 8)(10, 20, 30, 40), ctypes.c_uint32()
    assert command.map_update_batch(backend, hash_map, keys, values, 4) == 4
    found_keys, found = (ctypes.c_uint32 * 8)(), (ctypes.c_uint64 * 8)()
    count, number = command.map_lookup_batch(backend, hash_map, None, cursor, found_keys, found, 8)
    assert (count, number) == (4, errno.ENOENT)
    assert dict(zip(found_keys[:count], found[:count], strict=True)) == {1: 10, 2: 20, 3: 30, 4: 40}
    assert command.map_delete_batch(backend, hash_map, keys, 1) == 1
    count, number = command.map_lookup_and_delete_batch(backend, hash_map, None, cursor, found_keys, found, 8)
    assert (count, number) == (3, errno.ENOENT)
    assert walk(backend, hash_map) == []


@pytest.mark.guest
def test_a_batch_that_stops_tells_how_much_was_applied(backend: Backend, hash_map: int) -> None:
    keys, values = (ctypes.c_uint32 * 16)(*range(16)), (ctypes.c_uint64 * 16)()
    with pytest.raises(BpfError) as caught:
        command.map_update_batch(backend, hash_map, keys, values, 16, map_type=c.BPF_MAP_TYPE_HASH)
    assert caught.value.applied == 8
    with pytest.raises(BpfError) as caught:
        command.map_delete_batch(backend, hash_map, (ctypes.c_uint32 * 3)(0, 1, 99), 3)
    assert caught.value.applied == 2


@pytest.mark.guest
def test_a_batch_that_never_ran_does_not_tell_how_much_was_applied(backend: Backend, hash_map: int) -> None:
    keys, values = (ctypes.c_uint32 * 2)(1, 2), (ctypes.c_uint64 * 2)()
    with pytest.raises(BpfError, match="elem_flags of a batch may only be BPF_F_LOCK") as caught:
        command.map_update_batch(backend, hash_map, keys, values, 2, c.BPF_NOEXIST)
    assert caught.value.applied is None


def test_a_frozen_map_refuses_writers_and_a_second_freeze(backend: Backend, own: Callable[[int], int]) -> None:
    fd = own(command.map_create(backend, map_type=c.BPF_MAP_TYPE_ARRAY, key_size=4, value_size=8, max_entries=1))
    command.map_freeze(backend, fd)
    with pytest.raises(PermissionDenied, match="the map is frozen, or the descriptor is read-only"):
        put(backend, fd, {0: 1})
    with pytest.raises(PermissionDenied, match="the map is frozen already"):
        command.map_freeze(backend, fd)
    assert walk(backend, fd) == [0]


@pytest.mark.guest
@pytest.mark.parametrize(
    ("flag", "words"),
    [(c.BPF_F_RDONLY, "the descriptor is read-only"), (c.BPF_F_WRONLY, "the descriptor is write-only")],
    ids=["read-only", "write-only"],
)
def test_a_descriptor_of_one_direction_says_so(
    backend: Backend, own: Callable[[int], int], flag: int, words: str
) -> None:
    fd = own(
        command.map_create(
            backend, map_type=c.BPF_MAP_TYPE_HASH, key_size=4, value_size=8, max_entries=1, map_flags=flag
        )
    )
    with pytest.raises(PermissionDenied, match=words):
        put(backend, fd, {1: 1}) if flag == c.BPF_F_RDONLY else walk(backend, fd)


@pytest.mark.guest
@pytest.mark.parametrize("fd", [-1, 1 << 20], ids=["minus one", "never opened"])
def test_a_closed_descriptor_raises_closed(backend: Backend, fd: int) -> None:
    with pytest.raises(Closed):
        put(backend, fd, {1: 1})
    with pytest.raises(Closed):
        command.map_get_next_key(backend, fd, None, ctypes.c_uint32())
    with pytest.raises(Closed):
        obj.obj_get_info_by_fd(backend, fd, 64)
    with pytest.raises(Closed):
        prog.prog_test_run(backend, fd)


@pytest.mark.guest
def test_a_map_is_found_by_its_id_and_tells_what_it_is(
    backend: Backend, own: Callable[[int], int], hash_map: int
) -> None:
    info = obj.obj_get_info_by_fd(backend, hash_map, MAP_INFO.size)
    fields = MAP_INFO.unpack(info)
    assert (fields["type"], fields["key_size"], fields["value_size"], fields["max_entries"]) == (1, 4, 8, 8)
    assert fields["name"].rstrip(b"\0") == b"a.map_1"
    again = own(obj.map_get_fd_by_id(backend, fields["id"], c.BPF_F_RDONLY))
    assert obj.obj_get_info_by_fd(backend, again, MAP_INFO.size) == info
    assert obj.map_get_next_id(backend, fields["id"] - 1) == fields["id"]
    assert obj.map_get_next_id(backend, 0x7FFF_FFFE) is None
    assert len(obj.obj_get_info_by_fd(backend, hash_map, 8)) == 8


@pytest.mark.guest
def test_a_program_is_found_by_its_id_and_tells_its_maps(
    backend: Backend, own: Callable[[int], int], hash_map: int
) -> None:
    load_map = insn(0x18, 1, c.BPF_PSEUDO_MAP_FD, imm=hash_map) + insn(0)
    fd = own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_XDP, insns=load_map + returning(2), name=b"uses_map"))
    ids = (ctypes.c_uint32 * 4)()
    info = PROG_INFO.pack(nr_map_ids=4, map_ids=ctypes.addressof(ids))
    assert obj.obj_fill_info_by_fd(backend, fd, info) >= PROG_INFO.end("map_ids")
    assert PROG_INFO.integer(info, "nr_map_ids") == 1
    assert ids[0] == MAP_INFO.integer(obj.obj_get_info_by_fd(backend, hash_map, MAP_INFO.size), "id")
    assert PROG_INFO.integer(info, "gpl_compatible")
    again = own(obj.prog_get_fd_by_id(backend, PROG_INFO.integer(info, "id")))
    assert PROG_INFO.unpack(obj.obj_get_info_by_fd(backend, again, PROG_INFO.size))["name"].startswith(b"uses_map\0")
    assert obj.prog_get_next_id(backend, PROG_INFO.integer(info, "id") - 1) == PROG_INFO.integer(info, "id")


@pytest.mark.guest
@pytest.mark.parametrize(
    "open_by_id", [obj.map_get_fd_by_id, obj.prog_get_fd_by_id, obj.btf_get_fd_by_id, obj.link_get_fd_by_id]
)
def test_an_id_that_is_gone_says_so(backend: Backend, open_by_id: Callable[[Backend, int], int]) -> None:
    with pytest.raises(BpfError, match=r"2147483646( \[sim\])?: ENOENT: no object has this id now") as caught:
        open_by_id(backend, 0x7FFF_FFFE)
    assert caught.type is NotFound


def test_btf_is_loaded_and_read_back(backend: Backend, own: Callable[[int], int]) -> None:
    builder = Builder()
    builder.int("counter", 8)
    data = builder.to_bytes()
    report, log = prog.LoadReport(), ctypes.create_string_buffer(4096)
    fd = own(btf.btf_load(backend, data, log_level=1, log_buffer=log, report=report))
    assert b"counter" in log.value
    assert report.log_true_size == len(log.value) + 1
    raw = (ctypes.c_char * len(data))()
    info = BTF_INFO.pack(btf=ctypes.addressof(raw), btf_size=len(raw))
    obj.obj_fill_info_by_fd(backend, fd, info)
    assert raw.raw == data
    again = own(obj.btf_get_fd_by_id(backend, BTF_INFO.integer(info, "id")))
    assert obj.btf_get_next_id(backend, BTF_INFO.integer(info, "id") - 1) == BTF_INFO.integer(info, "id")
    assert again != fd


@pytest.mark.guest
def test_damaged_btf_is_refused_with_the_way_to_its_log(backend: Backend) -> None:
    with pytest.raises(BpfError, match=r"btf_load \(3 bytes\)( \[sim\])?: EINVAL: .*log_level=1"):
        btf.btf_load(backend, b"BTF")


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_a_refused_program_leaves_its_log_and_its_length(backend: Backend) -> None:
    report, log = prog.LoadReport(), ctypes.create_string_buffer(4096)
    with pytest.raises(
        BpfError, match=r"prog_load 'bad' \(xdp, 1 instructions\): (EACCES|EINVAL): .*verifier"
    ) as caught:
        prog.prog_load(
            backend,
            prog_type=c.BPF_PROG_TYPE_XDP,
            insns=insn(0x95),
            name=b"bad",
            log_level=1,
            log_buffer=log,
            report=report,
        )
    assert caught.type is BpfError
    assert b"R0 !read_ok" in log.value
    assert report.log_true_size == len(log.value) + 1


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_a_log_that_does_not_fit_tells_the_room_it_needs(backend: Backend) -> None:
    report = prog.LoadReport()
    with pytest.raises(BpfError, match="ENOSPC: the verifier's log did not fit its buffer"):
        prog.prog_load(
            backend,
            prog_type=c.BPF_PROG_TYPE_XDP,
            insns=insn(0x95),
            log_level=1,
            log_buffer=ctypes.create_string_buffer(16),
            report=report,
        )
    assert report.log_true_size > 16


@pytest.mark.guest
def test_records_of_a_wrong_size_are_refused_before_the_call(backend: Backend) -> None:
    with pytest.raises(ValueError, match="func_info has 9 bytes, which are no whole records of 8 bytes"):
        prog.prog_load(
            backend, prog_type=c.BPF_PROG_TYPE_XDP, insns=returning(0), func_info=bytes(9), func_info_rec_size=8
        )


def test_a_map_in_fd_array_is_found_by_its_index(backend: Backend, own: Callable[[int], int], hash_map: int) -> None:
    by_index = insn(0x18, 1, c.BPF_PSEUDO_MAP_IDX, imm=0) + insn(0) + returning(0)
    fd = own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_XDP, insns=by_index, fd_array=[hash_map]))
    info = obj.obj_get_info_by_fd(backend, fd, PROG_INFO.size)
    assert PROG_INFO.integer(info, "nr_map_ids") == 1


@pytest.mark.guest
def test_a_bound_map_is_among_the_programs_maps(backend: Backend, program: int, hash_map: int) -> None:
    prog.prog_bind_map(backend, program, hash_map)
    assert PROG_INFO.integer(obj.obj_get_info_by_fd(backend, program, PROG_INFO.size), "nr_map_ids") == 1


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
def test_a_program_runs_on_demand(backend: Backend, program: int) -> None:
    out = (ctypes.c_char * 64)()
    result = prog.prog_test_run(backend, program, data_in=b"x" * 20, data_out=out, repeat=3)
    assert (result.retval, result.data_size, result.complete) == (2, 20, True)
    assert out.raw[:20] == b"x" * 20


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
def test_a_test_run_with_too_little_room_is_told_not_raised(backend: Backend, program: int) -> None:
    out = (ctypes.c_char * 4)()
    result = prog.prog_test_run(backend, program, data_in=b"x" * 20, data_out=out)
    assert (result.retval, result.data_size, result.complete) == (2, 20, False)
    assert out.raw == b"xxxx"


@pytest.mark.real_kernel("programs run there only")
def test_too_short_a_packet_is_refused(backend: Backend, program: int) -> None:
    with pytest.raises(BpfError, match="packet programs want at least 14 bytes"):
        prog.prog_test_run(backend, program, data_in=b"x")


@pytest.mark.real_kernel("programs run there only")
def test_what_a_program_printed_is_read_from_its_stream(backend: Backend, program: int) -> None:
    assert prog.prog_stream_read(backend, program, c.BPF_STDOUT, 64) == b""
    with pytest.raises(BpfError, match="a program has two streams"):
        prog.prog_stream_read(backend, program, 9, 64)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("capability:CAP_NET_ADMIN")
def test_a_program_is_attached_to_a_sockmap_queried_and_detached(backend: Backend, own: Callable[[int], int]) -> None:
    sockmap = own(command.map_create(backend, map_type=c.BPF_MAP_TYPE_SOCKMAP, key_size=4, value_size=4, max_entries=1))
    verdict = own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_SK_SKB, insns=returning(1)))
    place: dict[str, Any] = {"target_fd": sockmap, "attach_type": c.BPF_SK_SKB_STREAM_VERDICT}
    prog.prog_attach(backend, prog_fd=verdict, **place)
    program_id = PROG_INFO.integer(obj.obj_get_info_by_fd(backend, verdict, PROG_INFO.size), "id")
    assert prog.prog_query(backend, **place).prog_ids == (program_id,)
    prog.prog_detach(backend, prog_fd=verdict, **place)
    assert prog.prog_query(backend, **place).prog_ids == ()
    with pytest.raises(BpfError, match="prog_detach sk_skb_stream_verdict: ENOENT: no such program is attached there"):
        prog.prog_detach(backend, prog_fd=verdict, **place)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("capability:CAP_NET_ADMIN")
def test_an_interface_without_programs_has_an_empty_list(backend: Backend) -> None:
    found = prog.prog_query(backend, target_ifindex=1, attach_type=c.BPF_TCX_INGRESS, details=True)
    assert (found.count, found.prog_ids, found.prog_flags, found.link_ids) == (0, (), (), ())


def software_event(backend: Backend) -> int:
    flags = perf.flag_word(disabled=1)
    attr = perf.perf_event_attr(
        type=perf.PERF_TYPE_SOFTWARE, config=perf.PERF_COUNT_SW_CPU_CLOCK, sample_period=1_000_000, flags=flags
    )
    return backend.perf_event_open(attr, 0, -1, -1, perf.PERF_FLAG_FD_CLOEXEC)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_a_link_to_a_perf_event_tells_its_cookie(backend: Backend, own: Callable[[int], int]) -> None:
    event = own(software_event(backend))
    sampler = own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_PERF_EVENT, insns=returning(0)))
    fd = own(
        link.link_create(
            backend, prog_fd=sampler, target_fd=event, attach_type=c.BPF_PERF_EVENT, perf_event_bpf_cookie=77
        )
    )
    layout = LINK_INFOS[c.BPF_LINK_TYPE_PERF_EVENT]
    info = obj.obj_get_info_by_fd(backend, fd, 256)
    assert LINK_INFO.integer(info, "type") == c.BPF_LINK_TYPE_PERF_EVENT
    assert (layout.integer(info, "perf_type"), layout.integer(info, "event_cookie")) == (c.BPF_PERF_EVENT_EVENT, 77)
    link_id = LINK_INFO.integer(info, "id")
    own(obj.link_get_fd_by_id(backend, link_id))
    assert obj.link_get_next_id(backend, link_id - 1) == link_id
    with pytest.raises(BpfError, match="this kind of link, or a program of another type"):
        link.link_update(backend, fd, new_prog_fd=sampler)
    with pytest.raises(BpfError, match="the link is no iterator"):
        link.iter_create(backend, fd)
    with pytest.raises(NotSupported, match="this kind of link is detached by closing it only"):
        link.link_detach(backend, fd)


@pytest.mark.guest
def test_a_field_that_link_create_has_not_is_a_type_error(backend: Backend) -> None:
    with pytest.raises(TypeError, match="link_create has no field 'perf_event_cookie'"):
        link.link_create(backend, prog_fd=1, attach_type=c.BPF_PERF_EVENT, perf_event_cookie=1)


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("capability:CAP_NET_ADMIN")
def test_a_link_is_updated_and_detached(backend: Backend, own: Callable[[int], int], program: int) -> None:
    # Of these programs a network namespace may hold several, and one that passes harms nobody.
    first, second = (
        own(
            prog.prog_load(
                backend,
                prog_type=c.BPF_PROG_TYPE_SK_LOOKUP,
                insns=returning(1),
                expected_attach_type=c.BPF_SK_LOOKUP,
            )
        )
        for _ in range(2)
    )
    namespace = own(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    fd = own(link.link_create(backend, prog_fd=first, target_fd=namespace, attach_type=c.BPF_SK_LOOKUP))
    second_id = PROG_INFO.integer(obj.obj_get_info_by_fd(backend, second, PROG_INFO.size), "id")
    with pytest.raises(PermissionDenied, match="another program than old_prog_fd is attached"):
        link.link_update(backend, fd, new_prog_fd=second, old_prog_fd=second, flags=c.BPF_F_REPLACE)
    link.link_update(backend, fd, new_prog_fd=second, old_prog_fd=first, flags=c.BPF_F_REPLACE)
    assert LINK_INFO.integer(obj.obj_get_info_by_fd(backend, fd, 256), "prog_id") == second_id
    link.link_detach(backend, fd)
    layout = LINK_INFOS[c.BPF_LINK_TYPE_NETNS]
    assert layout.integer(obj.obj_get_info_by_fd(backend, fd, 256), "netns_ino") == 0


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("capability:CAP_PERFMON")
def test_a_raw_tracepoint_is_opened_by_name_and_shown_by_task_fd_query(
    backend: Backend, own: Callable[[int], int]
) -> None:
    tracer = own(prog.prog_load(backend, prog_type=c.BPF_PROG_TYPE_RAW_TRACEPOINT, insns=returning(0)))
    fd = own(link.raw_tracepoint_open(backend, tracer, b"sched_process_exit"))
    found = misc.task_fd_query(backend, os.getpid(), fd)
    assert (found.fd_type, found.name) == (c.BPF_FD_TYPE_RAW_TRACEPOINT, b"sched_process_exit")
    with pytest.raises(BpfError, match="'no_such_event': ENOENT: no tracepoint has this name"):
        link.raw_tracepoint_open(backend, tracer, b"no_such_event")


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_task_fd_query_says_what_is_no_probe(backend: Backend, hash_map: int) -> None:
    with pytest.raises(NotSupported, match=rf"descriptor {hash_map} of process \d+: ENOTSUPP: .* no raw tracepoint"):
        misc.task_fd_query(backend, os.getpid(), hash_map)


@pytest.mark.guest
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_statistics_count_while_the_descriptor_is_open(backend: Backend, program: int) -> None:
    fd = misc.enable_stats(backend)
    try:
        prog.prog_test_run(backend, program, data_in=b"x" * 20, repeat=5)
        assert PROG_INFO.integer(obj.obj_get_info_by_fd(backend, program, PROG_INFO.size), "run_cnt") == 5
    finally:
        backend.close(fd)


# fsopen, fsconfig, fsmount; the numbers are the same on all machines.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432


@pytest.fixture
def bpffs(backend: Backend, own: Callable[[int], int]) -> Iterator[int]:
    """The root of a bpf file system that nobody else sees."""
    with private_bpffs(backend) as root:
        yield own(os.open(root, os.O_RDONLY | os.O_DIRECTORY))


def test_a_map_is_pinned_below_a_directory_and_opened_again(
    backend: Backend, own: Callable[[int], int], hash_map: int, bpffs: int
) -> None:
    obj.obj_pin(backend, hash_map, b"counts", dir_fd=bpffs)
    put(backend, hash_map, {1: 10})
    again = own(obj.obj_get(backend, b"counts", c.BPF_F_RDONLY, dir_fd=bpffs))
    assert walk(backend, again) == [1]
    with pytest.raises(BpfError, match=r"obj_pin 'counts'( \[sim\])?: EEXIST: something is pinned there already"):
        obj.obj_pin(backend, hash_map, b"counts", dir_fd=bpffs)
    with pytest.raises(BpfError, match=r"obj_pin 'no/counts'( \[sim\])?: ENOENT: the directory does not exist"):
        obj.obj_pin(backend, hash_map, b"no/counts", dir_fd=bpffs)
    with pytest.raises(PermissionDenied, match="a pin's name has no dot"):
        obj.obj_pin(backend, hash_map, b"a.map", dir_fd=bpffs)
    with pytest.raises(BpfError, match="no bpf object that can be pinned"):
        obj.obj_pin(backend, bpffs, b"root", dir_fd=bpffs)
    with pytest.raises(BpfError, match=r"obj_get 'other'( \[sim\])?: ENOENT: nothing is pinned there"):
        obj.obj_get(backend, b"other", dir_fd=bpffs)


@pytest.mark.guest
def test_pins_elsewhere_are_refused(backend: Backend, hash_map: int) -> None:
    with pytest.raises(PermissionDenied, match="pins live in a bpf file system only"):
        obj.obj_pin(backend, hash_map, b"/dev/shm/counts")
    with pytest.raises(PermissionDenied, match="it is no pinned object"):
        obj.obj_get(backend, b"/dev/null")


@pytest.mark.guest
def test_a_path_with_a_nul_is_a_value_error(backend: Backend, hash_map: int) -> None:
    with pytest.raises(ValueError, match=re.escape(r"b'a\x00b' has a NUL byte inside")):
        obj.obj_pin(backend, hash_map, b"a\0b")


@pytest.mark.real_kernel("a token is of a user namespace of the running kernel")
def test_a_token_is_refused_where_it_has_no_use(
    backend: Backend, own: Callable[[int], int], bpffs: int, program: int
) -> None:
    root = own(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=bpffs))
    with pytest.raises(NotSupported, match="tokens exist only for user namespaces other than the first"):
        misc.token_create(backend, root)
    with pytest.raises(BpfError, match="EINVAL: the descriptor is not the root of a bpf file system"):
        misc.token_create(backend, program)
