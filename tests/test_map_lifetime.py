"""Closing a map, and threads, signal handlers and children that use it meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.map.handle import Handle

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def _hash(entries: int = 64, **options: Any) -> rawbpf.HashMap[int, int]:
    return rawbpf.HashMap.create(key="u32", value="u64", max_entries=entries, name="shared", **options)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m[1], id="read"),
        pytest.param(lambda m: m.get(1), id="get"),
        pytest.param(lambda m: m.get(1, default=2), id="get by keyword"),
        pytest.param(lambda m: 1 in m, id="contains"),
        pytest.param(lambda m: m.__setitem__(1, 2), id="write"),
        pytest.param(lambda m: m.put(1, 2), id="put"),
        pytest.param(lambda m: m.put(1, 2, flags=0), id="put by keyword"),
        pytest.param(lambda m: m.insert(1, 2), id="insert"),
        pytest.param(lambda m: m.__delitem__(1), id="delete"),
        pytest.param(lambda m: m.pop(1), id="pop"),
        pytest.param(lambda m: m.update({1: 2}), id="update"),
        pytest.param(list, id="iterate"),
        pytest.param(len, id="count"),
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: m.info, id="info"),
        pytest.param(lambda m: m.fileno(), id="fileno"),
        pytest.param(lambda m: m.dup(), id="dup"),
        pytest.param(lambda m: m.freeze(), id="freeze"),
    ],
)
def test_a_closed_map_raises_closed_from_every_operation(backend: Backend, operation: Callable[[Any], object]) -> None:
    m = _hash()
    m[1] = 1
    raw = m.raw
    m.close()
    m.close()
    assert m.closed
    with pytest.raises(rawbpf.Closed, match="shared"):
        operation(m)
    with pytest.raises(rawbpf.Closed):
        raw.get(b"\1\0\0\0")


def test_a_map_dropped_open_warns_where_it_was_opened(backend: Backend) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed <HashMap 'shared'.*test_map_lifetime"):
        _hash()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_hash, id="map"),
        pytest.param(
            lambda: rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()], license="GPL"), id="program"
        ),
    ],
)
def test_what_is_dropped_open_is_closed_where_warnings_are_errors(backend: Backend, make: Callable[[], Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        dropped = make()
        fd = dropped.fileno()
        del dropped
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


def test_dropping_a_raw_view_leaves_the_map_open(backend: Backend) -> None:
    with _hash() as m:
        m.raw[b"\1\0\0\0"] = b"\2\0\0\0\0\0\0\0"
        assert m[1] == 2


def test_raw_views_cost_nothing_that_lasts(backend: Backend) -> None:
    with _hash() as m:
        view = m.raw
        assert view.raw is view
        gc.collect()  # the classes of maps of other tests go now, and not between the two counts
        before = len(type(m).__mro__[1].__subclasses__())
        for _ in range(10):
            m.raw.get(b"\1\0\0\0")
        assert len(type(m).__mro__[1].__subclasses__()) == before


def _in_threads(*functions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_many_threads_never_see_each_others_values(backend: Backend) -> None:
    with _hash(4096) as m:
        m.update({i: i * 3 for i in range(1000)})

        def read(first: int) -> Callable[[], None]:
            def work() -> None:
                for i in range(6000):
                    key = (first + i * 7) % 1000
                    assert m[key] == key * 3
                    m[2000 + first] = i
                    assert m[2000 + first] == i
                    assert m.get(3000 + first) is None

            return work

        _in_threads(*(read(n * 100) for n in range(4)))


def test_a_close_that_races_with_readers_never_lets_them_reach_a_recycled_descriptor(backend: Backend) -> None:
    wrong: list[object] = []
    for _ in range(60):
        m = _hash()
        m[1] = 111
        started = threading.Barrier(3)

        def read(m: rawbpf.HashMap[int, int] = m, started: threading.Barrier = started) -> None:
            started.wait()
            try:
                while True:
                    if (value := m[1]) != 111:
                        wrong.append(value)
                    if (found := dict(m.items())) != {1: 111}:
                        wrong.append(found)
            except rawbpf.Closed:
                pass

        def close(m: rawbpf.HashMap[int, int] = m, started: threading.Barrier = started) -> None:
            started.wait()
            m.close()
            # Whatever is opened now takes the number that was closed.
            with _hash() as other:
                other[1] = 222
                for _ in range(50):
                    other.get(1)

        _in_threads(read, read, close)
    assert wrong == []


def test_a_signal_handler_may_use_the_map_that_it_interrupted(backend: Backend) -> None:
    with _hash() as m:
        m.update({1: 10, 2: 20})
        seen = []

        def handler(number: int, frame: object) -> None:
            # Another signal may interrupt this one: each step stands alone.
            m[2] = 21
            seen.append((m[1], len(m), dict(m.items())[1]))

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for i in range(20000):
                assert m[1] == 10
                if i % 100 == 0:
                    assert dict(m.items())[1] == 10
                if len(seen) > 50:
                    break
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seen
        assert set(seen) == {(10, 2, 10)}
        assert m[2] == 21


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m: m.__setitem__(2, 2), id="write"),
        pytest.param(lambda m: m.insert(2, 2), id="insert"),
        pytest.param(lambda m: m.update({2: 2}), id="update"),
    ],
)
def test_the_errno_of_a_call_is_not_that_of_the_handler_that_interrupts_it(
    backend: Backend, operation: Callable[[Any], object]
) -> None:
    misses = 0

    def handler(*_: object) -> None:
        nonlocal misses
        misses += other.get(99) is None

    with _hash(1) as other, _hash(1) as m:
        m[1] = 1
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        try:
            while misses < 500:
                with pytest.raises(rawbpf.MapFull):
                    operation(m)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_a_close_that_was_interrupted_is_finished_when_the_map_is_dropped(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Handle) -> None:
        raise KeyboardInterrupt

    m = _hash()
    fd = m.fileno()
    with monkeypatch.context() as patch:
        patch.setattr(Handle, "_close_once", interrupt)
        with pytest.raises(KeyboardInterrupt):
            m.close()
    del m
    gc.collect()
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


def test_an_interrupt_keeps_no_descriptor_lent(backend: Backend) -> None:
    class _Interrupted(list[None]):
        def append(self, item: None) -> None:
            super().append(item)
            raise KeyboardInterrupt

    m = _hash()
    fd = m.fileno()
    m._handle._lent = _Interrupted()
    with pytest.raises(KeyboardInterrupt):
        m.fileno()
    m.close()
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_forked_child_uses_the_same_map(backend: Backend) -> None:
    with _hash() as m:
        m[1] = 10
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                m[2] = m[1] + 1
                m.update({3: 30})
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert m.snapshot() == {1: 10, 2: 11, 3: 30}
        m[4] = 40
        assert m[4] == 40
