"""The code of a loaded program is read from the kernel, with names; where it shows none, the error says why."""

from __future__ import annotations

import ctypes
import re
import sys
from typing import TYPE_CHECKING

import pytest
from support.bpffs import bpffs
from support.child import run_as_nobody
from support.objects import CALLBACKS, native

import rawbpf
from rawbpf import Map, Program
from rawbpf.asm import Instruction, assemble, build, disassemble_jited, resolve
from rawbpf.asm.instruction import KernelReference, MapReference
from rawbpf.errors import BpfError, NotSupported, PermissionDenied
from rawbpf.program.code import JitedFunction
from rawbpf.syscall.current import current
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import OBJ_GET_INFO_BY_FD
from rawbpf.uapi.info import PROG_INFO

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

CODE = """
    r1 = map[numbers]
    r1 = map[numbers]+8
    r0 = *(u32 *)(r1 +0)
    if r0 == 0 goto out
    r1 = 2
    r2 = &twice
    r3 = 0
    r4 = 0
    call bpf_loop
    call once
  out:
    exit

twice(r1, r2):
    r0 = 0
    exit

once():
    r0 = 0
    exit
"""


class Hiding(Wrapper):
    """A kernel that leaves out what `name` points to, as it does where it shows no addresses."""

    def __init__(self, inner: Backend, name: str) -> None:
        super().__init__(inner)
        self._field = next(offset for field, offset, _ in PROG_INFO.fields if field == name)

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = call(cmd, attr, size)
        if cmd == c.BPF_OBJ_GET_INFO_BY_FD:
            buffer: ctypes.Array[ctypes.c_char] = attr._obj  # type: ignore[attr-defined]
            info = OBJ_GET_INFO_BY_FD.integer(buffer, "info")
            ctypes.memset(info + self._field, 0, 8)
        return result


@pytest.mark.needs("helper:xdp:loop")
def test_instructions_come_back_with_their_maps_and_functions(backend: Backend) -> None:
    with (
        Map.create("array", key="u32", value={"a": "u64", "b": "u64"}, max_entries=1) as numbers,
        Program.load("xdp", CODE, maps={"numbers": numbers}, name="shown") as program,
    ):
        xlated = program.xlated()
        assert [i.reference for i in xlated if isinstance(i.reference, MapReference)] == [
            MapReference(f"id:{numbers.id}"),
            MapReference(f"id:{numbers.id}", 8),
        ]
        text = program.disassemble()
        assert f"r1 = map[id:{numbers.id}]+8\n" in text
        assert resolve(assemble(text)).instructions == resolve(disassembled_alike(xlated)).instructions
        heads = re.findall(r"^(\w+)\(\):$", text, re.MULTILINE)
        assert heads == ["main", "twice", "once"]
        assert "r2 = &twice\n" in text
        assert "call once\n" in text
        assert program.info.xlated_size == 8 * sum(i.slots for i in xlated)


def disassembled_alike(instructions: list[Instruction]) -> list[Instruction]:
    return [each.replace(function=False, line=False) for each in instructions]


def test_a_program_without_types_is_called_by_its_name(backend: Backend) -> None:
    with Program.load("xdp", "r0 = 2\nexit", name="plain") as program:
        assert program.xlated() == [build.mov_imm(0, 2), build.exit_()]
        assert program.disassemble() == "plain():\n   0: r0 = 2\n   1: exit\n"


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_helpers_and_functions_of_the_kernel_have_their_names(backend: Backend) -> None:
    with Map.create("hash", key="u32", value="u64", max_entries=1) as table:
        code = """
            call bpf_ktime_get_ns
            *(u32 *)(r10 -4) = 0
            r1 = map[table]
            r2 = r10
            r2 += -4
            call bpf_map_lookup_elem
            r0 = 0
            exit
        """
        with Program.load("xdp", code, maps={"table": table}) as program:
            calls = [i for i in program.xlated() if i.is_call]
    assert calls[0] == build.call("bpf_ktime_get_ns")
    # Which function of the map's type stands there is the kernel's affair.
    reference = calls[1].reference
    assert calls[1] == build.call("bpf_map_lookup_elem") or (
        isinstance(reference, KernelReference) and "htab_map_lookup_elem" in reference.name
    )


