"""`run()` runs a program now, and gives back what it returned, its packet and its context."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest
from support import tracers

from rawbpf.asm import build as b
from rawbpf.errors import BpfError, NotSupported
from rawbpf.program.program import Program

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("programs run there only")

XDP_PASS = 2
PACKET = bytes(range(64))
_XDP_ADJUST_HEAD = 44


def _first_bytes_to(value: int) -> list[Instruction]:
    # Stores `value` over the first four bytes, after the bounds check that the verifier wants.
    return [
        b.load_mem(b.R2, b.R1, 0, 4),
        b.load_mem(b.R3, b.R1, 4, 4),
        b.mov_reg(b.R4, b.R2),
        b.alu_imm(b.R4, "+=", 14),
        b.jump_reg(b.R4, ">", b.R3, 1),
        b.store_imm(b.R2, 0, value, 4),
        *tracers.returning(XDP_PASS),
    ]


def _pushing(size: int) -> list[Instruction]:
    return [b.mov_imm(b.R2, -size), b.call(_XDP_ADJUST_HEAD), *tracers.returning(XDP_PASS)]


@pytest.mark.needs("prog_type:xdp")
class TestPackets:
    @pytest.mark.guest
    def test_the_packet_comes_back_changed(self, backend: Backend) -> None:
        with Program.load("xdp", _first_bytes_to(0x01010101)) as program:
            result = program.run(PACKET)
        assert result.retval == XDP_PASS
        assert result.data == b"\1\1\1\1" + PACKET[4:]
        assert result.ctx == b""
        assert PACKET[0] == 0

    @pytest.mark.guest
    @pytest.mark.parametrize("repeat", [1, 100])
    def test_the_mean_time_of_the_runs_is_told(self, backend: Backend, repeat: int) -> None:
        with Program.load("xdp", tracers.returning(XDP_PASS)) as program:
            assert program.run(PACKET, repeat=repeat).duration_ns < 10**9

    @pytest.mark.guest
    def test_a_packet_that_grew_comes_back_whole(self, backend: Backend) -> None:
        with Program.load("xdp", _pushing(20)) as program:
            assert program.run(PACKET).data[20:] == PACKET

    @pytest.mark.guest
    def test_a_packet_that_outgrew_its_room_says_how_much_it_needs(self, backend: Backend) -> None:
        with (
            Program.load("xdp", _pushing(20), name="push") as program,
            pytest.raises(BpfError, match=r"'push' \(xdp\): ENOSPC: .*data_size_out=84") as caught,
        ):
            program.run(PACKET, data_size_out=64)
        assert caught.value.errno == errno.ENOSPC

    def test_too_short_a_packet_is_refused(self, backend: Backend) -> None:
        with Program.load("xdp", tracers.returning(XDP_PASS)) as program, pytest.raises(BpfError, match="EINVAL"):
            program.run(b"short")

    def test_the_context_is_handed_in_and_comes_back(self, backend: Backend) -> None:
        context = struct.pack("=6I", 0, len(PACKET), 0, 1, 0, 0)  # struct xdp_md: data, data_end, ..., ingress_ifindex
        read_ifindex = [b.load_mem(b.R0, b.R1, 12, 4), b.exit_()]
        with Program.load("xdp", read_ifindex) as program:
            result = program.run(PACKET, ctx=context)
        assert result.retval == 1
        assert result.ctx[4:8] == context[4:8]


@pytest.mark.needs("prog_type:syscall")
class TestSyscallPrograms:
    @pytest.mark.guest
    def test_the_context_comes_back_changed_and_the_callers_bytes_do_not(self, backend: Backend) -> None:
        instructions = [b.load_mem(b.R0, b.R1, 0), b.mov_imm(b.R2, 7), b.store_reg(b.R1, 8, b.R2), b.exit_()]
        context = struct.pack("=QQ", 42, 0)
        with Program.load("syscall", instructions) as program:
            result = program.run(ctx=context)
        assert result.retval == 42
        assert struct.unpack("=QQ", result.ctx) == (42, 7)
        assert struct.unpack("=QQ", context) == (42, 0)

    @pytest.mark.guest
    def test_it_runs_without_a_context(self, backend: Backend) -> None:
        with Program.load("syscall", tracers.returning(5)) as program:
            assert program.run().retval == 5

    @pytest.mark.guest
    def test_a_context_may_have_one_byte(self, backend: Backend) -> None:
        with Program.load("syscall", tracers.returning(5)) as program:
            result = program.run(ctx=b"x")
        assert (result.retval, result.ctx) == (5, b"x")


@pytest.mark.guest
@pytest.mark.needs("prog_type:raw_tracepoint")
def test_a_raw_tracepoint_runs_with_the_arguments_of_its_context(backend: Backend) -> None:
    with Program.load("raw_tracepoint", [b.load_mem(b.R0, b.R1, 8), b.exit_()]) as program:
        assert program.run(ctx=struct.pack("=QQ", 1, 99)).retval == 99


@pytest.mark.guest
def test_a_type_that_cannot_be_run_says_so(backend: Backend) -> None:
    with (
        Program.load("tracepoint", tracers.returning(0)) as program,
        pytest.raises(NotSupported, match="cannot be run on demand"),
    ):
        program.run()


@pytest.mark.guest
def test_less_than_one_run_is_refused_before_the_kernel_sees_it(backend: Backend) -> None:
    with Program.load("xdp", tracers.returning(0)) as program, pytest.raises(ValueError, match="once at least"):
        program.run(PACKET, repeat=0)
