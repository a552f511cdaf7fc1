"""What pop_many took out of a map is put back, whatever ends it and whenever: nothing is lost, nothing invented."""

from __future__ import annotations

import ipaddress
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from support import map_shapes
from support.many import Around, ways

import rawbpf
from rawbpf.codec.base import Codec
from rawbpf.map import hash as hash_
from rawbpf.map import keys, many, taken

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

TYPES = ["hash", "lru_hash", "percpu_hash", "lpm_trie"]
TOTAL = 35


@contextmanager
def _filled(word: str, backend: Any, total: int = TOTAL) -> Iterator[tuple[Any, list[Any]]]:
    # A map with these keys, and others that it lacks between them.
    key = "ipv4" if word == "lpm_trie" else "u32"
    # With room to spare, or an LRU map evicts as soon as a CPU has no free element of its own.
    with rawbpf.Map.create(word, key=key, value="u64", max_entries=4096, backend=backend) as m:
        keys: list[Any] = [ipaddress.ip_network(i) for i in range(total)] if key == "ipv4" else list(range(total))
        assert ways(m)
        m.update({each: _value(m, at) for at, each in enumerate(keys) if at % 3})
        yield m, keys


def _value(m: Any, number: int) -> Any:
    return rawbpf.PerCpu.filled(number + 1) if hasattr(m.value_type, "inner") else number + 1


