"""How many system calls many keys cost, when a program is loaded for them, and that nothing of it outlives the map."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel_ids
from support.many import Around, ways

import rawbpf
from rawbpf.map import many, whole
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi.names import cmd_name

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("programs run there only")

VERBS: dict[str, Callable[[Any, int], object]] = {
    "get_many": lambda m, total: m.get_many(range(total)),
    "put_many": lambda m, total: m.put_many({i: i for i in range(total)}),
    "delete_many": lambda m, total: m.delete_many(range(total)),
    "pop_many": lambda m, total: m.pop_many(range(total)),
}
every_verb = pytest.mark.parametrize("verb", VERBS)


class _Traced:
    """A backend, and the commands that were called since they were last asked for."""

    def __init__(self, backend: Backend) -> None:
        self._calls: list[Call] = []
        self.backend = TraceBackend(backend, self._calls.append)

    def since(self) -> Counter[str]:
        found = Counter(cmd_name(call.cmd) for call in self._calls)
        self._calls.clear()
        return found


@pytest.fixture
def traced(backend: Backend) -> _Traced:
    return _Traced(backend)


def _table(traced: _Traced, entries: int = 10000) -> rawbpf.HashMap[int, int]:
    return rawbpf.HashMap.create(key="u32", value="u64", max_entries=entries, backend=traced.backend)


@every_verb
@pytest.mark.parametrize("total", [3, 32, 33, 1000, many.MOST_KEYS])
def test_once_a_program_is_there_many_keys_are_two_calls_at_most(traced: _Traced, verb: str, total: int) -> None:
    with _table(traced) as m:
        m.put_many({i: i for i in range(0, total, 2)})
        assert ways(m)[verb] == "program"
        traced.since()
        VERBS[verb](m, total)
        # What writes has its first key go by itself, by which the kernel asks whether the descriptor may.
        one = {"get_many": 0}.get(verb, 1)
        calls = traced.since()
        assert calls["prog_test_run"] == 1
        assert calls.total() == 1 + one


@pytest.mark.parametrize("total", [1000, 5000])
def test_values_that_do_not_fit_at_once_take_a_call_for_as_many_as_do(traced: _Traced, total: int) -> None:
    with rawbpf.HashMap.create(key="u64", value=1000, max_entries=total, backend=traced.backend) as m:
        fit = many.MOST_BYTES // (1000 + 8 + 1)
        m.put_many({i: bytes(1000) for i in range(total)})
        assert m.many_path == "program"
        for verb, keys in (("get_many", range(total)), ("pop_many", range(total))):
            traced.since()
            getattr(m, verb)(keys)
            left = total - (verb == "pop_many")
            assert traced.since()["prog_test_run"] == -(-left // fit)


@every_verb
def test_few_keys_load_a_program_at_the_second_call_and_many_at_once(traced: _Traced, verb: str) -> None:
    few, enough = whole.AT_ONCE - 1, whole.AT_ONCE
    for total, calls, loads in ((few, 1, 0), (few, 2, 1), (few, 3, 1), (enough, 1, 1), (3, 1, 0), (3, 2, 1), (1, 9, 0)):
        with _table(traced) as m:
            traced.since()
            for _ in range(calls):
                VERBS[verb](m, total)
            found = traced.since()
            assert found["prog_load"] == loads, (total, calls)
            assert bool(found["prog_test_run"]) == bool(loads)


@pytest.mark.parametrize("keys", [[], [1]], ids=["none", "one"])
def test_no_key_and_one_key_never_load_a_program(traced: _Traced, keys: list[int]) -> None:
    with _table(traced) as m:
        m[1] = 1
        traced.since()
        for _ in range(3):
            assert m.get_many(keys) == keys
            m.put_many(dict.fromkeys(keys, 1))
            assert m.pop_many(keys) == keys
            assert m.delete_many(keys) == 0
            m.put_many(dict.fromkeys(keys, 1))
        # put, get, pop, delete and put again, three times.
        assert traced.since().total() == 15 * len(keys)


def test_a_verb_loads_one_program_whatever_the_number_of_calls_and_views(traced: _Traced) -> None:
    with _table(traced) as m:
        traced.since()
        raw = m.raw
        for _ in range(5):
            m.get_many(range(200))
            raw.get_many([i.to_bytes(4, sys.byteorder) for i in range(200)])
            m.put_many({i: i for i in range(200)})
            assert m.many_path == "program"
        # get_many, put_many, and those that many_path asked about.
        assert traced.since()["prog_load"] == len(many.VERBS)


def test_what_a_call_takes_from_memory_is_bounded(traced: _Traced) -> None:
    sizes: list[int] = []

    for value in ("u8", "u64", 100, 32768):
        with rawbpf.HashMap.create(key=512, value=value, max_entries=100, backend=traced.backend) as m:
            assert m.many_path == "program"
            shared = rawbpf.maps(name="rawbpf_many")
            assert len(shared) >= len(many.VERBS)
            sizes += [info.value_size for info in shared]
    slack = 64 + 8 + 512 + 32768 + 1
    assert max(sizes) <= many.MOST_BYTES + slack


def _left(before: set[tuple[str, int]]) -> set[tuple[str, int]]:
    return kernel_ids.left_over(kernel_ids.ids() - before)


@pytest.mark.needs("capability:CAP_SYS_ADMIN")
def test_a_thousand_maps_that_are_closed_leave_nothing_behind(backend: Backend) -> None:
    before, descriptors = kernel_ids.ids(), set(os.listdir("/proc/self/fd"))
    for turn in range(1000):
        with rawbpf.HashMap.create(key="u32", value="u64", max_entries=200, name="many_and_gone") as m:
            m.put_many(dict.fromkeys(range(150), turn))
            assert m.get_many(range(150)) == [turn] * 150
            assert m.delete_many(range(70)) == 70
            assert m.pop_many(range(150)) == [None] * 70 + [turn] * 80
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert _left(before) == set()


@pytest.mark.needs("capability:CAP_SYS_ADMIN")
@pytest.mark.parametrize("word", ["hash", "percpu_hash", "lpm_trie", "array"])
def test_what_was_refused_or_interrupted_leaves_nothing_behind(backend: Backend, word: str) -> None:
    around = Around(backend)
    before, descriptors = kernel_ids.ids(), set(os.listdir("/proc/self/fd"))
    key = 8 if word == "lpm_trie" else "u32"
    for nth in range(1, 12):
        with rawbpf.Map.create(word, key=key, value="u32", max_entries=200, backend=around) as m:
            left = [nth]

            def refuse(cmd: int, left: list[int] = left) -> None:
                left[0] -= 1
                if not left[0]:
                    raise KeyboardInterrupt

            around.before = refuse
            try:
                m.get_many([m.key_type.unpack(i.to_bytes(m.key_type.size, sys.byteorder)) for i in range(150)])
            except KeyboardInterrupt:
                pass
            around.before = None
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert _left(before) == set()


@pytest.mark.needs("capability:CAP_SYS_ADMIN")
def test_the_kernel_shows_what_a_map_had_loaded_until_the_map_is_closed(backend: Backend) -> None:
    before = kernel_ids.ids()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=200) as m:
        m.get_many(range(150))
        kinds = Counter(kind for kind, _ in kernel_ids.ids() - before)
        # The map and its BTF; the program, its BTF, its memory and the array that it goes through.
        assert (kinds["prog"], kinds["map"]) == (1, 3)
        view = m.raw
        del view
        assert Counter(kind for kind, _ in kernel_ids.ids() - before)["prog"] == 1
    assert _left(before) == set()


def test_a_map_that_is_dropped_open_takes_its_programs_along(backend: Backend) -> None:
    before = kernel_ids.ids()

    def drop() -> None:
        m = rawbpf.HashMap.create(key="u32", value="u64", max_entries=200)
        m.get_many(range(150))

    with pytest.warns(ResourceWarning, match="unclosed"):
        drop()
    assert _left(before) == set()


@pytest.mark.parametrize("verb", ["get_many", "put_many", "delete_many", "pop_many"])
def test_an_error_that_is_kept_keeps_no_memory_of_a_closed_map(backend: Backend, verb: str) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("bpf-map")

    before = mapped()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=300, backend=backend) as m:
        m[1] = 5
        assert ways(m)[verb] == "program"
        assert mapped() > before
        calls: dict[str, Callable[[], object]] = {
            "get_many": lambda: m.get_many([*range(199), "none"]),
            "put_many": lambda: m.put_many(dict.fromkeys(range(200), 1)),
            "delete_many": lambda: m.delete_many(range(200)),
            "pop_many": lambda: m.pop_many(range(200)),
        }
        m.freeze()
        with pytest.raises(rawbpf.PermissionDenied if verb != "get_many" else TypeError) as kept:
            calls[verb]()
    assert kept.value is not None
    assert mapped() == before
