"""Tries find the longest prefix that covers an address, in user space and in programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import xdp

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import slots
from rawbpf.btf import Btf, Builder
from rawbpf.codec.base import NATIVE
from rawbpf.codec.prefix import PrefixCodec
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.map import map_create
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

    Trie = rawbpf.LpmTrieMap[Any, Any]

pytestmark = pytest.mark.needs("map_type:lpm_trie")

ROUTES = {"0.0.0.0/0": 0, "10.0.0.0/8": 8, "10.1.0.0/16": 16, "10.1.2.0/24": 24, "10.1.2.3/32": 32, "192.168.0.0/16": 1}


@pytest.fixture
def routes(backend: Backend) -> Iterator[Trie]:
    with rawbpf.Map.create("lpm_trie", key="ipv4", value="u32", max_entries=64, name="routes") as m:
        m.update(ROUTES)
        yield m


@pytest.mark.guest
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param("10.1.2.3", 32, id="the address itself"),
        pytest.param("10.1.2.4", 24, id="its network"),
        pytest.param("10.1.3.4", 16, id="a wider network"),
        pytest.param("10.2.3.4", 8, id="a wider one yet"),
        pytest.param("8.8.8.8", 0, id="everything"),
        pytest.param("10.1.2.0/24", 24, id="a prefix that is there"),
        pytest.param("10.1.2.0/25", 24, id="a prefix that is covered"),
        pytest.param("10.1.0.0/20", 16, id="no prefix longer than the one asked for"),
        pytest.param("10.1.2.3/8", 8, id="bits beyond the prefix mean nothing"),
        pytest.param(ip_address("10.1.2.4"), 24, id="an address object"),
        pytest.param(ip_interface("10.1.2.4/16"), 16, id="an interface object"),
    ],
)
def test_looking_up_finds_the_longest_prefix(routes: Trie, wanted: object, found: int) -> None:
    assert routes[wanted] == found
    assert routes.get(wanted) == found
    assert routes.lookup(wanted) == found
    assert routes.get_many([wanted]) == [found]
    assert wanted in routes


@pytest.mark.guest
def test_where_no_prefix_covers_it_a_key_is_missing(routes: Trie) -> None:
    del routes["0.0.0.0/0"]
    assert "8.8.8.8" not in routes
    assert routes.get("8.8.8.8", "none") == "none"
    with pytest.raises(rawbpf.KeyNotFound, match=r"'routes' \(lpm_trie\)\['8.8.8.8'\]") as caught:
        routes["8.8.8.8"]
    assert caught.value.key == "8.8.8.8"


def test_writing_and_deleting_mean_the_prefix_itself(routes: Trie) -> None:
    for verb in (routes.__delitem__, routes.pop):
        with pytest.raises(rawbpf.KeyNotFound):
            verb("10.1.2.4")  # which is covered
    with pytest.raises(rawbpf.KeyNotFound):
        routes.replace("10.1.2.4", 5)
    routes.insert("10.1.2.4", 5)
    with pytest.raises(rawbpf.KeyExists):
        routes.insert("10.9.9.9/8", 5)  # the same network as 10.0.0.0/8
    routes.replace("10.9.9.9/8", 9)
    assert routes["10.200.0.1"] == 9
    assert routes.pop("10.1.2.4") == 5
    assert routes.pop("10.1.2.4", None) is None
    assert routes.delete_many(["10.0.0.0/8", "10.1.2.4", "0.0.0.0/0"]) == 2
    assert routes.get("10.200.0.1") is None


@pytest.mark.guest
def test_membership_of_the_views_means_the_element_itself(routes: Trie) -> None:
    assert "10.1.2.0/24" in routes.keys()  # noqa: SIM118  (another question than `in routes`)
    assert "10.1.2.9/24" in routes.keys()  # noqa: SIM118
    assert "10.1.2.0/25" not in routes.keys()  # noqa: SIM118
    assert "10.1.2.4" not in routes.keys()  # noqa: SIM118
    assert ("10.1.2.0/24", 24) in routes.items()
    assert ("10.1.2.0/24", 16) not in routes.items()
    assert ("10.1.2.0/25", 24) not in routes.items()


@pytest.mark.guest
def test_iteration_gives_longer_prefixes_before_those_that_cover_them(routes: Trie) -> None:
    order = ["10.1.2.3/32", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8", "192.168.0.0/16", "0.0.0.0/0"]
    assert list(routes) == [ip_network(text) for text in order]
    assert list(routes.items()) == [(ip_network(text), ROUTES[text]) for text in order]
    assert routes.snapshot() == {ip_network(text): value for text, value in ROUTES.items()}
    assert len(routes) == 6


@pytest.mark.guest
@pytest.mark.parametrize("chunk", [1, 2, 3, 16])
@pytest.mark.parametrize("batches", [True, False])
def test_every_chunk_yields_each_network_once(backend: Backend, chunk: int, batches: bool) -> None:
    faults = {} if batches else {c.BPF_MAP_LOOKUP_BATCH: [(n, 524) for n in range(1, 20)]}
    with rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=16, backend=FaultBackend(backend, faults)) as m:
        m.update(ROUTES)
        found = [pair for keys, values in m.batches(chunk) for pair in zip(keys, values, strict=True)]
    assert len(found) == 6
    assert dict(found) == {ip_network(text): value for text, value in ROUTES.items()}


def test_many_networks_go_by_batch(backend: Backend) -> None:
    counted = FaultBackend(backend, {})
    flags = c.BPF_F_RDONLY_PROG  # so that no program does it
    with rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=600, flags=flags, backend=counted) as m:
        counted.calls.clear()
        networks = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(512)]
        m.update(dict.fromkeys(networks, 1))
        assert len(m.snapshot()) == 512
        assert m.delete_many(networks) == 512
        batches = {"map_update_batch": 1, "map_lookup_batch": 1, "map_delete_batch": 1}
        assert {cmd: count for cmd, count in counted.calls.items() if count} == batches


def test_a_full_trie_raises_map_full_and_still_replaces(backend: Backend) -> None:
    with rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=2) as m:
        m.update({"10.0.0.0/8": 1, "11.0.0.0/8": 2})
        with pytest.raises(rawbpf.MapFull) as caught:
            m["12.0.0.0/8"] = 3
        assert caught.value.errno == 28
        m["10.0.0.0/8"] = 4
        with pytest.raises(rawbpf.MapFull) as batch:
            m.update({"11.0.0.0/8": 5, "12.0.0.0/8": 6})
        assert batch.value.applied == 1
        assert m.snapshot() == {ip_network("10.0.0.0/8"): 4, ip_network("11.0.0.0/8"): 5}


@pytest.mark.guest
def test_draining_and_clearing_empty_a_trie(routes: Trie) -> None:
    assert dict(routes.drain()) == {ip_network(text): value for text, value in ROUTES.items()}
    assert len(routes) == 0
    routes.update(ROUTES)
    routes.clear()
    assert len(routes) == 0


def test_clearing_a_trie_never_asks_for_what_follows_a_deleted_key(backend: Backend) -> None:
    # Linux 5.10 skips keys where it is asked.
    calls: list[Call] = []
    with rawbpf.Map.create(
        "lpm_trie", key="ipv4", value="u32", max_entries=16, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.update({f"10.0.0.{i}": i for i in range(8)})
        m.clear()
        assert len(m) == 0
    walked = [call.fields for call in calls if str(call).startswith("bpf(map_get_next_key")]
    assert len(walked) == 9
    assert not any("key" in fields for fields in walked)


@pytest.mark.guest
def test_a_key_that_came_from_a_map_finds_its_element_whatever_its_bytes(routes: Trie) -> None:
    routes.clear()
    keys = {(length).to_bytes(4, NATIVE) + bytes([10, length, 255, 255]) for length in range(33)}
    routes.raw.update(dict.fromkeys(keys, b"\1\0\0\0"))
    found = list(routes)
    assert {routes.key_type.pack(key) for key in found} == keys == set(routes.raw)
    assert all(key in routes for key in found)
    assert routes.delete_many(found) == 33


# Keys ---------------------------------------------------------------------------------


@pytest.mark.guest
def test_networks_of_ipv6_are_keys_too(backend: Backend) -> None:
    with rawbpf.Map.create("lpm_trie", key="ipv6", value="char[8]", max_entries=4) as m:
        m["fd00::/8"] = "private"
        m["::/0"] = "any"
        assert (m["fd12::1"], m["2001:db8::1"]) == ("private", "any")
        assert list(m) == [ip_network("fd00::/8"), ip_network("::/0")]


@pytest.mark.guest
def test_a_struct_of_a_length_and_more_is_a_key_of_records(backend: Backend) -> None:
    key = {"prefixlen": "u32", "tenant": "be32", "address": "ipv4"}
    with rawbpf.Map.create("lpm_trie", key=key, value="u32", max_entries=4) as m:
        m[32 + 8, 7, "10.0.0.0"] = 1
        m[32, 7, "0.0.0.0"] = 2
        assert m[{"prefixlen": 64, "tenant": 7, "address": "10.1.2.3"}] == 1
        assert m[64, 7, "11.1.2.3"] == 2
        assert (64, 8, "10.1.2.3") not in m
        assert [record.prefixlen for record in m] == [40, 32]
        with rawbpf.Map.from_id(m.id) as other:
            assert list(other.items()) == list(m.items())


@pytest.mark.guest
def test_bytes_are_keys_too(backend: Backend) -> None:
    with rawbpf.Map.create("lpm_trie", key=4 + 16, value="u32", max_entries=4) as m:
        m[(24).to_bytes(4, NATIVE) + b"abc".ljust(16, b"\0")] = 1
        assert m[(128).to_bytes(4, NATIVE) + b"abcdef".ljust(16, b"\0")] == 1
        assert m.info.btf_id == 0


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (None, TypeError, r'a lpm_trie map needs key=, such as key="ipv4"'),
        ({"address": "ipv4", "prefixlen": "u32"}, ValueError, 'the first field is the length of the prefix, a "u32"'),
        ({"prefixlen": "u64", "address": "ipv4"}, ValueError, "the first field"),
        ({"prefixlen": "be32", "address": "ipv4"}, ValueError, "the first field"),
        ("u32", ValueError, "key_size of a lpm_trie map must be 5 to 260, not 4"),
    ],
)
def test_a_key_that_suits_no_trie_is_explained(backend: Backend, key: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rawbpf.LpmTrieMap.create(key=key, value="u32", max_entries=1)


@pytest.mark.guest
def test_a_value_that_no_trie_holds_is_explained(backend: Backend) -> None:
    with pytest.raises(rawbpf.BpfError, match=r"EINVAL: value_size of a lpm_trie map must be below about 4 MiB, not 5"):
        rawbpf.LpmTrieMap.create(key="ipv4", value=5 << 20, max_entries=1)


@pytest.mark.guest
def test_a_length_may_lie_in_a_struct_of_its_own(backend: Backend) -> None:
    key: Any = {"trie": {"prefixlen": "u32"}, "address": "ipv4"}
    with rawbpf.LpmTrieMap.create(key=key, value="u32", max_entries=1) as m:
        m[(8,), "10.0.0.0"] = 1
        assert m[(32,), "10.1.2.3"] == 1


@pytest.mark.guest
@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(lambda m, key: m.__setitem__(key, 1), id="store"),
        pytest.param(lambda m, key: m.insert(key, 1), id="insert"),
        pytest.param(lambda m, key: m.__delitem__(key), id="delete"),
    ],
)
def test_a_prefix_longer_than_its_address_is_explained(backend: Backend, verb: Callable[[Any, Any], None]) -> None:
    with rawbpf.LpmTrieMap.create(key={"prefixlen": "u32", "address": "ipv4"}, value="u32", max_entries=1) as m:
        with pytest.raises(rawbpf.BpfError, match="prefix length, a u32 before the address, is larger than the bits"):
            verb(m, (33, "10.0.0.0"))
        assert (33, "10.0.0.0") not in m


# Types ------------------------------------------------------------------------------------


@pytest.mark.guest
@pytest.mark.parametrize("key", ["ipv4", "ipv6"])
def test_a_trie_opened_by_id_has_its_networks(backend: Backend, key: str) -> None:
    network = ip_network("10.0.0.0/8" if key == "ipv4" else "fd00::/8")
    with rawbpf.LpmTrieMap.create(key=key, value={"hits": "u64"}, max_entries=2) as m:
        m[network] = {"hits": 3}
        with rawbpf.Map.from_id(m.id) as other:
            assert isinstance(other.key_type, PrefixCodec)
            assert [(found, value.hits) for found, value in other.items()] == [(network, 3)]


@pytest.mark.guest
@pytest.mark.parametrize("is_struct", [True, False])
def test_a_trie_of_an_object_carries_its_btf_where_the_kernel_takes_it(backend: Backend, is_struct: bool) -> None:
    builder = Builder()
    u32 = builder.int("unsigned int", 4)
    members = [("prefixlen", u32, 0), ("address", builder.typedef("__be32", u32), 32)]
    number = builder.struct("route", 8, members) if is_struct else builder.array(u32, 2)
    content = builder.to_bytes()
    types = Btf.from_bytes(content)
    spec = MapSpec("routes", c.BPF_MAP_TYPE_LPM_TRIE, 8, 4, 1, key=types[number], value=types[u32], section=".maps")
    spec.key_type_id, spec.value_type_id = number, u32
    btf_fd = btf_load(backend, content)
    try:
        m: Any = create_from_spec(backend, spec, name="routes", btf_fd=btf_fd)
    finally:
        backend.close(btf_fd)
    with m:
        m[8, 0x0A000000 if is_struct else 10] = 1
        assert bool(m.info.btf_id) == is_struct
        with rawbpf.Map.from_id(m.id) as other:
            assert other.key_type.name == ("struct route" if is_struct else "u8[8]")


@pytest.mark.guest
@pytest.mark.parametrize(
    ("is_struct", "words"),
    [(True, ""), (False, "a lpm_trie map takes BTF only for a key that is a struct")],
)
def test_the_kernel_takes_btf_of_a_trie_whose_key_is_a_struct(backend: Backend, is_struct: bool, words: str) -> None:
    builder = Builder()
    u32 = builder.int("unsigned int", 4)
    pair = builder.array(u32, 2)
    key = builder.struct("key", 8, [("prefixlen", u32, 0), ("address", u32, 32)]) if is_struct else pair
    btf_fd = btf_load(backend, builder.to_bytes())

    def create() -> int:
        return map_create(
            backend,
            map_type=c.BPF_MAP_TYPE_LPM_TRIE,
            key_size=8,
            value_size=4,
            max_entries=1,
            map_flags=c.BPF_F_NO_PREALLOC,
            btf_fd=btf_fd,
            btf_key_type_id=key,
            btf_value_type_id=u32,
        )

    try:
        if is_struct:
            backend.close(create())
        else:
            with pytest.raises(rawbpf.BpfError, match=words):
                create()
    finally:
        backend.close(btf_fd)


# What it is for: packets by network ----------------------------------------------------------

_ETHERNET = 14
ADDRESSES = {"ipv4": (_ETHERNET + 16, 4), "ipv6": (_ETHERNET + 24, 16)}
"""Where the destination lies in a packet, and how long it is."""


def _count_destination(m: Trie, family: str) -> list[Instruction]:
    # The key is built on the stack; the value of the longest prefix counts, and is returned as 1; 0 without.
    offset, size = ADDRESSES[family]
    base = -4 - size
    copy = [
        each
        for at in range(0, size, 4)
        for each in (b.load_mem(b.R2, b.R7, offset + at, 4), b.store_reg(b.R10, base + 4 + at, b.R2, 4))
    ]
    # Values of a trie lie behind the key, 4 bytes aligned: an atomic operation on 8 is no good there.
    count = [b.mov_imm(b.R1, 1), b.atomic_add(b.R0, 0, b.R1, 4), b.mov_imm(b.R0, 1)]
    return xdp.reading(
        offset + size,
        [
            b.store_imm(b.R10, base, 8 * size, 4),
            *copy,
            b.ld_map_fd(b.R1, m.fileno()),
            b.mov_reg(b.R2, b.R10),
            b.alu_imm(b.R2, "+=", base),
            b.call(helper_number("map_lookup_elem")),
            b.jump_imm(b.R0, "==", 0, slots(count)),
            *count,
        ],
    )


@pytest.mark.guest
@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("prog_type:xdp")
@pytest.mark.parametrize(
    ("family", "networks", "packets", "counts"),
    [
        pytest.param(
            "ipv4",
            ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7"],
            ["10.1.2.3", "10.1.9.9", "10.2.3.4", "192.0.2.7", "192.0.2.8"],
            {"10.0.0.0/8": 1, "10.1.0.0/16": 2, "192.0.2.7/32": 1},
            id="ipv4",
        ),
        pytest.param(
            "ipv6",
            ["2001:db8::/32", "2001:db8:1::/48"],
            ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1", "fe80::1"],
            {"2001:db8::/32": 1, "2001:db8:1::/48": 2},
            id="ipv6",
        ),
    ],
)
def test_a_program_counts_packets_per_network(
    backend: Backend, family: str, networks: list[str], packets: list[str], counts: dict[str, int]
) -> None:
    offset, _ = ADDRESSES[family]
    with rawbpf.Map.create("lpm_trie", key=family, value="u32", max_entries=8) as m:
        m.update(dict.fromkeys(networks, 0))
        with rawbpf.Program.load("xdp", _count_destination(m, family)) as program:
            matched = [program.run(xdp.packet(bytes(offset) + ip_address(to).packed)).retval for to in packets]
        assert matched == [1] * (len(packets) - 1) + [0]
        assert m.snapshot() == {ip_network(text): count for text, count in counts.items()}


# Against a model -----------------------------------------------------------------------------

# Few addresses and all lengths, so that prefixes cover, equal and miss one another.
PREFIXES = st.builds(
    lambda low, high, length: ip_interface((bytes([10, high, 0, low]), length)),
    st.integers(0, 255),
    st.sampled_from([0, 1, 128]),
    st.sampled_from([0, 1, 7, 8, 9, 16, 24, 25, 26, 27, 28, 29, 30, 31, 32]),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "insert", "replace", "delete", "pop", "match"]), PREFIXES),
    max_size=30,
)


def _longest(held: dict[IPv4Network, int], wanted: IPv4Network) -> int | None:
    covering = [network for network in held if wanted.subnet_of(network)]
    return held[max(covering, key=lambda network: network.prefixlen)] if covering else None


def _expected(held: dict[IPv4Network, int], room: int, verb: str, network: IPv4Network, value: int) -> object:
    there = network in held
    if verb == "match":
        return _longest(held, network)
    if verb == "insert" and there:
        return rawbpf.KeyExists
    if verb in {"replace", "delete", "pop"} and not there:
        return rawbpf.KeyNotFound
    if verb == "delete":
        del held[network]
        return None
    if verb == "pop":
        return held.pop(network)
    if not there and len(held) == room:
        return rawbpf.MapFull
    held[network] = value
    return None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, room=st.integers(1, 12), chunk=st.integers(1, 13))
def test_any_sequence_of_steps_does_what_a_dict_of_networks_does(
    backend: Backend, steps: list[tuple[str, Any]], room: int, chunk: int
) -> None:
    held: dict[IPv4Network, int] = {}
    with rawbpf.LpmTrieMap.create(key="ipv4", value="u32", max_entries=room) as m:
        verbs: dict[str, Callable[[Any, int], object]] = {
            "put": m.put,
            "insert": m.insert,
            "replace": m.replace,
            "delete": lambda key, _: m.__delitem__(key),
            "pop": lambda key, _: m.pop(key),
            "match": lambda key, _: m.get(key),
        }
        for value, (verb, key) in enumerate(steps):
            expected = _expected(held, room, verb, key.network, value)
            try:
                got = verbs[verb](key, value)
            except (rawbpf.KeyExists, rawbpf.KeyNotFound, rawbpf.MapFull) as error:
                got = type(error)
            assert got == expected
        found = [pair for keys, values in m.batches(chunk) for pair in zip(keys, values, strict=True)]
        in_order = sorted(held, key=lambda network: (network.broadcast_address, -network.prefixlen))
        networks = [getattr(key, "network", key) for key, _ in found]
        assert networks == in_order
        assert [value for _, value in found] == [held[network] for network in in_order]
        assert all(key in m.keys() for key in in_order)  # noqa: SIM118  (the element itself)
