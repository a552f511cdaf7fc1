"""Which backend is used, and that the choice is the process's."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf import default
from rawbpf.sim import Simulator
from rawbpf.syscall import current as current_module
from rawbpf.syscall.current import current
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.kernel import SYSCALL_NUMBERS, KernelBackend, syscall_numbers
from rawbpf.syscall.trace import TraceBackend
from rawbpf.uapi.constants import BPF_MAP_CREATE

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def test_using_nests_and_ends(backend: Backend) -> None:
    outer, inner = FaultBackend(backend, {}), FaultBackend(backend, {})
    with rawbpf.using(outer):
        assert current() is outer
        with rawbpf.using(inner) as chosen:
            assert chosen is current() is inner
        assert current() is outer
    assert current() is backend


def test_one_choice_may_be_entered_again(backend: Backend) -> None:
    chosen = rawbpf.using(FaultBackend(backend, {}))
    with chosen as first, rawbpf.using(backend), chosen as second:
        assert first is second is current()
    assert current() is backend


def test_objects_keep_the_backend_that_they_were_made_with(backend: Backend) -> None:
    other = FaultBackend(backend, {})
    with rawbpf.using(other):
        m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=1)
    with m:
        before = dict(other.calls)
        m[1] = 2
        assert other.calls != before


def test_a_second_thread_cannot_change_the_backend_under_the_first(backend: Backend) -> None:
    caught: list[BaseException] = []
    seen: list[object] = []
    chosen = FaultBackend(backend, {})

    def work() -> None:
        seen.append(current())
        try:
            with rawbpf.using(FaultBackend(backend, {})):
                pass
        except RuntimeError as error:
            caught.append(error)

    with rawbpf.using(chosen):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [chosen]
    assert len(caught) == 1
    assert "process-wide" in str(caught[0])


def test_a_signal_handler_may_ask_for_the_backend_while_it_is_chosen(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Backend] = []

    def choose() -> Backend:
        if not asked:
            asked.append(backend)
            signal.raise_signal(signal.SIGUSR1)
        return backend

    monkeypatch.setattr(current_module, "chooser", choose)
    monkeypatch.setattr(current_module, "_stack", [])
    before = signal.signal(signal.SIGUSR1, lambda *_: asked.append(current()))
    try:
        assert current() is backend
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert asked == [backend, backend]


def created(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = "import rawbpf\nwith rawbpf.Map.create('hash', key=4, value=4, max_entries=1) as m: print(m)"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_the_environment_chooses_the_simulator() -> None:
    run = created({"RAWBPF_BACKEND": "sim"})
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("<HashMap '': ")
    assert run.stdout.endswith(" [sim]>\n")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_auto_falls_back_with_one_warning_where_the_kernel_refuses(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "auto")
    monkeypatch.setitem(
        default._BACKENDS, "kernel", lambda: FaultBackend(default._sim(), {BPF_MAP_CREATE: [(1, number)]})
    )
    with pytest.warns(
        RuntimeWarning, match="a simulated kernel is used, for the running one refuses: map_create"
    ) as seen:
        chosen = default.choose()
    assert len(seen) == 1
    assert isinstance(chosen, Simulator)


@pytest.mark.real_kernel("the running kernel is preferred")
def test_auto_is_the_kernel_where_that_makes_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "auto")
    assert isinstance(default.choose(), KernelBackend)


def test_auto_passes_on_what_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "auto")
    monkeypatch.setitem(default._BACKENDS, "kernel", lambda: FaultBackend(default._sim(), {BPF_MAP_CREATE: [(1, 24)]}))
    with pytest.raises(rawbpf.BpfError) as caught:
        default.choose()
    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("name", ["sim", "auto"])
def test_every_backend_can_be_traced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", name)
    monkeypatch.setenv("RAWBPF_TRACE", "1")
    monkeypatch.setitem(default._BACKENDS, "kernel", default._sim)
    chosen = default.choose()
    assert isinstance(chosen, TraceBackend)
    assert chosen.name == "sim"


@pytest.mark.needs("module:elftools")
def test_what_is_simulated_says_so() -> None:
    with Simulator() as sim, rawbpf.using(sim):
        spec = rawbpf.ObjectSpec.from_file(Path(__file__).parents[1] / "bpf" / "execcount.bpf.o")
        with (
            spec.load() as obj,
            rawbpf.RingBufMap.create(max_entries=sim.host.page_size) as ring,
            ring.memory() as memory,
        ):
            shown = [obj, obj.maps["exec_count"], obj.programs["count_execve"], obj.variables["min_uid"]]
            shown += [obj.maps["exec_count"].keys(), ring, memory]
            assert [repr(each) for each in shown if "[sim]" not in repr(each)] == []
        assert repr(obj).endswith("closed [sim]>")


@pytest.mark.parametrize("writable", [False, True])
def test_what_is_no_descriptor_is_not_mapped(backend: Backend, writable: bool) -> None:
    # Python's mmap takes -1, which a closed descriptor is told to be, for memory of no file.
    with pytest.raises(OSError, match="Bad file descriptor") as refused:
        backend.mmap(-1, 4096, 0, writable)
    assert refused.value.errno == errno.EBADF


@pytest.mark.parametrize("value", [None, ""])
def test_where_nothing_is_said_it_is_the_kernel(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("RAWBPF_BACKEND", raising=False)
    else:
        monkeypatch.setenv("RAWBPF_BACKEND", value)
    assert isinstance(default.choose(), KernelBackend)


def test_an_unknown_backend_is_refused_by_name() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import rawbpf\nrawbpf.Map.create('hash', key=4, value=4, max_entries=1)"],
        env={**os.environ, "RAWBPF_BACKEND": "moon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "ValueError: RAWBPF_BACKEND='moon': expected kernel, sim, auto"


@pytest.mark.parametrize(
    ("machine", "bpf", "perf_event_open"),
    [
        ("x86_64", 321, 298),
        ("aarch64", 280, 241),
        ("riscv64", 280, 241),
        ("s390x", 351, 331),
        ("ppc64le", 361, 319),
        ("arm", 386, 364),
        ("armv7l", 386, 364),
    ],
)
def test_the_syscall_numbers_of_each_machine(machine: str, bpf: int, perf_event_open: int) -> None:
    assert syscall_numbers(machine) == (bpf, perf_event_open)


def test_an_unknown_machine_is_said() -> None:
    with pytest.raises(rawbpf.NotSupported, match=r"on vax.*x86_64"):
        syscall_numbers("vax")
    assert len(SYSCALL_NUMBERS) == 6


def test_other_systems_import_and_say_what_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(rawbpf.NotSupported, match=r"darwin.*Linux"):
        KernelBackend()


@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
def test_the_kernels_types_are_those_of_the_current_backend(backend: Backend) -> None:
    assert rawbpf.btf.vmlinux().raw == bytes(backend.host.btf())
    assert rawbpf.btf.vmlinux() is rawbpf.btf.vmlinux()
    assert "pid" in {member.name for member in rawbpf.btf.vmlinux()["task_struct"].members}  # type: ignore[attr-defined]
