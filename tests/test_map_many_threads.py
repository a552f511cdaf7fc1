"""One map and many keys in threads, signal handlers and children at once: nobody sees what is another's."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import child
from support.many import Around, ways

import rawbpf
from rawbpf.map import many
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

TOTAL = 400
FORKED = pytest.mark.real_kernel(
    "kernel/fork.c:copy_files: a forked child shares the kernel's maps, but has a copy of a simulator's"
)


@contextmanager
def _filled(backend: Any, total: int = TOTAL) -> Iterator[rawbpf.HashMap[int, int]]:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4 * total, name="shared", backend=backend) as m:
        m.put_many({i: 10 * i for i in range(total)})
        assert m.many_path
        yield m


def _on(wanted: int, action: Callable[[], object]) -> Callable[[int], None]:
    """Return a hook that does `action` at the first call of that command."""
    waits = [True]

    def hook(cmd: int) -> None:
        if cmd == wanted and waits:
            waits.clear()
            action()

    return hook


def _in_threads(number: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def run(at: int) -> None:
        try:
            work(at)
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_more_threads_than_programs_get_what_they_ask_for(backend: Backend) -> None:
    number, rounds = 3 * many.MOST_AT_A_TIME, 20 if backend.name == "kernel" else 3
    with _filled(backend) as m:
        start = threading.Barrier(number)

        def work(at: int) -> None:
            start.wait()
            own = range(10000 + 10 * at, 10010 + 10 * at)
            for turn in range(rounds):
                asked = [(at * 7 + turn + i) % (TOTAL + 5) for i in range(200)]
                assert m.get_many(asked) == [10 * key if key < TOTAL else None for key in asked]
                m.put_many({key: key + turn for key in own})
                assert m.get_many(own) == [key + turn for key in own]
                if turn % 2:
                    assert m.pop_many(own) == [key + turn for key in own]
                else:
                    assert m.delete_many(own) == 10

        _in_threads(number, work)
        assert m.snapshot() == {i: 10 * i for i in range(TOTAL)}


@pytest.mark.real_kernel("programs run there only")
def test_programs_in_use_at_the_same_time_are_bounded(backend: Backend) -> None:
    around = Around(backend)
    loads: Counter[int] = Counter()
    keys = range(TOTAL)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=TOTAL, backend=around) as m:
        m.update({i: i for i in range(3)})
        depth = 0

        def again(cmd: int) -> None:
            # As a signal handler would, that comes while a program is being loaded; and one that comes in that one.
            nonlocal depth
            loads[cmd] += 1
            if cmd == c.BPF_PROG_LOAD and depth < 3 * many.MOST_AT_A_TIME:
                depth += 1
                around.before = again
                assert m.get_many(keys) == [0, 1, 2, *[None] * (TOTAL - 3)]

        around.before = again
        assert m.get_many(keys, 0) == [0, 1, 2, *[0] * (TOTAL - 3)]
        around.before = None
        assert loads[c.BPF_PROG_LOAD] == many.MOST_AT_A_TIME
        assert m.many_path == "program"


@pytest.mark.parametrize("total", [20, TOTAL])
def test_a_call_within_a_call_has_memory_of_its_own(backend: Backend, total: int) -> None:
    around = Around(backend)
    with _filled(around) as m:
        seen: list[object] = []

        def handler() -> None:
            seen.append(m.get_many(range(50, 50 + total)))
            m.put_many(dict.fromkeys(range(1000, 1000 + total), 1))
            seen.append(m.pop_many(range(1000, 1000 + total)))
            seen.append(m.delete_many(range(2000, 2000 + total)))

        command = c.BPF_PROG_TEST_RUN if ways(m)["get_many"] == "program" else c.BPF_MAP_LOOKUP_ELEM
        expected = [[10 * i if i < TOTAL else None for i in range(50, 50 + total)], [1] * total, 0]
        around.after = _on(command, handler)
        assert m.get_many(range(total)) == [10 * i for i in range(total)]
        around.after = _on(command, handler)
        m.put_many({i: 10 * i for i in range(total)})
        around.after = _on(command, handler)
        assert m.pop_many(range(total)) == [10 * i for i in range(total)]
        assert seen[:3] == expected
        assert seen[-1] == 0


@pytest.mark.real_kernel("the running kernel is interrupted")
def test_a_signal_handler_may_ask_for_many_while_it_interrupts_that(backend: Backend) -> None:
    with _filled(None) as m:
        seen: list[bool] = []

        def handler(*_: object) -> None:
            seen.append(m.get_many(range(100, 300)) == [10 * i for i in range(100, 300)])
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while len(seen) < 300:
                assert m.get_many(range(TOTAL)) == [10 * i for i in range(TOTAL)]
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert all(seen)


@pytest.mark.real_kernel(
    "kernel/fork.c:copy_files: a forked child shares the kernel's maps, but has a copy of a simulator's"
)
@pytest.mark.parametrize("verb", ["get_many", "pop_many"])
def test_a_child_does_not_use_the_memory_of_its_parents_programs(backend: Backend, verb: str) -> None:
    around = Around(backend)
    with _filled(around) as m:
        assert ways(m)[verb] == "program"
        # The child is made when the program is free, and uses the map when the parent's call has just been made.
        from_parent, to_child = os.pipe()
        from_child, to_parent = os.pipe()
        if not (pid := os.fork()):
            status = 1
            try:
                os.read(from_parent, 1)
                found = getattr(m, verb)(range(200, TOTAL))
                status = 0 if found == [10 * i for i in range(200, TOTAL)] and ways(m)[verb] == "program" else 2
            finally:
                os.write(to_parent, b"x")
                os._exit(status)

        def let_the_child_go() -> None:
            os.write(to_child, b"x")
            os.read(from_child, 1)

        try:
            around.after = _on(c.BPF_PROG_TEST_RUN, let_the_child_go)
            assert getattr(m, verb)(range(200)) == [10 * i for i in range(200)]
        finally:
            for fd in (from_parent, to_child, from_child, to_parent):
                os.close(fd)
            _, status = os.waitpid(pid, 0)
        assert status == 0
        around.after = None
        assert getattr(m, verb)(range(300), 1) == ([10 * i for i in range(300)] if verb == "get_many" else [1] * 300)


@pytest.mark.real_kernel(
    "kernel/fork.c:copy_files: a forked child shares the kernel's maps, but has a copy of a simulator's"
)
def test_children_of_children_ask_for_many_and_may_close_the_map(backend: Backend) -> None:
    with _filled(None) as m:

        def generation(left: int) -> str:
            assert m.get_many(range(200), 0) == [10 * i for i in range(200)]
            below = child.run(lambda: generation(left - 1)) if left else ""
            assert m.get_many(range(200), 0) == [10 * i for i in range(200)]
            m.close()
            return f"{left}{below}"

        assert child.run(lambda: generation(3)) == "3210"
        assert m.get_many(range(200)) == [10 * i for i in range(200)]


VERBS: dict[str, tuple[Callable[[Any, int], object], object]] = {
    "get_many": (lambda m, total: m.get_many(range(total)), [10 * i for i in range(TOTAL)]),
    "put_many": (lambda m, total: m.put_many({i: 10 * i for i in range(total)}), None),
    "delete_many": (lambda m, total: m.delete_many(range(total)), TOTAL),
    "pop_many": (lambda m, total: m.pop_many(range(total)), [10 * i for i in range(TOTAL)]),
}


@pytest.mark.parametrize("loaded", [False, True], ids=["being loaded", "loaded"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_map_that_is_closed_meanwhile_says_so_or_ends_what_it_does(
    backend: Backend, verb: str, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At any call of the operation, by another thread or a signal handler; what is left behind fails the test.
    monkeypatch.setattr(many, "MOST_KEYS", 150)
    call, expected = VERBS[verb]
    closed_at, finished = 0, False
    for nth in range(1, 1000):
        around = Around(backend)
        before = len(os.listdir("/proc/self/fd"))
        with rawbpf.HashMap.create(key="u32", value="u64", max_entries=TOTAL, backend=around) as m:
            m.update([(i, 10 * i) for i in range(TOTAL)])
            if loaded:
                assert m.many_path
            path, calls = f"/proc/self/fd/{m.fileno()}", 0

            def close(_: int, m: Any = m, nth: int = nth) -> None:
                nonlocal calls
                calls += 1
                if calls == nth:
                    m.close()

            around.before = close
            try:
                found = call(m, TOTAL)
                assert found == expected
                finished = True
            except rawbpf.Closed:
                closed_at += 1
            around.before = None
            if calls < nth:
                break
            assert m.closed
            assert not os.path.lexists(path)
            # Nor is a program left that was in use.
            assert len(os.listdir("/proc/self/fd")) == before
            with pytest.raises(rawbpf.Closed):
                call(m, TOTAL)
            with pytest.raises(rawbpf.Closed):
                assert m.many_path
        if backend.name != "kernel" and nth > 12:
            break  # each of the other keys is as these
    if backend.name == "kernel":
        assert finished
        assert closed_at > 1
    else:
        assert finished or closed_at > 1


def _until_closed(use: Callable[[], object]) -> None:
    try:
        while True:
            use()
    except rawbpf.Closed:
        pass


def _closed_after(turns: int, call: Callable[[Any, int], object]) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=TOTAL) as m:
        m.put_many({i: 10 * i for i in range(TOTAL)})
        start = threading.Barrier(4)

        def work(at: int) -> None:
            start.wait()
            if at:
                _until_closed(lambda: call(m, TOTAL))
                return
            for _ in range(turns):
                m.get_many(range(10))
            m.close()
            # Whatever is opened now takes the number that was closed.
            with rawbpf.HashMap.create(key="u32", value="u64", max_entries=TOTAL) as other:
                other.put_many({TOTAL: 1, TOTAL + 1: 2, TOTAL + 2: 3})
                assert other.snapshot() == {TOTAL: 1, TOTAL + 1: 2, TOTAL + 2: 3}

        _in_threads(4, work)


@pytest.mark.parametrize("verb", VERBS)
def test_closing_beside_threads_that_ask_for_many_ends_them(backend: Backend, verb: str) -> None:
    for turns in range(20):
        _closed_after(turns, VERBS[verb][0])
