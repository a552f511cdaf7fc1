"""Stack traces: programs store the stacks they are reached by, user space reads, names and deletes them."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import tracers

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import slots
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

    Stacks = rawbpf.StackTraceMap[Any]

pytestmark = [
    pytest.mark.guest,
    pytest.mark.needs("map_type:stack_trace"),
]
STORES = pytest.mark.needs("prog_type:raw_tracepoint", "tracepoint:task/task_rename")
SEES_SYMBOLS = pytest.mark.needs("capability:CAP_SYSLOG", "file:/proc/kallsyms")

BUILD_ID_KNOWN = c.BPF_STACK_BUILD_ID_VALID


@pytest.fixture
def stacks(backend: Backend) -> Iterator[rawbpf.StackTraceMap]:
    with rawbpf.Map.create("stack_trace", max_entries=64, name="stacks") as m:
        yield m


def _store_stack(stacks: Stacks, flags: int, results: rawbpf.ArrayMap[int]) -> list[Instruction]:
    # For the raw tracepoint task_rename: at a renaming to MARK the stack is stored and what the helper
    # said becomes the array's first value.
    store = [
        b.mov_reg(b.R1, b.R6),
        b.ld_map_fd(b.R2, stacks.fileno()),
        b.mov_imm(b.R3, flags),
        b.call(helper_number("get_stackid")),
        b.ld_map_value(b.R1, results.fileno()),
        b.store_reg(b.R1, 0, b.R0),
    ]
    return [
        b.mov_reg(b.R6, b.R1),
        b.load_mem(b.R3, b.R1, 8),  # the tracepoint's second argument, the new name
        b.mov_reg(b.R1, b.R10),
        b.alu_imm(b.R1, "+=", -16),
        b.mov_imm(b.R2, 16),
        b.call(helper_number("probe_read_kernel_str")),
        b.load_mem(b.R1, b.R10, -16),
        b.ld_imm64(b.R2, int.from_bytes(tracers.MARK, sys.byteorder)),
        b.jump_reg(b.R1, "!=", b.R2, slots(store)),
        *store,
        *tracers.returning(0),
    ]


@contextmanager
def storing(stacks: Stacks, flags: int = 0) -> Iterator[Callable[[], int]]:
    """Yield what renames this thread and returns the id of the stack that was stored meanwhile."""
    with (
        rawbpf.Map.create("array", value="s64", max_entries=1) as results,
        rawbpf.Program.load("raw_tp/task_rename", _store_stack(stacks, flags, results), license="GPL") as program,
        program.attach(),
    ):

        def store() -> int:
            tracers.rename_thread()
            stored: int = results[0]
            return stored

        yield store


# What they are for ----------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@STORES
@SEES_SYMBOLS
def test_the_stack_that_a_program_stored_has_the_kernels_functions_in_order(stacks: Stacks) -> None:
    with storing(stacks) as store:
        stack_id = store()
    assert list(stacks) == [stack_id]
    trace = stacks[stack_id]
    names = [symbol.name for symbol in trace.symbols() if symbol]
    # prctl(PR_SET_NAME) sets the name of the task, which is where the tracepoint is.
    outermost = [name for name in names if name.startswith("__set_task_comm") or "_sys_prctl" in name]
    assert outermost[0].startswith("__set_task_comm")
    assert len(outermost) >= 2


@pytest.mark.real_kernel("it asks about the running kernel")
@SEES_SYMBOLS
def test_a_return_address_belongs_to_the_function_that_calls(backend: Backend) -> None:
    # The last instruction of a function may be a call that does not return: what follows is another function.
    first = next(address for address, name in backend.host.kallsyms() if name == "do_exit")
    innermost, caller, further = rawbpf.StackTrace((first, first, first + 5)).symbols()
    assert innermost == rawbpf.Symbol("do_exit", 0)
    assert further == rawbpf.Symbol("do_exit", 5)
    assert caller is not None
    assert caller.name != "do_exit"
    assert rawbpf.ksym(first - 1) == rawbpf.Symbol(caller.name, caller.offset - 1)


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_the_stack_of_user_space_has_files_and_offsets(stacks: Stacks) -> None:
    with storing(stacks, c.BPF_F_USER_STACK) as store:
        trace = stacks[store()]
    innermost = trace.symbols(os.getpid())[0]
    assert innermost is not None
    assert "libc" in innermost.name
    assert 0 < innermost.offset < os.path.getsize(innermost.name)


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_equal_stacks_have_one_id(stacks: Stacks) -> None:
    with storing(stacks) as store:
        ids = [store() for _ in range(5)]
    assert len(set(ids)) == 1
    assert len(stacks) == 1


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_build_ids_and_offsets_are_stored_where_the_map_was_made_for_them(backend: Backend) -> None:
    with rawbpf.Map.create("stack_trace", value=8 * 32, max_entries=16, flags=c.BPF_F_STACK_BUILD_ID) as m:
        with storing(m, c.BPF_F_USER_STACK) as store:
            stack_id = store()
        with rawbpf.Map.from_id(m.id) as other:
            frames = other[stack_id]
        first = frames[0]
        assert (first.status, len(first.build_id)) == (BUILD_ID_KNOWN, 20)
        assert any(first.build_id)
        assert all(frame.status in {BUILD_ID_KNOWN, c.BPF_STACK_BUILD_ID_IP} for frame in frames)
        assert len(frames) <= 8
    with rawbpf.Map.create("stack_trace", max_entries=16) as plain, storing(plain, c.BPF_F_USER_STACK) as store:
        address = plain[store()][0]
        found = rawbpf.StackTrace([address]).symbols(os.getpid())[0]
        assert found is not None
        assert found.offset == first.offset


# What the kernel does -----------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_reading_and_deleting_go_by_id(stacks: Stacks) -> None:
    with storing(stacks) as store:
        stack_id = store()
        trace = stacks[stack_id]
        assert stacks.get(stack_id) == trace
        assert stack_id in stacks
        assert dict(stacks.items()) == stacks.snapshot() == {stack_id: trace}
        assert list(stacks.values()) == [trace]
        assert (stack_id in stacks.keys(), (stack_id, trace) in stacks.items()) == (True, True)  # noqa: SIM118
        del stacks[stack_id]
        assert stack_id not in stacks
        assert store() == stack_id
        assert stacks.pop(stack_id) == trace
        assert len(stacks) == 0
        store()
        assert stacks.delete_many([stack_id, stack_id]) == 1
        store()
        stacks.clear()
        assert list(stacks) == []


def test_a_missing_stack_is_a_missing_key(stacks: Stacks) -> None:
    for verb in (stacks.__getitem__, stacks.__delitem__, stacks.pop):
        with pytest.raises(rawbpf.KeyNotFound, match=r"'stacks' \(stack_trace\)\[5\]") as caught:
            verb(5)
        assert caught.value.key == 5
    assert stacks.get(5, "none") == "none"
    assert stacks.pop(5, None) is None
    assert 5 not in stacks
    with pytest.raises(rawbpf.IndexOutOfRange, match="no index 64: max_entries is 64"):
        del stacks[64]
    assert 64 not in stacks


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_pop_reads_and_deletes_where_the_kernel_does_not_do_both(backend: Backend) -> None:
    older = FaultBackend(backend, {c.BPF_MAP_LOOKUP_AND_DELETE_ELEM: [(1, 524), (2, 524)]})
    with rawbpf.StackTraceMap.create(max_entries=16, backend=older) as m, storing(m) as store:
        stack_id = store()
        trace = m[stack_id]
        assert m.pop(stack_id) == trace
        assert m.pop(stack_id, None) is None
        assert older.calls[c.BPF_MAP_DELETE_ELEM] == 1


@pytest.mark.parametrize("name", ["__setitem__", "put", "insert", "replace", "update", "put_many", "sum", "max"])
def test_only_programs_store_stacks(stacks: Stacks, name: str) -> None:
    assert not hasattr(stacks, name)
    with pytest.raises(TypeError, match="only programs store stacks"):
        stacks.value_type.pack([1, 2])


@pytest.mark.parametrize(
    ("stack_id", "words"),
    [
        pytest.param(
            -17, "stack id -17 is an error of bpf_get_stackid.*: EEXIST: another stack has its slot", id="s32"
        ),
        pytest.param((1 << 32) - 14, "EFAULT: there was no such stack", id="kept in a u32"),
        pytest.param((1 << 64) - 17, "EEXIST", id="kept in a u64"),
        pytest.param(-1, "EPERM: it stored no stack", id="any other"),
    ],
)
@pytest.mark.parametrize("verb", ["__getitem__", "get", "__contains__", "__delitem__", "pop"])
def test_an_error_in_place_of_an_id_is_named(stacks: Stacks, verb: str, stack_id: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(stacks, verb)(stack_id)


@pytest.mark.parametrize(
    ("stack_id", "error"), [(1 << 32, OverflowError), (-5000, OverflowError), ("1", TypeError), (None, TypeError)]
)
def test_what_is_no_id_is_refused(stacks: Stacks, stack_id: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stack id: expected"):
        stacks.get(stack_id)


@pytest.mark.real_kernel("programs run there only")
@STORES
@pytest.mark.needs("helper:raw_tracepoint:get_stackid")
def test_a_stack_whose_slot_is_taken_is_an_error_that_the_program_sees(backend: Backend) -> None:
    with rawbpf.StackTraceMap.create(max_entries=1) as m:
        with storing(m, c.BPF_F_USER_STACK) as store:
            assert store() == 0
        with storing(m) as store, pytest.raises(ValueError, match=r"EEXIST: .* or BPF_F_REUSE_STACKID"):
            m[store()]
        # The kernel takes a free entry before it gives up the other.
        with storing(m, c.BPF_F_REUSE_STACKID) as store, pytest.raises(ValueError, match="ENOMEM: the map has no free"):
            m[store()]


# What a map is made with ---------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@STORES
@pytest.mark.parametrize(
    ("value", "addresses"), [(None, 127), (8, 1), (1016, 127), ("u64[4]", 4)], ids=["default", "one", "most", "array"]
)
def test_a_stack_is_cut_to_what_a_value_holds(backend: Backend, value: Any, addresses: int) -> None:
    with rawbpf.StackTraceMap.create(value=value, max_entries=4) as m, storing(m) as store:
        assert m.info.value_size == 8 * addresses
        stack_id = store()
        trace = m[stack_id]
        assert 0 < len(trace) <= addresses
        assert all(trace)
        assert len(m.raw[m.key_type.pack(stack_id)]) == 8 * addresses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"value": 12}, "value_size of a stack_trace map must be 8 to 1016 and a multiple of 8, not 12"),
        ({"value": 40, "flags": c.BPF_F_STACK_BUILD_ID}, "must be 32 to 4064 and a multiple of 32, not 40"),
    ],
)
def test_a_size_that_holds_no_whole_frames_is_refused(backend: Backend, options: Any, words: str) -> None:
    with pytest.raises(rawbpf.BpfError, match=words):
        rawbpf.StackTraceMap.create(max_entries=1, **options)


def test_keys_of_another_size_are_refused_before_the_kernel_sees_them(backend: Backend) -> None:
    with pytest.raises(ValueError, match="are indexed by a u32; leave key= out"):
        rawbpf.StackTraceMap.create(key="u64", max_entries=1)


@pytest.mark.real_kernel("programs run there only")
@STORES
def test_a_map_opened_by_id_reads_stacks(stacks: Stacks) -> None:
    with storing(stacks) as store, rawbpf.Map.from_id(stacks.id) as other:
        stack_id = store()
        assert isinstance(other[stack_id], rawbpf.StackTrace)
        assert other[stack_id] == stacks[stack_id]
        assert "stack of 127 addresses" in repr(other)


def test_a_trace_is_a_value(stacks: Stacks) -> None:
    trace = rawbpf.StackTrace((0xFFFF, 0x10))
    assert trace == (0xFFFF, 0x10)
    assert hash(trace) == hash((0xFFFF, 0x10))
    assert repr(trace) == "StackTrace(0xffff, 0x10)"
    copy = pickle.loads(pickle.dumps(trace))
    assert (copy, type(copy)) == (trace, rawbpf.StackTrace)
    codec = stacks.value_type
    assert codec.unpack(bytes(codec.size)) == ()
    assert codec.unpack((0x100).to_bytes(8, sys.byteorder).ljust(codec.size, b"\0")) == (0x100,)


def test_a_closed_map_raises_closed(stacks: Stacks) -> None:
    stacks.close()
    for verb in (stacks.get, stacks.pop, stacks.__getitem__, stacks.__delitem__):
        with pytest.raises(rawbpf.Closed):
            verb(1)
    with pytest.raises(rawbpf.Closed):
        list(stacks)
