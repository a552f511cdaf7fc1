"""Maps pinned by name: several load one object at once, and what is pinned there already stays theirs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tracers
from support.bpffs import bpffs
from support.objects import native

import rawbpf
from rawbpf.program.program import Program
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend


pytestmark = [pytest.mark.guest, pytest.mark.needs("module:elftools")]


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.maps["exec_count"].pinning = 1
    return spec


@pytest.fixture
def pins(backend: Backend) -> Iterator[Path]:
    with bpffs(backend) as path:
        yield path


class Rival(FaultBackend):
    """Another process: calls `before(nth)` just before each call of a command."""

    def __init__(self, inner: Backend, before: dict[int, Callable[[int], None]]) -> None:
        super().__init__(inner, {})
        self.before = before

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd in self.before:
            self.before[cmd](self.calls[cmd] + 1)
        return super().intercept(call, cmd, attr, size)


def _pin(path: Path, max_entries: int = 10240) -> int:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=max_entries, pin=path) as theirs:
        return theirs.id


def test_who_pins_first_makes_the_map_for_all(backend: Backend, spec: rawbpf.ObjectSpec, pins: Path) -> None:
    theirs = []
    rival = Rival(backend, {c.BPF_OBJ_PIN: lambda _: theirs.append(_pin(pins / "exec_count"))})
    with spec.load(pin_dir=pins, backend=rival) as obj:
        assert [obj.maps["exec_count"].id] == theirs
        assert obj.pinned == []
    assert (pins / "exec_count").exists()


def test_a_map_that_another_pinned_meanwhile_has_to_fit(backend: Backend, spec: rawbpf.ObjectSpec, pins: Path) -> None:
    rival = Rival(backend, {c.BPF_OBJ_PIN: lambda _: (_pin(pins / "exec_count", 5), None)[1]})
    with pytest.raises(rawbpf.SpecError, match=r"max_entries 5 instead of 10240.*another pin_dir"):
        spec.load(pin_dir=pins, backend=rival)
    assert (pins / "exec_count").exists()


def test_a_pin_that_comes_and_goes_is_looked_for_again(backend: Backend, spec: rawbpf.ObjectSpec, pins: Path) -> None:
    path = pins / "exec_count"

    def come(nth: int) -> None:
        if nth <= 3:
            _pin(path)

    def go(nth: int) -> None:
        path.unlink(missing_ok=True)

    rival = Rival(backend, {c.BPF_OBJ_PIN: come, c.BPF_OBJ_GET: go})
    with spec.load(pin_dir=pins, backend=rival) as obj:
        assert obj.pinned == [obj.maps["exec_count"]]
        with rawbpf.Map.from_pin(path) as pinned:
            assert pinned.id == obj.maps["exec_count"].id


def test_a_pin_that_never_stays_ends_in_an_error_that_deletes_nobodys_map(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    path = pins / "exec_count"
    rival = Rival(
        backend,
        {c.BPF_OBJ_PIN: lambda _: (_pin(path), None)[1], c.BPF_OBJ_GET: lambda _: path.unlink(missing_ok=True)},
    )
    with pytest.raises(rawbpf.BpfError, match="try again") as caught:
        spec.load(pin_dir=pins, backend=rival)
    assert caught.value.errno == errno.EEXIST
    assert "unpin" not in str(caught.value)
    assert rival.calls[c.BPF_OBJ_PIN] < 100
    assert path.exists()


def test_failing_removes_no_pin_that_another_made_in_place_of_ones_own(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    path = pins / "exec_count"
    theirs = []

    def replace(nth: int) -> None:
        path.unlink(missing_ok=True)
        theirs.append(_pin(path))

    rival = Rival(backend, {c.BPF_PROG_LOAD: replace})
    rival._faults = {c.BPF_PROG_LOAD: {1: 12, 2: 12}}
    with pytest.raises(rawbpf.BpfError):
        spec.load(pin_dir=pins, backend=rival)
    with rawbpf.Map.from_pin(path) as left:
        assert left.id == theirs[-1]


def test_a_program_that_is_pinned_there_is_no_map(backend: Backend, spec: rawbpf.ObjectSpec, pins: Path) -> None:
    with Program.load("xdp", tracers.returning(2)) as program:
        program.pin(pins / "exec_count")
    with pytest.raises(rawbpf.SpecError, match=r"exec_count.*it is a program, not a map"):
        spec.load(pin_dir=pins)
    assert (pins / "exec_count").exists()


def test_failing_removes_ones_own_pin_where_proc_is_not_mounted(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    class _Bare(FaultBackend):
        def fdinfo(self, fd: int, /) -> str:
            raise FileNotFoundError(errno.ENOENT, f"/proc/self/fdinfo/{fd}")

    with pytest.raises(rawbpf.BpfError):
        spec.load(pin_dir=pins, backend=_Bare(backend, {c.BPF_PROG_LOAD: [(1, 12), (2, 12)]}))
    assert not (pins / "exec_count").exists()


def test_a_name_cannot_reach_out_of_the_directory(backend: Backend, spec: rawbpf.ObjectSpec, pins: Path) -> None:
    os.mkdir(pins / "inner")
    _pin(pins / "exec_count")
    spec.maps["exec_count"].name = "../exec_count"
    with pytest.raises(rawbpf.SpecError, match="slash"):
        spec.load(pin_dir=pins / "inner")
