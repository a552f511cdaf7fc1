"""Bad input of every kind ends in an error that says what was expected, and leaves nothing half done."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import verbs
from support.bpffs import bpffs

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import MAP_INFO

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.usefixtures("settled")

NOTHING = [mov_imm(0, 0), exit_()]
VALUE = {"count": "u32", "name": "char[8]"}


@pytest.fixture
def root(backend: Backend) -> Iterator[Path]:
    with bpffs(backend) as path:
        yield path


# What cannot be encoded ---------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        pytest.param(-1, (1, "a"), OverflowError, r"expected an int in 0\.\.65535", id="negative key"),
        pytest.param(1 << 16, (1, "a"), OverflowError, r"expected an int in 0\.\.65535", id="key out of range"),
        pytest.param("1", (1, "a"), TypeError, "expected an int", id="key of another type"),
        pytest.param(1.0, (1, "a"), TypeError, "expected an int", id="float"),
        pytest.param(1, (1 << 32, "a"), OverflowError, "count: expected an int", id="field out of range"),
        pytest.param(1, (1, "ninebytes"), ValueError, "name: expected", id="text too long"),
        pytest.param(1, (1, b"ninebytes"), ValueError, "name: expected", id="bytes too long"),
        pytest.param(1, {"count": 1}, TypeError, "name", id="field missing"),
        pytest.param(1, {"count": 1, "name": "a", "more": 2}, TypeError, "more", id="field too many"),
        pytest.param(1, (1,), TypeError, "expected 2 values", id="tuple too short"),
        pytest.param(1, 5, TypeError, "count, name", id="no struct at all"),
        pytest.param(1, None, TypeError, "count, name", id="None"),
    ],
)
@pytest.mark.parametrize("verb", ["setitem", "put", "update", "put_many", "iterator", "noexist"])
def test_what_cannot_be_encoded_makes_no_call(
    backend: Backend, verb: str, key: Any, value: Any, error: type[Exception], words: str
) -> None:
    calls: list[Call] = []
    m: Any
    with rawbpf.HashMap.create(key="u16", value=VALUE, max_entries=4, backend=TraceBackend(backend, calls.append)) as m:
        pairs = [(7, (7, "good")), (key, value)]
        store: dict[str, Callable[[], object]] = {
            "setitem": lambda: m.__setitem__(key, value),
            "put": lambda: m.put(key, value, c.BPF_NOEXIST),
            "update": lambda: m.update(pairs),
            "put_many": lambda: m.put_many(pairs),
            "iterator": lambda: m.update(iter(pairs)),
            "noexist": lambda: m.update(pairs, c.BPF_NOEXIST),
        }
        calls.clear()
        with pytest.raises(error, match=words):
            store[verb]()
        assert calls == []
        assert m.count() == 0


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda m: m[-1], id="getitem"),
        pytest.param(lambda m: m.get(1 << 32), id="get"),
        pytest.param(lambda m: -1 in m, id="contains"),
        pytest.param(lambda m: m.lookup(-1), id="lookup"),
        pytest.param(lambda m: m.pop(-1, None), id="pop"),
        pytest.param(lambda m: m.__delitem__(-1), id="delitem"),
        pytest.param(lambda m: m.get_many([1, -1]), id="get_many"),
        pytest.param(lambda m: m.delete_many([1, -1]), id="delete_many"),
    ],
)
def test_a_key_that_cannot_be_encoded_is_refused_by_every_reader(
    backend: Backend, read: Callable[[Any], object]
) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m[1] = 1
        with pytest.raises(OverflowError, match=r"expected an int in 0\.\.4294967295"):
            read(m)
        assert m.snapshot() == {1: 1}


# What no kernel accepts ---------------------------------------------------------

U32 = {"key": "u32", "value": "u32"}


@pytest.mark.parametrize(
    ("kind", "options", "error", "words"),
    [
        pytest.param("array", {"key": "u64", "value": 4, "max_entries": 1}, ValueError, "u32", id="index of 8 bytes"),
        pytest.param(
            "queue", {"key": "u32", "value": 4, "max_entries": 1}, (ValueError, TypeError), "key", id="queue with a key"
        ),
        pytest.param(
            "bloom_filter",
            {"key": 4, "value": 4, "max_entries": 1},
            (ValueError, TypeError),
            "key",
            id="bloom with a key",
        ),
        pytest.param(
            "hash",
            {"key": 0, "value": 4, "max_entries": 1},
            ValueError,
            "key_size must not be 0",
            id="hash without keys",
        ),
        pytest.param(
            "hash",
            {"key": 4, "value": 0, "max_entries": 1},
            ValueError,
            "value_size must not be 0",
            id="hash without values",
        ),
        pytest.param("lpm_trie", {"key": 4, "value": 4, "max_entries": 1}, ValueError, "key", id="prefix without data"),
        pytest.param("hash", {**U32, "max_entries": 0}, ValueError, "max_entries must not be 0", id="no entries"),
        pytest.param(
            "sk_storage", {"value": "u32", "max_entries": 5}, ValueError, "must be 0, not 5", id="storage with entries"
        ),
        pytest.param(
            "cgroup_storage",
            {"key": "u64", "value": "u32", "max_entries": 5},
            ValueError,
            "must be 0",
            id="cgroup storage with entries",
        ),
        pytest.param(
            "hash_of_maps", {"key": "u32", "max_entries": 1}, (ValueError, TypeError), "inner", id="no template"
        ),
        pytest.param(
            "hash",
            {**U32, "max_entries": 1, "flags": c.BPF_F_RDONLY | c.BPF_F_WRONLY},
            ValueError,
            r"BPF_F_RDONLY \| BPF_F_WRONLY exclude each other",
            id="read-only and write-only",
        ),
        pytest.param(
            "hash",
            {**U32, "max_entries": 1, "flags": c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG},
            ValueError,
            "exclude each other",
            id="both for programs",
        ),
        pytest.param("hash", {**U32, "max_entries": "8"}, TypeError, "max_entries='8'", id="entries as text"),
        pytest.param("hash", {**U32, "max_entries": 1.5}, TypeError, "max_entries=1.5", id="half an entry"),
        pytest.param("hash", {**U32, "max_entries": True}, TypeError, "max_entries=True", id="entries as bool"),
        pytest.param("hash", {**U32, "max_entries": -1}, OverflowError, "max_entries=-1", id="negative entries"),
        pytest.param(
            "hash", {**U32, "max_entries": 1 << 32}, OverflowError, "max_entries=4294967296", id="entries of 33 bits"
        ),
        pytest.param("hash", {**U32, "max_entries": 1, "flags": "x"}, TypeError, "flags='x'", id="flags as text"),
        pytest.param("hash", {**U32, "max_entries": 1, "flags": -1}, OverflowError, "flags=-1", id="negative flags"),
        pytest.param(
            "hash", {**U32, "max_entries": 1, "map_extra": -1}, OverflowError, "map_extra", id="negative extra"
        ),
        pytest.param(
            "hash", {**U32, "max_entries": 1, "numa_node": "0"}, TypeError, "numa_node='0'", id="node as text"
        ),
        pytest.param("hash", {**U32, "max_entries": 1, "name": "a" * 16}, ValueError, "at most 15", id="long name"),
        pytest.param(
            "hash", {**U32, "max_entries": 1, "name": "a b"}, ValueError, "A-Z a-z 0-9", id="name with a space"
        ),
        pytest.param("hash", {**U32, "max_entries": 1, "name": 5}, TypeError, "name=5", id="number as name"),
        pytest.param("hash", {"key": "u33", "value": 4, "max_entries": 1}, ValueError, "u33", id="no such type"),
        pytest.param("hsah", {**U32, "max_entries": 1}, ValueError, "hsah", id="no such map type"),
        pytest.param(True, {**U32, "max_entries": 1}, TypeError, "map_type=True", id="bool as type"),
        pytest.param(1.0, {**U32, "max_entries": 1}, TypeError, "map_type=1.0", id="float as type"),
        pytest.param("array_of_maps", {"max_entries": 1, "inner": 5}, TypeError, "inner=5", id="number as template"),
        pytest.param("hash", {**U32, "max_entries": 1, "token": "x"}, TypeError, "token=", id="text as token"),
        pytest.param(
            "array",
            {"value": 1024, "max_entries": (1 << 31) - 1},
            rawbpf.BpfError,
            "about 2048.0 GiB of kernel memory at once, and the machine has",
            id="2 TiB",
        ),
    ],
)
def test_what_cannot_be_created_makes_no_call(
    backend: Backend, kind: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    calls: list[Call] = []
    with pytest.raises(error, match=words):
        rawbpf.Map.create(kind, backend=TraceBackend(backend, calls.append), **options)
    assert calls == []


def test_what_one_kernel_may_accept_is_the_kernels_to_refuse_with_a_hint(backend: Backend) -> None:
    for kind, options, words in (
        ("array", {"value": 4, "max_entries": 1, "flags": c.BPF_F_ZERO_SEED}, "does not take the flag BPF_F_ZERO_SEED"),
        ("hash", {**U32, "max_entries": 1, "map_extra": 5}, "map_extra must be 0"),
        ("percpu_array", {"value": 40000, "max_entries": 1}, "at most 32768 bytes"),
    ):
        with pytest.raises(rawbpf.BpfError, match=words) as caught:
            rawbpf.Map.create(kind, **options)
        assert caught.value.cmd == c.BPF_MAP_CREATE


@pytest.mark.parametrize(
    ("kind", "options", "errno", "words"),
    [
        pytest.param("percpu_array", {"value": 40000}, 12, "at most 32768 bytes", id="no memory for wide values"),
        pytest.param("percpu_array", {"value": 8}, 12, "kernel memory; lower max_entries", id="no memory"),
        pytest.param(
            "bloom_filter", {"value": "u32"}, 22, r"may lack the map type.*since Linux 5\.16", id="no such map type"
        ),
    ],
)
def test_what_an_older_kernel_says_to_a_new_map_is_explained(
    backend: Backend, kind: str, options: dict[str, Any], errno: int, words: str
) -> None:
    old = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, errno)]})
    with pytest.raises(rawbpf.BpfError, match=words):
        rawbpf.Map.create(kind, max_entries=1, backend=old, **options)


@pytest.mark.parametrize("kind", ["task_storage", "cgrp_storage"])
def test_a_storage_that_the_kernel_lacks_is_not_put_down_to_its_types(backend: Backend, kind: str) -> None:
    old = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, 22)]})
    with pytest.raises(rawbpf.BpfError, match=f"this kernel may lack the map type.*map type {kind}: since Linux"):
        rawbpf.Map.create(kind, value="u64", backend=old)


# Objects of another kind --------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        pytest.param(lambda m: m.same_as(5), TypeError, r"same_as\(\) takes a map, got 5", id="same as a number"),
        pytest.param(lambda m: m.same_as(None), TypeError, r"same_as\(\) takes a map, got None", id="same as None"),
        pytest.param(lambda m: m.update(5), TypeError, r"takes a mapping or \(key, value\) pairs, got 5", id="update"),
        pytest.param(lambda m: m.put_many(None), TypeError, r"pairs, got None", id="put many"),
        pytest.param(lambda m: m.sum("c"), ValueError, "no field 'c': the fields of the values are count", id="sum"),
        pytest.param(lambda m: m.min("c"), ValueError, "no field 'c'", id="least"),
        pytest.param(lambda m: m.top(1, by="c"), ValueError, "no field 'c'", id="greatest"),
        pytest.param(lambda m: m.raw.sum("c"), ValueError, "no field 'c': the values are no structs", id="raw sum"),
        pytest.param(lambda _: rawbpf.Map.from_id("5"), TypeError, r"from_id\(\) takes the number .* '5'", id="id"),  # type: ignore[arg-type]
        pytest.param(lambda _: rawbpf.Map.from_name(5), TypeError, r"from_name\(\) takes the name .* 5", id="name"),  # type: ignore[arg-type]
        pytest.param(lambda _: rawbpf.maps(name=5), TypeError, r"name=5: expected the name of a map", id="list"),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_another_kind_is_said_to_be(
    backend: Backend, call: Callable[[Any], object], error: type[Exception], words: str
) -> None:
    with rawbpf.HashMap.create(key="u32", value=VALUE, max_entries=4) as m:
        m[1] = (1, "a")
        with pytest.raises(error, match=words):
            call(m)


# Maps that others change --------------------------------------------------------


def test_a_pin_replaced_by_another_map_leaves_the_open_one_alone(root: Path) -> None:
    first = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, pin=root / "m")
    with first, rawbpf.Map.from_pin(root / "m") as opened:
        first[1] = 1
        (root / "m").unlink()
        with rawbpf.Map.create("array", value="u8", max_entries=2, pin=root / "m") as second:
            assert opened[1] == 1
            assert opened.same_as(first)
            with rawbpf.Map.from_pin(root / "m") as again:
                assert isinstance(again, rawbpf.ArrayMap)
                assert again.id == second.id


def test_a_pin_replaced_by_another_map_is_not_removed(root: Path) -> None:
    first = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, pin=root / "m")
    with first, rawbpf.Map.from_pin(root / "m") as opened:
        (root / "m").unlink()
        with rawbpf.Map.create("array", value="u8", max_entries=2, pin=root / "m") as second:
            first.unpin()
            opened.unpin()
            with rawbpf.Map.from_pin(root / "m") as again:
                assert again.same_as(second)
            second.unpin()
            assert not (root / "m").exists()


@pytest.mark.parametrize("mode", ["r", "w", "rw"])
def test_a_pin_replaced_by_a_program_says_so(root: Path, mode: str) -> None:
    with rawbpf.Program.load("socket_filter", NOTHING) as program:
        program.pin(root / "m")
        with pytest.raises(rawbpf.BpfError, match=r"the pin '.*/m'( \[sim\])?: EINVAL: it is a program, not a map"):
            rawbpf.Map.from_pin(root / "m", mode)


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
@pytest.mark.needs("tracepoint:sched/sched_switch")
@pytest.mark.parametrize(("mode", "words"), [("rw", "it is a link, not a map"), ("r", "it may be a link")])
def test_a_pin_replaced_by_a_link_says_so(root: Path, mode: str, words: str) -> None:
    with (
        rawbpf.Program.load("raw_tracepoint", NOTHING) as program,
        program.attach_raw_tracepoint("sched_switch") as link,
    ):
        link.pin(root / "m")
        with pytest.raises(rawbpf.BpfError, match=words):
            rawbpf.Map.from_pin(root / "m", mode)
        (root / "m").unlink()


def test_an_id_that_is_gone_says_so(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="gone") as m:
        number = m.id
    # Freeing is asynchronous, but what is closed cannot be opened: the kernel counts the users of an id.
    with pytest.raises(rawbpf.BpfError, match="it was freed, or never existed") as caught:
        rawbpf.Map.from_id(number)
    assert caught.value.errno == 2
    with pytest.raises(rawbpf.BpfError, match="no map has this name"):
        rawbpf.Map.from_name("gone")


def test_a_pin_that_is_gone_says_so(root: Path) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, pin=root / "m") as m:
        (root / "m").unlink()
        with pytest.raises(rawbpf.BpfError, match="nothing is pinned there"):
            rawbpf.Map.from_pin(root / "m")
        m.unpin()


# Full, frozen, closed -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [("hash", "u32"), ("percpu_hash", "u32"), ("lpm_trie", 8), ("array", "u32"), ("percpu_array", "u32")],
)
def test_a_full_map_stores_what_fits_and_tells_how_much(backend: Backend, kind: str, key: Any) -> None:
    m: Any
    with rawbpf.Map.create(kind, key=key, value=4, max_entries=3) as m:
        raw = m.raw
        width = len(next(iter(raw.values()))) if "array" in kind else m.value_type.size
        keys = range(5) if "array" in kind else [_key(kind, i) for i in range(5)]
        expected = rawbpf.IndexOutOfRange if "array" in kind else rawbpf.MapFull
        with pytest.raises(expected) as caught:
            raw.update((each, bytes(width)) for each in keys)
        assert isinstance(caught.value, rawbpf.BpfError)
        assert caught.value.applied == 3
        assert "max_entries" in str(caught.value)
        assert raw.count() == 3


def _key(kind: str, i: int) -> bytes:
    number = i.to_bytes(4, sys.byteorder)
    return (32).to_bytes(4, sys.byteorder) + number if kind == "lpm_trie" else number


@pytest.mark.parametrize("name", [*verbs.WRITES, *verbs.BOTH])
def test_no_verb_changes_a_frozen_map(backend: Backend, name: str) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m.update({1: 1, 2: 2})
        m.freeze()
        with pytest.raises(rawbpf.PermissionDenied, match="frozen"):
            (verbs.WRITES | verbs.BOTH)[name](m)
        assert m.snapshot() == {1: 1, 2: 2}


@pytest.mark.parametrize("name", verbs.READS)
def test_every_reader_reads_a_frozen_map(backend: Backend, name: str) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m.update({1: 1, 2: 2})
        m.freeze()
        verbs.READS[name](m)
        with pytest.raises(rawbpf.PermissionDenied, match="frozen already"):
            m.freeze()


@pytest.mark.parametrize("errno", [1, 16], ids=["newer kernel", "kernel before 6.5"])
@pytest.mark.parametrize("kind", ["hash", "array"])
def test_freezing_twice_is_refused_in_the_same_way_by_every_kernel(backend: Backend, kind: str, errno: int) -> None:
    old = FaultBackend(backend, {c.BPF_MAP_FREEZE: [(2, errno)]})
    options: dict[str, Any] = {"key": "u32"} if kind == "hash" else {}
    with rawbpf.Map.create(kind, value="u64", max_entries=4, backend=old, **options) as m:
        m.freeze()
        with pytest.raises(rawbpf.PermissionDenied, match="frozen already"):
            m.freeze()


@pytest.mark.parametrize("name", [*verbs.READS, *verbs.WRITES, *verbs.BOTH, *verbs.EITHER])
def test_no_verb_reaches_a_closed_map(backend: Backend, name: str) -> None:
    calls: list[Call] = []
    m: Any = rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, backend=TraceBackend(backend, calls.append))
    m.close()
    calls.clear()
    verb = (verbs.READS | verbs.WRITES | verbs.BOTH | verbs.EITHER)[name]
    with pytest.raises(rawbpf.Closed, match="open it again"):
        verb(m)
    assert calls == []


# Types that this release does not know ------------------------------------------

NEWER = 200


class _NewerKernel(Wrapper):
    """A kernel that has a map type more, which in truth is another."""

    def __init__(self, backend: Backend, kind: int, truth: int) -> None:
        super().__init__(backend)
        self.kind = kind
        self.truth = truth

    def intercept(self, call: Callable[[int, ByRef, int], int], cmd: int, attr: ByRef, size: int) -> int:
        at = ctypes.addressof(attr._obj)  # type: ignore[attr-defined]  # what byref() refers to
        if cmd == c.BPF_MAP_CREATE:
            kind = ctypes.c_uint32.from_address(at)
            assert kind.value == self.kind
            kind.value = self.truth
        result = super().intercept(call, cmd, attr, size)
        if cmd == c.BPF_OBJ_GET_INFO_BY_FD and result == 0:
            info = ctypes.c_uint64.from_address(at + 8).value
            ctypes.c_uint32.from_address(info).value = self.kind
        return result


def test_a_type_that_nobody_knows_yet_is_used_raw(backend: Backend, root: Path) -> None:
    newer = _NewerKernel(backend, NEWER, c.BPF_MAP_TYPE_HASH)
    m: Any
    with rawbpf.Map.create(NEWER, key=4, value=8, max_entries=8, pin=root / "m", backend=newer) as m:
        assert type(m).__name__ == "GenericMap"
        m[b"key1"] = b"12345678"
        m.update({b"key2": bytes(8)}, c.BPF_NOEXIST)
        with rawbpf.Map.from_pin(root / "m", backend=newer) as again:
            assert again[b"key1"] == b"12345678"
            assert again.snapshot() == {b"key1": b"12345678", b"key2": bytes(8)}
            assert (again.info.type, again.info.type_number) == (NEWER, NEWER)
            assert "type 200" in str(again.info)
            assert again.delete_many([b"key2", b"none"]) == 1
            assert list(again.drain()) == [(b"key1", b"12345678")]
            with pytest.raises(rawbpf.KeyNotFound, match="type 200"):
                again[b"key1"]
        with rawbpf.Map.from_pin(root / "m", key="be32", value={"a": "u32", "b": "u32"}, backend=newer) as typed:
            typed[1] = (2, 3)
            assert m[b"\0\0\0\1"][:4] == m.raw[b"\0\0\0\1"][:4] != bytes(4)
        m.unpin()


def test_an_array_of_instructions_is_opened_as_one(backend: Backend, root: Path) -> None:
    newer = _NewerKernel(backend, c.BPF_MAP_TYPE_INSN_ARRAY, c.BPF_MAP_TYPE_ARRAY)
    with rawbpf.Map.create("insn_array", max_entries=2, pin=root / "m", backend=newer) as m:
        assert (type(m).__name__, m.info.type_number) == ("InsnArrayMap", 34)
        # Flags it takes none, nor BTF.
        assert (m.info.map_flags, m.info.btf_id) == (0, 0)
        m[1] = 7
        with rawbpf.Map.from_pin(root / "m", backend=newer) as again:
            assert type(again).__name__ == "InsnArrayMap"
            assert list(again.items()) == [(0, (0, 0, 0)), (1, (7, 0, 0))]
            assert "(insn_array)" in str(again.info)
        m.unpin()


def test_a_type_that_the_kernel_does_not_know_is_refused_with_that(backend: Backend) -> None:
    with pytest.raises(rawbpf.BpfError, match=r"\(type 200, .*EINVAL: this kernel may lack the map type"):
        rawbpf.Map.create(NEWER, key=4, value=8, max_entries=8)
    assert MAP_INFO.size > 0


# Types that disagree with the map -----------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("u64", None, r"key='u64' has 8 bytes, the map's has 4 \(", id="key of another size"),
        pytest.param(
            "s32", None, "key='s32' disagrees with the map's BTF, .*: it is u32 instead of s32", id="signed key"
        ),
        pytest.param("f32", None, "key='f32' disagrees.*it is u32 instead of f32", id="float key"),
        pytest.param(None, "u64", "value='u64' has 8 bytes, the map's has 16", id="value of another size"),
        pytest.param(
            None, {"a": "u64", "b": "u64"}, r"it has fields count@0, .* instead of a@0, b@8", id="other fields"
        ),
        pytest.param(
            None,
            {"count": "s32", "ratio": "f32", "when": "u64"},
            r"\.count is u32 instead of s32",
            id="field of another type",
        ),
        pytest.param("u16", "u8", "key='u16' has 2 bytes, .*; value='u8' has 1 byte, ", id="both"),
    ],
)
def test_types_that_disagree_with_the_maps_are_refused_with_both(
    backend: Backend, key: Any, value: Any, words: str
) -> None:
    shape = {"count": "u32", "ratio": "f32", "when": "u64"}
    with rawbpf.HashMap.create(key="u32", value=shape, max_entries=4, name="typed") as m:
        openings: tuple[Callable[[], object], ...] = (
            lambda: rawbpf.Map.from_id(m.id, key=key, value=value),
            lambda: rawbpf.Map.from_fd(m.fileno(), key=key, value=value),
            lambda: rawbpf.Map.from_fd(m.fileno(), True, key=key, value=value),
        )
        for opening in openings:
            with pytest.raises(rawbpf.SpecError, match=f"map 'typed' .hash.: .*{words}"):
                opening()
        m[1] = (1, 0.5, 2)  # still open


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("u32", None, id="the same key"),
        pytest.param(4, 16, id="sizes"),
        pytest.param("u8[4]", "u8[16]", id="bytes"),
        pytest.param("ipv4", None, id="an address"),
        pytest.param(None, {"hits": "u32", "share": "f32", "at": "u64"}, id="other names"),
        pytest.param({"uid": "u32"}, None, id="a struct around it"),
    ],
)
def test_types_that_read_the_same_bytes_are_taken(backend: Backend, key: Any, value: Any) -> None:
    shape = {"count": "u32", "ratio": "f32", "when": "u64"}
    with rawbpf.HashMap.create(key="u32", value=shape, max_entries=4, name="typed_too") as m:
        m[1] = (1, 0.5, 2)
        with rawbpf.Map.from_name("typed_too", key=key, value=value) as again:
            ((found, _),) = again.items()
            assert found in again
            if key is not None:
                assert again.key_type.name == rawbpf.codec_for(key).name
            if value is not None:
                assert again.value_type.size == 16


def test_a_map_without_types_takes_any_of_its_size(backend: Backend, root: Path) -> None:
    with rawbpf.Map.create("lpm_trie", key=8, value=4, max_entries=4, pin=root / "m") as m:
        m.raw[(8).to_bytes(4, sys.byteorder) + bytes([10, 0, 0, 0])] = bytes(4)
        with rawbpf.Map.from_pin(root / "m", key="u64", value="f32") as again:
            assert list(again.raw.values()) == [bytes(4)]
        with pytest.raises(rawbpf.SpecError, match=r"has 2 bytes, the map's has 4$"):
            rawbpf.Map.from_pin(root / "m", value="u16")
        m.unpin()


# Numbers and text where an open object belongs -----------------------------------


@pytest.mark.parametrize("wrong", ["3", 3.5, None, True, object(), b"3"])
def test_what_has_no_descriptor_is_refused(backend: Backend, wrong: Any) -> None:
    with pytest.raises(TypeError, match="fd=: expected a descriptor"):
        rawbpf.Map.from_fd(wrong)


def test_an_open_object_is_as_good_as_its_descriptor(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m, rawbpf.Map.from_fd(m) as again:
        assert again.same_as(m)
        with pytest.raises(TypeError, match="closes its descriptor itself"):
            rawbpf.Map.from_fd(m, own=True)
    with pytest.raises(rawbpf.Closed):
        rawbpf.Map.from_fd(m)
