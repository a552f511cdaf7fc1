"""CO-RE at load: against the running kernel's types or given ones, and what is said where a type does not suit."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from support.clang import compiled

import rawbpf
from rawbpf.btf import Btf, Builder
from rawbpf.errors import NotSupported
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import PROG_LOAD

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend, Host

pytestmark = [pytest.mark.needs("tool:clang", "module:elftools")]

# The first member of the kernel's is another: it is `tgid` that has to be found.
TASKS = """
struct task_struct___mine { int before[3]; int tgid; int gone; int lost; } CORE;
static void *(*get_current_task)(void) = (void *)35;
static long (*probe_read_kernel)(void *, unsigned, const void *) = (void *)113;
int number;

SEC("raw_tp/x") int tgid(void *c)
{
    struct task_struct___mine *task = get_current_task();
    int read = 0;
    probe_read_kernel(&read, sizeof(read), &task->tgid);
    number = read;
    return 0;
}
SEC("raw_tp/x") int guarded(void *c)
{
    struct task_struct___mine *task = get_current_task();
    int read = 7;
    if (exists(task->gone))
        probe_read_kernel(&read, sizeof(read), &task->gone);
    number = read;
    return 0;
}
SEC("?raw_tp/x") int reached(void *c)
{
    struct task_struct___mine *task = get_current_task();
    int read = 7;
    if (exists(task->gone))
        probe_read_kernel(&read, sizeof(read), &task->gone);
    probe_read_kernel(&read, sizeof(read), &task->lost);
    number = read;
    return 0;
}
"""
SIZES = """
struct thing { int first; signed char narrow; } CORE;
enum state { IDLE, BUSY };
SEC("socket") int size(void *skb) { return whole(struct thing, 1); }
SEC("socket") int own_id(void *skb) { return __builtin_btf_type_id(*(struct thing *)0, 0); }
SEC("?socket") int narrow(void *skb)
{
    struct thing *at = skb;
    return at->narrow;
}
SEC("?socket") int busy(void *skb) { return enumerator(enum state, BUSY, 1); }
"""
UNKNOWN = """
struct nobody_has_it { int x; } CORE;
SEC("socket") int it(void *skb) { return whole(struct nobody_has_it, 0); }
"""
PLAIN = """
int number;
SEC("socket") int plain(void *skb) { return number; }
"""
RUNS = pytest.mark.real_kernel("programs run there only")
VERIFIES = pytest.mark.real_kernel("a simulated kernel verifies no program")


def spec_of(directory: Path, source: str) -> rawbpf.ObjectSpec:
    target = {"little": "bpfel", "big": "bpfeb"}[sys.byteorder]
    return rawbpf.ObjectSpec.from_file(compiled(directory, source, target=target))


def things(size: int) -> Btf:
    b = Builder()
    number, narrow = b.int("int", 4, signed=True), b.int("long", 8, signed=True)
    b.struct("thing", size, [("first", number, 0), ("narrow", narrow, 64)])
    return Btf.from_bytes(b.to_bytes())


@RUNS
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "helper:raw_tracepoint:probe_read_kernel")
def test_a_program_reads_the_fields_of_the_running_kernel(backend: Backend, tmp_path: Path) -> None:
    with spec_of(tmp_path, TASKS).load() as obj:
        obj.programs["tgid"].run()
        assert obj.variables["number"].value == os.getpid()


@RUNS
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "helper:raw_tracepoint:probe_read_kernel")
def test_what_is_never_reached_may_be_about_a_missing_field(backend: Backend, tmp_path: Path) -> None:
    with spec_of(tmp_path, TASKS).load(only=["guarded"]) as obj:
        obj.programs["guarded"].run()
        assert obj.variables["number"].value == 7


@VERIFIES
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "helper:raw_tracepoint:probe_read_kernel")
def test_a_missing_field_that_is_reached_is_named(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(rawbpf.VerifierError) as caught:
        spec_of(tmp_path, TASKS).load(only=["reached"])
    error = caught.value
    assert str(error).splitlines()[0] == (
        "prog_load 'reached' (raw_tracepoint): EINVAL: CO-RE: the kernel's types have no struct "
        "task_struct___mine.lost that suits the program: guard its use by bpf_core_field_exists(), or declare it as "
        "the kernel has it"
    )
    assert error.summary == error.hint
    assert "invalid func unknown#195896080" in error.log
    assert error.instruction is not None


WHY = {
    "narrow": "CO-RE: struct thing.narrow has 8 bytes in the kernel's types and 1 in the program's, and of another "
    "width only pointers and integers without a sign can be loaded: read it with bpf_probe_read_kernel()",
    "busy": "CO-RE: the kernel's types have no enum state::BUSY that suits the program: guard its use by "
    "bpf_core_enum_value_exists(), or declare it as the kernel has it",
}


@VERIFIES
@pytest.mark.parametrize("program", WHY)
def test_why_an_instruction_cannot_be_changed_is_told(backend: Backend, tmp_path: Path, program: str) -> None:
    with pytest.raises(rawbpf.VerifierError) as caught:
        spec_of(tmp_path, SIZES).load(only=[program], target_btf=things(24))
    assert caught.value.summary == WHY[program]


@RUNS
def test_a_given_kernels_types_take_the_place_of_the_running_ones(backend: Backend, tmp_path: Path) -> None:
    for size in (24, 40):
        with spec_of(tmp_path, SIZES).load(target_btf=things(size)) as obj:
            assert obj.programs["size"].run(bytes(14)).retval == size
    modules = iter([Btf.from_bytes(Builder().to_bytes()), things(56)])
    with spec_of(tmp_path, SIZES).load(only=["size"], target_btf=modules) as obj:
        assert obj.programs["size"].run(bytes(14)).retval == 56


class _Watched(Wrapper):
    # Counts the CO-RE records that are sent along, and the looks at the kernel's types.

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.records: list[int] = []
        self.maps = 0

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_PROG_LOAD:
            content = bytes(ctypes.cast(attr, ctypes.POINTER(ctypes.c_char * size))[0])
            self.records.append(PROG_LOAD.integer(content, "core_relo_cnt"))
        self.maps += cmd == c.BPF_MAP_CREATE
        return super().intercept(call, cmd, attr, size)


class _Untyped(_Watched):
    # A kernel that was built without BTF of itself.

    @property
    def host(self) -> Host:
        return cast("Host", _UntypedHost(super().host))


class _UntypedHost:
    def __init__(self, inner: Host) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def btf(self) -> memoryview:
        raise NotSupported(errno.ENOENT, call="open", subject="/sys/kernel/btf/vmlinux", hint="it has none")


def test_records_of_instructions_that_were_changed_are_not_sent_along(backend: Backend, tmp_path: Path) -> None:
    watched = _Watched(backend)
    with spec_of(tmp_path, SIZES).load(target_btf=things(24), backend=watched):
        assert watched.records == [0, 0]


def test_a_kernel_without_types_loads_what_does_not_depend_on_them(backend: Backend, tmp_path: Path) -> None:
    untyped = _Untyped(backend)
    with spec_of(tmp_path, PLAIN).load(backend=untyped) as obj:
        assert list(obj.programs) == ["plain"]
    with spec_of(tmp_path, SIZES).load(only=["own_id"], backend=untyped) as obj:
        assert list(obj.programs) == ["own_id"]
    with spec_of(tmp_path, SIZES).load(target_btf=things(24), backend=untyped) as obj:
        assert list(obj.programs) == ["size", "own_id"]

    made = untyped.maps
    with pytest.raises(NotSupported, match="it has none"):
        spec_of(tmp_path, SIZES + PLAIN).load(backend=untyped)
    assert untyped.maps == made, "it is found out before anything is made"


@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL], ids=["without privileges", "before Linux 5.4"])
def test_where_modules_cannot_be_listed_the_kernels_own_types_have_to_do(
    backend: Backend, tmp_path: Path, number: int
) -> None:
    refusing = FaultBackend(backend, {c.BPF_BTF_GET_NEXT_ID: [(1, number)]})
    with spec_of(tmp_path, UNKNOWN).load(backend=refusing) as obj:
        assert list(obj.programs) == ["it"]


@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
def test_what_fails_while_modules_are_read_is_told(backend: Backend, tmp_path: Path) -> None:
    failing = FaultBackend(backend, {c.BPF_BTF_GET_NEXT_ID: [(1, errno.ENOMEM)]})
    with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
        spec_of(tmp_path, UNKNOWN).load(backend=failing)
