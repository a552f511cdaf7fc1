"""Values with a bpf_spin_lock: programs and user space see every field of one moment, or none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm import build as b
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("prog_type:xdp", "helper:xdp:spin_lock")

WORDS = 64
VALUE: Any = {"lock": "bpf_spin_lock", "words": f"u64[{WORDS}]"}
KINDS = ["hash", "array"]
ROUNDS = 2000
DEADLINE = 60.0
F_LOCK = c.BPF_F_LOCK


def _one_more(map_fd: int) -> list[Instruction]:
    # Under the lock: every word of the value of key 0 becomes the first plus one.
    body = [
        b.mov_reg(b.R6, b.R0),
        b.mov_reg(b.R1, b.R6),
        b.call(helper_number("spin_lock")),
        b.load_mem(b.R1, b.R6, 8),
        b.alu_imm(b.R1, "+=", 1),
        *(b.store_reg(b.R6, 8 + 8 * i, b.R1) for i in range(WORDS)),
        b.mov_reg(b.R1, b.R6),
        b.call(helper_number("spin_unlock")),
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


@contextmanager
def _running(program: rawbpf.Program) -> Iterator[None]:
    """Run the program again and again, beside what the caller does."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            program.run(data=bytes(64), repeat=100000)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _until(enough: Callable[[], bool]) -> Iterator[range]:
    """Yield ranges of ROUNDS numbers until it was enough: the two must have run beside each other."""
    deadline = time.monotonic() + DEADLINE
    start = 0
    while not enough():
        assert time.monotonic() < deadline
        yield range(start, start + ROUNDS)
        start += ROUNDS


@pytest.fixture(params=KINDS)
def locked(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Any]:
    with rawbpf.Map.create(request.param, key="u32", value=VALUE, max_entries=4, name="locked") as m:
        yield m


@pytest.mark.real_kernel("programs run there only")
def test_no_torn_value_is_seen_while_a_program_writes(locked: Any) -> None:
    locked[0] = {"words": [0] * WORDS}
    with rawbpf.Program.load("xdp", _one_more(locked.fileno())) as program, _running(program):
        seen: list[tuple[int, ...]] = []
        for some in _until(lambda: len({words[0] for words in seen}) > 100):
            seen.extend(locked.lookup(0, F_LOCK).words for _ in some)
    assert [words for words in seen if len(set(words)) > 1] == []
    assert seen == sorted(seen)


@pytest.mark.real_kernel("programs run there only")
def test_no_torn_value_is_left_while_both_write(locked: Any) -> None:
    locked[0] = {"words": [0] * WORDS}
    with rawbpf.Program.load("xdp", _one_more(locked.fileno())) as program, _running(program):
        met: list[int] = []
        for some in _until(lambda: len(met) > 100):
            for i in some:
                locked.put(0, {"words": [i << 32] * WORDS}, F_LOCK)
                words = locked.lookup(0, F_LOCK).words
                assert len(set(words)) == 1, words
                assert words[0] >> 32 == i
                if words[0] > i << 32:  # the program wrote between the two
                    met.append(i)


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
def test_a_lock_held_by_a_program_is_not_overwritten_from_here(locked: Any) -> None:
    # What stands in the lock's place, in the bytes that are written, is not stored.
    key: Any = 0 if isinstance(locked, rawbpf.ArrayMap) else bytes(4)
    locked.raw[key] = b"\xff" * locked.value_type.size
    raw = locked.raw[key]
    assert raw[:4] == bytes(4)
    assert raw[8:] == b"\xff" * (8 * WORDS)
    with rawbpf.Program.load("xdp", _one_more(locked.fileno())) as program:
        assert program.run(data=bytes(64)).retval == 2
    assert set(locked[0].words) == {0}


@pytest.mark.guest
def test_flags_of_a_locked_update_mean_what_they_mean_without(backend: Backend) -> None:
    with rawbpf.Map.create("hash", key="u32", value=VALUE, max_entries=4) as m:
        zeros = {"words": [0] * WORDS}
        m.put(1, zeros, F_LOCK)
        with pytest.raises(rawbpf.KeyExists):
            m.put(1, zeros, F_LOCK | c.BPF_NOEXIST)
        with pytest.raises(rawbpf.KeyNotFound):
            m.put(2, zeros, F_LOCK | c.BPF_EXIST)
        with pytest.raises(rawbpf.KeyNotFound):
            m.lookup(2, F_LOCK)
        assert list(m.items()) == [(1, (tuple([0] * WORDS),))]


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
def test_a_record_has_no_lock_and_the_map_still_has_one_when_opened_again(locked: Any) -> None:
    assert "lock: bpf_spin_lock, kept by the kernel" in locked.value_type.explain()
    with pytest.raises(TypeError, match=r"'lock' \(bpf_spin_lock\) is the kernel's own: leave it out"):
        locked[0] = {"lock": 0, "words": [0] * WORDS}
    with rawbpf.Map.from_id(locked.id) as again:
        again.put(0, {"words": [7] * WORDS}, F_LOCK)
        assert again.value_type.explain() == locked.value_type.explain()
        with rawbpf.Program.load("xdp", _one_more(again.fileno())) as program:
            assert program.run(data=bytes(64)).retval == 2
    assert locked.lookup(0, F_LOCK)._fields == ("words",)
    assert locked.lookup(0, F_LOCK).words == (8,) * WORDS


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_lock_in_the_value_the_flag_is_refused_in_words(backend: Backend, kind: str) -> None:
    with rawbpf.Map.create(kind, key="u32", value={"a": "u64"}, max_entries=4) as m:
        refused = pytest.raises(rawbpf.BpfError, match="BPF_F_LOCK needs a bpf_spin_lock in the value, known by BTF")
        with refused:
            m.put(0, (1,), F_LOCK)
        with refused:
            m.lookup(0, F_LOCK)


@pytest.mark.guest
@pytest.mark.parametrize("kind", ["percpu_hash", "lru_hash", "percpu_array"])
def test_types_that_take_no_lock_say_so(backend: Backend, kind: str) -> None:
    with pytest.raises(rawbpf.NotSupported, match="takes no BTF, or no such special field"):
        rawbpf.Map.create(kind, key="u32", value=VALUE, max_entries=4)


@pytest.mark.parametrize("field", ["bpf_timer", "bpf_wq"])
def test_timers_and_work_keep_a_place_in_a_value(backend: Backend, field: str) -> None:
    with rawbpf.Map.create("hash", key="u32", value={"own": field, "count": "u64"}, max_entries=4) as m:
        m[1] = (5,)
        assert m[1] == (5,)
        m.raw[bytes(4)] = b"\xff" * 24
        assert m.raw[bytes(4)] == bytes(16) + b"\xff" * 8
