"""Many keys in one call give what a call for each gives: results, errors, and what is in the map afterwards."""

from __future__ import annotations

import ctypes
import ipaddress
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from support import map_shapes, oracle
from support.many import answer, delete_one_by_one, one_by_one, put_one_by_one

import rawbpf
from rawbpf.codec.base import Codec
from rawbpf.map import many
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

TYPES = ["hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "array", "percpu_array", "lpm_trie"]
HASHES = [word for word in TYPES if "hash" in word]
NEVER_FULL = ("lru_hash", "lru_percpu_hash", "array", "percpu_array")
KEY_SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 63, 64, 127, 255, 256, 511, 512)
VALUE_SIZES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257, 511, 512, 513, 520, 767, 768, 769, 4097, 32767, 32768)
KEY_TYPES: tuple[Any, ...] = ("u8", "u32", "s32", "u64", "be32", "f64", "bool", {"a": "u32", "b": "u8[3]"})
VALUE_TYPES: tuple[Any, ...] = ("u8", "s16", "u64", "be64", "f32", "f64", "bool", "char[5]", {"x": "u8", "y": "u64"})
POOL = 12
"""How many different keys there are: hits, misses and repetitions all come."""


class Case:
    """What two equal maps are made of, and the steps to take on both. `steps`: (verb, keys, values, flags)."""

    def __init__(self, key: Any, value: Any, max_entries: int, capacity: int, loaded: bool, filled: bool) -> None:
        self.key = key
        self.value = value
        self.max_entries = max_entries
        self.capacity = capacity
        self.loaded = loaded
        self.filled = filled
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.steps: list[tuple[str, list[int], list[int], int]] = []

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r:.200}" for name, value in vars(self).items())


@st.composite
def cases(draw: st.DrawFn, word: str) -> Case:
    """Draw a case for maps of a type."""
    if "array" in word:
        key = None
    elif word == "lpm_trie":
        key = draw(st.sampled_from([5, 6, 8, 9, 20, 255, 260, "ipv4", "ipv6"]))
    else:
        key = draw(st.sampled_from(KEY_SIZES) | st.sampled_from(KEY_TYPES))
    value = draw(st.sampled_from(VALUE_SIZES) | st.sampled_from(VALUE_TYPES))
    # LRU maps evict before they are full.
    size = 512 if "lru" in word else draw(st.sampled_from([1, 4, 8, POOL]))
    capacity = draw(st.sampled_from([1, 2, 3, 5, many.MOST_KEYS]))
    case = Case(key, value, size, capacity, draw(st.booleans()), draw(st.booleans()))
    seeded = random.Random(draw(st.integers(0, 1 << 16)))
    case.keys = [_key(seeded, word, key) for _ in range(POOL)]
    case.values = [seeded.randbytes((1 << 15) + 1024) for _ in range(4)]
    verbs = ["get", "put"] + (["delete", "pop"] if "array" not in word else [])
    some = st.lists(st.integers(0, POOL - 1), max_size=15)
    flags = st.sampled_from([0, 0, 0, c.BPF_NOEXIST, c.BPF_EXIST])
    case.steps = draw(
        st.lists(
            st.tuples(st.sampled_from(verbs), some, st.lists(st.integers(0, 3), min_size=1, max_size=3), flags),
            min_size=1,
            max_size=8,
        )
    )
    return case


def _key(seeded: random.Random, word: str, key: Any) -> bytes:
    if word != "lpm_trie":
        return bytes(seeded.choice([0, 1, 2, 255]) for _ in range(8)) + seeded.randbytes(504)
    octets = {"ipv4": 4, "ipv6": 16}.get(key) or key - 4
    # Few bits differ, so that prefixes cover each other; some are longer than the key.
    length = seeded.randrange(8 * octets + (0 if isinstance(key, str) else 9))
    bits = bytes([seeded.choice([0, 128])]) + bytes(octets - 1)
    if isinstance(key, str):
        bits = bytes(octets) if not length else bits
    return length.to_bytes(4, sys.byteorder) + bits


def _made(word: str, case: Case) -> Any:
    return rawbpf.Map.create(word, key=case.key, value=case.value, max_entries=case.max_entries)


