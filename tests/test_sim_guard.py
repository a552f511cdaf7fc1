"""Calls of a simulated kernel are whole: signals, forks, finalisers and threads never see half of one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from support.backends import left_in
from support.leaks import Snapshot, left_since

import rawbpf
from rawbpf.sim import Simulator
from rawbpf.sim.map.hash import SimHash

_at_fork: list[Callable[[], object]] = []
# Run before what the simulator itself does there: hooks run in the reverse order of their registration.
os.register_at_fork(before=lambda: [hook() for hook in _at_fork])


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator, rawbpf.using(simulator):
        yield simulator


@pytest.fixture
def counts(sim: Simulator) -> Iterator[rawbpf.HashMap[int, int]]:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=2) as m:
        yield m


@pytest.fixture
def midway(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What to do, once each, in the middle of an update: room has been made and the element is still missing."""
    steps: list[Callable[[], object]] = []
    make_room = SimHash.make_room

    def interrupted(self: SimHash) -> None:
        if steps:
            steps.pop(0)()
        make_room(self)

    monkeypatch.setattr(SimHash, "make_room", interrupted)
    return steps


@contextmanager
def handling(handler: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Yield what sends this process a signal that `handler` is called for."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_sees_the_call_done(
    counts: rawbpf.HashMap[int, int], midway: list[Callable[[], object]]
) -> None:
    seen: list[dict[int, int]] = []

    def handler() -> None:
        seen.append(counts.snapshot())
        counts[2] = 20

    with handling(handler) as interrupt:
        midway.append(interrupt)
        counts[1] = 10
    assert seen == [{1: 10}]
    assert counts.snapshot() == {1: 10, 2: 20}


def test_an_exception_of_a_signal_handler_leaves_the_call_done(
    counts: rawbpf.HashMap[int, int], midway: list[Callable[[], object]]
) -> None:
    def handler() -> None:
        raise KeyboardInterrupt

    with handling(handler) as interrupt:
        midway.append(interrupt)
        with pytest.raises(KeyboardInterrupt):
            counts[1] = 10
    assert counts.snapshot() == {1: 10}
    assert list(counts.keys()) == [1]


def test_a_call_fails_with_its_own_errno_and_not_with_a_handlers(
    counts: rawbpf.HashMap[int, int], midway: list[Callable[[], object]]
) -> None:
    counts.update({1: 10, 2: 20})

    def handler() -> None:
        with pytest.raises(rawbpf.KeyNotFound):
            counts[9]

    with handling(handler) as interrupt:
        midway.append(interrupt)
        with pytest.raises(rawbpf.MapFull):
            counts[3] = 30


def test_what_a_finaliser_closes_in_the_middle_of_a_call_is_closed(
    sim: Simulator, counts: rawbpf.HashMap[int, int], midway: list[Callable[[], object]]
) -> None:
    other = rawbpf.HashMap.create(key="u32", value="u64", max_entries=1, name="other")
    midway.append(other.close)
    counts[1] = 10
    assert counts.snapshot() == {1: 10}
    assert [info.id for info in rawbpf.maps()] == [counts.id]
    assert not any("other" in left for left in left_in(sim))


def test_a_child_that_is_forked_while_a_thread_calls_has_a_whole_kernel(
    counts: rawbpf.HashMap[int, int], midway: list[Callable[[], object]]
) -> None:
    inside, forking = threading.Event(), threading.Event()

    def stay() -> None:
        inside.set()
        forking.wait(60)

    midway.append(stay)
    thread = threading.Thread(target=lambda: counts.insert(1, 10))
    thread.start()
    assert inside.wait(60)
    _at_fork.append(forking.set)
    try:
        pid = os.fork()
    finally:
        _at_fork.clear()
    if not pid:
        status = 1
        try:
            counts[2] = 20
            status = 0 if counts.snapshot() == {1: 10, 2: 20} else 2
        finally:
            os._exit(status)
    thread.join()
    child = os.pidfd_open(pid)
    try:
        if not select.select([child], [], [], 30)[0]:  # it waits for what nobody will release
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(child)
    assert os.waitpid(pid, 0)[1] == 0
    # The child's copy is its own.
    assert counts.snapshot() == {1: 10}


def test_a_child_leaves_the_pins_to_the_process_that_made_them(
    sim: Simulator, counts: rawbpf.HashMap[int, int]
) -> None:
    counts.pin(f"{sim.bpffs}/counts")
    pid = os.fork()
    if not pid:
        try:
            sim.shut_down()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with rawbpf.Map.from_pin(f"{sim.bpffs}/counts") as again:
        assert again.same_as(counts)
    counts.unpin()


def test_a_simulator_that_is_dropped_leaves_nothing() -> None:
    before = Snapshot()
    simulator = Simulator()
    with rawbpf.ArrayMap.create(value="u64", max_entries=4, backend=simulator) as array:
        array[1] = 5
        root = simulator.bpffs
        array.pin(f"{root}/array")
    del simulator, array
    assert left_since(before) == []
    assert not os.path.exists(root)


@pytest.mark.parametrize("end", ["", "import os; os.kill(os.getpid(), 2)"], ids=["end", "Ctrl-C"])
def test_a_process_that_ends_leaves_no_directory(end: str) -> None:
    code = f"""
import rawbpf
from rawbpf.syscall.current import current
print(current().bpffs, flush=True)
rawbpf.HashMap.create(key="u32", value="u64", max_entries=1, pin=current().bpffs + "/m").close()
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RAWBPF_BACKEND": "sim"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("KeyboardInterrupt" in done.stderr) == bool(end)
    assert not os.path.exists(done.stdout.strip())
    assert done.stdout.strip()


def test_exceptions_of_handlers_leave_no_signal_blocked(counts: rawbpf.HashMap[int, int]) -> None:
    class Interrupt(Exception):
        pass

    def handler(number: int, frame: FrameType | None) -> None:
        # Only out of the simulator, which is what this is about, and where the loop below expects it.
        while frame is not None:
            if frame.f_code is Simulator.bpf.__code__:
                raise Interrupt
            frame = frame.f_back

    counts[1] = 10
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = signal.signal(signal.SIGVTALRM, handler)
    times = 0
    try:
        # Of the process's own time, so that it comes at any step of a call.
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001, 0.0001)
        while times < 200 and signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked:
            try:
                assert counts[1] == 10
            except Interrupt:
                times += 1
    finally:
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    left = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert left == blocked
    assert times == 200
