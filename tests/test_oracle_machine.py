"""The state machine: it agrees with the kernel, finds what is wrong with another, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from support import oracle

from rawbpf.sim import Simulator
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.testing.cells import Seen
from rawbpf.testing.machine import FAMILIES, MapMachine
from rawbpf.testing.operation import Operation
from rawbpf.testing.party import Disagreement
from rawbpf.testing.spec import MapSpec
from rawbpf.testing.stage import Stage
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_GET_NEXT_KEY, MAP_UPDATE_ELEM

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

_SHORT = settings(oracle.QUIET, max_examples=5, stateful_step_count=5)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_agrees(family: str) -> None:
    for map_type in FAMILIES[family]:
        oracle.require(map_type)

    with oracle.parties() as parties:

        class Family(MapMachine):
            types = FAMILIES[family]

            def backends(self) -> Sequence[Backend]:
                return parties

        run_state_machine_as_test(Family, settings=_SHORT)


class _NeverFull(Wrapper):
    # A kernel that reports another errno where a map is full.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = call(cmd, attr, size)
        if cmd == c.BPF_MAP_UPDATE_ELEM and result < 0 and ctypes.get_errno() == 7:
            ctypes.set_errno(28)
        return result


class _Restarting(Wrapper):
    # A kernel that goes on from a key with an odd last byte as if there were none.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_MAP_GET_NEXT_KEY:
            image = MAP_GET_NEXT_KEY.pack()
            ctypes.memmove(image, attr, size)
            key = MAP_GET_NEXT_KEY.integer(image, "key")
            if key and ctypes.string_at(key, 1)[0] & 1:
                MAP_GET_NEXT_KEY.set(image, "key", 0)
                return call(cmd, ctypes.byref(image), size)
        return call(cmd, attr, size)


class _Forgetful(Wrapper):
    # A kernel that takes an update of an existing element for done.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_MAP_UPDATE_ELEM:
            image = MAP_UPDATE_ELEM.pack()
            ctypes.memmove(image, attr, size)
            if MAP_UPDATE_ELEM.get(image, "flags") == c.BPF_EXIST:
                MAP_UPDATE_ELEM.set(image, "flags", c.BPF_NOEXIST)
                result = call(cmd, ctypes.byref(image), size)
                return 0 if result < 0 and ctypes.get_errno() == 17 else result
        return call(cmd, attr, size)


@pytest.mark.parametrize(
    ("wrong", "against"),
    [
        (_NeverFull, "the model"),
        (_Restarting, "the model"),
        (_Forgetful, "the model"),
        (_NeverFull, "another kernel"),
    ],
)
def test_a_kernel_that_is_wrong_is_found_and_a_few_operations_show_it(wrong: type[Wrapper], against: str) -> None:
    oracle.require("hash")
    with ExitStack() as stack:
        parties = stack.enter_context(oracle.parties())
        backends = [wrong(parties[0]), *parties[-1:] * (against == "another kernel")]
        stages = [stack.enter_context(Stage(backend, "hash")) for backend in backends]
        with pytest.raises(Disagreement) as caught:
            oracle.explore("hash", stages, Seen(), 10000)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("MapSpec(map_type='hash'")
    # Of a hundred operations a few are left, which can be pasted.
    program = [line for line in lines if line.startswith("    Operation(")]
    assert 0 < len(program) <= 6, str(caught.value)
    assert all(isinstance(eval(line.strip().rstrip(","), {"Operation": Operation}), Operation) for line in program)
    assert f"RAWBPF_ORACLE_SEED={oracle.SEED}" in caught.value.__notes__[-1]


def test_the_machine_finds_a_wrong_kernel_and_closes_everything() -> None:
    oracle.require("hash")
    unshrunk = settings(oracle.QUIET, max_examples=50, stateful_step_count=10, phases=[Phase.generate])
    with oracle.parties() as parties:

        class Wrong(MapMachine):
            types = ("hash",)

            def backends(self) -> Sequence[Backend]:
                return parties[-1], _NeverFull(parties[0])

        with pytest.raises(Disagreement, match="E2BIG"):
            run_state_machine_as_test(Wrong, settings=unshrunk)


@pytest.mark.parametrize(
    ("types", "cpus", "message"),
    [
        (("hsh",), (2,), r"no map type 'hsh': did you mean hash\?"),
        (("struct_ops",), (2,), r"maps of type struct_ops are not drawn; those of hash, .* are"),
        (("hash",), (2, 3), r"backends\(\) differ in their possible CPUs: sim has 2, sim has 3; .*Simulator\(cpus=2\)"),
        (("hash",), (), r"backends\(\) returned \[\]: expected the backends in a tuple or list, one at least"),
        (("hash",), 2, r"backends\(\) returned <Simulator .*>: expected the backends in a tuple or list"),
    ],
    ids=["unknown type", "type that is not drawn", "unlike CPUs", "none", "no sequence"],
)
def test_what_a_machine_cannot_compare_is_told(
    types: tuple[str, ...], cpus: int | tuple[int, ...], message: str
) -> None:
    class Mistaken(MapMachine):
        def backends(self) -> Any:
            return Simulator(cpus=cpus) if isinstance(cpus, int) else [Simulator(cpus=each) for each in cpus]

    Mistaken.types = types
    with pytest.raises((TypeError, ValueError), match=message):
        run_state_machine_as_test(Mistaken, settings=_SHORT)


def test_what_hypothesis_shows_of_a_failing_machine_can_be_pasted() -> None:
    class Failing(MapMachine):
        types = ("percpu_array",)

        def backends(self) -> Sequence[Backend]:
            return (Simulator(cpus=2),)

        @rule()
        def fail(self) -> None:
            assert all(each.verb != "update" for each in self.meeting.program)

    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(Failing, settings=settings(oracle.QUIET, max_examples=50))
    notes = "\n".join(caught.value.__notes__)
    found = re.search(r"state\.make\(spec=(.*?)\)\nstate\.perform\(program=(.*?)\)\nstate\.fail", notes, re.DOTALL)
    assert found, notes
    names = {"MapSpec": MapSpec, "Operation": Operation}
    assert isinstance(eval(found[1], names), MapSpec)
    assert all(isinstance(each, Operation) for each in eval(found[2], names))