@pytest.mark.real_kernel("a simulated kernel verifies no program")
@pytest.mark.needs("btf_name:bpf_rcu_read_lock")
def test_functions_of_the_kernel_have_their_names(backend: Backend) -> None:
    code = [build.call_kernel("bpf_rcu_read_lock"), build.call_kernel("bpf_rcu_read_unlock"), build.mov_imm(0, 0)]
    with Program.load("syscall", [*code, build.exit_()]) as program:
        text = program.disassemble()
    assert "call kernel[bpf_rcu_read_lock]\n" in text
    assert "call kernel[bpf_rcu_read_unlock]\n" in text


@pytest.mark.real_kernel("a simulated kernel verifies no program")
@pytest.mark.needs("module:elftools")
def test_a_compiled_program_has_its_source(backend: Backend) -> None:
    with rawbpf.load(native("execcount")) as obj:
        program = obj.programs["count_execve"]
        found = [each.line for each in program.xlated() if each.line and each.line.text]
        text = program.disassemble()
        assert "; " not in program.disassemble(source=False)
        assert ":0: " not in text
    assert text.startswith("count_execve():\n      ; ")
    assert "__sync_fetch_and_add(&dropped, 1);\n" in text
    source = (native("execcount").parent / "execcount.bpf.c").read_text(encoding="utf-8").splitlines()
    lines = [line for line in found if line.file_name.endswith("execcount.bpf.c")]
    assert lines
    assert [source[line.number - 1] for line in lines] == [line.text for line in lines]


@pytest.mark.real_kernel("a simulated kernel has no compiler")
@pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable", "helper:xdp:loop")
def test_machine_code_comes_function_by_function(backend: Backend) -> None:
    with (
        Map.create("array", key="u32", value={"a": "u64", "b": "u64"}, max_entries=1) as numbers,
        Program.load("xdp", CODE, maps={"numbers": numbers}) as program,
    ):
        functions = program.jited()
        size = program.info.jited_size
    assert [function.name for function in functions] == ["main", "twice", "once"]
    assert sum(len(function.code) for function in functions) == size
    assert len({function.address for function in functions}) == 3
    assert all(function.address for function in functions)
    assert repr(functions[1]).startswith("<JitedFunction 'twice': ")


@pytest.mark.real_kernel("a simulated kernel has no compiler")
@pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable", "module:capstone")
def test_machine_code_is_disassembled(backend: Backend) -> None:
    with Program.load("xdp", "r0 = 2\nexit", name="plain") as program:
        text = program.disassemble(jited=True)
        address = program.jited()[0].address
    assert text.startswith(f"plain:\n{address:x}: ")
    assert len(text.splitlines()) > 2


@pytest.mark.real_kernel("a simulated kernel has no compiler")
@pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable", "module:capstone", "module:elftools")
def test_machine_code_has_its_source(backend: Backend) -> None:
    with rawbpf.load(native("execcount")) as obj:
        program = obj.programs["count_execve"]
        text = program.disassemble(jited=True)
        (function,) = program.jited()
        assert "; " not in program.disassemble(jited=True, source=False)
    wanted = {" ".join(str(line).split()) for line in function.lines.values() if line.text}
    assert len(wanted) > 5
    assert set(re.findall(r"^ +; (.*)$", text, re.MULTILINE)) == wanted


@pytest.mark.real_kernel("a simulated kernel has no compiler")
@pytest.mark.needs(*CALLBACKS, "module:elftools")
def test_each_function_has_its_own_source(backend: Backend) -> None:
    with bpffs(backend) as directory, rawbpf.load(native("shapes"), pin_dir=directory) as obj:
        several = [functions for each in obj.programs.values() if len(functions := each.jited()) > 1]
    assert several
    for function in (function for functions in several for function in functions):
        assert function.lines
        assert all(0 <= at - function.address < len(function.code) for at in function.lines)


