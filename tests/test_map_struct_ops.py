"""struct_ops maps: programs become a congestion control of the kernel, and connections run by them."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.congestion import AVAILABLE, available, transfer

import rawbpf
from rawbpf.asm import build as b
from rawbpf.syscall.link import link_create
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

TABLE = "tcp_congestion_ops"
NAME = f"raw{os.getpid()}"
SSTHRESH, CWND = 7, 10

pytestmark = [
    pytest.mark.real_kernel(
        "kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_update_elem registers with the running kernel's TCP"
    ),
    pytest.mark.needs("prog_type:struct_ops", "file:/sys/kernel/btf/vmlinux", f"file:{AVAILABLE}"),
]

Programs = dict[str, rawbpf.Program]


def load(table: rawbpf.StructOpsMap, member: str, *instructions: Instruction) -> rawbpf.Program:
    return rawbpf.Program.load("struct_ops", [*instructions, b.exit_()], name=member, **table.target(member))


@contextmanager
def programs(table: rawbpf.StructOpsMap, counts: rawbpf.ArrayMap[int]) -> Iterator[Programs]:
    """Load the three functions that every congestion control has; `counts` counts the calls of cong_avoid."""
    count = [b.ld_map_value(b.R1, counts.fileno()), b.mov_imm(b.R2, 1), b.atomic_add(b.R1, 0, b.R2)]
    with (
        load(table, "ssthresh", b.mov_imm(b.R0, SSTHRESH)) as ssthresh,
        load(table, "undo_cwnd", b.mov_imm(b.R0, CWND)) as undo_cwnd,
        load(table, "cong_avoid", *count, b.mov_imm(b.R0, 0)) as cong_avoid,
    ):
        yield {"ssthresh": ssthresh, "undo_cwnd": undo_cwnd, "cong_avoid": cong_avoid}


@contextmanager
def registered(table: rawbpf.StructOpsMap, members: dict[str, Any]) -> Iterator[None]:
    # Nothing but this ends what is registered, not even the end of the process.
    table[0] = members
    try:
        yield
    finally:
        del table[0]


@pytest.fixture
def table(backend: Backend) -> Iterator[rawbpf.StructOpsMap]:
    with rawbpf.Map.create("struct_ops", value=TABLE, name="table") as made:
        yield made
        if not made.closed and made.state.name == "BPF_STRUCT_OPS_STATE_INUSE":  # a test failed
            del made[0]


@pytest.fixture
def counts(backend: Backend) -> Iterator[rawbpf.ArrayMap[int]]:
    with rawbpf.ArrayMap.create(value="u64", max_entries=1) as made:
        yield made


@pytest.fixture
def three(table: rawbpf.StructOpsMap, counts: rawbpf.ArrayMap[int]) -> Iterator[Programs]:
    with programs(table, counts) as made:
        yield made


def test_a_connection_runs_by_the_programs_of_a_table(
    table: rawbpf.StructOpsMap, three: Programs, counts: rawbpf.ArrayMap[int]
) -> None:
    assert NAME not in available()
    with registered(table, {"name": NAME, **three}):
        assert NAME in available()
        assert transfer(NAME, 1 << 18) == NAME
        assert counts[0] > 0
    assert NAME not in available()
    with pytest.raises(FileNotFoundError):
        transfer(NAME, 1)


def test_what_is_read_is_the_kernels_state_and_the_ids_of_the_programs(
    table: rawbpf.StructOpsMap, three: Programs
) -> None:
    assert (table.state.name, table.refcount) == ("BPF_STRUCT_OPS_STATE_INIT", 0)
    with registered(table, {"name": NAME, **three}):
        assert (table.state.name, table.refcount) == ("BPF_STRUCT_OPS_STATE_INUSE", 1)
        record = table[0]
        assert getattr(record, "common", record).state == 1  # before Linux 6.9 without a struct of its own
        assert record.data.name == NAME
        assert {name: getattr(record.data, name) for name in three} == {name: p.id for name, p in three.items()}
        assert repr(record.data.ssthresh) == f"ProgId({three['ssthresh'].id})"
        assert record.data.set_state is None
        with rawbpf.Map.from_id(table.id) as other:
            assert isinstance(other, rawbpf.StructOpsMap)
            assert other[0] == record
            assert other.target("cong_avoid") == table.target("cong_avoid")
            assert table.value_type.unpack(other.raw[0]) == record
    assert table.state.name == "BPF_STRUCT_OPS_STATE_TOBEFREE"


def test_closing_the_map_ends_no_registration(backend: Backend, counts: rawbpf.ArrayMap[int]) -> None:
    table = rawbpf.Map.create("struct_ops", value=TABLE)
    with programs(table, counts) as three:
        table[0] = {"name": NAME, **three}
        number = table.id
        table.close()
        assert NAME in available()
        with rawbpf.Map.from_id(number) as again:
            del again[0]
        assert NAME not in available()


def test_with_a_link_the_table_is_made_ready_and_the_link_registers_it(
    backend: Backend, counts: rawbpf.ArrayMap[int]
) -> None:
    with (
        rawbpf.Map.create("struct_ops", value=TABLE, flags=c.BPF_F_LINK) as table,
        programs(table, counts) as three,
    ):
        table[0] = {"name": NAME, **three}
        assert table.state.name == "BPF_STRUCT_OPS_STATE_READY"
        assert NAME not in available()
        with pytest.raises(rawbpf.NotSupported, match="BPF_F_LINK: closing its link ends"):
            del table[0]
        link = link_create(backend, prog_fd=table.fileno(), attach_type=c.BPF_STRUCT_OPS)
        try:
            assert NAME in available()
        finally:
            backend.close(link)
        assert NAME not in available()


# Creating ------------------------------------------------------------------------


def test_a_table_is_made_of_what_the_kernels_btf_says(table: rawbpf.StructOpsMap) -> None:
    info = table.info
    kernel = rawbpf.btf.vmlinux()[f"bpf_struct_ops_{TABLE}"]
    assert info.btf_vmlinux_value_type_id == kernel.id
    assert (info.key_size, info.max_entries, table.value_type.size) == (4, 1, info.value_size)
    assert (table.value_type.name, table.value_type.source) == (f"struct bpf_struct_ops_{TABLE}", kernel)
    assert re.search(r"ssthresh: descriptor of a program\n.*name: char\[16\]", table.value_type.explain(), re.DOTALL)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({}, TypeError, 'needs value=, the name of .* such as "tcp_congestion_ops"$', id="no table"),
        pytest.param({"value": 64}, TypeError, "such as .*; 64 is none", id="a size"),
        pytest.param(
            {"value": "tcp_congestion_op"},
            rawbpf.BpfError,
            f"ENOENT: this kernel has no such table, but .*{TABLE}.*; did you mean {TABLE}",
            id="a close name",
        ),
        pytest.param({"value": "value"}, rawbpf.BpfError, "no such table", id="what is in all tables"),
        pytest.param({"value": "common_value"}, rawbpf.BpfError, "no such table", id="another struct"),
        pytest.param({"value": TABLE, "key": "u64"}, ValueError, "indexed by a u32", id="a key"),
        pytest.param({"value": TABLE, "max_entries": 2}, rawbpf.BpfError, "has one element: max_entries", id="two"),
        pytest.param(
            {"value": TABLE, "flags": c.BPF_F_NO_PREALLOC}, rawbpf.BpfError, "does not take the flag", id="flags"
        ),
    ],
)
def test_what_makes_no_table_is_said(
    backend: Backend, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rawbpf.Map.create("struct_ops", **options)


# Refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(lambda _: {"nme": "x"}, TypeError, r"no member 'nme'; there are (\w+, )*ssthresh, ", id="unknown"),
        pytest.param(lambda _: {"ssthresh": 3}, TypeError, "ssthresh: expected a program, open", id="an int"),
        pytest.param(lambda _: {"name": "x" * 17}, ValueError, "tcp_congestion_ops.name", id="a long name"),
        pytest.param(lambda p: {"ssthresh": p["undo_cwnd"]}, rawbpf.BpfError, "EINVAL: .*another member", id="other"),
        pytest.param(lambda _: {"ssthresh": None}, rawbpf.BpfError, "EINVAL: .*one that is missing", id="missing"),
        pytest.param(lambda _: {"key": 1}, rawbpf.BpfError, "EINVAL: .*cannot be or set", id="not to be set"),
        pytest.param(lambda _: {"name": "reno"}, rawbpf.BpfError, "EEXIST: .*one of this name already", id="taken"),
    ],
)
def test_a_table_that_is_refused_is_not_registered(
    table: rawbpf.StructOpsMap,
    three: Programs,
    change: Callable[[Programs], dict[str, Any]],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        table[0] = {"name": NAME, **three, **change(three)}
    assert table.state.name == "BPF_STRUCT_OPS_STATE_INIT"
    # And it can be after all.
    with registered(table, {"name": NAME, **three}):
        assert NAME in available()


def test_what_is_no_program_of_a_table_is_said(
    table: rawbpf.StructOpsMap, three: Programs, counts: rawbpf.ArrayMap[int]
) -> None:
    with pytest.raises(rawbpf.BpfError, match=r"EINVAL|EBADF") as caught:
        table[0] = {"name": NAME, **three, "ssthresh": counts}
    assert not isinstance(caught.value, rawbpf.Closed)
    with (
        rawbpf.Program.load("socket_filter", [b.mov_imm(b.R0, 0), b.exit_()]) as filter_,
        pytest.raises(rawbpf.BpfError, match="another member or table"),
    ):
        table[0] = {"name": NAME, **three, "ssthresh": filter_}
    with pytest.raises(TypeError, match="expected a dict of members of struct tcp_congestion_ops"):
        table[0] = b""  # type: ignore[assignment]


def test_a_table_is_registered_once_and_ends_once(table: rawbpf.StructOpsMap, three: Programs) -> None:
    with pytest.raises(rawbpf.KeyNotFound):
        del table[0]
    with registered(table, {"name": NAME, **three}):
        with pytest.raises(rawbpf.BpfError, match="filled before") as caught:
            table[0] = {"name": f"{NAME}b", **three}
        assert caught.value.errno == errno.EBUSY
    with pytest.raises(rawbpf.BpfError, match=r"EINPROGRESS: the registration was ended|ENOENT"):
        del table[0]


@pytest.mark.parametrize(
    "use",
    [lambda m: m[1], lambda m: m.__setitem__(1, {}), lambda m: m.__delitem__(1)],
    ids=["read", "write", "delete"],
)
def test_there_is_one_element_only(table: rawbpf.StructOpsMap, three: Programs, use: Callable[[Any], object]) -> None:
    with registered(table, {"name": NAME, **three}):
        with pytest.raises(rawbpf.IndexOutOfRange, match=r"no index 1: .*one element, 0"):
            use(table)
        assert NAME in available()


@pytest.mark.parametrize("use", [iter, len, reversed, lambda m: 0 in m], ids=["iter", "len", "reversed", "in"])
def test_verbs_of_many_elements_are_absent(table: rawbpf.StructOpsMap, use: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        use(table)


def test_targets_are_members(table: rawbpf.StructOpsMap) -> None:
    with pytest.raises(ValueError, match=r"has no member 'nothing'; it has (\w+, )*ssthresh, ") as caught:
        table.target("nothing")
    members = str(caught.value).rpartition("it has ")[2].split(", ")
    for member in ("ssthresh", "undo_cwnd"):  # where they stand differs between kernels
        assert members[table.target(member)["expected_attach_type"]] == member


def test_a_closed_table_raises_closed(backend: Backend) -> None:
    table = rawbpf.Map.create("struct_ops", value=TABLE, name="gone")
    table.close()
    for use in (lambda: table[0], lambda: table.state, lambda: table.__delitem__(0)):
        with pytest.raises(rawbpf.Closed, match="gone"):
            use()
