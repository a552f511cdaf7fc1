"""Many keys are read while others write: no word of 8 bytes is torn, no key is invented, none that stays is missed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.many import ways

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

TOTAL = 300
ROUNDS = 60
DEADLINE = 60.0
TWICE = 0x1_0000_0001
"""Times this, a number of 32 bits is a word whose halves are equal."""


@contextmanager
def _beside(*functions: Callable[[], object]) -> Iterator[None]:
    """Run each of these again and again in a thread of its own, beside what the caller does."""
    stop, failures = threading.Event(), list[BaseException]()

    def run(function: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                function()
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _rounds(backend: Backend) -> int:
    return ROUNDS if backend.name == "kernel" else 5


def _torn(values: list[bytes]) -> list[bytes]:
    # Values with a word whose halves differ.
    halves = ((value, memoryview(value).cast("I")) for value in values)
    return [value for value, half in halves if half[::2] != half[1::2]]


@pytest.mark.parametrize("size", [8, 24, 256, 520, 4096])
@pytest.mark.parametrize("word", ["hash", "array"])
def test_no_word_is_torn_while_others_store(backend: Backend, word: str, size: int) -> None:
    with rawbpf.Map.create(word, key="u32", value=size, max_entries=TOTAL) as m, m.dup() as other, m.dup() as third:
        m.put_many({i: bytes(size) for i in range(TOTAL)})
        stored = [(n * TWICE).to_bytes(8, "little") * (size // 8) for n in range(0, 1 << 32, 0x10101013)]
        turns = iter(range(1 << 40))

        def one_by_one() -> None:
            turn = next(turns)
            for i in range(0, TOTAL, 3):
                other[i] = stored[(turn + i) % len(stored)]

        def many() -> None:
            turn = next(turns)
            third.put_many({i: stored[(turn + i) % len(stored)] for i in range(TOTAL)})

        with _beside(one_by_one, many):
            for _ in range(_rounds(backend)):
                found: list[Any] = m.get_many(range(TOTAL))
                assert None not in found
                assert _torn(found) == []


def _count_up(map_fd: int) -> list[Instruction]:
    # Each word of the value of key 0 becomes the first one plus TWICE.
    body = [
        b.load_mem(b.R1, b.R0, 0),
        b.mov_imm(b.R2, 1),
        b.alu_imm(b.R2, "<<=", 32),
        b.alu_imm(b.R2, "+=", 1),
        b.alu_reg(b.R1, "+=", b.R2),
        *(b.store_reg(b.R0, 8 * i, b.R1) for i in range(80)),
    ]
    return [
        b.store_imm(b.R10, -4, 0, 4),
        b.ld_map_fd(b.R1, map_fd),
        b.mov_reg(b.R2, b.R10),
        b.alu_imm(b.R2, "+=", -4),
        b.call(helper_number("map_lookup_elem")),
        b.jump_imm(b.R0, "==", 0, len(body)),
        *body,
        b.mov_imm(b.R0, 2),
        b.exit_(),
    ]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("word", ["hash", "array", "percpu_hash", "percpu_array"])
def test_no_word_is_torn_while_a_program_writes(backend: Backend, word: str) -> None:
    with rawbpf.Map.create(word, key="u32", value=640, max_entries=TOTAL) as m:
        assert ways(m)["get_many"] == "program"
        zero = bytes(640)
        m.update(dict.fromkeys(range(TOTAL), rawbpf.PerCpu.filled(zero) if "percpu" in word else zero))
        with rawbpf.Program.load("xdp", _count_up(m.fileno())) as program:
            seen: set[bytes] = set()
            deadline = time.monotonic() + DEADLINE
            with _beside(lambda: program.run(data=bytes(64), repeat=100000)):
                # Until the two have run beside each other: as many values as these were seen while they changed.
                while len(seen) < 200:
                    assert time.monotonic() < deadline
                    found = m.get_many([0] * 700)
                    values = [value for each in found for value in each] if "percpu" in word else found
                    assert _torn(values) == []
                    seen.update(values)


@pytest.mark.parametrize("word", ["hash", "lru_hash"])
def test_what_stays_is_found_while_others_come_and_go(backend: Backend, word: str) -> None:
    with rawbpf.Map.create(word, key="u32", value="u64", max_entries=8 * TOTAL) as m, m.dup() as other:
        # What stays is never replaced: an element that was freed may be another's before its reader is through.
        m.put_many({i: i * TWICE for i in range(0, TOTAL, 2)})
        coming = {i: i * TWICE for i in range(1, TOTAL, 2)}

        def come_and_go() -> None:
            other.put_many(coming)
            other.delete_many(list(coming)[::2])
            other.pop_many(list(coming)[1::2])

        with _beside(come_and_go):
            for _ in range(_rounds(backend)):
                found: list[Any] = m.get_many(range(2 * TOTAL), -1)
                assert found[0:TOTAL:2] == [i * TWICE for i in range(0, TOTAL, 2)]
                assert set(found[TOTAL:]) == {-1}
                assert _torn([each.to_bytes(8, "little") for each in found if each != -1]) == []
        other.delete_many(coming)
        assert sorted(m) == list(range(0, TOTAL, 2))


@pytest.mark.parametrize("word", ["hash", "lpm_trie"])
def test_a_map_that_grows_meanwhile_has_all_that_was_there_at_the_start(backend: Backend, word: str) -> None:
    total = 20000 if backend.name == "kernel" else 400
    trie = word == "lpm_trie"
    keys: list[Any] = [(32).to_bytes(4, sys.byteorder) + i.to_bytes(4, "big") if trie else i for i in range(total)]
    with (
        rawbpf.Map.create(word, key=8 if trie else "u32", value="u32", max_entries=total) as m,
        m.dup() as other,
    ):
        m.put_many({keys[0]: 0, keys[1]: 1})
        stored = 2

        def grow() -> None:
            nonlocal stored
            if stored < total:
                more = range(stored, min(stored + 500, total))
                other.put_many({keys[i]: i for i in more})
                stored = more.stop

        with _beside(grow):
            while True:
                least = stored
                found = m.get_many(keys, -1)
                assert found[:least] == list(range(least))
                assert all(value in (-1, at) for at, value in enumerate(found))
                if least == total:
                    break


def test_of_many_that_pop_the_same_keys_each_value_goes_to_one(backend: Backend) -> None:
    number = 4
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=TOTAL) as m:
        for _ in range(_rounds(backend) // 5):
            m.put_many({i: i for i in range(TOTAL)})
            taken: list[list[int | None]] = []
            start = threading.Barrier(number)

            def work(start: threading.Barrier = start, taken: list[list[int | None]] = taken) -> None:
                start.wait()
                taken.append(m.pop_many(range(TOTAL)))

            threads = [threading.Thread(target=work) for _ in range(number)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(value for each in taken for value in each if value is not None) == list(range(TOTAL))
            assert list(m) == []
