"""Whatever interrupts loading, nothing stays open: what was made has an owner before Ctrl-C is heard."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from support.objects import native
from support.signalled import Signalled

import rawbpf
from rawbpf.link import deferral
from rawbpf.program import load, loading
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from types import ModuleType

    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("module:elftools")

CALLS = {
    "types": c.BPF_BTF_LOAD,
    "maps": c.BPF_MAP_CREATE,
    "values": c.BPF_MAP_UPDATE_ELEM,
    "constants": c.BPF_MAP_FREEZE,
    "programs": c.BPF_PROG_LOAD,
}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.variables["min_uid"].value = 5
    return spec


@pytest.mark.parametrize(
    ("cmd", "after"),
    # After a program was loaded the interpreter gets no chance before its descriptor is kept: that is tested below.
    [
        pytest.param(cmd, after, id=f"{name}-{'after' if after else 'before'}")
        for name, cmd in CALLS.items()
        for after in (False, True)
        if not (after and cmd == c.BPF_PROG_LOAD)
    ],
)
def test_ctrl_c_while_it_loads_leaves_nothing_open(
    backend: Backend, spec: rawbpf.ObjectSpec, cmd: int, after: bool
) -> None:
    before = descriptors()
    with pytest.raises(KeyboardInterrupt):
        spec.load(backend=Signalled(backend, cmd, after))
    assert descriptors() == before
    spec.load(backend=backend).close()


@pytest.mark.parametrize(("module", "name"), [(load, "Loaded"), (loading, "Program"), (deferral, "DeferredSignals")])
def test_ctrl_c_while_a_program_gets_its_owner_leaves_nothing_open(
    backend: Backend, spec: rawbpf.ObjectSpec, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            spec.load(backend=backend)
    assert descriptors() == before


@pytest.mark.parametrize("cmd", CALLS.values(), ids=CALLS)
def test_whichever_call_fails_nothing_stays_open(backend: Backend, spec: rawbpf.ObjectSpec, cmd: int) -> None:
    before = descriptors()
    counting = FaultBackend(backend, {})
    spec.load(backend=counting).close()
    assert counting.calls[cmd]
    for number in range(1, counting.calls[cmd] + 1):
        with pytest.raises(rawbpf.BpfError):
            spec.load(backend=FaultBackend(backend, {cmd: [(number, 12)]}))
        assert descriptors() == before


def test_threads_load_the_same_specification(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    before = descriptors()
    found: list[object] = []

    def load() -> None:
        for number in range(10):
            with spec.load(backend=backend) as obj:
                obj.maps["exec_count"][number] = 1
                found.append([*obj.maps["exec_count"], obj.variables["min_uid"].value])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == sorted(str([number, 5]) for number in range(10) for _ in threads)
    assert descriptors() == before
