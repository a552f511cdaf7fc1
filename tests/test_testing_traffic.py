"""Recorded bpf(2) traffic: made again nothing differs, another kernel shows, and a program is answered from it."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs, detached_bpffs

import rawbpf
from rawbpf.asm import build
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.syscall.map import map_lookup_elem
from rawbpf.testing import Recording, ReplayBackend, ReplayMismatch, faults, record, replay
from rawbpf.uapi import attr as layouts
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def use_hash() -> list[object]:
    with rawbpf.HashMap.create(key="u32", value={"n": "u64", "name": "char[8]"}, max_entries=64, name="counts") as m:
        m.update({i: (i, f"n{i}") for i in range(40)})
        del m[3]
        with pytest.raises(rawbpf.KeyNotFound):
            m[3]
        with pytest.raises(rawbpf.KeyExists):
            m.insert(4, (4, ""))
        walked = sorted(key for key, _ in m.items())
        by_keys = sorted(m.keys())
        popped = m.pop(5)
        with rawbpf.Map.from_id(m.id) as same:
            assert same.same_as(m)
            return [walked, by_keys, popped, same.info.name, len(m), sorted(dict(m.drain()))]


def use_array() -> list[object]:
    with rawbpf.ArrayMap.create(value="u64", max_entries=8) as m:
        m[2] = 7
        m.update({3: 8})
        m[4] = m[3] + 1
        by_call = m.lookup(4)
        with pytest.raises(rawbpf.KeyExists):
            m.put(2, 1, c.BPF_NOEXIST)
        return [list(m), by_call]


def use_per_cpu() -> list[object]:
    with rawbpf.PerCpuArrayMap.create(value=3, max_entries=2) as m:
        m[1] = rawbpf.PerCpu.filled(b"abc")
        return [list(m[1]), m[0][0]]


def use_others() -> list[object]:
    with (
        rawbpf.QueueMap.create(value="u32", max_entries=2) as queue,
        rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=8) as networks,
        rawbpf.BloomFilterMap.create(value="u32", max_entries=100) as bloom,
    ):
        queue.push(1)
        queue.push(2)
        with pytest.raises(rawbpf.MapFull):
            queue.push(3)
        networks["10.0.0.0/8"] = 1
        networks["10.1.0.0/16"] = 2
        bloom.add(7)
        return [queue.pop(), queue.peek(), networks["10.1.2.3"], len(networks), 7 in bloom]


def use_programs() -> list[object]:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, name="seen") as m:
        code = [build.ld_map_fd(build.R1, m.fileno()), build.mov_imm(build.R0, 0), build.exit_()]
        with (
            rawbpf.Program.load("socket_filter", code, name="uses") as program,
            rawbpf.ProgArrayMap.create(max_entries=4) as jumps,
        ):
            jumps[1] = program
            with jumps.open(1) as opened:
                same = opened.id == program.id == jumps[1]
            info = program.info
            return [same, list(jumps), info.map_ids == (m.id,), info.name]


def use_inner() -> list[object]:
    with (
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as template,
        rawbpf.HashOfMaps.create(key="u32", inner=template, max_entries=4) as outer,
    ):
        outer[1] = template
        return [outer[1] == template.id, sorted(outer), outer.snapshot() == {1: template.id}]


def use_freeze() -> list[object]:
    with rawbpf.ArrayMap.create(value="u32", max_entries=4, flags=0) as m:
        m[0] = 5
        m.freeze()
        with pytest.raises(rawbpf.PermissionDenied):
            m[0] = 6
        with m.dup() as other:
            return [other[0]]


def use_frozen_memory() -> list[object]:
    with rawbpf.ArrayMap.create(value="u32", max_entries=4) as m:
        m[0] = 5  # in memory, which the map lets go of
        m.freeze()
        return [m[0], m.info.frozen]


USES = [use_hash, use_array, use_per_cpu, use_others, use_programs, use_inner, use_freeze, use_frozen_memory]


def recorded(use: Callable[[], list[object]]) -> tuple[Recording, list[object]]:
    with record() as recording:
        result = use()
    # What is replayed went through a file.
    text = "".join(f"{line}\n" for line in recording.lines()).encode()
    again = Recording.from_bytes(text)
    assert again == recording
    return again, result


@pytest.mark.parametrize("use", USES)
def test_made_again_nothing_differs(backend: Backend, use: Callable[[], list[object]]) -> None:
    recording, _ = recorded(use)
    assert len(recording) > 2
    with Simulator(cpus=backend.host.possible_cpus) as fresh:
        differences = replay(recording, backend if backend.name == "kernel" else fresh)
    assert not differences, str(differences)
    assert not differences.skipped


@pytest.mark.real_kernel("its calls are recorded there")
@pytest.mark.needs("kernel")
@pytest.mark.parametrize("use", USES)
def test_what_the_kernel_did_the_simulator_does(use: Callable[[], list[object]]) -> None:
    kernel = KernelBackend()
    with rawbpf.using(kernel):
        recording, _ = recorded(use)
    with Simulator(cpus=kernel.host.possible_cpus) as simulator:
        differences = replay(recording, simulator)
    assert not differences, str(differences)
    assert not differences.skipped


@pytest.mark.parametrize("use", USES)
def test_a_program_is_answered_from_the_recording_without_a_kernel(
    backend: Backend, use: Callable[[], list[object]]
) -> None:
    recording, result = recorded(use)
    with ReplayBackend(recording) as answers:
        assert use() == result
        assert not answers.remaining


def some(n: int = 2, value: int = 7) -> list[object]:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as m:
        for i in range(n):
            m[i] = value
        return [m.get(0)]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        pytest.param(lambda: some(value=8), "value: recorded 4 bytes 07000000, now 4 bytes 08000000", id="other value"),
        pytest.param(lambda: some(n=1), "expected map_update_elem.*, got map_lookup_elem", id="one call less"),
        pytest.param(lambda: some(n=3), "expected map_lookup_elem.*, got map_update_elem", id="one call more"),
        pytest.param(list, "7 recorded calls were not made; the next is call 1, btf_load", id="no calls"),
        pytest.param(lambda: [some(), some()], "calls btf_load, and the recording has no call left", id="too many"),
    ],
)
def test_a_program_that_does_something_else_is_told_what_was_expected(
    backend: Backend, use: Callable[[], Any], message: str
) -> None:
    recording, _ = recorded(some)
    with pytest.raises(ReplayMismatch, match=message), ReplayBackend(recording):
        use()


def test_a_kernel_that_does_something_else_differs(backend: Backend) -> None:
    recording, _ = recorded(use_hash)
    with faults({"map_delete_elem": [(1, errno.EBUSY)]}, backend=backend) as other:
        differences = replay(recording, other)
    assert "recorded 0, now EBUSY" in str(differences[0])
    assert any("only now" in each.what for each in differences), "the walks came by one element more"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(
            lambda events: events["map_lookup_elem"].after.memory.update(value=b"\x08\0\0\0"),
            "value from byte 0 on: recorded 08000000, now 07000000",
            id="another value read",
        ),
        pytest.param(
            lambda events: setattr(events["map_update_elem"], "result", -1), "recorded errno 0, now 0", id="failure"
        ),
        pytest.param(
            lambda events: events["map_create"].described.update(key_size=8), "key_size: recorded 8, now 4", id="info"
        ),
    ],
)
def test_what_differs_is_told(backend: Backend, change: Callable[[Any], None], what: str) -> None:
    recording, _ = recorded(some)
    change({event.call: event for event in recording})
    (difference,) = replay(recording, backend)
    assert what in str(difference)


def test_bad_pointers_and_junk_in_the_attr_are_made_again(backend: Backend) -> None:
    with record() as recording, rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as m:
        wrapped = m._handle.backend
        key = ctypes.create_string_buffer(4)
        for fields in ({"key": 1, "value": 1}, {"key": ctypes.addressof(key), "value": 0}, {"key": 0, "value": 0}):
            attr = layouts.MAP_UPDATE_ELEM.pack(map_fd=m.fileno(), **fields)
            assert wrapped.bpf(c.BPF_MAP_UPDATE_ELEM, ctypes.byref(attr), 32) == -1
            assert ctypes.get_errno() == errno.EFAULT
        attr = layouts.MAP_UPDATE_ELEM.pack(map_fd=m.fileno())
        attr[40] = b"x"
        assert wrapped.bpf(c.BPF_MAP_UPDATE_ELEM, ctypes.byref(attr), 64) == -1
        assert ctypes.get_errno() == errno.EINVAL
        with rawbpf.ProgArrayMap.create(max_entries=2) as jumps:
            closed = ctypes.create_string_buffer((1 << 19).to_bytes(4, sys.byteorder), 4)
            attr = layouts.MAP_UPDATE_ELEM.pack(
                map_fd=jumps.fileno(), key=ctypes.addressof(key), value=ctypes.addressof(closed)
            )
            assert wrapped.bpf(c.BPF_MAP_UPDATE_ELEM, ctypes.byref(attr), 32) == -1
            assert ctypes.get_errno() == errno.EBADF
    (junk,) = (event for event in recording if event.before.rest)
    assert junk.before.rest[40:] == b"x"
    assert recording.events[-3].before.references == {"value@0": "closed"}
    assert {event.errno for event in recording} == {0, errno.EFAULT, errno.EINVAL, errno.EBADF}
    assert not replay(recording, backend)
    with ReplayBackend(recording) as answers:
        assert answers.host.release == backend.host.release
        answers._next = len(recording)


def test_pins_are_made_below_another_directory(backend: Backend) -> None:
    def use(directory: str) -> int:
        with rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as m:
            m[1] = 2
            m.pin(f"{directory}/counts")
            with pytest.raises(FileExistsError):
                m.pin(f"{directory}/counts")
            with rawbpf.Map.from_pin(f"{directory}/counts") as same:
                found: int = same[1]
            m.unpin()
            with pytest.raises(rawbpf.BpfError, match="ENOENT"):
                rawbpf.Map.from_pin(f"{directory}/counts")
            m.pin(f"{directory}/counts")
            m.unpin()
            return found

    with ExitStack() as stack:
        # A simulator has one file system, which is empty again by the time that it is used the second time.
        folders = [bpffs(backend)] if isinstance(backend, Simulator) else [detached_bpffs(), detached_bpffs()]
        here, *others = (str(stack.enter_context(each)) for each in folders)
        with record() as recording:
            assert use(here) == 2
        there = others[0] if others else here
        had = os.listdir(there)
        assert [event.call for event in recording].count("unlink") == 2
        differences = replay(recording, backend, pin_dir=there)
        assert not differences, str(differences)
        assert os.listdir(there) == had


def test_objects_from_outside_have_to_be_handed_over(backend: Backend) -> None:
    with rawbpf.ArrayMap.create(value="u32", max_entries=2, flags=0) as outside:
        outside[1] = 9
        with record() as recording, rawbpf.Map.from_fd(outside) as m:
            assert m[1] == 9
        (first, *_) = replay(recording, backend)
        assert "fd1 comes from outside of the recording: hand it over as fds={'fd1': ...}" in str(first)
        differences = replay(recording, backend, fds={"fd1": outside.fileno()})
        assert not differences, str(differences)


def test_other_numbers_of_cpus_are_refused(backend: Backend) -> None:
    recording, _ = recorded(use_per_cpu)
    with Simulator(cpus=backend.host.possible_cpus + 1) as other, pytest.raises(ValueError, match="possible_cpus is"):
        replay(recording, other)


def test_what_differs_by_nature_is_counted_and_not_compared(backend: Backend) -> None:
    recording, _ = recorded(use_hash)
    masked = replay(recording, backend).masked
    assert masked["order of a hash without BPF_F_ZERO_SEED"]


def test_nothing_is_left_of_a_replay_that_breaks_off(backend: Backend) -> None:
    recording, _ = recorded(some)
    recording.events[-1:] = []
    recording.events[-1].before.attr["flags"] = 1 << 63
    before = set(os.listdir("/proc/self/fd"))
    assert len(replay(recording, backend)) == 1
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_recording_holds_what_a_lookup_read(backend: Backend) -> None:
    with record() as recording, rawbpf.HashMap.create(key="u32", value="u32", max_entries=8) as m:
        m[1] = 2
        key, value = ctypes.create_string_buffer(b"\x01\0\0\0", 4), ctypes.create_string_buffer(4)
        map_lookup_elem(m._handle.backend, m.fileno(), key, value)
    lookup = recording.events[-2]
    assert (lookup.call, lookup.before.memory["key"], lookup.after.memory["value"]) == (
        "map_lookup_elem",
        b"\x01\0\0\0",
        b"\x02\0\0\0",
    )
    assert str(lookup) == "map_lookup_elem(map_fd=fd2, *key=01000000, *value=00000000)"
