"""What all maps of kernel objects share: objects go in, ids come out, and numbers are refused."""

from __future__ import annotations

import copy
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support import tracers

import rawbpf
from rawbpf.codec import MapId, ProgId
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

COOKIE = 57  # SO_COOKIE
Verb = Callable[[Any], object]


def _program() -> rawbpf.Program:
    return rawbpf.Program.load("xdp", tracers.returning(2), name="held")


def _array() -> rawbpf.ArrayMap[int]:
    return rawbpf.Map.create("array", value="u64", max_entries=2)


def _udp() -> socket.socket:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", 0))
    return made


def _cookie(of: socket.socket) -> int:
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, COOKIE, 8), sys.byteorder)


class Kind:
    """A map type with what it holds, and how that is known again."""

    def __init__(
        self, make: Callable[[], Any], identity: Callable[[Any], int], type: type[int], **options: Any
    ) -> None:
        self.make = make
        self.identity = identity
        self.type = type
        self.options = options


KINDS = {
    "prog_array": Kind(_program, lambda program: program.id, ProgId),
    "array_of_maps": Kind(_array, lambda array: array.id, MapId),
    "hash_of_maps": Kind(_array, lambda array: array.id, MapId, key="u32"),
    "sockmap": Kind(_udp, _cookie, int),
    "sockhash": Kind(_udp, _cookie, int, key="u32"),
    "reuseport_sockarray": Kind(_udp, _cookie, int),
}
ARRAYS = [word for word in KINDS if "hash" not in word]
INSERTABLE = [word for word in KINDS if word not in ("prog_array", "array_of_maps")]


def types(words: Iterable[str]) -> list[Any]:
    return [pytest.param(word, id=word, marks=pytest.mark.needs(f"map_type:{word}")) for word in words]


class Held:
    """An open map of one type with room for four objects, and objects to put into it."""

    def __init__(self, word: str, stack: ExitStack) -> None:
        kind = KINDS[word]
        self.kind = kind
        self.objects = [stack.enter_context(kind.make()) for _ in range(3)]
        options = {"inner": self.objects[0]} if word.endswith("_of_maps") else {}
        self.map: Any = stack.enter_context(rawbpf.Map.create(word, max_entries=4, **kind.options, **options))

    def id_of(self, number: int) -> int:
        return self.kind.identity(self.objects[number])


@pytest.fixture
def held(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Held]:
    with ExitStack() as stack:
        yield Held(request.param, stack)


each = pytest.mark.parametrize("held", types(KINDS), indirect=True)
each_array = pytest.mark.parametrize("held", types(ARRAYS), indirect=True)


@each
def test_it_is_a_dict_of_the_slots_that_hold_something(held: Held) -> None:
    m, (one, two, _) = held.map, held.objects
    m[1], m[3] = one, two
    assert (m[1], m[3]) == (held.id_of(0), held.id_of(1))
    assert type(m[1]) is held.kind.type
    assert sorted(m) == sorted(m.keys()) == [1, 3]
    assert len(m) == 2
    assert m.snapshot() == dict(m.items()) == {1: held.id_of(0), 3: held.id_of(1)}
    assert sorted(m.values()) == sorted([held.id_of(0), held.id_of(1)])
    assert (1 in m, 2 in m, 1 in m.keys(), 2 in m.keys()) == (True, False, True, False)  # noqa: SIM118 (the view)
    assert ((1, held.id_of(0)) in m.items(), (1, held.id_of(1)) in m.items()) == (True, False)
    assert (m.get(1), m.get(2), m.get(2, "nothing")) == (held.id_of(0), None, "nothing")
    del m[1]
    assert m.snapshot() == {3: held.id_of(1)}
    m.clear()
    assert (m.snapshot(), len(m), bool(m)) == ({}, 0, True)


@each
def test_update_stores_many_and_replaces_what_is_there(held: Held) -> None:
    m, (one, two, three) = held.map, held.objects
    m[0] = three
    m.update({0: one, 2: two})
    m.update([(3, three)])
    assert m.snapshot() == {0: held.id_of(0), 2: held.id_of(1), 3: held.id_of(2)}


@each
def test_many_are_read_and_emptied_at_once(held: Held) -> None:
    m, (one, two, three) = held.map, held.objects
    m.put_many(enumerate([one, two, three]))
    assert m.get_many([2, 3, 0], default=-1) == [held.id_of(2), -1, held.id_of(0)]
    assert m.delete_many([3, 2, 0, 2]) == 2
    assert m.snapshot() == {1: held.id_of(1)}


@each
def test_an_empty_slot_is_a_missing_key(held: Held) -> None:
    for verb in (held.map.__getitem__, held.map.__delitem__):
        with pytest.raises(rawbpf.KeyNotFound) as caught:
            verb(2)
        assert caught.value.key == 2


@each_array
def test_a_slot_beyond_the_last_is_out_of_range(held: Held) -> None:
    m, one = held.map, held.objects[0]
    verbs: list[Verb] = [m.__getitem__, m.__delitem__, lambda i: m.put(i, one), lambda i: m.update({i: one})]
    for verb in verbs:
        with pytest.raises(rawbpf.IndexOutOfRange, match="no index 4: max_entries is 4"):
            verb(4)
    with pytest.raises(rawbpf.IndexOutOfRange, match="no index 4") as caught:
        m.update({0: one, 4: one})
    assert caught.value.applied == 1
    with pytest.raises(rawbpf.IndexOutOfRange, match="no index 4: max_entries is 4") as caught:
        m.delete_many([3, 0, 4, 5])
    assert caught.value.applied == 1
    assert (4 in m, m.get(4, 0)) == (False, 0)
    with pytest.raises(OverflowError, match=r"expected an int in 0\.\."):
        m[-1]


