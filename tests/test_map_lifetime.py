"""Closing a map, and threads, signal handlers and children that use it meanwhile."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.map.handle import Handle
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def _hash(entries: int = 64, **options: Any) -> rawbpf.HashMap[int, int]:
    return rawbpf.HashMap.create(key="u32", value="u64", max_entries=entries, name="shared", **options)


# Ways to read and write elements that differ inside: views of scalars, codecs, memory, values per CPU.
KINDS: dict[str, dict[str, Any]] = {
    "hash": {"map_type": "hash", "key": "u32", "value": "u64"},
    "hash of structs": {
        "map_type": "hash",
        "key": {"a": "u32", "b": "u32[3]"},
        "value": dict.fromkeys("abcdefgh", "u64"),
    },
    "array by system calls": {"map_type": "array", "value": "u64", "numa_node": 0},
    "array in memory": {"map_type": "array", "value": "u64"},
    "percpu_hash": {"map_type": "percpu_hash", "key": "u32", "value": "u64"},
    "percpu_array": {"map_type": "percpu_array", "value": "u64"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def _made(kind: str, entries: int = 64, **more: Any) -> Any:
    options = KINDS[kind] | more
    return rawbpf.Map.create(options.pop("map_type"), max_entries=entries, name="shared", **options)


def _key(m: Any, number: int) -> Any:
    return m.key_type.unpack(number.to_bytes(4, sys.byteorder) * (m.key_type.size // 4))


def _value(m: Any, number: int) -> Any:
    return m.value_type.unpack(number.to_bytes(8, sys.byteorder) * (m.value_type.size // 8))


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


@every_kind
def test_many_threads_never_see_each_others_values(backend: Backend, kind: str) -> None:
    with _made(kind, 4096) as m:
        keys = [_key(m, i) for i in range(4096)]
        values = [_value(m, i * 3) for i in range(4096)]
        m.update(dict(zip(keys[:1000], values, strict=False)))
        has_get = hasattr(m, "get")

        def read(first: int) -> Callable[[], None]:
            def work() -> None:
                own = keys[2000 + first]
                for i in range(4000):
                    at = (first + i * 7) % 1000
                    assert m[keys[at]] == values[at]
                    m[own] = values[i]
                    assert m[own] == values[i]
                    if has_get:
                        assert m.get(keys[3000 + first]) is None
                        assert keys[at] in m

            return work

        def read_all() -> None:
            for _ in range(20):
                found = m.snapshot()
                assert all(found[keys[at]] == values[at] for at in range(1000))

        _in_threads(*(read(n * 100) for n in range(4)), read_all)


@every_kind
def test_a_close_that_races_with_readers_never_lets_them_reach_a_recycled_descriptor(
    backend: Backend, kind: str
) -> None:
    wrong: list[object] = []
    for _ in range(40):
        m = _made(kind)
        key, value, other_value = _key(m, 1), _value(m, 111), _value(m, 222)
        m[key] = value
        started = threading.Barrier(4)

        def race(use: Callable[[], object], started: threading.Barrier = started) -> Callable[[], None]:
            def work() -> None:
                started.wait()
                try:
                    while True:
                        use()
                except rawbpf.Closed:
                    pass

            return work

        def read(m: Any = m, key: Any = key, value: Any = value) -> None:
            if (found := m[key]) != value:
                wrong.append(found)
            if (found := dict(m.items())[key]) != value:
                wrong.append(found)

        def write(m: Any = m, key: Any = key, value: Any = value) -> None:
            m[key] = value
            m.update({key: value})

        def close(
            m: Any = m, started: threading.Barrier = started, key: Any = key, other_value: Any = other_value
        ) -> None:
            started.wait()
            m.close()
            # Whatever is opened now takes the number that was closed.
            with _made(kind) as other:
                other[key] = other_value
                wrong.extend(found for _ in range(50) if (found := other[key]) != other_value)

        _in_threads(race(read), race(read), race(write), close)
    assert wrong == []


class _Interrupted(Wrapper):
    """Runs `before` and `after` around the next bpf call, as another thread or a signal handler would run there."""

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None

    def intercept(self, call: Callable[[int, Any, int], int], cmd: int, attr: Any, size: int) -> int:
        before, after, self.before, self.after = self.before, self.after, None, None
        if before:
            before()
        result = call(cmd, attr, size)
        if after:
            after()
        return result


POINT_OPERATIONS: dict[str, Callable[[Any, Any, Any], object]] = {
    "read": lambda m, key, _: m[key],
    "write": lambda m, key, value: m.__setitem__(key, value),
    "put": lambda m, key, value: m.put(key, value),
    "get": lambda m, key, _: m.get(key),
    "in": lambda m, key, _: key in m,
    "delete": lambda m, key, _: m.__delitem__(key),
}


@every_kind
@pytest.mark.parametrize("operation", POINT_OPERATIONS)
def test_a_descriptor_recycled_just_before_the_call_is_not_reached(backend: Backend, kind: str, operation: str) -> None:
    if "array" in kind and operation in ("get", "in", "delete"):
        return  # arrays have no such call
    interrupted = _Interrupted(backend)
    with _made(kind) as other, _made(kind, backend=interrupted) as m:
        key, value, other_value = _key(m, 1), _value(m, 111), _value(m, 222)
        m[key] = m[key] if "array" in kind else value  # slots and memory are there
        other[key] = other_value
        number = m.fileno()

        def close() -> None:
            m.close()
            os.dup2(other.fileno(), number, inheritable=False)

        interrupted.before = close
        if kind == "array in memory":
            close()
        try:
            with pytest.raises(rawbpf.Closed):
                POINT_OPERATIONS[operation](m, key, value)
        finally:
            os.close(number)
        assert other[key] == other_value


@every_kind
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda m, *_: m.columns(), id="columns"),
        pytest.param(lambda m, key, _: m.lookup(key), id="lookup"),
        pytest.param(lambda m, key, value: m.update({key: value}), id="update"),
        pytest.param(lambda m, *_: m.info, id="info"),
    ],
)
def test_a_longer_call_keeps_its_descriptor_until_it_returns(
    backend: Backend, kind: str, operation: Callable[[Any, Any, Any], object]
) -> None:
    interrupted = _Interrupted(backend)
    with _made(kind, backend=interrupted) as m:
        key, value = _key(m, 1), _value(m, 111)
        m[key] = value
        path = f"/proc/self/fd/{m.fileno()}"
        there: list[bool] = []

        def close() -> None:
            m.close()
            there.append(os.path.lexists(path))

        interrupted.before = close
        try:
            operation(m, key, value)
        except rawbpf.Closed:
            pass  # what takes several calls says so before the second
        assert there == [True]
        assert m.closed
        assert not os.path.lexists(path)


@every_kind
def test_a_signal_handler_may_use_the_map_that_it_interrupted(backend: Backend, kind: str) -> None:
    with _made(kind) as m:
        one, two = _key(m, 1), _key(m, 2)
        ten, twenty, more = _value(m, 10), _value(m, 20), _value(m, 21)
        m.update({one: ten, two: twenty})
        seen = []
        depth = 0

        def handler(number: int, frame: object) -> None:
            nonlocal depth
            depth += 1
            if depth < 3:  # another signal may interrupt this one, but not each of those in turn
                signal.setitimer(signal.ITIMER_REAL, 0.001)
            m[two] = more
            seen.append((m[one], dict(m.items())[one]))
            depth -= 1
            signal.setitimer(signal.ITIMER_REAL, 0.001)

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            for i in range(20000):
                assert m[one] == ten
                if i % 100 == 0:
                    assert dict(m.items())[one] == ten
                if len(seen) > 50:
                    break
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # or one that is due would start the timer again
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seen
        assert set(seen) == {(ten, ten)}
        assert m[two] == more


def test_a_signal_handler_may_close_the_map_that_it_interrupted(backend: Backend) -> None:
    for kind in KINDS:
        m = _made(kind)
        key = _key(m, 1)
        m[key] = _value(m, 10)

        def handler(*_: object, m: Any = m) -> None:
            m.close()

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            with pytest.raises(rawbpf.Closed):
                _read_for_ever(m, key)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _read_for_ever(m: Any, key: Any) -> None:
    while True:
        m[key] = m[key]
        m.snapshot()


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


@pytest.mark.parametrize("inner", [*POINT_OPERATIONS, "insert"])
@pytest.mark.parametrize(
    ("operation", "error", "number"),
    [
        pytest.param(lambda m: m[2], rawbpf.KeyNotFound, errno.ENOENT, id="read"),
        pytest.param(lambda m: m.put(2, 2), rawbpf.MapFull, errno.E2BIG, id="put"),
        pytest.param(lambda m: m.insert(1, 1), rawbpf.KeyExists, errno.EEXIST, id="insert"),
        pytest.param(lambda m: m.__delitem__(2), rawbpf.KeyNotFound, errno.ENOENT, id="delete"),
    ],
)
def test_a_handler_that_comes_before_the_errno_is_read_leaves_none_of_its_own(
    backend: Backend, operation: Callable[[Any], object], error: type[rawbpf.BpfError], number: int, inner: str
) -> None:
    interrupted = _Interrupted(backend)

    def handler() -> None:
        try:
            if inner == "insert":
                other.insert(5, 5)
            else:
                POINT_OPERATIONS[inner](other, 99, 99)
        except (rawbpf.KeyExists, rawbpf.KeyNotFound, rawbpf.MapFull):
            pass

    with _hash(1) as other, _hash(1, backend=interrupted) as m:
        other[5] = 5
        m[1] = 1
        interrupted.after = handler
        with pytest.raises(error) as caught:
            operation(m)
        assert caught.value.errno == number


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
    class _Lent(list[None]):
        def append(self, item: None) -> None:
            super().append(item)
            raise KeyboardInterrupt

    m = _hash()
    fd = m.fileno()
    m._handle._lent = _Lent()
    with pytest.raises(KeyboardInterrupt):
        m.fileno()
    m.close()
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.mark.real_kernel(
    "kernel/fork.c:copy_files: a forked child shares the kernel's maps, but has a copy of a simulator's"
)
@every_kind
def test_a_forked_child_uses_the_same_map(backend: Backend, kind: str) -> None:
    with _made(kind) as m:
        keys, values = [_key(m, i) for i in range(5)], [_value(m, i * 10) for i in range(5)]
        m[keys[1]] = values[1]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert m[keys[1]] == values[1]
                m[keys[2]] = values[2]
                m.update({keys[3]: values[3]})
                m.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        found = m.snapshot()
        assert [found[key] for key in keys[1:4]] == values[1:4]
        m[keys[4]] = values[4]
        assert m[keys[4]] == values[4]


@every_kind
def test_every_kind_of_map_says_closed(backend: Backend, kind: str) -> None:
    m = _made(kind)
    key, value = _key(m, 1), _value(m, 1)
    m[key] = value
    later = iter(m.items())
    m.close()
    operations: list[Callable[[], object]] = [
        lambda: m[key],
        lambda: m.put(key, value),
        lambda: m.update({key: value}),
        lambda: m.lookup(key),
        lambda: list(later),
        m.snapshot,
        m.columns,
        m.count,
        m.freeze,
    ]
    for operation in operations:
        with pytest.raises(rawbpf.Closed, match="shared"):
            operation()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "array in memory"])
def test_calls_that_are_interrupted_leave_no_buffers_behind(backend: Backend, kind: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupted = _Interrupted(backend)
    with _made(kind, backend=interrupted) as m:
        key, value = _key(m, 1), _value(m, 2)
        operations: list[Callable[[], object]] = [
            lambda: m[key],
            lambda: m.put(key, value),
            lambda: m.put(key, value, c.BPF_EXIST),
        ]
        for moment in ("before", "after"):
            for operation in operations:
                setattr(interrupted, moment, interrupt)
                with pytest.raises(KeyboardInterrupt):
                    operation()
        gc.collect()
        assert not m._handle.fd_words
        m[key] = value
        assert m[key] == value
        assert len(m._handle.fd_words) == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "array in memory"])
def test_buffers_made_while_the_map_is_closed_do_not_reach_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    m = _made(kind)
    key = _key(m, 1)
    others: list[Any] = []

    def read_and_close(handle: Handle) -> int:
        fd = handle._live
        if handle is m._handle and not others:
            others.append(None)
            m.close()
            others[0] = _made(kind)  # has the number now
            assert others[0]._handle._live == fd
        return fd

    monkeypatch.setattr(Handle, "fd", property(read_and_close))
    with pytest.raises(rawbpf.Closed):
        m[key]
    monkeypatch.undo()
    others[0].close()
