"""Arrays of numbers are read and written in their own memory, with the results and errors of the system calls."""

from __future__ import annotations

import enum
import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import TYPE_CHECKING, Any

import pytest
from support import mappings
from support.backends import said
from support.bpffs import bpffs

import rawbpf
from rawbpf.asm.build import alu_imm, atomic_add, call, exit_, jump_imm, ld_map_fd, mov_imm, mov_reg, store_imm
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi.constants import BPF_EXIST, BPF_F_MMAPABLE, BPF_F_RDONLY_PROG

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

MAPPED: dict[str, Any] = {}
CALLED: dict[str, Any] = {"numa_node": 0}  # any wish of one's own: the array is then made as asked


@pytest.fixture
def trace() -> list[Call]:
    return []


@pytest.fixture
def traced(backend: Backend, trace: list[Call]) -> Backend:
    return TraceBackend(backend, trace.append)


@pytest.fixture
def array(traced: Backend) -> Iterator[rawbpf.ArrayMap[int]]:
    with rawbpf.ArrayMap.create(value="u64", max_entries=8, name="mapped", backend=traced) as m:
        m.update({i: i * 10 for i in range(8)})
        yield m


class _Three(enum.IntEnum):
    THREE = 3


class _Four:
    def __index__(self) -> int:
        return 4


@pytest.mark.parametrize("index", [0, 7, -1, -8, True, _Three.THREE, _Four()], ids=repr)
def test_what_counts_as_an_index_of_a_list_is_one(array: rawbpf.ArrayMap[int], index: Any) -> None:
    model = [i * 10 for i in range(8)]
    for step in range(2):
        assert array[index] == model[index]
        array[index] = model[index] = 1000 + step
    assert list(array) == model


WRONG: list[Any] = [
    pytest.param(lambda m: m[8], id="read behind the end"),
    pytest.param(lambda m: m[-9], id="read before the start"),
    pytest.param(lambda m: m[2**70], id="read far away"),
    pytest.param(lambda m: m[1.0], id="float"),
    pytest.param(lambda m: m["1"], id="str"),
    pytest.param(lambda m: m[(1,)], id="tuple"),
    pytest.param(lambda m: m[()], id="empty tuple"),
    pytest.param(lambda m: m[None], id="None"),
    pytest.param(lambda m: m[...], id="ellipsis"),
    pytest.param(lambda m: m[1:5:0], id="step of 0"),
    pytest.param(lambda m: m["a":], id="slice of str"),
    pytest.param(lambda m: m.__setitem__(8, 1), id="write behind the end"),
    pytest.param(lambda m: m.__setitem__(-9, 1), id="write before the start"),
    pytest.param(lambda m: m.__setitem__(slice(0, 2), 1), id="write a slice"),
    pytest.param(lambda m: m.__setitem__((1,), 1), id="write to a tuple"),
    pytest.param(lambda m: m.__setitem__(1, -1), id="negative value"),
    pytest.param(lambda m: m.__setitem__(1, 2**64), id="value too large"),
    pytest.param(lambda m: m.__setitem__(1, 1.5), id="float value"),
    pytest.param(lambda m: m.__setitem__(1, "1"), id="str value"),
    pytest.param(lambda m: m.put(8, 1), id="put behind the end"),
    pytest.param(lambda m: m.put(1, 1, 1), id="put with BPF_NOEXIST"),
    pytest.param(lambda m: m.put(1, 1, "x"), id="put with wrong flags"),
    pytest.param(lambda m: list(m.batches(0)), id="batches of none"),
]


@pytest.mark.parametrize("operation", WRONG)
def test_what_is_refused_is_refused_in_the_words_of_the_system_calls(
    backend: Backend, operation: Callable[[Any], object]
) -> None:
    def refusal(options: dict[str, Any]) -> tuple[type[BaseException], str, list[int]]:
        with rawbpf.ArrayMap.create(value="u64", max_entries=8, name="both", **options) as m:
            m[2] = m[3] = 4  # mapped for reading and for writing, where it can be
            with pytest.raises((TypeError, ValueError, OverflowError, LookupError, OSError)) as caught:
                operation(m)
            return caught.type, str(caught.value), list(m)

    assert refusal(MAPPED) == refusal(CALLED)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("u8", [0, 1, 255]),
        ("s8", [-128, 0, 127]),
        ("u16", [0, 1, 65535]),
        ("s32", [-(2**31), 0, 2**31 - 1]),
        ("u64", [0, 1, 2**64 - 1]),
        ("s64", [-(2**63), 0, 2**63 - 1]),
        ("f64", [0.0, -1.5, float("inf")]),
    ],
)
def test_numbers_of_each_width_are_what_the_system_calls_store_and_load(
    traced: Backend, trace: list[Call], value: str, numbers: list[float]
) -> None:
    with rawbpf.ArrayMap.create(value=value, max_entries=5, backend=traced) as m:
        before = len(trace)
        for i, number in enumerate(numbers):
            m[i] = number
        assert [*m] == [*m.values()] == m[:] == [*numbers, 0, 0]
        assert m[::-2] == [*numbers, 0, 0][::-2]
        assert len(trace) == before
        assert [m.lookup(i) for i in range(5)] == [*numbers, 0, 0]
        m.put(0, numbers[2], BPF_EXIST)
        assert m[0] == numbers[2]


