"""Packets are handed to the CPUs in a cpumap, pass a program there, and go on as if they had arrived there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import network, packets, tracers
from support.affinity import on_one_cpu

import rawbpf
from rawbpf.asm import build as b
from rawbpf.codec.descriptor import ProgId
from rawbpf.errors import BpfError, IndexOutOfRange, KeyNotFound
from rawbpf.map.create import create_from_spec
from rawbpf.program.program import Program
from rawbpf.spec.map import MapSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.link.xdp import Mode
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.guest,
    pytest.mark.needs(*network.NEEDS, "prog_type:xdp", "map_type:cpumap"),
]
# XDP in the kernel's own driver runs the programs of such maps where it hands frames on itself (since Linux 5.15).
SKB = pytest.param("skb", marks=pytest.mark.needs("btf_name:cpu_map_generic_redirect"))

Pair = tuple[network.Device, network.Device]
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def pair(backend: Backend) -> Iterator[Pair]:
    with network.namespace():
        yield network.veth_pair("veth")


@pytest.fixture
def on_first_cpu() -> Iterator[None]:
    with on_one_cpu():
        yield


@pytest.mark.needs(*network.NEEDS)
@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.usefixtures("on_first_cpu")
@pytest.mark.parametrize("mode", [SKB, "driver"])
@pytest.mark.parametrize("cpu", [pytest.param(CPUS[0], id="own CPU"), pytest.param(CPUS[-1], id="another CPU")])
def test_frames_pass_a_program_on_the_cpu_that_they_are_handed_to(pair: Pair, mode: Mode, cpu: int) -> None:
    near, far = pair
    with ExitStack() as stack:
        m = stack.enter_context(rawbpf.Map.create("cpumap", value=8))
        counts = stack.enter_context(rawbpf.Map.create("array", key="u32", value="u64", max_entries=m.max_entries))
        count = stack.enter_context(Program.load("xdp/cpumap", packets.count_by_cpu(counts.fileno())))
        m[cpu] = 64, count
        hand_over = packets.redirect(m.fileno(), [b.mov_imm(b.R2, cpu)])
        redirect = stack.enter_context(Program.load("xdp", hand_over))
        stack.enter_context(redirect.attach_xdp(far.name, mode=mode))
        sender, receiver = stack.enter_context(near.wire()), stack.enter_context(far.wire())
        sent = [network.frame(far, near, content) for content in (b"one", b"two", b"three")]
        for each in sent:
            sender.send(each)
        assert [receiver.receive() for _ in sent] == sent
        assert list(counts) == [3 if number == cpu else 0 for number in range(len(counts))]

        # Without the CPU in the map the program's own verdict counts; without a program there, none is passed.
        del m[cpu]
        sender.send(network.frame(far, near, b"lost"))
        m[cpu] = 64
        sender.send(network.frame(far, near, b"last"))
        assert receiver.receive() == network.frame(far, near, b"last")
        assert sum(counts) == 3


def test_it_is_a_dict_of_the_cpus_in_it(backend: Backend) -> None:
    with rawbpf.Map.create("cpumap", max_entries=len(CPUS)) as m:
        assert (len(m), dict(m), m.get(0)) == (0, {}, None)
        m[0] = 192
        assert (m[0].qsize, m[0].prog_id, list(m), 0 in m) == (192, None, [0], True)
        m[0] = m[0]  # what was read can be stored
        m.put(0, 64)
        assert m.snapshot() == {0: (64, None)}
        del m[0]
        del m[0]  # what is not there can be taken out
        assert 0 not in m
        with pytest.raises(KeyNotFound):
            _ = m[0]
        m.put_many({0: 1})
        m.clear()
        assert len(m) == 0


def test_it_has_room_for_each_cpu_unless_told_otherwise(backend: Backend) -> None:
    with rawbpf.Map.create("cpumap") as m:
        assert m.max_entries == backend.host.possible_cpus
    # An object that does not say has 0.
    created: Any = create_from_spec(backend, MapSpec("cpus", c.BPF_MAP_TYPE_CPUMAP, 4, 8, 0), name="cpus")
    with created as m:
        assert (m.max_entries, m.info.max_entries) == (backend.host.possible_cpus,) * 2


def test_a_program_is_read_as_its_id_and_opened(backend: Backend) -> None:
    with (
        rawbpf.Map.create("cpumap", value=8) as m,
        Program.load("xdp/cpumap", tracers.returning(2), name="there") as program,
    ):
        m[0] = 8, program
        assert m[0] == (8, program.id)
        assert [type(held.prog_id) for held in m.values()] == [ProgId]
        with m.open(0) as again:
            assert again.id == program.id


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        pytest.param(0, ValueError, r"del m\[cpu\] takes it out", id="zero"),
        pytest.param(16385, OverflowError, "1 to 16384 packets may wait, got 16385", id="too many"),
        pytest.param(-1, OverflowError, "1 to 16384 packets may wait, got -1", id="negative"),
        pytest.param("8", TypeError, "expected how many packets may wait, an int, got '8'", id="text"),
        pytest.param((8, 5), TypeError, "a number may be a descriptor or an id", id="a number as program"),
    ],
)
def test_what_is_no_queue_is_refused(backend: Backend, value: int, kind: type[Exception], text: str) -> None:
    with rawbpf.Map.create("cpumap", value=8) as m:
        with pytest.raises(kind, match=text):
            m[0] = value
        assert len(m) == 0


def test_the_longest_queue_is_taken(backend: Backend) -> None:
    with rawbpf.Map.create("cpumap", max_entries=1) as m:
        m[0] = 16384
        assert m[0].qsize == 16384


def test_a_cpu_that_is_not_there_is_refused(backend: Backend) -> None:
    possible = backend.host.possible_cpus
    with rawbpf.Map.create("cpumap", max_entries=possible + 1) as m:
        with pytest.raises(BpfError, match=f"no such CPU: there are {possible}, from 0 to {possible - 1}") as caught:
            m[possible] = 8
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(IndexOutOfRange, match=f"max_entries is {possible + 1}"):
            m[possible + 1] = 8


@pytest.mark.parametrize(
    ("section", "text"),
    [
        pytest.param("xdp", r'loaded for one: Program\.load\("xdp/cpumap", \.\.\.\)', id="no cpumap program"),
        pytest.param("xdp/devmap", r'SEC\("xdp/cpumap"\)', id="for a devmap"),
        pytest.param("socket_filter", "type xdp, and 'other' is of type socket_filter", id="another type"),
    ],
)
def test_a_program_that_belongs_elsewhere_is_refused(backend: Backend, section: str, text: str) -> None:
    with (
        rawbpf.Map.create("cpumap", value=8) as m,
        Program.load(section, tracers.returning(2), name="other") as program,
        pytest.raises(BpfError, match=text),
    ):
        m[0] = 8, program


def test_what_is_open_but_no_program_is_refused(backend: Backend) -> None:
    with (
        rawbpf.Map.create("cpumap", value=8) as m,
        socket.socket() as other,
        pytest.raises(BpfError, match="not a program"),
    ):
        m[0] = 8, other


def test_more_entries_than_the_kernel_has_cpus_are_refused(backend: Backend) -> None:
    with pytest.raises(BpfError, match="at most the number of CPUs that the kernel was built for"):
        rawbpf.Map.create("cpumap", max_entries=1 << 20)
