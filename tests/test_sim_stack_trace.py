"""Stack traces in the simulator: stored under the ids that the running kernel gives, read and removed as there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import tracers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.sim import Simulator
from rawbpf.syscall.current import using
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

EEXIST = 17


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator, rawbpf.using(simulator):
        yield simulator


@pytest.mark.needs("kernel", "prog_type:raw_tracepoint", "tracepoint:task/task_rename")
def test_a_stack_has_the_id_that_the_running_kernel_gives_it(sim: Simulator) -> None:
    with using(KernelBackend()), rawbpf.Map.create("stack_trace", max_entries=1000) as real:
        store = [
            *[b.mov_reg(b.R6, b.R1), b.ld_map_fd(b.R2, real.fileno()), b.mov_imm(b.R3, 0)],
            b.call(helper_number("get_stackid")),
            *[b.mov_reg(b.R1, b.R6), b.ld_map_fd(b.R2, real.fileno()), b.mov_imm(b.R3, c.BPF_F_USER_STACK)],
            b.call(helper_number("get_stackid")),
            *tracers.returning(0),
        ]
        with rawbpf.Program.load("raw_tp/task_rename", store, license="GPL") as program, program.attach():
            tracers.rename_thread()
        stacks = dict(real.items())
    assert stacks
    with rawbpf.Map.create("stack_trace", max_entries=1000, backend=sim) as simulated:
        for number, stack in stacks.items():
            assert sim.put_stack(simulated.fileno(), tuple(stack)) == number
        assert dict(simulated.items()) == stacks


def test_a_stack_that_is_there_keeps_its_id_and_another_needs_leave_to_replace_it(sim: Simulator) -> None:
    with rawbpf.Map.create("stack_trace", max_entries=1) as m:
        fd = m.fileno()
        assert sim.put_stack(fd, (1, 2, 3)) == 0
        assert sim.put_stack(fd, (1, 2, 3)) == 0
        assert sim.put_stack(fd, (4, 5)) == -EEXIST
        assert tuple(m[0]) == (1, 2, 3)
        assert sim.put_stack(fd, (4, 5), c.BPF_F_REUSE_STACKID) == 0
        assert tuple(m[0]) == (4, 5)


def test_a_stack_is_cut_at_what_the_map_holds(sim: Simulator) -> None:
    with rawbpf.Map.create("stack_trace", value=16, max_entries=4) as m:
        number = sim.put_stack(m.fileno(), (1, 2, 3))
        assert m.raw[number.to_bytes(4, sim.host.byteorder)] == b"".join(
            address.to_bytes(8, sim.host.byteorder) for address in (1, 2)
        )


def test_walking_passes_over_ids_without_a_stack_and_deleting_makes_room(sim: Simulator) -> None:
    with rawbpf.Map.create("stack_trace", max_entries=64) as m:
        numbers = {sim.put_stack(m.fileno(), (address,)) for address in range(1, 9)}
        assert list(m) == sorted(numbers - {-EEXIST})
        first = min(numbers - {-EEXIST})
        del m[first]
        assert first not in m
        assert list(m) == sorted(numbers - {-EEXIST, first})


def test_what_holds_no_stacks_is_refused(sim: Simulator) -> None:
    with (
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as m,
        pytest.raises(ValueError, match="is no stack trace map of this simulator"),
    ):
        sim.put_stack(m.fileno(), (1,))
