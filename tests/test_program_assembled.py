"""Programs without a compiler: text and instructions with labels, functions, maps and the kernel's names run."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from rawbpf import Map, Program, SpecError
from rawbpf.asm import Function, Instruction, Label, build
from rawbpf.asm.build import R0, R1, R2, R3, R4, R6, R10
from rawbpf.errors import BpfError, FormatError, NotFound, VerifierError
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

Items = list[Instruction | Label]

COUNT = """
    ; counts packets by their first byte, and has a callback decide
    count(r1):
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += 14
      if r4 > r3 goto pass
      r2 = *(u8 *)(r2 +0)
      *(u32 *)(r10 -4) = r2
      r1 = map[seen]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto pass
      r1 = 1
      lock *(u64 *)(r0 +0) += r1
      r1 = map[limits]+8          // the second of two limits
      r6 = *(u64 *)(r1 +0)
      *(u64 *)(r10 -16) = 0
      r1 = r6
      r2 = &each
      r3 = r10
      r3 += -16
      r4 = 0
      call bpf_loop
      r0 = *(u64 *)(r10 -16)
      exit
    pass:
      call two
      exit
    each(r1, r2):
      r1 = *(u64 *)(r2 +0)
      r1 += 1
      *(u64 *)(r2 +0) = r1
      r0 = 0
      exit
    two():
      r0 = 2
      exit
"""

BUILT: Items = [
    Function("count", 1),
    build.load_mem(R2, R1, 0, 4),
    build.load_mem(R3, R1, 4, 4),
    build.mov_reg(R4, R2),
    build.alu_imm(R4, "+=", 14),
    build.jump_reg(R4, ">", R3, "pass"),
    build.load_mem(R2, R2, 0, 1),
    build.store_reg(R10, -4, R2, 4),
    build.ld_map_fd(R1, "seen"),
    build.mov_reg(R2, R10),
    build.alu_imm(R2, "+=", -4),
    build.call("bpf_map_lookup_elem"),
    build.jump_imm(R0, "==", 0, "pass"),
    build.mov_imm(R1, 1),
    build.atomic_add(R0, 0, R1),
    build.ld_map_value(R1, "limits", 8),
    build.load_mem(R6, R1, 0),
    build.store_imm(R10, -16, 0),
    build.mov_reg(R1, R6),
    build.ld_function(R2, "each"),
    build.mov_reg(R3, R10),
    build.alu_imm(R3, "+=", -16),
    build.mov_imm(R4, 0),
    build.call("bpf_loop"),
    build.load_mem(R0, R10, -16),
    build.exit_(),
    Label("pass"),
    build.call_function("two"),
    build.exit_(),
    Function("each", 2),
    build.load_mem(R1, R2, 0),
    build.alu_imm(R1, "+=", 1),
    build.store_reg(R2, 0, R1),
    build.mov_imm(R0, 0),
    build.exit_(),
    Function("two"),
    build.mov_imm(R0, 2),
    build.exit_(),
]

RETURN_R2 = """
    r0 = 0
    if r0 != 0 goto out
    r1 = 0x1
    call sub
  out:
    r0 = 0
    exit

sub():
    r0 = r2    // was never written
    exit
