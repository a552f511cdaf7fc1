"""Queues hand values on in the order they came, stacks the last one first; neither shows what it holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import xdp

import rawbpf
from rawbpf.asm import build as b
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

    Pile = rawbpf.QueueMap[Any] | rawbpf.StackMap[Any]

pytestmark = [pytest.mark.needs("map_type:queue", "map_type:stack")]

ENOENT = 2
CLASSES = {"queue": rawbpf.QueueMap, "stack": rawbpf.StackMap}


@pytest.fixture(params=list(CLASSES))
def pile(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Pile]:
    with rawbpf.Map.create(request.param, value="u32", max_entries=3, name="pile") as m:
        assert type(m).__mro__[1] is CLASSES[request.param]
        yield m


@pytest.mark.guest
@pytest.mark.parametrize(
    ("kind", "taken", "survivors"),
    [
        pytest.param("queue", [1, 2, 3], [2, 3, 4], id="queue: first in, first out"),
        pytest.param("stack", [3, 2, 1], [4, 3, 2], id="stack: last in, first out"),
    ],
)
def test_the_order_is_the_types_and_the_oldest_makes_room(
    backend: Backend, kind: str, taken: list[int], survivors: list[int]
) -> None:
    with rawbpf.Map.create(kind, value="u32", max_entries=3) as m:
        for value in (1, 2, 3):
            m.push(value)
        assert m.peek() == m.peek() == taken[0]
        assert [m.pop(), m.pop(), m.pop()] == taken
        for value in (1, 2, 3, 4):
            m.push(value, overwrite=True)
        assert list(m.drain()) == survivors


@pytest.mark.guest
def test_a_full_one_refuses_and_keeps_what_it_has(pile: Pile) -> None:
    for value in (1, 2, 3):
        pile.push(value)
    with pytest.raises(rawbpf.MapFull, match=r"'pile'.*pop first, or push with overwrite=True") as caught:
        pile.push(4)
    assert caught.value.errno == 7
    assert sorted(pile.drain()) == [1, 2, 3]


@pytest.mark.guest
def test_nothing_to_take_raises_empty_or_gives_the_default(pile: Pile) -> None:
    for verb in (pile.pop, pile.peek):
        with pytest.raises(rawbpf.Empty, match="there is nothing to take") as caught:
            verb()
        assert isinstance(caught.value, IndexError)
        assert verb(None) is None
        assert verb("none") == "none"
    assert list(pile.drain()) == []
    pile.push(0)
    assert (pile.peek("none"), pile.pop("none")) == (0, 0)


@pytest.mark.guest
@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(len, id="len"),
        pytest.param(iter, id="iteration"),
        pytest.param(reversed, id="reversed"),
        pytest.param(lambda m: 1 in m, id="in"),
        pytest.param(lambda m: m[0], id="reading by key"),
        pytest.param(lambda m: m.__delitem__, id="deleting"),
        pytest.param(lambda m: m.__setitem__, id="writing by key"),
    ],
)
def test_what_the_kernel_cannot_do_is_absent(pile: Pile, verb: Callable[[Any], object]) -> None:
    pile.push(1)
    with pytest.raises((TypeError, AttributeError)):
        verb(pile)
    for name in ("get", "keys", "items", "values", "update", "clear", "put", "lookup", "batches", "snapshot"):
        assert not hasattr(pile, name)


@pytest.mark.guest
@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, OverflowError), (1 << 32, OverflowError), ("1", TypeError), (None, TypeError)],
)
def test_what_cannot_be_encoded_is_not_pushed(pile: Pile, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        pile.push(value)
    assert pile.pop(None) is None


@pytest.mark.guest
def test_the_raw_view_pushes_and_pops_bytes(pile: Pile) -> None:
    packed = pile.value_type.pack(1)
    pile.raw.push(packed)
    assert pile.raw.peek() == packed
    assert pile.pop() == 1


@pytest.mark.guest
def test_structs_are_records_and_a_map_opened_again_has_bytes(backend: Backend) -> None:
    with rawbpf.QueueMap.create(value={"pid": "u32", "comm": "char[8]"}, max_entries=2) as m:
        m.push({"pid": 7, "comm": "cat"})
        assert m.peek().comm == "cat"
        with rawbpf.Map.from_id(m.id) as other:
            assert isinstance(other, rawbpf.QueueMap)
            assert m.value_type.unpack(other.pop()) == (7, "cat")
        assert "'': struct {pid, comm}, max_entries 2" in repr(m)


@pytest.mark.guest
def test_a_frozen_one_is_peeked_at_only(pile: Pile) -> None:
    pile.push(1)
    pile.freeze()
    for verb in (pile.pop, lambda: pile.push(2)):
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            verb()
    assert pile.peek() == 1


@pytest.mark.guest
def test_a_key_is_refused_with_the_reason(backend: Backend) -> None:
    with pytest.raises(ValueError, match="key_size of a queue map must be 0, not 4"):
        rawbpf.QueueMap.create(key="u32", value="u32", max_entries=1)


@pytest.mark.guest
def test_a_closed_one_raises_closed(pile: Pile) -> None:
    pile.close()
    for verb in (pile.pop, pile.peek, lambda: pile.push(1), lambda: list(pile.drain())):
        with pytest.raises(rawbpf.Closed):
            verb()


@pytest.mark.guest
def test_drain_takes_one_value_per_call_and_none_ahead(backend: Backend) -> None:
    counted = FaultBackend(backend, {})
    with rawbpf.QueueMap.create(value="u32", max_entries=8, backend=counted) as m:
        for value in range(8):
            m.push(value)
        counted.calls.clear()
        taken = m.drain()
        assert [next(taken), next(taken)] == [0, 1]
        taken.close()  # type: ignore[attr-defined]  # a generator
        assert counted.calls[c.BPF_MAP_LOOKUP_AND_DELETE_ELEM] == 2
        assert list(m.drain()) == [2, 3, 4, 5, 6, 7]


# What they are for: values between programs and user space --------------------------


def _push_first_word(m: Pile, flags: int = 0) -> list[Instruction]:
    # The first four bytes of the packet go into the map; what the helper said is returned.
    copy = [b.load_mem(b.R2, b.R7, 0, 4), b.store_reg(b.R10, -8, b.R2, 4)]
    return xdp.reading(4, [*copy, *xdp.on_stack(m.fileno(), "map_push_elem", flags)])


def _take_into_packet(m: Pile, helper: str) -> list[Instruction]:
    # What is taken out becomes the first four bytes of the packet; what the helper said is returned.
    store = [b.jump_imm(b.R0, "!=", 0, 2), b.load_mem(b.R2, b.R10, -8, 4), b.store_reg(b.R7, 0, b.R2, 4)]
    return xdp.reading(4, [*xdp.on_stack(m.fileno(), helper), *store])


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
@pytest.mark.needs("prog_type:xdp")
def test_user_space_pops_what_a_program_pushed_for_each_packet(pile: Pile) -> None:
    with (
        rawbpf.Program.load("xdp", _push_first_word(pile)) as push,
        rawbpf.Program.load("xdp", _push_first_word(pile, c.BPF_EXIST)) as overwrite,
    ):
        said = [push.run(xdp.packet(pile.value_type.pack(value))).retval for value in (10, 11, 12, 13)]
        assert said == [0, 0, 0, 2**32 - 7]  # the fourth: -E2BIG
        overwrite.run(xdp.packet(pile.value_type.pack(14)))
    assert list(pile.drain()) == ([11, 12, 14] if isinstance(pile, rawbpf.QueueMap) else [14, 12, 11])


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
@pytest.mark.needs("prog_type:xdp")
def test_a_program_takes_from_a_pool_that_user_space_fills(pile: Pile) -> None:
    with (
        rawbpf.Program.load("xdp", _take_into_packet(pile, "map_pop_elem")) as pop,
        rawbpf.Program.load("xdp", _take_into_packet(pile, "map_peek_elem")) as peek,
    ):
        for port in (4000, 4001):
            pile.push(port)
        first, second = (4000, 4001) if isinstance(pile, rawbpf.QueueMap) else (4001, 4000)
        given = []
        for program in (peek, pop, pop):
            result = program.run(xdp.packet(b""))
            assert result.retval == 0
            given.append(pile.value_type.unpack(result.data[:4]))
        assert given == [first, first, second]
        assert pop.run(xdp.packet(b"")).retval == 2**32 - ENOENT
    assert pile.pop(None) is None


# Against a model ----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("overwrite"), st.integers(0, 2**32 - 1)),
        st.tuples(st.sampled_from(["pop", "peek", "drain"]), st.just(0)),
    ),
    max_size=40,
)


def _model(kind: str, held: deque[int], room: int, verb: str, value: int) -> object:
    if verb in {"push", "overwrite"}:
        if len(held) == room and verb == "push":
            return rawbpf.MapFull
        if len(held) == room:
            held.popleft()
        held.append(value)
        return None
    take = held.popleft if kind == "queue" else held.pop
    if verb == "drain":
        return [take() for _ in range(len(held))]
    if not held:
        return rawbpf.Empty
    return take() if verb == "pop" else held[0 if kind == "queue" else -1]


@pytest.mark.parametrize("kind", list(CLASSES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, room=st.integers(1, 4))
def test_any_sequence_of_steps_does_what_a_deque_does(
    backend: Backend, kind: str, steps: list[tuple[str, int]], room: int
) -> None:
    held: deque[int] = deque()
    with rawbpf.Map.create(kind, value="u32", max_entries=room) as m:
        verbs: dict[str, Callable[[int], object]] = {
            "push": m.push,
            "overwrite": lambda value: m.push(value, overwrite=True),
            "pop": lambda _: m.pop(),
            "peek": lambda _: m.peek(),
            "drain": lambda _: list(m.drain()),
        }
        for verb, value in steps:
            expected = _model(kind, held, room, verb, value)
            try:
                got = verbs[verb](value)
            except (rawbpf.MapFull, rawbpf.Empty) as error:
                got = type(error)
            assert got == expected
