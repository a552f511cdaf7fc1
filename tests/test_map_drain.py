"""drain() takes elements out batch by batch and loses none of those that nobody came to fetch."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

TAKE = "bpf(map_lookup_and_delete_batch"
CONTENT = {i: i + 1 for i in range(40)}


def _filled(kind: str = "hash", max_entries: int = 64, **options: Any) -> rawbpf.HashMap[Any, Any]:
    m: rawbpf.HashMap[Any, Any] = rawbpf.Map.create(kind, key="u32", value="u64", max_entries=max_entries, **options)
    m.update({key: _value(kind, value) for key, value in CONTENT.items()})
    return m


def _value(kind: str, value: int) -> Any:
    return rawbpf.PerCpu.filled(value) if "percpu" in kind else value


def _plain(kind: str, content: dict[int, Any]) -> dict[int, int]:
    return {key: value[0] if "percpu" in kind else value for key, value in content.items()}


HASHES = pytest.mark.parametrize("kind", ["hash", "lru_hash", "percpu_hash", "lru_percpu_hash"])


@pytest.mark.guest
@HASHES
@pytest.mark.parametrize("n", [1, 3, 4096])
def test_every_element_is_yielded_once_and_gone(backend: Backend, kind: str, n: int) -> None:
    with _filled(kind) as m:
        taken = list(m.drain(n))
        assert len(taken) == len(CONTENT)
        assert _plain(kind, dict(taken)) == CONTENT
        assert len(m) == 0


@pytest.mark.guest
def test_a_drain_takes_many_per_call(backend: Backend) -> None:
    calls: list[Call] = []
    with rawbpf.HashMap.create(
        key="u32", value="u32", max_entries=10000, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.update({i: i for i in range(10000)})
        calls.clear()
        assert sum(1 for _ in m.drain()) == 10000
        assert len(calls) <= 5  # 4096 at a time, whole buckets only
        assert all(str(call).startswith(TAKE) for call in calls)
        m.update({i: i for i in range(10000)})
        calls.clear()
        m.clear()
        assert len(calls) <= 2
        assert len(m) == 0


class _StopError(Exception):
    pass


def _leave(m: rawbpf.HashMap[Any, Any], taken: dict[int, Any]) -> None:
    for key, value in m.drain():
        taken[key] = value
        if len(taken) == 7:
            break


def _raise(m: rawbpf.HashMap[Any, Any], taken: dict[int, Any]) -> None:
    def consume() -> None:
        for key, value in m.drain():
            taken[key] = value
            if len(taken) == 7:
                raise _StopError

    with pytest.raises(_StopError):
        consume()


def _close(m: rawbpf.HashMap[Any, Any], taken: dict[int, Any]) -> None:
    drain: Any = m.drain()
    taken.update(next(drain) for _ in range(7))
    drain.close()


def _interrupt(m: rawbpf.HashMap[Any, Any], taken: dict[int, Any]) -> None:
    def consume() -> None:
        for key, value in m.drain():
            taken[key] = value
            if len(taken) == 7:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        consume()


def _close_in_a_cycle(m: rawbpf.HashMap[Any, Any], taken: dict[int, Any]) -> None:
    cycle: list[Any] = [m.drain()]
    cycle.append(cycle)
    taken.update(next(cycle[0]) for _ in range(7))
    del cycle
    gc.collect()


@pytest.mark.guest
@HASHES
@pytest.mark.parametrize("stop", [_leave, _raise, _close, _interrupt, _close_in_a_cycle])
def test_what_was_not_yielded_is_put_back(
    backend: Backend, kind: str, stop: Callable[[rawbpf.HashMap[Any, Any], dict[int, Any]], None]
) -> None:
    with _filled(kind) as m:
        taken: dict[int, Any] = {}
        stop(m, taken)
        assert len(taken) == 7
        assert len(m) == len(CONTENT) - 7
        assert _plain(kind, taken | m.snapshot()) == CONTENT
        assert _plain(kind, taken | dict(m.drain())) == CONTENT


@pytest.mark.guest
def test_a_key_stored_anew_meanwhile_is_kept_for_the_next_drain(backend: Backend) -> None:
    with _filled() as m:
        drain: Any = m.drain()
        taken = dict(next(drain) for _ in range(30))
        anew = sorted(set(CONTENT) - set(taken))[:4]
        m.update(dict.fromkeys(anew, 1000))
        drain.close()
        assert len(m) == 10
        assert all(m[key] == 1000 for key in anew)
        rest = list(m.drain())
        assert dict(rest[:4]) == {key: CONTENT[key] for key in anew}
        assert {key: value for key, value in rest if value == 1000} == dict.fromkeys(anew, 1000)
        assert len(rest) == 14
        assert list(m.drain()) == []


@pytest.mark.guest
def test_what_finds_no_room_is_kept_for_the_next_drain_and_its_close_as_well(backend: Backend) -> None:
    with _filled(max_entries=40) as m:
        drain: Any = m.drain()
        first = dict(next(drain) for _ in range(5))
        m.update(dict.fromkeys(range(1000, 1030), 0))
        drain.close()
        assert len(m) == 40
        again: Any = m.drain()
        second = dict(next(again) for _ in range(3))
        assert set(second.values()) <= set(CONTENT.values())  # what was kept comes first
        again.close()
        m.delete_many(range(1000, 1030))
        rest = dict(m.drain())
        assert first | second | rest == CONTENT


@pytest.mark.guest
def test_closing_the_map_puts_back_what_its_drains_have_not_yielded(backend: Backend) -> None:
    with _filled() as m, m.dup() as other:
        drain, raw = m.drain(8), m.raw.drain(8)
        taken = dict([next(drain), next(drain)])
        taken_raw = next(raw)
        m.close()
        key, value = (int.from_bytes(each, sys.byteorder) for each in taken_raw)
        taken[key] = value
        assert len(other) == 37
        assert taken | other.snapshot() == CONTENT
        for ended in (drain, raw, m.drain()):
            with pytest.raises(rawbpf.Closed):
                next(ended)
        assert taken | other.snapshot() == CONTENT


def _take(m: rawbpf.HashMap[int, int], taken: list[int], begun: threading.Event, ends: list[rawbpf.BpfError]) -> None:
    try:
        for key, _ in m.drain(64):
            taken.append(key)
            begun.set()
    except rawbpf.BpfError as error:
        ends.append(error)


def test_a_drain_whose_map_another_thread_closes_ends_with_closed(backend: Backend) -> None:
    for _ in range(20):
        m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=4096)
        with m.dup() as other:
            m.update({i: i for i in range(2000)})
            taken: list[int] = []
            begun = threading.Event()
            ends: list[rawbpf.BpfError] = []
            thread = threading.Thread(target=_take, args=(m, taken, begun, ends))
            interval = sys.getswitchinterval()
            try:
                sys.setswitchinterval(1e-6)
                thread.start()
                begun.wait()
                m.close()
                thread.join()
            finally:
                sys.setswitchinterval(interval)
            if ends or len(taken) < 2000:
                assert [type(error) for error in ends] == [rawbpf.Closed]
            left = [*other, *[key for key, _ in _kept(m)]]
            assert sorted(taken + left) == list(range(2000))


@pytest.mark.guest
def test_a_drain_whose_map_is_closed_in_its_last_batch_ends_with_closed(backend: Backend) -> None:
    m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=8)
    with m.dup() as other:
        m.update({i: i for i in range(5)})
        drain = m.drain()
        first, _ = next(drain)
        m.close()
        with pytest.raises(rawbpf.Closed):
            next(drain)
        assert sorted([first, *other]) == list(range(5))


def test_a_drain_whose_map_is_closed_when_it_has_yielded_all_ends(backend: Backend) -> None:
    m = rawbpf.HashMap.create(key="u32", value="u32", max_entries=8)
    m.update({i: i for i in range(5)})
    drain = m.drain()
    taken = [next(drain) for _ in range(5)]
    m.close()
    assert list(drain) == []
    assert sorted(taken) == [(i, i) for i in range(5)]


def _kept(m: rawbpf.HashMap[int, int]) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    with pytest.raises(rawbpf.Closed):
        kept += m.drain()
    return kept


@pytest.mark.guest
def test_what_could_not_be_put_back_is_yielded_even_by_a_closed_map(backend: Backend) -> None:
    m = _filled()
    drain: Any = m.drain()
    taken = dict([next(drain), next(drain)])
    m.freeze()
    m.close()
    kept: dict[int, int] = {}
    with pytest.raises(rawbpf.Closed):
        kept.update(m.drain())
    assert taken | kept == CONTENT
    assert len(kept) == 38


class _Interrupted(FaultBackend):
    # Ctrl-C while the kernel is removing elements: the handler runs when the call is back.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_MAP_LOOKUP_AND_DELETE_BATCH and self.calls[cmd] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return result


@pytest.mark.guest
def test_an_interrupt_of_the_call_itself_loses_nothing(backend: Backend) -> None:
    with _filled(backend=_Interrupted(backend, {})) as m:
        taken: dict[int, int] = {}

        def consume() -> None:
            taken.update(m.drain(8))

        with pytest.raises(KeyboardInterrupt):
            consume()
        assert 0 < len(taken) <= 8
        assert len(m) == len(CONTENT) - len(taken)
        assert taken | m.snapshot() == CONTENT


class _InterruptedUpdate(FaultBackend):
    # Ctrl-C during the nth update from now on, before or after the kernel has done it.
    def __init__(self, inner: Backend) -> None:
        super().__init__(inner, {})
        self.before = self.after = -1

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        if cmd == c.BPF_MAP_UPDATE_ELEM:
            self.before -= 1
            self.after -= 1
            if self.before == 0:
                signal.raise_signal(signal.SIGINT)
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_MAP_UPDATE_ELEM and self.after == 0:
            signal.raise_signal(signal.SIGINT)
        return result


@pytest.mark.guest
@pytest.mark.parametrize("nth", [1, 2, 20, 33])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["drain", "close"])
def test_putting_back_that_was_interrupted_is_taken_up_later(backend: Backend, nth: int, when: str, then: str) -> None:
    interrupting = _InterruptedUpdate(backend)
    with _filled(backend=interrupting) as m, m.dup() as other:
        drain: Any = m.drain()
        taken = [next(drain) for _ in range(7)]
        setattr(interrupting, when, nth)
        with pytest.raises(KeyboardInterrupt):
            drain.close()
        if then == "drain":
            rest = list(m.drain())
        else:
            m.close()
            rest = list(other.items())
        assert sorted(taken + rest) == sorted(CONTENT.items())


@pytest.mark.guest
def test_clearing_forgets_what_could_not_be_put_back(backend: Backend) -> None:
    with _filled() as m:
        drain: Any = m.drain()
        taken = next(drain)
        m.update(CONTENT)
        drain.close()
        m.clear()
        assert taken[1] == CONTENT[taken[0]]
        assert list(m.drain()) == []


class _BusyBucket(FaultBackend):
    # A bucket in the middle is busy: the kernel stops there, with what it has removed so far.
    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_MAP_LOOKUP_AND_DELETE_BATCH and self.calls[cmd] == 2 and result == 0:
            ctypes.set_errno(16)
            return -1
        return result


@pytest.mark.guest
def test_a_batch_that_stops_at_a_busy_bucket_goes_on_there(backend: Backend) -> None:
    with _filled(backend=_BusyBucket(backend, {})) as m:
        assert dict(m.drain(8)) == CONTENT


@pytest.mark.guest
@pytest.mark.parametrize("errno", [22, 524], ids=["kernel without batches", "type without batches"])
def test_without_batches_elements_are_taken_one_by_one(backend: Backend, errno: int) -> None:
    commands = (c.BPF_MAP_LOOKUP_BATCH, c.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
    old = FaultBackend(backend, {cmd: [(n, errno) for n in range(1, 100)] for cmd in commands})
    with _filled(backend=old) as m:
        taken: dict[int, int] = {}
        _leave(m, taken)
        assert len(m) == 33
        assert taken | m.snapshot() == CONTENT
        assert taken | dict(m.drain()) == CONTENT


@pytest.mark.guest
def test_a_value_that_cannot_be_decoded_is_put_back_with_the_rest(backend: Backend) -> None:
    with _filled() as m:

        def refuse(buffer: object, count: int) -> list[Any]:
            raise ValueError("not to be decoded")

        m._value.unpack_many = refuse  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="not to be decoded"):
            next(iter(m.drain()))
        del m._value.unpack_many
        assert m.snapshot() == CONTENT


@pytest.mark.guest
def test_a_drain_of_no_elements_at_a_time_is_refused_at_once(backend: Backend) -> None:
    with _filled() as m, pytest.raises(ValueError, match="at least one"):
        m.drain(0)


@pytest.mark.guest
def test_a_drain_while_others_count_loses_no_key(backend: Backend) -> None:
    # Another object of the map stores new keys all the time; each is either drained or still there.
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4096) as m, m.dup() as other:
        fresh = iter(range(1 << 20))

        def store(count: int) -> Iterator[int]:
            for _ in range(count):
                key = next(fresh)
                other[key] = key
                yield key

        stored = set(store(500))
        drained: list[int] = []
        for _ in range(20):
            for key, _ in m.drain(64):
                drained.append(key)
                if len(drained) % 5 == 0:
                    stored.update(store(1))
                if len(drained) % 97 == 0:
                    break
        left = set(m)
        assert len(drained) == len(set(drained))
        assert set(drained) | left == stored
        assert not set(drained) & left


def test_drains_that_several_threads_drop_yield_each_element_once(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4096) as m:
        m.update({i: i for i in range(2000)})
        taken: list[int] = []
        failures: list[object] = []

        def take_some() -> None:
            for turn in range(40):
                for some, (key, _) in enumerate(m.drain(64)):
                    taken.append(key)
                    if some == turn % 17:
                        break

        interval, hook = sys.getswitchinterval(), sys.unraisablehook
        threads = [threading.Thread(target=take_some) for _ in range(4)]
        try:
            sys.setswitchinterval(1e-6)
            sys.unraisablehook = failures.append  # of generators that are dropped
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
            sys.unraisablehook = hook
        taken += [key for key, _ in m.drain()]
        assert not failures
        assert sorted(taken) == list(range(2000))


class _Between(Wrapper):
    """Runs `then` once, after the next element was stored: as another thread or a signal handler would run there."""

    then: Callable[[], object] | None = None

    def intercept(self, call: Callable[[int, Any, int], int], cmd: int, attr: Any, size: int) -> int:
        result = call(cmd, attr, size)
        if cmd == c.BPF_MAP_UPDATE_ELEM and self.then:
            then, self.then = self.then, None
            then()
        return result


@pytest.mark.guest
def test_a_drain_that_begins_while_another_puts_back_takes_what_is_back(backend: Backend) -> None:
    between = _Between(backend)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=64, backend=between) as m:
        m.update(CONTENT)
        drain = m.drain()
        taken = [next(drain) for _ in range(3)]
        between.then = lambda: taken.extend(m.drain())
        del drain  # puts 37 back; after the first of them another drain begins
        assert len(taken) == 4
        taken += m.drain()
        assert len(taken) == len(CONTENT)
        assert dict(taken) == CONTENT


@pytest.mark.guest
@pytest.mark.parametrize("end", ["close the map", "close the drain", "drop the drain"])
def test_a_forked_child_does_not_put_back_what_its_parent_took(backend: Backend, end: str) -> None:
    with _filled() as m:
        drain = m.drain()
        taken = [next(drain), next(drain)]
        pid = os.fork()
        if pid == 0:  # it has a copy of the drain, and ends it
            try:
                if end == "close the map":
                    m.close()
                elif end == "close the drain":
                    drain.close()  # type: ignore[attr-defined]
                else:
                    del drain
                    gc.collect()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert len(m) == 0
        taken += drain
        assert len(taken) == len(CONTENT)
        assert dict(taken) == CONTENT


@pytest.mark.guest
def test_a_forked_child_does_not_yield_what_its_parent_keeps(backend: Backend) -> None:
    with _filled(max_entries=40) as m:
        drain = m.drain()
        next(drain)
        m.update({key + 100: 0 for key in range(40)})  # no room to put back
        drain.close()  # type: ignore[attr-defined]
        assert m.delete_many(range(100, 140)) == 40
        pid = os.fork()
        if pid == 0:
            os._exit(min(len(list(m.drain())), 255))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(list(m.drain())) == 39


@pytest.mark.real_kernel(
    "kernel/fork.c:copy_files: a forked child shares the kernel's maps, but has a copy of a simulator's"
)
@pytest.mark.guest
def test_a_forked_child_puts_back_what_it_took_itself(backend: Backend) -> None:
    with _filled() as m:
        drain = m.drain()
        pid = os.fork()
        if pid == 0:
            try:
                next(drain)
                drain.close()  # type: ignore[attr-defined]
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert len(m) == len(CONTENT) - 1
        drain.close()  # type: ignore[attr-defined]


@pytest.mark.guest
def test_where_there_is_no_batch_an_element_that_vanishes_is_passed_over(backend: Backend) -> None:
    content = {f"10.0.{i}.0/24": i for i in range(8)}
    with rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=8) as m:
        m.update(content)
        drain = m.drain()
        first, _ = next(drain)
        gone = next(network for network in m if network != first)
        del m[gone]
        assert sorted([first, gone, *(network for network, _ in drain)]) == sorted(m.key_type(text) for text in content)
        assert len(m) == 0
