"""Text, bytes and network addresses: what they read as, and that they pack to the bytes they came from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from rawbpf.codec import codec_for

TEXTS = [
    (b"bash\0\0\0\0", "bash"),
    (b"\0\0\0\0\0\0\0\0", ""),
    (b"12345678", "12345678"),
    ("grün\0\0\0".encode(), "grün"),
    (b"\xff\xfe\0\0\0\0\0\0", "\udcff\udcfe"),
    (b"\xed\xb2\x80\0\0\0\0\0", "\udced\udcb2\udc80"),
    (b"a\0b\0\0\0\0\0", b"a\0b\0\0\0\0\0"),
    (b"\0\0\0\0\0\0\0x", b"\0\0\0\0\0\0\0x"),
]


@pytest.mark.parametrize(("raw", "value"), TEXTS, ids=[repr(row[0]) for row in TEXTS])
def test_characters_read_as_text_unless_that_would_lose_some(raw: bytes, value: str | bytes) -> None:
    codec = codec_for("char[8]")
    assert codec.unpack(raw) == codec.decode(raw) == codec.unpack(memoryview(raw)) == value
    assert type(codec.unpack(memoryview(raw))) is type(value)
    assert codec.pack(value) == codec.encode(value, "") == raw


def test_short_text_and_short_bytes_are_filled_up() -> None:
    codec = codec_for("char[8]")
    assert codec.pack("sh") == codec.pack(b"sh") == codec.pack(bytearray(b"sh")) == b"sh\0\0\0\0\0\0"


REFUSED = [
    ("char[4]", "bash!", ValueError, r"^char\[4\]: expected at most 4 bytes, got 5: 'bash!'$"),
    ("char[4]", "é" * 3, ValueError, r"expected at most 4 bytes, got 6"),
    ("char[4]", "a\0b", ValueError, r"expected text without NUL, got 'a\\x00b'; bytes may have them"),
    ("char[4]", 5, TypeError, r"expected a str of at most 4 bytes, got 5 \(int\)"),
    ("char[4]", "\ud800", ValueError, "surrogates not allowed"),
    ("u8[4]", b"123", ValueError, r"^u8\[4\]: expected 4 bytes, got 3: b'123'$"),
    ("u8[4]", "1234", TypeError, r"expected 4 bytes, got '1234' \(str\)"),
    ("u8[4]", 4, TypeError, r"expected 4 bytes, got 4 \(int\)"),
    ("ipv4", 0x7F000001, TypeError, "as IPv4Address, str or 4 bytes, got 2130706433"),
    ("ipv4", "127.0.0.256", ValueError, "^ipv4: expected an IPv4 address: .*256"),
    ("ipv4", b"123", ValueError, "expected an IPv4 address"),
    ("ipv6", "::g", ValueError, "^ipv6: expected an IPv6 address"),
    ("ipv6", IPv4Address("127.0.0.1"), TypeError, "expected an IPv6 address as IPv6Address"),
    ("mac", "02:00:00:00:00", ValueError, "expected an Ethernet address such as '02:00:00:00:00:01'"),
    ("mac", "02:00:00:00:00:0g", ValueError, "expected an Ethernet address"),
    ("mac", "020000000001", ValueError, "expected an Ethernet address"),
    ("mac", 1, TypeError, r"got 1 \(int\)"),
    ("mac", b"12345", ValueError, "got b'12345'"),
]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"), REFUSED, ids=[f"{row[0]} {row[1]!a}" for row in REFUSED]
)
def test_what_does_not_fit_is_refused(name: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        codec_for(name).pack(value)
    with pytest.raises(error, match=r"^event\.field: "):
        codec_for(name).encode(value, "event.field")
    with pytest.raises(error, match=r"^event\.field: "):
        codec_for({"field": name}, name="event").pack({"field": value})


def test_bytes_stay_bytes() -> None:
    for codec in (codec_for("u8[4]"), codec_for(4)):
        assert codec.size == 4
        assert codec.alignment == 1
        assert codec.unpack(memoryview(b"\0\1\2\3")) == b"\0\1\2\3"
        assert codec.pack(bytearray(b"\0\1\2\3")) == b"\0\1\2\3"
        with pytest.raises(ValueError, match="expected 4 bytes, got 5"):
            codec.unpack(bytes(5))
    assert codec_for(0).unpack(b"") == codec_for(0).pack(b"") == b""


def test_what_is_read_is_a_copy() -> None:
    for description in (4, "char[4]", "u8[4]", {"x": "u8[4]"}, {"x": "char[4]"}):
        codec = codec_for(description)
        buffer = bytearray(b"abcd")
        value = codec.unpack(memoryview(buffer))
        buffer[:] = b"ABCD"
        assert codec.pack(value) == b"abcd"


def test_arrays_of_text_are_tuples_of_str() -> None:
    codec = codec_for("char[2][4]")
    assert codec.name == "char[2][4]"
    assert codec.unpack(b"ab\0\0cd\0\0") == ("ab", "cd")
    assert codec.pack(["ab", "cd"]) == b"ab\0\0cd\0\0"


ADDRESSES = [
    ("ipv4", b"\x7f\0\0\1", IPv4Address("127.0.0.1"), "127.0.0.1"),
    ("ipv6", bytes(15) + b"\1", IPv6Address("::1"), "::1"),
    ("mac", b"\2\0\0\0\0\x1a", "02:00:00:00:00:1a", "02-00-00-00-00-1A"),
]


@pytest.mark.parametrize(("name", "raw", "value", "spelled"), ADDRESSES, ids=[row[0] for row in ADDRESSES])
def test_addresses_are_in_network_order(name: str, raw: bytes, value: object, spelled: str) -> None:
    for order in ("little", "big"):
        codec = codec_for(name, byteorder="little" if order == "little" else "big")
        assert codec.name == name
        assert codec.unpack(raw) == value
        assert codec.pack(value) == codec.pack(spelled) == codec.pack(raw) == raw