def _typed(m: Any, word: str, case: Case) -> tuple[list[Any], list[Any]]:
    # The keys and values of the pool as this map has them.
    if "array" in word:
        keys: list[Any] = [*range(-2, POOL - 4), 1 << 33, m.max_entries]
    else:
        keys = [m.key_type.unpack(raw[: m.key_type.size]) for raw in case.keys]
    if not hasattr(m.value_type, "inner"):
        return keys, [m.value_type.unpack(raw[: m.value_type.size]) for raw in case.values]
    inner, cpus = m.value_type.inner, m.value_type.count
    each = [[inner.unpack(raw[at : at + inner.size]) for at in range(cpus)] for raw in case.values]
    return keys, each


def _step(m: Any, n: Any, verb: str, keys: list[Any], values: list[Any], flags: int) -> None:
    # Take a step on `m` in one call and on `n` one by one.
    default = "default" if flags else None
    pairs = [(key, values[at % len(values)]) for at, key in enumerate(keys)]
    if verb == "put" and hasattr(m, "memory"):
        # Whole batches take no negative indices, and none that are no u32.
        pairs = [(key, value) for key, value in pairs if 0 <= key < 1 << 32]
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "get": (lambda: m.get_many(keys, default), lambda: one_by_one(n, keys, default)),
        "put": (lambda: m.put_many(pairs, flags), lambda: put_one_by_one(n, pairs, flags)),
        "delete": (lambda: m.delete_many(keys), lambda: delete_one_by_one(n, keys)),
        "pop": (lambda: m.pop_many(keys, default), lambda: [n.pop(key, default) for key in keys]),
    }
    many_at_once, each = calls[verb]
    assert answer(many_at_once) == answer(each), verb


def _content(m: Any) -> list[tuple[str, str]]:
    return sorted((repr(key), repr(value)) for key, value in m.items())