@each
def test_numbers_are_refused_because_they_may_be_descriptors_or_ids(held: Held) -> None:
    m, one = held.map, held.objects[0]
    m[0] = one
    verbs: list[Verb] = [lambda value: m.put(0, value), lambda value: m.update({1: one, 2: value})]
    for number in (one.fileno(), m[0], True):
        for verb in verbs:
            with pytest.raises(
                TypeError, match=r"open, as an object with fileno\(\) \(a number may be a descriptor or an"
            ):
                verb(number)
    with pytest.raises(TypeError, match=r"with fileno\(\), got 'five' \(str\)"):
        m[1] = "five"
    assert m.snapshot() == {0: held.id_of(0)}


@each
def test_what_is_closed_is_refused(held: Held) -> None:
    with held.kind.make() as gone:
        pass
    verbs: list[Verb] = [lambda value: held.map.put(0, value), lambda value: held.map.update({0: value})]
    for verb in verbs:
        with pytest.raises((ValueError, rawbpf.Closed), match="closed"):
            verb(gone)
    assert len(held.map) == 0


@each
def test_what_is_of_another_kind_is_refused_and_what_was_stored_before_is_told(held: Held) -> None:
    m, one = held.map, held.objects[0]
    with open("/dev/null", "rb") as file:
        with pytest.raises(
            rawbpf.BpfError, match=r"E(INVAL|NOTSOCK): it is no (bpf object, not a (program|map)|socket)"
        ):
            m[1] = file
        with pytest.raises(rawbpf.BpfError, match="it is no ") as caught:
            m.update({0: one, 1: file})
    assert caught.value.applied == 1
    assert m.snapshot() == {0: held.id_of(0)}


@each
def test_a_closed_map_says_so(held: Held) -> None:
    m, one = held.map, held.objects[0]
    m.close()
    verbs: list[Callable[[], object]] = [
        lambda: m[0],
        lambda: m.get(0),
        lambda: 0 in m,
        lambda: len(m),
        lambda: list(m.items()),
        lambda: m.put(0, one),
        lambda: m.update({0: one}),
        lambda: m.__delitem__(0),
        m.clear,
    ]
    for verb in verbs:
        with pytest.raises(rawbpf.Closed):
            verb()


@each
def test_the_raw_view_has_bytes(held: Held) -> None:
    m, raw, one = held.map, held.map.raw, held.objects[0]
    key, size = (2).to_bytes(4, sys.byteorder), m.value_type.size
    raw[key] = one.fileno().to_bytes(size, sys.byteorder)
    assert m[2] == held.id_of(0)
    assert raw[key] == held.id_of(0).to_bytes(size, sys.byteorder)
    assert dict(raw.items()) == {key: raw[key]}
    with pytest.raises(ValueError, match="expected"):
        raw[key] = b"x"


@each
def test_it_takes_the_kernels_types_when_it_is_opened_again(held: Held) -> None:
    m = held.map
    m[1] = held.objects[0]
    with rawbpf.Map.from_id(m.id) as again, m.dup() as copied:
        assert type(again).__name__ == type(copied).__name__ == type(m).__name__
        copied[2] = held.objects[1]
        # The kernel lets none of these types carry BTF: keys of a hash are bytes to who opens it.
        one, two, three = (i if again.key_type.format else i.to_bytes(4, sys.byteorder) for i in (1, 2, 3))
        again[three] = held.objects[2]
        assert again.snapshot() == {one: held.id_of(0), two: held.id_of(1), three: held.id_of(2)}
        assert m.snapshot() == {1: held.id_of(0), 2: held.id_of(1), 3: held.id_of(2)}
        assert type(again[one]) is held.kind.type


@each
def test_verbs_without_a_meaning_are_absent(held: Held) -> None:
    for verb in ("pop", "sum", "top", "columns", "lookup", "memory"):
        assert not hasattr(held.map, verb)
    assert hasattr(held.map, "insert") == (type(held.map).__name__ not in ("ProgArrayMap", "ArrayOfMaps"))
    assert hasattr(held.map, "open") == (held.kind.type is not int)
    with pytest.raises(TypeError):
        reversed(held.map)
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(held.map)


@pytest.mark.parametrize("held", types(INSERTABLE), indirect=True)
def test_insert_fills_and_replace_exchanges(held: Held) -> None:
    m, (one, two, _) = held.map, held.objects
    m.insert(1, one)
    with pytest.raises(rawbpf.KeyExists) as exists:
        m.insert(1, two)
    with pytest.raises(rawbpf.KeyNotFound) as missing:
        m.replace(2, two)
    assert (exists.value.key, missing.value.key) == (1, 2)
    m.replace(1, two)
    assert m.snapshot() == {1: held.id_of(1)}


@pytest.mark.parametrize("held", types(["hash_of_maps", "sockhash"]), indirect=True)
def test_a_full_hash_says_so(held: Held) -> None:
    m = held.map
    m.update(dict.fromkeys(range(4), held.objects[0]))
    with pytest.raises(rawbpf.MapFull):
        m[9] = held.objects[0]


@pytest.mark.parametrize("word", types(KINDS))
def test_flags_that_the_kernel_refuses_are_named(backend: Backend, word: str) -> None:
    with ExitStack() as stack:
        held = Held(word, stack)
        with pytest.raises(rawbpf.BpfError, match=r"flags|BPF_F_LOCK") as caught:
            held.map.put(1, held.objects[0], c.BPF_F_LOCK)
        assert caught.value.errno == 22
        with pytest.raises(TypeError, match="flags takes an int"):
            held.map.put(1, held.objects[0], "x")
        assert len(held.map) == 0
