"""Arrays of programs: tail calls that are taken, exchanged while they are, and fall through where there is nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from support import tracers
from support.child import run_as_nobody

import rawbpf
from rawbpf.asm import build as b
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("map_type:prog_array", "prog_type:xdp")]

FELL_THROUGH = 99
PACKET = bytes(64)
DEADLINE = 10.0


def _jump_by_first_byte(array_fd: int) -> list[Instruction]:
    # Goes on in the program whose slot is the packet's first byte.
    return [
        b.load_mem(b.R2, b.R1, 0, 4),
        b.load_mem(b.R3, b.R1, 4, 4),
        b.mov_reg(b.R4, b.R2),
        b.alu_imm(b.R4, "+=", 1),
        b.jump_reg(b.R4, ">", b.R3, 4),
        b.load_mem(b.R3, b.R2, 0, 1),
        b.ld_map_fd(b.R2, array_fd),
        b.call(helper_number("tail_call")),
        *tracers.returning(FELL_THROUGH),
    ]


def _returning(value: int, prog_type: str = "xdp", name: str = "") -> rawbpf.Program:
    return rawbpf.Program.load(prog_type, tracers.returning(value), name=name)


@pytest.fixture
def array(backend: Backend) -> Iterator[rawbpf.ProgArrayMap]:
    with rawbpf.Map.create("prog_array", max_entries=4, name="targets") as made:
        yield made


@pytest.fixture
def jumper(array: rawbpf.ProgArrayMap) -> Iterator[Callable[[int], int]]:
    with rawbpf.Program.load("xdp", _jump_by_first_byte(array.fileno()), name="jump") as program:
        yield lambda slot: program.run(bytes([slot]) + PACKET).retval


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_a_tail_call_goes_on_in_the_slots_program(array: rawbpf.ProgArrayMap, jumper: Callable[[int], int]) -> None:
    with _returning(10) as ten, _returning(20) as twenty:
        array[1], array[3] = ten, twenty
        assert [jumper(slot) for slot in range(5)] == [FELL_THROUGH, 10, FELL_THROUGH, 20, FELL_THROUGH]
        del array[1]
        assert (jumper(1), jumper(3)) == (FELL_THROUGH, 20)
    assert jumper(3) == 20, "the array holds the program that was closed"
    array.clear()
    assert jumper(3) == FELL_THROUGH


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_a_program_is_exchanged_while_others_jump_to_it(
    array: rawbpf.ProgArrayMap, jumper: Callable[[int], int]
) -> None:
    seen: set[int] = set()
    running, done = threading.Event(), threading.Event()

    def keep_jumping() -> None:
        while not done.is_set():
            seen.add(jumper(0))
            running.set()

    with _returning(1) as one, _returning(2) as two:
        array[0] = two
        thread = threading.Thread(target=keep_jumping)
        thread.start()
        try:
            assert running.wait(DEADLINE)
            for _ in range(300):
                for value, program in ((1, one), (2, two)):
                    array[0] = program
                    assert jumper(0) == value
        finally:
            done.set()
            thread.join()
    assert seen <= {1, 2}
    assert seen


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_a_slot_is_opened_as_a_program(array: rawbpf.ProgArrayMap) -> None:
    with _returning(7, name="seven") as seven:
        array[2] = seven
        assert repr(array[2]) == f"ProgId({seven.id})"
    with array.open(2) as opened:
        assert isinstance(opened, rawbpf.Program)
        assert (opened.id, opened.name, opened.run(PACKET).retval) == (array[2], "seven", 7)
    for slot, error in ((1, rawbpf.KeyNotFound), (4, rawbpf.IndexOutOfRange)):
        with pytest.raises(error):
            array.open(slot)


class _Exchanging(Wrapper):
    """Runs `before` once, before a program is opened by its id."""

    before: Callable[[], None] | None = None

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_PROG_GET_FD_BY_ID and self.before is not None:
            before, self.before = self.before, None
            before()
        return super().intercept(call, cmd, attr, size)


@pytest.mark.guest
def test_opening_a_slot_whose_program_is_exchanged_and_freed_meanwhile_gives_the_new_one(backend: Backend) -> None:
    exchanging = _Exchanging(backend)
    with (
        rawbpf.Map.create("prog_array", max_entries=1, backend=exchanging) as array,
        _returning(1) as old,
        _returning(2) as new,
    ):
        array[0] = old

        def exchange() -> None:
            array[0] = new
            gone = old.id
            old.close()
            deadline = time.monotonic() + DEADLINE
            while gone in {info.id for info in rawbpf.programs()}:  # freeing is asynchronous
                assert time.monotonic() < deadline

        exchanging.before = exchange
        with array.open(0) as opened:
            assert opened.id == new.id


@pytest.mark.guest
def test_an_id_that_stays_unknown_is_told(backend: Backend) -> None:
    faulty = FaultBackend(backend, {c.BPF_PROG_GET_FD_BY_ID: [(1, 2)]})
    with rawbpf.Map.create("prog_array", max_entries=1, backend=faulty) as array, _returning(1) as program:
        array[0] = program
        with pytest.raises(rawbpf.BpfError, match=rf"program {program.id}( \[sim\])?: ENOENT"):
            array.open(0)


@pytest.mark.guest
@pytest.mark.needs("prog_type:socket_filter")
def test_a_program_of_another_type_than_the_first_is_refused_with_both_types(array: rawbpf.ProgArrayMap) -> None:
    with _returning(1, name="first") as first, _returning(1, "socket_filter", "second") as second:
        array[0] = first
        text = (
            r"map_update_elem .targets. \(prog_array\)( \[sim\])?: EINVAL: its first program, stored here or "
            "referring to it, made this an array of xdp programs, and .second. is of type socket_filter$"
        )
        with pytest.raises(rawbpf.BpfError, match=text):
            array[1] = second
        with pytest.raises(rawbpf.BpfError, match=text):
            array.update({0: first, 1: second})
        assert array.snapshot() == {0: first.id}


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
@pytest.mark.needs("prog_type:socket_filter")
def test_a_program_that_refers_to_the_array_settles_its_type(
    array: rawbpf.ProgArrayMap, jumper: Callable[[int], int]
) -> None:
    with (
        _returning(1, "socket_filter", "filter") as program,
        pytest.raises(rawbpf.BpfError, match="an array of xdp programs, and 'filter' is of type socket_filter"),
    ):
        array[0] = program


@pytest.mark.guest
@pytest.mark.needs("btf_name:xdp_has_frags")
def test_programs_of_one_type_that_differ_otherwise_are_refused_with_what_must_agree(
    array: rawbpf.ProgArrayMap,
) -> None:
    with _returning(1) as plain, _returning(1, "xdp.frags") as frags:
        array[0] = plain
        with pytest.raises(rawbpf.BpfError, match="programs of an array also agree in JIT compilation, XDP fragments"):
            array[1] = frags


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_an_array_that_nobody_has_open_is_emptied(backend: Backend) -> None:
    # Programs alone do not keep it filled: they would keep each other alive.
    array = rawbpf.Map.create("prog_array", max_entries=1)
    with rawbpf.Program.load("xdp", _jump_by_first_byte(array.fileno())) as jump, _returning(5) as five:
        array[0] = five
        assert jump.run(PACKET).retval == 5
        array.close()
        deadline = time.monotonic() + DEADLINE
        while jump.run(PACKET).retval == 5:  # by a work queue
            assert time.monotonic() < deadline
        assert jump.run(PACKET).retval == FELL_THROUGH


@pytest.mark.real_kernel("it is about what this process may do")
def test_who_may_not_open_by_id_still_reads_ids(array: rawbpf.ProgArrayMap) -> None:
    with _returning(1) as program:
        array[0] = program
        number = program.id

        def ask() -> str:
            try:
                array.open(0)
            except rawbpf.PermissionDenied as error:
                return f"{array[0] == number} {error}"
            return "opened"

        assert run_as_nobody(ask).startswith(f"True prog_get_fd_by_id program {number}: EPERM")