def test_a_program_that_is_not_compiled_has_no_machine_code() -> None:
    with (
        rawbpf.using(rawbpf.sim.Simulator()),
        Program.load("xdp", "r0 = 2\nexit") as program,
        pytest.raises(NotSupported, match="the interpreter runs it"),
    ):
        program.jited()


@pytest.mark.real_kernel("it is about what this process may do")
def test_without_privileges_the_error_says_what_is_needed(backend: Backend) -> None:
    with Program.load("xdp", "r0 = 2\nexit") as program:

        def asked() -> str:
            answers = []
            for ask in (program.xlated, program.jited, program.disassemble):
                try:
                    ask()
                except PermissionDenied as error:
                    answers.append(error.hint)
            return "\n".join(answers)

        assert run_as_nobody(asked).splitlines() == ["the kernel shows code of programs to CAP_BPF only"] * 3


@pytest.mark.real_kernel("it is about what this process may do")
@pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable", "file:/proc/kallsyms")
def test_without_the_right_to_see_addresses_machine_code_is_not_shown(backend: Backend) -> None:
    def asked() -> str:
        with Program.load("xdp", "r0 = 2\nexit", backend=current()) as program:
            assert len(program.xlated()) == 2
            shows = any(address for address, _ in current().host.kallsyms())
            try:
                program.jited()
            except PermissionDenied as error:
                return f"{shows} {error.hint}"
            return f"{shows} shown"

    answer = run_as_nobody(asked, "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON")
    hidden = "the kernel shows machine code where it shows addresses: kernel.kptr_restrict below 2, and CAP_SYSLOG"
    assert answer in {f"False {hidden}", "True shown"}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        pytest.param("xlated_prog_insns", r"blinded \(net\.core\.bpf_jit_harden\)", id="instructions"),
        pytest.param(
            "jited_prog_insns",
            "where it shows addresses",
            id="machine code",
            marks=[
                pytest.mark.real_kernel("a simulated kernel has no compiler"),
                pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable"),
            ],
        ),
    ],
)
def test_what_the_kernel_leaves_out_is_told(backend: Backend, field: str, text: str) -> None:
    with (
        Program.load("xdp", "r0 = 2\nexit", backend=Hiding(backend, field)) as program,
        pytest.raises(PermissionDenied, match=text),
    ):
        program.disassemble(jited=field == "jited_prog_insns")


def test_a_closed_program_shows_nothing(backend: Backend) -> None:
    program = Program.load("xdp", "r0 = 2\nexit")
    program.close()
    with pytest.raises(BpfError, match="closed"):
        program.xlated()


CODES = [
    pytest.param("x86_64", "554889e5c3", "  1000: push rbp\n  1001: mov rbp, rsp\n  1004: ret\n", id="x86_64"),
    pytest.param("aarch64", "c0035fd6", "  1000: ret\n", id="aarch64"),
    pytest.param("s390x", "07fe", "  1000: br %r14\n", id="s390x"),
    pytest.param("riscv64", "67800000", "  1000: ret\n", id="riscv64"),
]


@pytest.mark.needs("module:capstone")
@pytest.mark.parametrize(("machine", "code", "text"), CODES)
def test_machine_code_of_other_machines_is_read_as_well(machine: str, code: str, text: str) -> None:
    assert disassemble_jited(bytes.fromhex(code), address=0x1000, machine=machine) == text


@pytest.mark.needs("module:capstone")
def test_bytes_that_are_no_instruction_are_shown() -> None:
    assert disassemble_jited(bytes.fromhex("06c3"), machine="x86_64") == "     0: .byte 0x06\n     1: ret\n"


def test_a_machine_that_is_not_known_is_told() -> None:
    with pytest.raises(ValueError, match="machine code of 'pdp11' cannot be read: known are x86_64"):
        disassemble_jited(b"", machine="pdp11")


def test_without_capstone_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    function = JitedFunction("f", 0, b"\xc3", {})
    with pytest.raises(ImportError, match=r"pip install rawbpf\[disasm\]"):
        str(function)
