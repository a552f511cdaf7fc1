"""Prefixes: every way to write a network packs to one key, and a key reads back as what it says."""

from __future__ import annotations

import pickle
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawbpf.btf import Btf, Builder
from rawbpf.codec import codec_for
from rawbpf.codec.base import NATIVE
from rawbpf.codec.prefix import PrefixCodec
from rawbpf.codec.record import Record

Order = Literal["little", "big"]
FOUR, SIX = PrefixCodec("ipv4"), PrefixCodec("ipv6")
NET_8 = (8).to_bytes(4, NATIVE) + b"\x0a\0\0\0"
HOST = (32).to_bytes(4, NATIVE) + b"\x0a\1\2\3"


@pytest.mark.guest_byte_order
@pytest.mark.parametrize(
    ("value", "packed"),
    [
        pytest.param("10.0.0.0/8", NET_8, id="text of a network"),
        pytest.param("10.0.0.0/255.0.0.0", NET_8, id="text with a mask"),
        pytest.param(ip_network("10.0.0.0/8"), NET_8, id="network"),
        pytest.param(ip_interface("10.0.0.0/8"), NET_8, id="interface"),
        pytest.param("10.1.2.3", HOST, id="text of an address"),
        pytest.param(ip_address("10.1.2.3"), HOST, id="address"),
        pytest.param(ip_network("10.1.2.3"), HOST, id="network of one address"),
        pytest.param("10.1.2.3/8", NET_8[:4] + b"\x0a\1\2\3", id="text with bits beyond the prefix"),
        pytest.param(ip_interface("10.1.2.3/8"), NET_8[:4] + b"\x0a\1\2\3", id="interface with bits beyond"),
        pytest.param("0.0.0.0/0", bytes(8), id="everything"),
        pytest.param(NET_8, NET_8, id="its bytes"),
        pytest.param(bytearray(NET_8), NET_8, id="its bytes in an array"),
    ],
)
def test_networks_addresses_and_interfaces_pack_to_keys(value: object, packed: bytes) -> None:
    assert FOUR.pack(value) == packed
    assert FOUR.encode(value, "key") == packed


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("value", ["fd00::/8", ip_network("fd00::/8"), ip_interface("fd00::/8")])
def test_networks_of_ipv6_pack_too(value: object) -> None:
    assert SIX.pack(value) == (8).to_bytes(4, NATIVE) + b"\xfd" + bytes(15)
    assert SIX.pack("fd00::1")[:4] == (128).to_bytes(4, NATIVE)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("10.0.0.0/33", ValueError, "ipv4_prefix: expected an IPv4 network or address: .*33"),
        ("10.0.0/8", ValueError, "expected an IPv4 network or address"),
        ("fd00::/8", ValueError, "expected an IPv4 network or address"),
        (ip_network("fd00::/8"), TypeError, "expected an IPv4 network, address or interface, or its text, got IPv6"),
        (0x0A000000, TypeError, "got 167772160"),
        (None, TypeError, "got None"),
        (b"\x0a\0\0\0", ValueError, "expected 8 bytes, got 4"),
        (("10.0.0.0", 8), TypeError, "expected an IPv4 network"),
    ],
)
def test_what_is_no_network_is_refused(value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FOUR.pack(value)


@pytest.mark.guest_byte_order
def test_a_key_reads_back_as_what_it_says() -> None:
    assert FOUR.unpack(NET_8) == ip_network("10.0.0.0/8")
    assert FOUR.unpack(HOST) == ip_network("10.1.2.3/32")
    assert FOUR.unpack(NET_8[:4] + b"\x0a\1\2\3") == ip_interface("10.1.2.3/8")
    assert SIX.unpack(SIX.pack("fd00::1/8")) == ip_interface("fd00::1/8")
    long = (33).to_bytes(4, NATIVE) + b"\x0a\1\2\3"
    assert FOUR.unpack(long) == long
    with pytest.raises(ValueError, match="expected 8 bytes, got 7"):
        FOUR.unpack(NET_8[1:])
    assert FOUR("10.1.2.3") == ip_network("10.1.2.3")


@pytest.mark.guest_byte_order
@given(st.one_of(st.binary(min_size=4, max_size=4).map(lambda raw: raw[:1] + raw), st.binary(min_size=17, max_size=17)))
def test_every_key_packs_to_the_bytes_it_came_from(raw: bytes) -> None:
    codec = FOUR if len(raw) == 5 else SIX
    key = raw[0].to_bytes(4, NATIVE) + raw[1:]
    value = codec.unpack(key)
    assert codec.pack(value) == key
    assert {value: 1}[value] == 1
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.guest_byte_order
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_struct_it_writes_into_btf_reads_back_as_it(family: str, order: Order) -> None:
    codec = PrefixCodec(family, order)
    builder = Builder(order)
    number = codec.add_to(builder)
    again = codec_for(Btf.from_bytes(builder.to_bytes())[number])
    assert isinstance(again, PrefixCodec)
    assert (again.family, again.byteorder, again.size) == (family, order, codec.size)
    text = "10.0.0.0/8" if family == "ipv4" else "fd00::/8"
    assert again.pack(text) == codec.pack(text)
    copied = Builder(order)
    second = again.add_to(copied)
    assert isinstance(codec_for(Btf.from_bytes(copied.to_bytes())[second]), PrefixCodec)


def _struct(name: str = "ipv4_prefix", **changed: Any) -> Any:
    builder = Builder()
    u32 = builder.int("unsigned int", 4)
    types = {
        "u32": u32,
        "s32": builder.int("int", 4, signed=True),
        "__be32": builder.typedef("__be32", u32),
        "ipv4": builder.typedef("ipv4", builder.typedef("__be32", u32)),
        "other ipv4": builder.typedef("ipv4", u32),
    }
    members = [
        ("prefixlen", types[changed.get("length", "u32")], 0),
        ("address", types[changed.get("address", "ipv4")], 32),
    ]
    if changed.get("more"):
        members.append(("more", u32, 64))
    number = builder.struct(name, 4 * len(members), members)
    return codec_for(Btf.from_bytes(builder.to_bytes())[number])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "key"}, id="of another name"),
        pytest.param({"name": "ipv6_prefix"}, id="of the other family"),
        pytest.param({"length": "s32"}, id="with a signed length"),
        pytest.param({"address": "__be32"}, id="with a plain number"),
        pytest.param({"address": "other ipv4"}, id="with another ipv4"),
        pytest.param({"more": True}, id="with one field more"),
    ],
)
def test_other_structs_stay_records(changes: dict[str, Any]) -> None:
    assert isinstance(_struct(), PrefixCodec)
    codec = _struct(**changes)
    assert isinstance(codec.unpack(bytes(codec.size)), Record)


def test_it_is_a_field_of_structs_too() -> None:
    codec = codec_for({"tenant": "u32", "network": FOUR})
    raw = codec.pack({"tenant": 7, "network": "10.0.0.0/8"})
    assert codec.unpack(raw) == (7, ip_network("10.0.0.0/8"))
    with pytest.raises(ValueError, match="network: expected an IPv4 network or address"):
        codec.pack({"tenant": 7, "network": "10.0.0.0/99"})


def test_it_explains_itself() -> None:
    assert SIX.explain() == "struct ipv6_prefix: u32 prefixlen, then the IPv6 network's address in network order"
