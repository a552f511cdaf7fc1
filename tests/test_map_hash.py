"""Hash maps behave as dictionaries, and say why where they refuse."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from support import xdp
from support.affinity import on_one_cpu

import rawbpf
from rawbpf.asm import build as b

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest


@pytest.fixture(params=["hash", "lru_hash"])
def table(request: pytest.FixtureRequest, backend: Backend) -> Iterator[rawbpf.HashMap[Any, Any]]:
    with rawbpf.Map.create(request.param, key="u32", value="u64", max_entries=64, name="table") as m:
        yield m


def test_what_is_stored_is_found(table: rawbpf.HashMap[int, int]) -> None:
    table[7] = 2**64 - 1
    assert table[7] == 2**64 - 1
    assert table.get(7) == 2**64 - 1
    assert 7 in table
    assert table.lookup(7) == 2**64 - 1


def test_a_missing_key_raises_key_not_found_with_the_key(table: rawbpf.HashMap[int, int]) -> None:
    with pytest.raises(rawbpf.KeyNotFound, match=r"'table'.*\[9\]") as caught:
        table[9]
    assert isinstance(caught.value, KeyError)
    assert caught.value.key == 9
    assert caught.value.errno == 2
    assert 9 not in table
    assert table.get(9) is None
    assert table.get(9, -1) == -1
    for refused in (table.lookup, table.__delitem__, table.pop):
        with pytest.raises(rawbpf.KeyNotFound):
            refused(9)


def test_insert_and_replace_mind_what_is_there(table: rawbpf.HashMap[int, int]) -> None:
    table.insert(1, 10)
    with pytest.raises(rawbpf.KeyExists) as caught:
        table.insert(1, 11)
    assert isinstance(caught.value, FileExistsError)
    table.replace(1, 12)
    with pytest.raises(rawbpf.KeyNotFound):
        table.replace(2, 12)
    assert table.snapshot() == {1: 12}


def test_put_passes_flags_and_leaves_none_behind(table: rawbpf.HashMap[int, int]) -> None:
    table.put(1, 10, 1)
    table[1] = 11  # would be EEXIST were BPF_NOEXIST still in the buffer
    with pytest.raises(rawbpf.BpfError, match=r"flags 0x100000000: one of BPF_ANY") as caught:
        table.put(1, 12, 1 << 32)
    with pytest.raises(rawbpf.BpfError, match="bpf_spin_lock"):
        table.put(1, 12, 4)
    assert caught.value.errno == 22
    assert table[1] == 11


@pytest.mark.parametrize(("flags", "error"), [(-1, OverflowError), (2**64, OverflowError), ("1", TypeError)])
def test_flags_that_are_none_cost_no_buffers(
    table: rawbpf.HashMap[int, int], flags: Any, error: type[Exception]
) -> None:
    table[1] = 1
    leased = len(table._handle.fd_words)
    for _ in range(5):
        with pytest.raises(error, match="flags: expected an int"):
            table.put(1, 2, flags)
    assert len(table._handle.fd_words) == leased
    assert table[1] == 1


def test_pop_takes_the_value_out(table: rawbpf.HashMap[int, int]) -> None:
    table[1] = 10
    assert table.pop(1) == 10
    assert table.pop(1, "none") == "none"
    assert table.pop(1, None) is None
    assert len(table) == 0


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        pytest.param(lambda m: m[-1], OverflowError, id="negative key"),
        pytest.param(lambda m: m[2**32], OverflowError, id="key too large"),
        pytest.param(lambda m: m["a"], TypeError, id="key of another type"),
        pytest.param(lambda m: m.get(1.5), TypeError, id="float key"),
        pytest.param(lambda m: m.__contains__(None), TypeError, id="None as key"),
        pytest.param(lambda m: m.__setitem__(1, 2**64), OverflowError, id="value too large"),
        pytest.param(lambda m: m.__setitem__(1, "a"), TypeError, id="value of another type"),
        pytest.param(lambda m: m.update({1: 1, 2: -1}), OverflowError, id="one bad value in a batch"),
        pytest.param(lambda m: m.update([(1, 1), ("b", 2)]), TypeError, id="one bad key in a batch"),
    ],
)
def test_what_cannot_be_encoded_raises_before_any_call(
    table: rawbpf.HashMap[int, int], operation: Callable[[Any], object], error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        operation(table)
    assert table.snapshot() == {}


def test_views_are_read_anew_by_each_iteration(table: rawbpf.HashMap[int, int]) -> None:
    keys, values, items = table.keys(), table.values(), table.items()
    for i in range(20):
        table[i] = i * i
    assert sorted(keys) == sorted(table) == list(range(20))
    assert sorted(values) == [i * i for i in range(20)]
    assert dict(items) == {i: i * i for i in range(20)}
    assert len(table) == table.count() == 20
    del table[3]
    assert sorted(keys) == [i for i in range(20) if i != 3]
    assert 4 in keys
    assert 3 not in keys
    assert (4, 16) in items
    assert (4, 17) not in items


def test_one_pass_verbs_agree_with_python(table: rawbpf.HashMap[int, int]) -> None:
    content = {i: (i * 7919) % 101 for i in range(30)}
    table.update(content)
    assert table.sum() == sum(content.values())
    assert table.min() == min(content.values())
    assert table.max() == max(content.values())
    assert [value for _, value in table.top(5)] == sorted(content.values(), reverse=True)[:5]
    assert table.filter(lambda k, v: k < 3 and v > 0) == {k: v for k, v in content.items() if k < 3 and v > 0}
    assert table.get_many([0, 99, 2], default=-1) == [content[0], -1, content[2]]


def test_a_field_may_be_called_as_a_method_is(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value={"sum": "u64", "count": "u64"}, max_entries=4) as m:
        m.update({1: (10, 2), 2: (30, 1)})
        assert (m.sum("sum"), m.sum("count"), m.min("sum"), m.max("count")) == (40, 3, 10, 2)
        assert [key for key, _ in m.top(1, by="sum")] == [2]


def test_a_hash_has_no_order_to_reverse(table: rawbpf.HashMap[int, int]) -> None:
    with pytest.raises(TypeError, match="not reversible"):
        reversed(table)


def test_columns_are_typed_views_of_the_whole_map(table: rawbpf.HashMap[int, int]) -> None:
    table.update({1: 10, 2: 20})
    keys, values = table.columns()
    assert (keys.format, values.format) == ("I", "Q")
    assert sorted(zip(keys, values, strict=True)) == [(1, 10), (2, 20)]


def test_delete_many_counts_what_was_there(table: rawbpf.HashMap[int, int]) -> None:
    table.update({i: i for i in range(10)})
    assert table.delete_many([0, 100, 1, 1, 101, 9]) == 3
    assert sorted(table) == [2, 3, 4, 5, 6, 7, 8]
    assert table.delete_many([]) == 0


def test_a_full_hash_raises_map_full_and_still_updates(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=2) as m:
        m.update({1: 1, 2: 2})
        with pytest.raises(rawbpf.MapFull):
            m[3] = 3
        m[2] = 22
        with pytest.raises(rawbpf.MapFull) as caught:
            m.update({1: 11, 4: 4, 2: 222})
        assert caught.value.applied == 1
        assert m.snapshot() == {1: 11, 2: 22}


def test_an_lru_hash_is_never_full(backend: Backend) -> None:
    with rawbpf.LruHashMap.create(key="u32", value="u32", max_entries=64) as m:
        for i in range(500):
            m[i] = i
            assert m[i] == i  # what was stored last is there
        assert len(m) <= 64


def _lookup_of_the_first_word(map_fd: int) -> list[Instruction]:
    return xdp.reading(
        4,
        [
            b.load_mem(b.R2, b.R7, 0, 4),
            b.store_reg(b.R10, -8, b.R2, 4),
            *xdp.on_stack(map_fd, "map_lookup_elem"),
            b.mov_imm(b.R0, xdp.PASS),
        ],
    )


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:xdp")
@pytest.mark.parametrize("kind", ["lru_hash", "lru_percpu_hash"])
@pytest.mark.parametrize(
    ("user", "stays"),
    [pytest.param("a program", True, id="program"), pytest.param("get", False, id="get")],
)
def test_what_a_program_uses_stays_in_an_lru_hash_and_reading_is_no_use(
    backend: Backend, kind: str, user: str, stays: bool
) -> None:
    with on_one_cpu(), rawbpf.Map.create(kind, key="u32", value="u64", max_entries=16) as created:
        m: Any = created
        value = rawbpf.PerCpu.filled(1) if kind == "lru_percpu_hash" else 1
        for key in range(16):
            m[key] = value
        with rawbpf.Program.load("xdp", _lookup_of_the_first_word(m.fileno())) as program:
            for key in range(100, 116):
                if user == "get":
                    m.get(0)
                else:
                    assert program.run(xdp.packet(m.key_type.pack(0))).retval == xdp.PASS
                m[key] = value
        assert (0 in m) == stays
        assert 115 in m
        assert 1 not in m


def test_records_are_keys_and_values(backend: Backend) -> None:
    key = {"address": "ipv4", "port": "be16"}
    value = {"count": "u64", "name": "char[8]"}
    with rawbpf.HashMap.create(key=key, value=value, max_entries=8, name="flows") as m:
        m[{"address": "10.0.0.1", "port": 80}] = {"count": 1, "name": "web"}
        ((found, record),) = m.items()
        assert (found.port, record.count, record.name) == (80, 1, "web")
        assert m[found] == record
        assert m.sum("count") == 1
        m[found] = record._replace(count=2)
        assert m.top(1, by="count")[0][1].count == 2
        with pytest.raises(TypeError, match="name"):
            m[found] = {"count": 1}


def test_keys_of_bytes_come_back_whatever_they_hold(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="char[8]", value=3, max_entries=16) as m:
        m.raw.update({b"abc\0\0\0\0\0": b"123", b"abc\0junk": b"456", b"\xff" * 8: b"789"})
        found = list(m.items())
        assert all(m[key] == value for key, value in found)
        assert sorted(m.raw) == [b"abc\0\0\0\0\0", b"abc\0junk", b"\xff" * 8]


def test_a_map_is_true_equal_to_itself_alone_and_never_copied(table: rawbpf.HashMap[int, int]) -> None:
    assert table
    with table.dup() as other:
        assert table != other
        assert table.same_as(other)
        other[5] = 6
        assert table[5] == 6
        assert len({table, other}) == 2
    with pytest.raises(TypeError, match="dup"):
        copy.copy(table)
    with pytest.raises(TypeError, match="from_pin"):
        pickle.dumps(table)


def test_clear_and_drain_empty_the_map(table: rawbpf.HashMap[int, int]) -> None:
    content = {i: i + 1 for i in range(40)}
    table.update(content)
    assert dict(table.drain()) == content
    assert len(table) == 0
    table.update(content)
    table.clear()
    assert len(table) == 0


def test_drain_loses_nothing_when_its_consumer_stops(table: rawbpf.HashMap[int, int]) -> None:
    content = {i: i + 1 for i in range(40)}
    table.update(content)
    taken = {}
    for key, value in table.drain():
        taken[key] = value
        if len(taken) == 7:
            break
    assert len(taken) == 7
    assert taken | table.snapshot() == content
    assert len(table) == 33


def test_the_arguments_of_create_are_explained(backend: Backend) -> None:
    with pytest.raises(TypeError, match="max_entries"):
        rawbpf.Map.create("hash", key="u32", value="u64")
    with pytest.raises(TypeError, match="key="):
        rawbpf.Map.create("hash", value="u64", max_entries=1)
    with pytest.raises(TypeError, match=r"^an array map needs max_entries="):
        rawbpf.Map.create("array", value="u64")
    with pytest.raises(TypeError, match=r"^an inode_storage map needs value="):
        rawbpf.Map.create("inode_storage")
    with pytest.raises(ValueError, match="hash"):
        rawbpf.Map.create("hahs", key="u32", value="u64", max_entries=1)
    with pytest.raises(ValueError, match="at most 15"):
        rawbpf.Map.create("hash", key="u32", value="u64", max_entries=1, name="a-b")
    with pytest.raises(ValueError, match="u32"):
        rawbpf.Map.create("array", key="u64", value="u64", max_entries=1)
    with pytest.raises(TypeError, match="map type"):
        rawbpf.Map.create(key="u32", value="u64", max_entries=1)
    with pytest.raises(TypeError, match=r"HashMap.create.. makes maps of type hash"):
        rawbpf.HashMap.create("array", value="u64", max_entries=1)
    with pytest.raises(TypeError, match="max_entries='8'"):
        rawbpf.HashMap.create(key="u32", value="u64", max_entries="8")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="inner=5"):
        rawbpf.Map.create("array_of_maps", max_entries=1, inner=5)  # type: ignore[call-overload]