def test_all_ways_to_the_map_see_what_one_has_written(array: rawbpf.ArrayMap[int]) -> None:
    with array.dup() as copy, rawbpf.Map.from_id(array.id) as opened:
        views: list[Any] = [array, copy, opened]
        memory = array.memory()
        for turn, writer in enumerate([*views, memory]):
            writer[turn] = 1000 + turn
            assert [reader[turn] for reader in (*views, memory)] == [1000 + turn] * 4
            assert array.raw[turn] == (1000 + turn).to_bytes(8, sys.byteorder)
            assert opened.lookup(turn) == 1000 + turn
        array.raw[5] = (5).to_bytes(8, sys.byteorder)
        array.update({6: 6})
        assert [m[5:7] for m in views] == [[5, 6]] * 3
        del memory


@pytest.mark.real_kernel("programs run there only")
def test_a_program_and_user_space_count_in_the_same_memory(array: rawbpf.ArrayMap[int]) -> None:
    lookup = [
        store_imm(10, -4, 3, 4),
        ld_map_fd(1, array.fileno()),
        mov_reg(2, 10),
        alu_imm(2, "+=", -4),
        call(1),
        jump_imm(0, "==", 0, 2),
        mov_imm(1, 5),
        atomic_add(0, 0, 1),
        mov_imm(0, 0),
        exit_(),
    ]
    with rawbpf.Program.load("socket_filter", lookup) as program:
        assert array[3] == 30
        program.run(data=bytes(64), repeat=4)
        assert array[3] == 50
        array[3] = 100
        program.run(data=bytes(64))
        assert array[3] == array.lookup(3) == 105


def test_reading_maps_for_reading_and_writing_for_writing(array: rawbpf.ArrayMap[int]) -> None:
    assert mappings.of_maps() == []
    assert array[1] == 10
    assert mappings.of_maps() == ["r--s"]
    array[1] = 11
    assert sorted(mappings.of_maps()) == ["r--s", "rw-s"]
    array.close()
    assert mappings.of_maps() == []


@pytest.mark.parametrize(
    ("mode", "reading", "writing"),
    [
        pytest.param("rw", 0, 0, id="rw"),
        pytest.param("r", 1, None, id="r"),
        pytest.param("w", None, 1, id="w"),
    ],
)
def test_a_descriptor_that_cannot_be_mapped_makes_system_calls(
    backend: Backend,
    array: rawbpf.ArrayMap[int],
    traced: Backend,
    trace: list[Call],
    mode: Any,
    reading: int | None,
    writing: int | None,
) -> None:
    def calls(allowed: int | None, operation: Callable[[], object]) -> int | None:
        before = len(trace)
        if allowed is None:
            with pytest.raises(rawbpf.PermissionDenied):
                operation()
            return None
        operation()
        return len(trace) - before

    with bpffs(backend) as root:
        array.pin(root / "m")
        with rawbpf.Map.from_pin(root / "m", mode=mode, backend=traced) as m:
            for _ in range(2):
                assert calls(reading, lambda: m[3]) == reading
                assert calls(writing, lambda: m.__setitem__(3, 31)) == writing
        array.unpin()
    assert array[3] == (30 if writing is None else 31)


def test_where_programs_may_only_read_writing_makes_system_calls(traced: Backend, trace: list[Call]) -> None:
    flags = BPF_F_MMAPABLE | BPF_F_RDONLY_PROG
    with rawbpf.ArrayMap.create(value="u64", max_entries=4, flags=flags, backend=traced) as m:
        before = len(trace)
        m[1] = 5
        assert len(trace) == before + 1
        assert m[1] == 5
        assert len(trace) == before + 1


def test_freeze_lets_go_of_the_maps_own_memory_and_reading_goes_on_in_it(
    array: rawbpf.ArrayMap[int], trace: list[Call]
) -> None:
    array[1] = array[2]
    array.raw.freeze()
    assert mappings.of_maps() == ["r--s"]
    before = len(trace)
    assert array[1] == 20
    assert sum(array) == 0 + 20 + 20 + 30 + 40 + 50 + 60 + 70
    assert len(trace) == before
    operations: list[Callable[[], object]] = [
        lambda: array.__setitem__(1, 5),
        lambda: array.put(1, 5),
        lambda: array.update({1: 5}),
    ]
    for refused in operations:
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            refused()
    with rawbpf.Map.from_id(array.id) as opened:
        assert opened[1] == 20
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            opened[1] = 5