"""


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:xdp:loop")
@pytest.mark.parametrize("code", [pytest.param(COUNT, id="text"), pytest.param(BUILT, id="built")])
def test_a_program_with_maps_labels_a_function_and_a_callback_runs(backend: Backend, code: Items | str) -> None:
    with (
        Map.create("hash", key="u32", value="u64", max_entries=4) as seen,
        Map.create("array", key="u32", value={"low": "u64", "high": "u64"}, max_entries=1) as limits,
        Program.load("xdp", code, name="count", maps={"seen": seen, "limits": limits}) as program,
    ):
        seen[7] = 0
        limits[0] = {"low": 1, "high": 3}
        assert program.run(b"\7" + bytes(63)).retval == 3
        assert program.run(b"\7" + bytes(63)).retval == 3
        assert program.run(b"\1" + bytes(63)).retval == 2
        assert seen[7] == 2
        assert sorted(program.info.map_ids) == sorted([seen.id, limits.id])
        assert program.info.btf_id


def test_a_program_with_maps_by_name_has_them_and_no_descriptor_more(backend: Backend) -> None:
    with (
        Map.create("hash", key="u32", value="u64", max_entries=4) as seen,
        Map.create("array", key="u32", value={"low": "u64", "high": "u64"}, max_entries=1) as limits,
    ):
        before = len(os.listdir("/proc/self/fd"))
        with Program.load("xdp", "r0 = 2\nexit"):
            taken = len(os.listdir("/proc/self/fd")) - before
        with Program.load("xdp", COUNT, name="count", maps={"seen": seen, "limits": limits.fileno()}) as program:
            assert len(os.listdir("/proc/self/fd")) - before == taken
            assert sorted(program.info.map_ids) == sorted([seen.id, limits.id])


def test_the_types_of_callbacks_are_loaded_once_and_let_go_where_the_load_fails(backend: Backend) -> None:
    code = "r2 = &f\nr0 = 0\nexit\nf.cold(r1): exit\nf(r1, r2): r0 = 0\nexit"
    watched = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, errno.EMFILE), (2, errno.EMFILE)]})
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BpfError):
        Program.load("xdp", code.replace("f.cold(r1): exit", ""), backend=watched)
    assert watched.calls["btf_load"] == 1
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(BpfError):
        Program.load("xdp", "r0 = 2\nexit", backend=watched)
    assert watched.calls["btf_load"] == 1


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("helper:xdp:loop")
def test_a_function_may_have_a_name_that_is_none_in_c(backend: Backend) -> None:
    code = "r1 = 3\nr2 = &.cold$\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\n.cold$(r1, r2):\nr0 = 0\nexit"
    with Program.load("xdp", code) as program:
        assert program.run(bytes(64)).retval == 3


def test_a_map_that_is_not_there_is_told_before_any_call(backend: Backend) -> None:
    watched = FaultBackend(backend, {})
    code = "r1 = map[events]\nr0 = 0\nexit"
    with pytest.raises(SpecError, match=r"'p' refers to map 'events' \(r1 = map\[events\]\), and there is no maps="):
        Program.load("xdp", code, name="p", backend=watched)
    with pytest.raises(SpecError, match=r"refers to map 'events' .* maps= has event, other"):
        Program.load("xdp", code, name="p", backend=watched, maps={"event": 3, "other": 4})
    with pytest.raises(TypeError, match=r"maps\['events'\]: expected a descriptor"):
        Program.load("xdp", code, name="p", backend=watched, maps={"events": "x"})  # type: ignore[dict-item]
    assert not watched.calls


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        pytest.param("r0 = 0\nexit 2", FormatError, "line 2: 'exit 2': expected exit", id="text"),
        pytest.param("goto out\nexit", SpecError, r"\(goto out, p:1\): there is no label 'out'", id="label"),
        pytest.param([build.call_function("f")], SpecError, "there is no function 'f'", id="function"),
        pytest.param("// nothing", ValueError, "a program has at least one instruction", id="empty"),
        pytest.param("only:", SpecError, "'main' has no instructions", id="label alone"),
    ],
)
def test_what_cannot_be_a_program_is_told_before_any_call(
    backend: Backend, code: Items | str, error: type[ValueError], text: str
) -> None:
    watched = FaultBackend(backend, {})
    with pytest.raises(error, match=text):
        Program.load("xdp", code, name="p", backend=watched)
    assert not watched.calls


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_rcu_read_lock")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("call kernel[bpf_rcu_read_lock]\ncall kernel[bpf_rcu_read_unlock]\nr0 = 7\nexit", id="text"),
        pytest.param(
            [
                build.call_kernel("bpf_rcu_read_lock"),
                build.call_kernel("bpf_rcu_read_unlock"),
                build.mov_imm(R0, 7),
                build.exit_(),
            ],
            id="built",
        ),
    ],
)
def test_functions_of_the_kernel_are_called_by_name(backend: Backend, code: Items | str) -> None:
    with Program.load("syscall", code) as program:
        assert program.run(ctx=bytes(8)).retval == 7


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:runqueues", "helper:raw_tracepoint:this_cpu_ptr")
def test_a_variable_of_the_kernel_has_its_address(backend: Backend) -> None:
    code = """
        r1 = &kernel[runqueues]
        call bpf_this_cpu_ptr
        r6 = r0
        r0 = 1
        if r6 != 0 goto out
        r0 = 0
      out:
        exit
    """
    if "runqueues" in {name for _, name in backend.host.kallsyms()}:
        with Program.load("raw_tp/sched_switch", code) as program:
            assert program.run(ctx=bytes(24)).retval == 1
    else:  # CONFIG_KALLSYMS_ALL is off: the kernel knows what is meant, and not where it lies
        with pytest.raises(VerifierError, match="the address for kernel symbol 'runqueues'"):
            Program.load("raw_tp/sched_switch", code)


def test_names_that_the_kernel_does_not_have_are_told_with_close_ones(backend: Backend) -> None:
    with pytest.raises(NotFound, match="has a function 'bpf_no_such_function'"):
        Program.load("xdp", [build.call_kernel("bpf_no_such_function"), build.exit_()])
    with pytest.raises(NotFound, match="has a variable 'no_such_variable'") as caught:
        Program.load("xdp", [build.ld_kernel_variable(R1, "no_such_variable"), build.exit_()])
    assert caught.value.errno == errno.ENOENT


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_rcu_read_lock")
def test_a_close_name_is_offered(backend: Backend) -> None:
    with pytest.raises(NotFound, match=r"did you mean .*\bbpf_rcu_read_lock\b"):
        Program.load("xdp", [build.call_kernel("bpf_rcu_read_lok"), build.exit_()])


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_the_verifiers_refusal_names_the_line_of_the_text(backend: Backend) -> None:
    with pytest.raises(VerifierError) as caught:
        Program.load("xdp", RETURN_R2, name="p")
    error = caught.value
    # The load of 64 bits before it takes two slots.
    assert (error.summary, error.instruction) == ("R2 !read_ok", 7)
    assert error.source_line == "p:11: r0 = r2    // was never written"
    with pytest.raises(VerifierError, match=r"at text:11: r0 = r2 .*\(instruction 7: r0 = r2\)"):
        Program.load("xdp", RETURN_R2)


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_the_verifiers_refusal_names_the_instruction_behind_labels(backend: Backend) -> None:
    items: Items = [
        Label("start"),
        build.mov_imm(R0, 0),
        build.ld_imm64(R1, 5),
        Label("unused"),
        build.jump_imm(R0, "!=", 0, "start"),
        build.mov_reg(R0, R3),
        build.exit_(),
    ]
    with pytest.raises(VerifierError, match=r"at instruction 4: r0 = r3") as caught:
        Program.load("xdp", items)
    assert caught.value.instruction == 4


def test_loading_changes_no_instruction(backend: Backend) -> None:
    items: Items = [build.ld_map_fd(R1, "m"), build.jump("out"), Label("out"), build.mov_imm(R0, 2), build.exit_()]
    before = [repr(item) for item in items]
    with Map.create("array", key="u32", value="u64", max_entries=1) as m:
        for _ in range(2):
            Program.load("xdp", items, maps={"m": m}).close()
    assert [repr(item) for item in items] == before


@pytest.mark.real_kernel("programs run there only")
def test_a_context_comes_in_the_first_register(backend: Backend) -> None:
    with Program.load("syscall", "r0 = *(u64 *)(r1 +0)\nr0 += 1\nexit") as program:
        assert program.run(ctx=struct.pack("=Q", 41)).retval == 42
