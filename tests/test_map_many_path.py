"""Where many keys go by a program and where by system calls: `many_path` says so, and why; the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import child, map_shapes
from support.affinity import on_one_cpu
from support.bpffs import bpffs
from support.many import answer, by_program, one_by_one, ways

import rawbpf
from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.map import many
from rawbpf.map.many import DELETE, GET, POP, PUT, VERBS
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

TOTAL = 200
LAYS_OWN = "system calls: the kernel keeps something of its own in the values"
USED = "system calls: a program's look-up counts as a use of the element"
OWN_CPU = "system calls: a program writes the value of its own CPU"
READ_ONLY = "system calls: programs may not write to the map"
WRITE_ONLY = "system calls: programs may not read the map"
FOR_READING = "system calls: the descriptor is for reading only"
FOR_WRITING = "system calls: the descriptor is for writing only"
TYPES = ("hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "array", "percpu_array", "lpm_trie")
SIZES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257, 511, 512, 513, 520, 767, 768, 769, 4097, 32767, 32768)
LOCK = {"lock": "bpf_spin_lock", "n": "u32"}
TIMER = {"timer": "bpf_timer", "n": "u64"}

programs = pytest.mark.real_kernel("programs run there only")


def _same(m: Any) -> dict[str, str]:
    """Fill `m` one by one, compare each verb with that, and return its ways."""
    keys: list[Any] = list(range(TOTAL))
    if hasattr(m.key_type, "format") and m.key_type.format is None:
        keys = [m.key_type.unpack(m.key_type.pack(f"0.0.0.{i}")) for i in range(TOTAL)]
    values = [m.value_type.unpack(bytes([i % 250]) * m.value_type.size) for i in range(TOTAL)]
    array = hasattr(m, "memory")
    for _ in range(2):
        m.put_many(list(zip(keys, values, strict=True)))
        found = one_by_one(m, keys)
        assert m.get_many(keys) == found
        # What the kernel keeps for itself reads as zeros.
        assert [found[0]] * TOTAL != found
        if not array:
            assert m.pop_many(keys[::2]) == found[::2]
            assert m.get_many(keys) == one_by_one(m, keys)
            assert m.delete_many(keys) == TOTAL // 2
    return ways(m)


def _all(way: str, *verbs: str) -> dict[str, str]:
    return dict.fromkeys(verbs or VERBS, way)


CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "hash": ("hash", {}, _all("program")),
    "hash, not preallocated": ("hash", {"flags": c.BPF_F_NO_PREALLOC}, _all("program")),
    "hash, short values": ("hash", {"value": 1}, _all("program")),
    "hash, programs do not write": ("hash", {"flags": c.BPF_F_RDONLY_PROG}, _all(READ_ONLY) | {GET: "program"}),
    "hash, programs do not read": (
        "hash",
        {"flags": c.BPF_F_WRONLY_PROG},
        _all("program") | {GET: WRITE_ONLY, POP: WRITE_ONLY},
    ),
    "hash, longest values": ("hash", {"value": many.LONGEST}, _all("program")),
    "hash, longer values": (
        "hash",
        {"value": many.LONGEST + 1},
        _all("system calls: values of more than 32768 bytes take longer than the call") | {DELETE: "program"},
    ),
    "hash, locks": ("hash", {"value": LOCK}, _all(LAYS_OWN)),
    "hash, timers": ("hash", {"value": TIMER}, _all(LAYS_OWN)),
    "lru_hash": ("lru_hash", {}, _all("program") | {GET: USED, POP: USED}),
    "percpu_hash": ("percpu_hash", {}, _all("program") | {PUT: OWN_CPU, POP: OWN_CPU}),
    "lru_percpu_hash": ("lru_percpu_hash", {}, {GET: USED, PUT: OWN_CPU, DELETE: "program", POP: OWN_CPU}),
    "lpm_trie": ("lpm_trie", {"key": "ipv4"}, _all("program")),
    "array": ("array", {"key": None}, _all("program", GET, PUT)),
    "array in no memory": ("array", {"key": None, "numa_node": 0}, _all("program", GET, PUT)),
    "array, locks": ("array", {"key": None, "value": LOCK, "flags": 0}, _all(LAYS_OWN, GET, PUT)),
    "array, programs do not write": (
        "array",
        {"key": None, "flags": c.BPF_F_RDONLY_PROG},
        {GET: "program", PUT: READ_ONLY},
    ),
    "percpu_array": ("percpu_array", {"key": None}, {GET: "program", PUT: OWN_CPU}),
}


def _made(word: str, options: dict[str, Any]) -> Any:
    defaults: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": 2 * TOTAL}
    if word.startswith("lru"):
        defaults["max_entries"] = 10 * TOTAL  # of which none is evicted
    return rawbpf.Map.create(word, **(defaults | options))


@programs
@pytest.mark.parametrize(
    ("word", "options", "expected"),
    [pytest.param(*case, id=name, marks=map_shapes.needed(case[0])) for name, case in CASES.items()],
)
def test_each_verb_goes_by_a_program_unless_something_speaks_against_it(
    backend: Backend, word: str, options: dict[str, Any], expected: dict[str, str]
) -> None:
    with _made(word, options) as m:
        found = _same(m)
        expected = dict(expected)
        if word == "lru_percpu_hash":
            expected[POP] = found[POP]
            assert found[POP] in (USED, OWN_CPU)
        assert found == expected
        assert m.raw.many_path == m.many_path


@pytest.mark.parametrize(
    ("word", "options"),
    [pytest.param(case[0], case[1], id=name, marks=map_shapes.needed(case[0])) for name, case in CASES.items()],
)
def test_whatever_the_way_the_results_are_the_same(backend: Backend, word: str, options: dict[str, Any]) -> None:
    with _made(word, options) as m:
        found = _same(m)
        if backend.name == "sim":
            assert all(way.startswith("system calls: ") for way in found.values())


def test_one_word_says_it_where_all_verbs_go_the_same_way(backend: Backend) -> None:
    with _made("hash", {}) as m:
        assert m.many_path == ("program" if backend.name == "kernel" else m.many_path)
    with _made("hash", {"value": LOCK}) as m:
        assert m.many_path == LAYS_OWN
    with _made("percpu_hash", {}) as m:
        parts = m.many_path.split("; ")
        assert [part.split(": ")[0] for part in parts] == (list(VERBS) if len(parts) > 1 else ["system calls"])
    with pytest.raises(rawbpf.Closed):
        assert m.many_path


@programs
@pytest.mark.parametrize("word", map_shapes.each(TYPES))
@pytest.mark.parametrize("value", SIZES)
def test_values_of_every_size_are_for_programs(backend: Backend, word: str, value: int) -> None:
    # Otherwise many a test would compare system calls with system calls.
    key = 9 if word == "lpm_trie" else None if "array" in word else 7
    cpus = backend.host.possible_cpus if "percpu" in word else 1
    with rawbpf.Map.create(word, key=key, value=value, max_entries=20) as m:
        fits = -(-value // 8) * 8 * cpus <= many.LONGEST if cpus > 1 else value <= many.LONGEST
        reads = "lru" not in word and fits
        assert by_program(m, "get_many") == reads
        if "array" not in word:
            assert by_program(m, "delete_many")
            assert by_program(m, "pop_many") == (reads and "percpu" not in word)
        assert by_program(m, "put_many") == ("percpu" not in word)


# What the kernel keeps for itself ------------------------------------------------


def _with_pointer() -> Any:
    b = Builder()
    u64 = b.int("unsigned long long", 8)
    pointer = b.ptr(b.type_tag("kptr_untrusted", b.struct("task_struct", 8, [("x", u64, 0)])))
    struct = b.struct("holder", 16, [("task", pointer, 0), ("n", u64, 64)])
    return Btf.from_bytes(b.to_bytes())[struct]


SPECIAL: dict[str, Callable[[], Any]] = {"lock": lambda: LOCK, "timer": lambda: TIMER, "pointer": _with_pointer}


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("word", ["hash", "array"])
@pytest.mark.parametrize("view", ["itself", "raw", "by id", "by id, as bytes", "by id, as numbers", "by id, raw first"])
def test_what_the_kernel_keeps_in_values_is_read_by_system_calls_however_the_map_was_opened(
    backend: Backend, word: str, special: str, view: str
) -> None:
    options: dict[str, Any] = {"value": SPECIAL[special](), "max_entries": TOTAL, "flags": 0}
    with rawbpf.Map.create(word, key="u32", **options) as m:
        size = m.value_type.size
        m.update({i: m.value_type.unpack(bytes([i] * size)) for i in range(TOTAL)})
        plain = m.raw.get_many([m.raw.key_type.unpack(m.key_type.pack(i)) for i in range(TOTAL)])
        assert plain == one_by_one(m.raw, [m.raw.key_type.unpack(m.key_type.pack(i)) for i in range(TOTAL)])
        if "by id" not in view:
            assert set(ways(m.raw if view == "raw" else m).values()) == {LAYS_OWN}
            return
        numbers = {8: ["u32"] * 2, 16: ["u64"] * 2, 24: ["u64"] * 3}[size]
        as_numbers = {f"word{i}": number for i, number in enumerate(numbers)}
        wishes: dict[str, Any] = {"by id, as bytes": {"value": size}, "by id, as numbers": {"value": as_numbers}}
        wish = wishes.get(view, {})
        try:
            opened = rawbpf.Map.from_id(m.id, **wish)
        except rawbpf.SpecError:
            return  # not even to be read as that
        with opened as n:
            at = n.raw if "raw" in view else n
            keys = [at.key_type.unpack(m.key_type.pack(i)) for i in range(TOTAL)]
            for _ in range(2):
                found: list[Any] = at.get_many(keys)
                assert [at.value_type.pack(each) for each in found] == plain
            assert set(ways(at).values()) == {LAYS_OWN}


@pytest.mark.real_kernel("it is about what this process may do")
@pytest.mark.needs("capability:CAP_SETUID")
def test_types_that_cannot_be_read_may_have_anything_in_them(backend: Backend) -> None:
    with _made("hash", {"value": TIMER}) as m, _made("hash", {}) as plain:

        def path(of: Any) -> str:
            with rawbpf.Map.from_fd(of.fileno()) as opened:
                assert len(opened.get_many([opened.key_type.unpack(bytes(4))] * 200)) == 200
                return str(opened.many_path)

        unknown = "system calls: the kernel may keep something of its own in the values, whose types cannot be read"
        assert child.run_as_nobody(lambda: path(m), "CAP_BPF") == unknown
        assert child.run_as_nobody(lambda: path(plain), "CAP_BPF") == unknown
        assert child.run(lambda: path(plain)) == "program"


# What the descriptor may do ------------------------------------------------------


def _refused(verb: Callable[[], object]) -> str:
    found = answer(verb)
    return found if found.startswith("PermissionDenied") else "done"


@pytest.mark.parametrize("mode", ["r", "w", "rw"])
@pytest.mark.parametrize("word", ["hash", "array"])
def test_a_descriptor_opened_for_less_gets_no_more_by_a_program(backend: Backend, word: str, mode: str) -> None:
    content = {i: i for i in range(TOTAL)}
    with bpffs(backend) as root, _made(word, {"flags": 0}) as m:
        m.update(content)
        m.pin(root / "m")
        before = dict(m.items())
        with rawbpf.Map.from_pin(root / "m", mode=mode) as n:
            for _ in range(3):
                reads = _refused(lambda: n.get_many(range(TOTAL)))
                assert reads == _refused(lambda: n[1])
                assert (reads != "done") == ("r" not in mode)
                writes = _refused(lambda: n.put_many(content))
                assert writes == _refused(lambda: n.put(1, 1))
                assert (writes != "done") == ("w" not in mode)
                if word == "hash":
                    assert _refused(lambda: n.delete_many(range(TOTAL, 2 * TOTAL))) == writes
                    popped = _refused(lambda: n.pop_many(range(TOTAL, 2 * TOTAL)))
                    assert (popped == "done") == (mode == "rw")
                assert dict(m.items()) == before
            if backend.name == "kernel":
                found = ways(n)
                expected = {"r": FOR_READING, "w": FOR_WRITING}
                assert found[PUT] == ("program" if "w" in mode else expected[mode])
                assert found[GET] == ("program" if "r" in mode else expected[mode])
                assert found.get(POP, "program") == ("program" if mode == "rw" or word == "array" else expected[mode])
        m.unpin()


@pytest.mark.guest
@pytest.mark.parametrize("flag", [c.BPF_F_RDONLY, c.BPF_F_WRONLY], ids=["RDONLY", "WRONLY"])
def test_a_map_made_for_reading_or_writing_only_is_no_more_by_a_program(backend: Backend, flag: int) -> None:
    with _made("hash", {"flags": flag}) as m:
        for _ in range(3):
            assert _refused(lambda: m.get_many(range(TOTAL))) == _refused(lambda: m.get(1))
            assert _refused(lambda: m.put_many({i: i for i in range(TOTAL)})) == _refused(lambda: m.put(1, 1))
        assert m.many_path != "program"


@pytest.mark.guest
@pytest.mark.parametrize("when", ["before the first call", "between two calls", "after the program was loaded"])
@pytest.mark.parametrize("word", ["hash", "array", "lru_hash"])
def test_a_frozen_map_is_written_by_no_verb(backend: Backend, word: str, when: str) -> None:
    content = {i: i for i in range(TOTAL)}
    with _made(word, {"flags": 0}) as m:
        m[1] = 5
        if when == "between two calls":
            m.put_many(content)
        elif when == "after the program was loaded":
            assert m.many_path
        m.freeze()
        before = dict(m.items())
        verbs: list[Callable[[], object]] = [lambda: m.put_many(content), lambda: m.update(content)]
        if word != "array":
            verbs += [lambda: m.delete_many(content), lambda: m.pop_many(content)]
        for _ in range(3):
            for verb in verbs:
                with pytest.raises(rawbpf.PermissionDenied) as caught:
                    verb()
                assert caught.value.errno == 1
            assert m.get_many(range(TOTAL), 0) == [before.get(i, 0) for i in range(TOTAL)]
            assert dict(m.items()) == before


# Without privileges --------------------------------------------------------------


@pytest.mark.real_kernel("it is about what this process may do")
@pytest.mark.needs("capability:CAP_SETUID")
@pytest.mark.parametrize("loaded", [False, True], ids=["before", "after"])
def test_without_privileges_system_calls_do_it(backend: Backend, loaded: bool) -> None:
    with _made("hash", {}) as m:
        if loaded:
            assert m.many_path == "program"

        def inside() -> str:
            found = _same(m)
            assert set(found) == set(VERBS)
            assert len(set(found.values())) == 1
            return found[GET]

        assert child.run_as_nobody(inside).startswith("system calls: needs CAP_BPF, which this process lacks")
        assert m.many_path == "program"


@pytest.mark.real_kernel("it is about what this process may do")
@pytest.mark.needs("capability:CAP_SETUID")
def test_a_process_that_gives_its_privileges_up_keeps_what_it_loaded(backend: Backend) -> None:
    with _made("hash", {}) as m:

        def inside() -> str:
            assert m.many_path == "program"
            child.become_nobody()
            return _same(m)[GET]

        assert child.run(inside) == "program"


# LRU -----------------------------------------------------------------------------


@contextmanager
def _evicting() -> Iterator[rawbpf.LruHashMap[int, int]]:
    with rawbpf.LruHashMap.create(key="u32", value="u64", max_entries=64) as m:
        m.update({i: i for i in range(48)})
        yield m


@programs
def test_reading_many_does_not_change_what_an_lru_map_evicts(backend: Backend) -> None:
    left: list[list[bool]] = []
    some = range(24)
    readers: list[Callable[[Any], object]] = [id, lambda m: m.get_many(some), lambda m: one_by_one(m, some)]
    with on_one_cpu():
        for read in readers:
            with _evicting() as m:
                for _ in range(3):
                    read(m)
                for i in range(1000, 1040):
                    m[i] = i
                left.append([key in set(m.keys()) for key in some])
    assert left[0] == left[1] == left[2]
    assert False in left[0]
