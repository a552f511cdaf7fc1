"""Addresses become names: the kernel's by its symbol table, a process's by file and offset."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.child import run_as_nobody

import rawbpf
from rawbpf.sim.host import SimulatedHost
from rawbpf.symbols import KernelSymbols, ProcessFiles, Symbol, find_addresses, kernel_symbols
from rawbpf.syscall.kernel import KernelBackend

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

CAN_SEE = pytest.mark.needs("kernel", "capability:CAP_SYSLOG", "file:/proc/kallsyms")
FARTHEST = 1 << 20
TABLE = [(0x3000, "c"), (0x1000, "a"), (0x2000, "b"), (0x2000, "alias of b"), (0, "hidden")]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        pytest.param(0x1000, Symbol("a", 0), id="the first byte of a symbol"),
        pytest.param(0x1FFF, Symbol("a", 0xFFF), id="the last byte before the next"),
        pytest.param(0x2000, Symbol("b", 0), id="the first of two names for one address"),
        pytest.param(0x3000 + FARTHEST - 1, Symbol("c", FARTHEST - 1), id="behind the last symbol"),
        pytest.param(0x3000 + FARTHEST, None, id="too far behind it"),
        pytest.param(0xFFF, None, id="before the first"),
        pytest.param(0, None, id="what hidden symbols have"),
        pytest.param(-1, None, id="negative"),
        pytest.param(1 << 70, None, id="no address"),
    ],
)
def test_an_address_belongs_to_the_last_symbol_not_above_it(address: int, found: Symbol | None) -> None:
    assert KernelSymbols(TABLE).find(address) == found


@given(
    table=st.lists(st.tuples(st.integers(1, 100), st.sampled_from("abc"))),
    address=st.integers(-5, 120),
)
def test_searching_finds_what_reading_all_finds(table: list[tuple[int, str]], address: int) -> None:
    below = [start for start, _ in table if start <= address]
    expected = None
    if below:
        name = next(name for start, name in table if start == max(below))
        expected = Symbol(name, address - max(below))
    assert KernelSymbols(table).find(address) == expected


def test_a_symbol_is_shown_with_its_offset_and_is_a_value() -> None:
    assert (str(Symbol("do_exit", 0)), str(Symbol("do_exit", 18))) == ("do_exit", "do_exit+0x12")
    assert repr(Symbol("do_exit", 18)) == "Symbol('do_exit', 0x12)"
    assert len({Symbol("a", 1), Symbol("a", 1), Symbol("a", 2)}) == 2
    assert Symbol("a", 1) != ("a", 1)
    match Symbol("a", 1):
        case Symbol(name, offset):
            assert (name, offset) == ("a", 1)


def _kernels_own() -> list[tuple[int, str]]:
    # Without those of modules and BPF programs, which have a fourth column: they come and go.
    rows = map(str.split, Path("/proc/kallsyms").read_text(encoding="ascii").splitlines())
    return [(int(row[0], 16), row[2]) for row in rows if len(row) == 3]


@pytest.mark.real_kernel("it asks about the running kernel")
@CAN_SEE
def test_ksym_agrees_with_the_kernels_own_table(backend: Backend) -> None:
    table = _kernels_own()
    names: dict[int, set[str]] = {}
    for address, name in table:
        names.setdefault(address, set()).add(name)
    for address, _ in table[:: len(table) // 500]:
        found = rawbpf.ksym(address)
        assert found is not None
        assert found.offset == 0
        assert found.name in names[address]
    start = {name: address for address, name in table}["do_exit"]
    assert rawbpf.ksym(start + 3) == Symbol("do_exit", 3)
    assert rawbpf.ksym(0x1000) is None
    assert len(kernel_symbols(backend.host)) >= len(names)


@pytest.mark.real_kernel("it asks about the running kernel")
@CAN_SEE
def test_the_table_is_read_once_per_kernel(backend: Backend) -> None:
    reads = []

    class Counting:
        def __init__(self, inner: Backend) -> None:
            self.inner = inner.host

        def __getattr__(self, name: str) -> object:
            if name == "kallsyms":
                reads.append(name)
            return getattr(self.inner, name)

    host = Counting(backend)
    first, again = kernel_symbols(host), kernel_symbols(host)  # type: ignore[arg-type]  # a host by delegation
    assert first is again
    assert reads == ["kallsyms"]
    assert kernel_symbols(backend.host) is not first


class Table(SimulatedHost):
    """A machine whose kernel has these symbols."""

    def __init__(self, *rows: tuple[int, str]) -> None:
        super().__init__("6.18.0", 1)
        self._rows = rows

    def kallsyms(self) -> Iterator[tuple[int, str]]:
        return iter(self._rows)


def test_addresses_are_found_by_name() -> None:
    host = Table((16, "a"), (32, "b"), (48, "b"), (0, "first"), (64, "c.llvm.123"), (80, "d"), (96, "d.llvm.5"))
    assert find_addresses(host, {"a", "b", "c", "d", "e", "first"}) == {
        "a": {16},
        "b": {32, 48},
        "c": {64},
        "d": {80},
        "first": {0},  # of what lies at 0 indeed, such as variables of each CPU
    }


def test_addresses_that_the_kernel_hides_are_not_taken_for_0() -> None:
    with pytest.raises(rawbpf.PermissionDenied, match="CAP_SYSLOG"):
        find_addresses(Table((0, "a"), (0, "b")), {"a"})
    assert find_addresses(Table((0, "a"), (0, "b")), {"absent"}) == {}


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_SETUID", "capability:CAP_SETGID", "file:/proc/kallsyms")
def test_hidden_addresses_are_a_refusal_that_says_what_to_do(backend: Backend) -> None:
    def refusal() -> str:
        try:
            return str(rawbpf.ksym(1, backend=KernelBackend()))
        except rawbpf.PermissionDenied as error:
            return str(error)

    assert issubclass(rawbpf.PermissionDenied, PermissionError)  # resolved here: the child may not read the package
    assert run_as_nobody(refusal) == (
        "read /proc/kallsyms: EPERM: the kernel shows addresses of 0 to this process: it needs CAP_SYSLOG, "
        "and kernel.kptr_restrict below 2 (sysctl)"
    )


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(TypeError):
        KernelSymbols(TABLE).find("0x1000")  # type: ignore[arg-type]


# Processes ---------------------------------------------------------------------------------


def test_code_of_this_process_has_a_file_and_the_offset_of_the_same_byte() -> None:
    function = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert function is not None
    found = ProcessFiles(os.getpid()).find(function)
    assert found is not None
    assert os.path.isabs(found.name)
    with open(found.name, "rb") as file:
        file.seek(found.offset)
        assert file.read(16) == ctypes.string_at(function, 16)


def test_memory_of_no_file_has_no_name() -> None:
    buffer = ctypes.create_string_buffer(1 << 20)
    files = ProcessFiles(os.getpid())
    assert files.find(ctypes.addressof(buffer)) is None
    assert files.find(0) is None
    assert files.find(1 << 63) is None


def test_behind_a_mapping_there_is_no_file() -> None:
    files = ProcessFiles(os.getpid())
    ends = [(end, path) for end, _, path in files._mappings]
    gaps = [end for (end, path), start in zip(ends, files._starts[1:], strict=False) if path and end < start]
    assert gaps
    assert {files.find(end) for end in gaps} == {None}
    assert all(files.find(end - 1) for end in gaps)


def test_a_path_may_have_blanks_and_any_bytes(tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path) + b"/a b \xff.bin"
    with open(strange, "wb") as file:
        file.write(bytes(8192))
    program = (
        "import mmap, os, sys\n"
        "f = open(os.fsencode(sys.argv[1]), 'rb')\n"
        "m = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ, offset=mmap.ALLOCATIONGRANULARITY)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-I", "-S", "-c", program, os.fsdecode(strange)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        files = ProcessFiles(process.pid)
        process.stdin.close()
    starts = {path: (start, shift) for start, (_, shift, path) in zip(files._starts, files._mappings, strict=True)}
    start, _ = starts[os.fsdecode(strange)]
    assert files.find(start + 5) == Symbol(os.fsdecode(strange), 4096 + 5)


def test_a_process_that_ended_is_named() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    with pytest.raises(ProcessLookupError, match=f"no process {process.pid}"):
        ProcessFiles(process.pid)