@pytest.mark.parametrize("count", [1, 3])
def test_views_of_the_memory_that_are_alive_prevent_freezing_and_are_counted(
    array: rawbpf.ArrayMap[int], count: int
) -> None:
    views = [array.memory()[2:4] for _ in range(count)]
    array.memory()  # not kept
    with pytest.raises(rawbpf.BpfError) as caught:
        array.freeze()
    assert caught.value.errno == errno.EBUSY
    views_are, them = ("a view", "it") if count == 1 else ("3 views", "them")
    hint = f"{views_are} from memory() or as_numpy() can still write to it: drop {them}, and slices of {them}, first"
    assert said(caught.value) == f"map_freeze 'mapped' (array): EBUSY: {hint}"
    array[2] = views[0][1] = 5
    assert array[2:4] == [5, 5]
    views.clear()
    array.freeze()
    assert array.info.frozen


def test_a_mapping_of_somebody_else_prevents_freezing_too(array: rawbpf.ArrayMap[int]) -> None:
    with array.dup() as other:
        other[1] = 5
        with pytest.raises(rawbpf.BpfError, match="mapped writable"):
            array.freeze()


def test_closing_unmaps_and_leaves_users_their_views(array: rawbpf.ArrayMap[int]) -> None:
    array[1] = array[2]
    memory = array.memory()
    row = memory[1:3]
    values = iter(array.values())
    next(values)
    array.close()
    assert mappings.of_maps() == ["rw-s"]
    row[0] = 77
    assert memory[1] == 77
    for operation in (
        lambda: array[1],
        lambda: array[-1],
        lambda: array[1:3],
        lambda: array.__setitem__(1, 2),
        lambda: array.put(1, 2),
        lambda: list(array),
        array.count,
        array.memory,
        array.freeze,
        lambda: list(array.batches()),
    ):
        with pytest.raises(rawbpf.Closed):
            operation()


def test_closing_before_the_first_use_is_closed_as_well(backend: Backend) -> None:
    m = rawbpf.ArrayMap.create(value="u64", max_entries=2)
    m.close()
    with pytest.raises(rawbpf.Closed):
        m[0]
    with pytest.raises(rawbpf.Closed):
        m[0] = 1


class _ClosedMeanwhile(Wrapper):
    # Maps the memory while another thread closes the map.
    opened: rawbpf.ArrayMap[int]

    def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> mmap:
        self.opened.close()
        assert os.path.lexists(f"/proc/self/fd/{fd}")
        return super().mmap(fd, length, offset, writable)


@pytest.mark.parametrize("use", [lambda m: m[0], lambda m: m.put(0, 1), list], ids=["read", "write", "iterate"])
def test_an_array_closed_while_it_is_being_mapped_is_closed(
    backend: Backend, use: Callable[[rawbpf.ArrayMap[int]], object]
) -> None:
    closing = _ClosedMeanwhile(backend)
    closing.opened = m = rawbpf.ArrayMap.create(value="u64", max_entries=2, backend=closing)
    fd = m.fileno()
    with pytest.raises(rawbpf.Closed):
        use(m)
    assert mappings.of_maps() == []
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


def test_what_was_under_way_when_the_map_was_closed_says_closed(array: rawbpf.ArrayMap[int]) -> None:
    array[1] = array[2]
    read, write, put = type(array).__getitem__, type(array).__setitem__, type(array).put
    array.close()
    # Functions that a thread had begun with, and would go on in.
    late: Callable[[], object]
    for late in (lambda: read(array, 1), lambda: write(array, 1, 2), lambda: put(array, 1, 2)):
        with pytest.raises(rawbpf.Closed):
            late()


def test_an_array_dropped_open_unmaps_its_memory(backend: Backend) -> None:
    m = rawbpf.ArrayMap.create(value="u64", max_entries=2)
    m[1] = m[0]
    with pytest.warns(ResourceWarning, match="unclosed"):
        del m
    gc.collect()
    assert mappings.of_maps() == []


def test_a_child_shares_the_memory(array: rawbpf.ArrayMap[int]) -> None:
    array[1] = array[2]
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            array[3] = array[1] + 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert array[3] == array.lookup(3) == 21


def test_freezing_while_others_write_is_not_refused_by_what_they_use(backend: Backend) -> None:
    for _ in range(50):
        with rawbpf.ArrayMap.create(value="u64", max_entries=4) as m:
            m[0] = 1
            begun = threading.Event()

            def write(m: rawbpf.ArrayMap[int] = m, begun: threading.Event = begun) -> None:
                try:
                    while True:
                        m[0] = 2
                        begun.set()
                except rawbpf.PermissionDenied:
                    pass

            writer = threading.Thread(target=write)
            writer.start()
            begun.wait()
            try:
                m.freeze()
            finally:
                if not m.info.frozen:
                    m.close()  # ends the thread
                writer.join()
            assert m[0] == 2