def _at_call(nth: int, action: Callable[[], object]) -> Callable[[int], None]:
    calls = 0

    def hook(cmd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            action()

    return hook


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("word", map_shapes.each(TYPES))
def test_an_interrupt_at_any_call_loses_nothing(
    backend: Backend, word: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST_KEYS", 10)
    around = Around(backend)
    with _filled(word, around) as (m, keys):
        content = m.snapshot()
        interrupted = 0
        for nth in range(1, 10 * TOTAL):
            setattr(around, when, _at_call(nth, _interrupt))
            try:
                popped = m.pop_many(keys)
            except KeyboardInterrupt:
                interrupted += 1
                assert m.snapshot() == content
            else:
                setattr(around, when, None)
                assert popped == [content.get(key) for key in keys]
                assert m.snapshot() == {}
                break
        programs = ways(m)["pop_many"] == "program"
        # The first key by a system call, which a trie answers in three, the others by ten; or each by one or more.
        assert interrupted in (range(4, 8) if programs else range(TOTAL, 10 * TOTAL))


def _at_line(nth: int) -> Callable[[FrameType, str, object], Any]:
    # A trace function that interrupts before the nth line between a program's start and the end of pop_many, but for
    # where a descriptor is nobody's yet, or what was taken is being put back already.
    lines = 0

    def line(_: FrameType, event: str, __: object) -> Any:
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == nth:
            raise KeyboardInterrupt
        return line

    def called(frame: FrameType, _: str, __: object) -> Any:
        code = frame.f_code
        inside = code.co_filename in _INTERRUPTED and code.co_name in ("pop", "one", "add", "go", "decoded", "pop_many")
        return line if inside else None

    return called


_INTERRUPTED = [each.__file__ for each in (many, taken, keys, hash_)]


def test_an_interrupt_at_any_line_loses_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MOST_KEYS", 2)
    with _filled("hash", backend, 6) as (m, every):
        content = m.snapshot()
        interrupted = 0
        before = sys.gettrace()
        popped = None
        while popped is None:
            sys.settrace(_at_line(interrupted + 1))
            try:
                popped = m.pop_many(every)
            except KeyboardInterrupt:
                sys.settrace(before)
                interrupted += 1
                assert m.snapshot() == content
            sys.settrace(before)
        assert popped == [content.get(key) for key in every]
        assert interrupted > 50


@pytest.mark.real_kernel("the running kernel is interrupted")
@pytest.mark.parametrize("word", ["hash", "lru_hash"])
def test_a_signal_at_any_time_loses_nothing(backend: Backend, word: str) -> None:
    def handler(_: int, frame: FrameType | None) -> None:
        # Not while a program is loaded, a descriptor that was just made is nobody's yet, nor while one is given back.
        while frame is not None:
            if frame.f_code.co_name in ("lease", "_load", "__exit__"):
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    with _filled(word, None, 400) as (m, keys):
        content = m.snapshot()
        before = signal.signal(signal.SIGALRM, handler)
        interrupted = 0
        try:
            for round_ in range(20000):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.00002 + round_ % 50 * 0.00002)
                    m.pop_many(keys)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                # Either all or nothing: the interrupt may come when all was handed over.
                found = m.snapshot()
                assert found in (content, {})
                m.update(content)
                if interrupted > 200:
                    break
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert interrupted > 200


class _Fragile(Codec[int]):
    # A codec that does not know every value.
    name = "fragile"
    size = 2

    def pack(self, value: object, /) -> bytes:
        assert isinstance(value, int)
        return value.to_bytes(2, "little")

    def unpack(self, buffer: Any, /) -> int:
        number = int.from_bytes(buffer, "little")
        if number == 77:
            raise LookupError("77")
        return number


@pytest.mark.guest
@pytest.mark.parametrize("total", [100, 200])
@pytest.mark.parametrize("word", ["hash", "lru_hash"])
def test_a_value_that_cannot_be_decoded_stays_in_the_map_with_all_others(
    backend: Backend, word: str, total: int
) -> None:
    with rawbpf.Map.create(word, key="u32", value=_Fragile(), max_entries=1000) as m:
        m.put_many({i: i for i in range(total)})
        before = dict(m.raw.items())
        for _ in range(2):
            for verb in (m.get_many, m.pop_many):
                with pytest.raises(LookupError):
                    verb(range(total))
                assert dict(m.raw.items()) == before
        assert m.pop_many(range(70)) == list(range(70))


@pytest.mark.parametrize("word", ["hash", "percpu_hash"])
def test_what_others_stored_meanwhile_is_not_overwritten(backend: Backend, word: str) -> None:
    around = Around(backend)
    with _filled(word, around, 200) as (m, keys), m.dup() as other:
        content = m.snapshot()
        newer = _value(m, 1000)

        def taken() -> None:
            other[keys[2]] = newer
            raise KeyboardInterrupt

        # By programs the second call takes all that are left; else a later one is the first that took something.
        around.after = _at_call(2 if ways(m)["pop_many"] == "program" else 3, taken)
        with pytest.raises(KeyboardInterrupt):
            m.pop_many(keys)
        around.after = None
        content[keys[2]] = other[keys[2]]
        assert m.snapshot() == content


def test_what_finds_no_room_any_more_is_counted(backend: Backend) -> None:
    around = Around(backend)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=200, backend=around) as m, m.dup() as other:
        assert m.many_path
        m.update({i: i for i in range(200)})
        programs = ways(m)["pop_many"] == "program"

        def taken() -> None:
            other.update({1000 + i: i for i in range(200 if programs else 5)})
            raise KeyboardInterrupt

        around.after = _at_call(2 if programs else 5, taken)
        with pytest.raises(KeyboardInterrupt) as caught:
            m.pop_many(range(200))
        around.after = None
        lost = 200 if programs else 5
        assert caught.value.__notes__ == [f"{lost} elements that were taken out could not be put back"]
        assert len(m) == 200


def test_an_interrupt_leaves_the_others_verbs_usable(backend: Backend) -> None:
    around = Around(backend)
    verbs: list[Callable[[Any], object]] = [
        lambda m: m.get_many(range(300)),
        lambda m: m.put_many({i: i for i in range(300)}),
        lambda m: m.delete_many(range(300)),
        lambda m: m.pop_many(range(300)),
    ]
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=300, backend=around) as m:
        assert m.many_path
        for _ in range(20):  # more than programs that may be in use at the same time
            for verb in verbs:
                around.after = _at_call(1, _interrupt)
                with pytest.raises(KeyboardInterrupt):
                    verb(m)
                around.after = None
        way = m.many_path
        assert way == ("program" if backend.name == "kernel" else way)
        m.put_many({i: i for i in range(300)})
        assert m.get_many(range(300)) == list(range(300))