@pytest.mark.guest
@pytest.mark.parametrize("word", map_shapes.each(TYPES))
def test_whatever_is_done_to_many_is_what_is_done_to_each(
    backend: Backend, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @oracle.for_all(cases(word), examples=150 if backend.name == "kernel" and oracle.OPERATIONS >= 500 else 15)
    def agree(case: Case) -> None:
        monkeypatch.setattr(many, "MOST_KEYS", case.capacity)
        with _made(word, case) as m, _made(word, case) as n:
            if case.loaded:
                assert m.many_path
            keys, values = _typed(m, word, case)
            if case.filled:
                _step(m, n, "put", keys, values, 0)
            for verb, some, of, flags in case.steps:
                _step(m, n, verb, [keys[at] for at in some], [values[at] for at in of], flags)
            assert _content(m) == _content(n)


@pytest.mark.parametrize("around", [0, 1, 2])
@pytest.mark.parametrize("word", map_shapes.each(["hash", "percpu_hash", "lru_hash", "array", "lpm_trie"]))
@pytest.mark.parametrize("value", ["u64", 700, {"x": "u8", "y": "u64[40]"}], ids=["u64", "bytes", "struct"])
def test_no_key_is_lost_where_one_run_ends_and_the_next_begins(
    backend: Backend, word: str, value: Any, around: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A multiple of the capacity, and one less and one more; writing has its first key apart.
    monkeypatch.setattr(many, "MOST_KEYS", 10)
    key = "ipv4" if word == "lpm_trie" else None if word == "array" else "u32"
    with rawbpf.Map.create(word, key=key, value=value, max_entries=512) as m:
        for total in (9 + around, 19 + around, 29 + around, 39 + around):
            keys: list[Any] = list(range(total))
            if word == "lpm_trie":
                keys = [ipaddress.ip_network(each) for each in keys]
            raw = [bytes([each + 1] * m.value_type.size) for each in range(total)]
            values = [m.value_type.unpack(each) for each in raw]
            m.put_many(list(zip(keys, values, strict=True)))
            assert one_by_one(m, keys) == values
            assert m.get_many(keys) == values
            if word == "array":
                continue
            assert m.pop_many(keys[1::2]) == values[1::2]
            assert m.get_many(keys, "gone") == [*_alternating(values, total)]
            assert m.delete_many(keys) == len(keys[::2])
            assert list(m) == []


def _alternating(values: list[Any], total: int) -> list[Any]:
    return ["gone" if at % 2 else values[at] for at in range(total)]


@pytest.mark.parametrize("loaded", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize(
    ("keys", "answered"),
    [
        ([], "[]"),
        ([0], "[10]"),
        ([1, 0], "[11, 10]"),
        ([2, 2, 2], "[12, 12, 12]"),
        ([-1, 0], "[13, 10]"),
        ([-4, -5, 3], "[10, 'none', 13]"),
        ([3, 4], "[13, 'none']"),
        ([0, 1 << 32, 1 << 70], "[10, 'none', 'none']"),
        ([True, False], "[11, 10]"),
        ([slice(1, 3), 0], "[[11, 12], 10]"),
        ([1, "0"], "TypeError: 'str' object cannot be interpreted as an integer"),
        ([1, 0.5], "TypeError: 'float' object cannot be interpreted as an integer"),
        ([None] * 40, "TypeError: 'NoneType' object cannot be interpreted as an integer"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("options", [{}, {"numa_node": 0}], ids=["in memory", "by system calls"])
def test_an_index_means_to_many_what_it_means_to_one(
    backend: Backend, keys: list[Any], answered: str, loaded: bool, options: dict[str, Any]
) -> None:
    with rawbpf.ArrayMap.create(value="u64", max_entries=4, **options) as m:
        m.update({i: 10 + i for i in range(4)})
        if loaded:
            assert m.many_path
        assert answer(lambda: one_by_one(m, keys, "none")) == answered
        assert answer(lambda: m.get_many(keys, "none")) == answered


@pytest.mark.parametrize("loaded", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize("wrong", ["1", 1.5, None, -1, 1 << 32, (1,)], ids=repr)
@pytest.mark.parametrize("total", [2, 40])
def test_a_key_that_is_none_is_refused_as_by_itself(backend: Backend, wrong: Any, total: int, loaded: bool) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=100) as m:
        m.update({i: i for i in range(50)})
        if loaded:
            assert m.many_path
        keys: list[Any] = [*range(total - 1), wrong]
        alone = answer(lambda: m.get(wrong))
        assert "expected an int in 0..4294967295" in alone
        assert answer(lambda: m.get_many(keys)) == alone
        # What removes is refused before the first key is removed, and says which one it was.
        for verb in (m.delete_many, m.pop_many):
            with pytest.raises((TypeError, OverflowError), match=rf"^\[{total - 1}\]: expected an int"):
                verb(keys)
        assert len(m) == 50


def test_keys_may_come_from_anything_that_can_be_iterated(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=300) as m:
        content = {i: i + 1 for i in range(200)}
        for make in (iter, list, tuple, set, dict.fromkeys, lambda some: (each for each in some)):
            m.put_many(iter(content.items()))
            assert m.get_many(make(range(200))) == list(content.values())
            assert m.pop_many(make(range(100))) == list(content.values())[:100]
            assert m.delete_many(make(range(200))) == 100


class _Odd(Codec[str]):
    # A codec of one's own, with a value that it does not know.
    name = "odd"
    size = 3

    def pack(self, value: object, /) -> bytes:
        return str(value).encode().rjust(3, b" ")

    def unpack(self, buffer: Any, /) -> str:
        text = bytes(buffer).decode().strip()
        if not text:
            raise LookupError("nothing at all")
        return text


class _Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_short))


def test_a_codec_of_ones_own_is_asked_for_what_was_found_only(backend: Backend) -> None:
    with rawbpf.HashMap.create(key=_Odd(), value=_Odd(), max_entries=300) as m:
        content = {f"{i}": f"v{i % 10}" for i in range(200)}
        for _ in range(2):
            m.put_many(content)
            assert m.get_many([*content, "no", "x"], 0) == [*content.values(), 0, 0]
            assert m.pop_many(["no", *content, "x"], 0) == [0, *content.values(), 0]


def test_values_that_were_returned_do_not_change_with_the_next_call(backend: Backend) -> None:
    for value in (_Point, 40, "u32[10]", {"a": "u8[40]"}):
        with rawbpf.HashMap.create(key="u32", value=value, max_entries=200) as m:
            one, two = (m.value_type.unpack(bytes([n] * m.value_type.size)) for n in (1, 2))
            m.put_many(dict.fromkeys(range(200), one))
            first = m.get_many(range(200))
            m.put_many(dict.fromkeys(range(200), two))
            second = m.get_many(range(200))
            packed = [b"".join(map(m.value_type.pack, values)) for values in (first, second)]
            assert packed == [m.value_type.pack(each) * 200 for each in (one, two)]


@pytest.mark.parametrize("total", [3, 100, 200, 20000])
@pytest.mark.parametrize("kind", ["hash", "percpu_hash", "lpm_trie"])
def test_a_map_that_becomes_full_says_how_many_elements_it_took(backend: Backend, kind: str, total: int) -> None:
    key = "ipv4" if kind == "lpm_trie" else "u32"
    with rawbpf.Map.create(kind, key=key, value="u64", max_entries=total - 1) as m:
        value: Any = rawbpf.PerCpu.filled(7) if kind == "percpu_hash" else 7
        keys = [ipaddress.ip_network(i) for i in range(total + 1)] if key == "ipv4" else range(total + 1)
        for _ in range(2):
            with pytest.raises(rawbpf.MapFull) as caught:
                m.put_many([(each, value) for each in keys])
            assert caught.value.applied == len(m) == total - 1
            m.clear()
            assert m.many_path


@pytest.mark.parametrize("at", [0, 1, 2, 130, 8192, 8193, 8194, 16383, 16384, 16385, 16999])
@pytest.mark.parametrize(
    ("flags", "error", "there"),
    [(c.BPF_NOEXIST, rawbpf.KeyExists, False), (c.BPF_EXIST, rawbpf.KeyNotFound, True)],
    ids=["NOEXIST", "EXIST"],
)
def test_a_refused_element_is_named_and_counted(
    backend: Backend, flags: int, error: type[rawbpf.KeyNotFound], there: bool, at: int
) -> None:
    total = 17000 if backend.name == "kernel" else 300
    at %= total
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=total) as m:
        before = {i: 1 for i in range(total) if (i != at) == there}
        m.put_many(before)
        with pytest.raises(error) as caught:
            m.put_many(dict.fromkeys(range(total), 2), flags)
        assert (caught.value.applied, caught.value.key) == (at, at)
        assert m.snapshot() == before | dict.fromkeys(range(at), 2)


def test_the_last_of_equal_keys_is_stored_and_the_first_is_popped(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=10) as m:
        for _ in range(2):
            m.put_many([(i % 5, i) for i in range(200)])
            assert m.snapshot() == {i: 195 + i for i in range(5)}
            assert m.get_many([i % 6 for i in range(150)], -1) == [195 + i % 6 if i % 6 < 5 else -1 for i in range(150)]
            assert m.pop_many([i % 6 for i in range(150)]) == [*range(195, 200), *[None] * 145]
            m.put_many({1: 1})
            assert m.delete_many([1] * 150) == 1


def test_a_default_stands_for_what_is_missing_and_is_the_object_itself(backend: Backend) -> None:
    nothing = object()
    with rawbpf.HashMap.create(key="u32", value={"a": "u8"}, max_entries=300) as m:
        for _ in range(2):
            m.put_many({i: (i % 256,) for i in range(0, 300, 3)})
            for verb in (m.get_many, m.pop_many):
                found: list[Any] = verb(range(300), nothing)
                assert [at for at in range(300) if found[at] is not nothing] == list(range(0, 300, 3))
                assert all(found[at].a == at % 256 for at in range(0, 300, 3))


@pytest.mark.needs("map_type:lpm_trie")
def test_a_prefix_that_is_covered_and_not_there_is_neither_popped_nor_deleted(backend: Backend) -> None:
    with rawbpf.Map.create("lpm_trie", key="ipv4", value="u32", max_entries=300) as m:
        everything = ipaddress.ip_network("0.0.0.0/0")
        for _ in range(2):
            m[everything] = 5
            addresses = [ipaddress.ip_network(i) for i in range(200)]
            assert m.get_many(addresses) == [5] * 200
            assert m.pop_many(addresses) == [None] * 200
            assert m.delete_many(addresses) == 0
            assert m.pop_many([*addresses, everything, everything]) == [None] * 200 + [5, None]


@pytest.mark.parametrize("at", [1, 50, 199])
def test_a_refusal_is_forgotten_by_the_next_call(backend: Backend, at: int) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1000) as m:
        for turn in range(3):
            m[at] = 7
            with pytest.raises(rawbpf.KeyExists) as caught:
                m.put_many([(i, 1) for i in range(200)], c.BPF_NOEXIST)
            assert caught.value.applied == caught.value.key == at
            m.put_many([(i, 2) for i in range(500, 700)], c.BPF_NOEXIST)
            assert m.get_many(range(500, 700)) == [2] * 200
            assert m.pop_many(range(500, 700)) == [2] * 200, turn
            assert m.delete_many(range(300)) == at + 1
