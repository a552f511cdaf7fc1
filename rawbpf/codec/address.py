"""Network addresses as they stand in packets: `ipv4`, `ipv6`, `mac`.

Their bytes are in network order whatever the machine's is.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from rawbpf.codec.base import Codec, refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.build import Builder

_MAC_SIZE = 6


class Ipv4Codec(Codec[IPv4Address]):
    """A `__be32` that is an IPv4 address."""

    name = "ipv4"
    size = alignment = 4

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of an IPv4Address, its text, or its 4 bytes; messages open with `where`."""
        if isinstance(value, (IPv4Address, str, bytes)):
            try:
                return IPv4Address(value).packed
            except ValueError as error:
                raise ValueError(f"{where}: expected an IPv4 address: {error}") from error
        # An int is refused: it may be in network order or not, and a wrong guess goes unnoticed.
        raise refuse(where, "an IPv4 address as IPv4Address, str or 4 bytes", value)

    def decode(self, raw: bytes) -> IPv4Address:
        """Return the address of `raw`."""
        return IPv4Address(raw)

    def build(self, builder: Builder) -> int:
        """Add `ipv4`, a typedef of `__be32`, which reads back as this codec."""
        return builder.typedef("ipv4", builder.typedef("__be32", builder.int("unsigned int", 4)))


class Ipv6Codec(Codec[IPv6Address]):
    """A `struct in6_addr`."""

    name = "ipv6"
    size = 16
    alignment = 4

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of an IPv6Address, its text, or its 16 bytes; messages open with `where`."""
        if isinstance(value, (IPv6Address, str, bytes)):
            try:
                return IPv6Address(value).packed
            except ValueError as error:
                raise ValueError(f"{where}: expected an IPv6 address: {error}") from error
        raise refuse(where, "an IPv6 address as IPv6Address, str or 16 bytes", value)

    def decode(self, raw: bytes) -> IPv6Address:
        """Return the address of `raw`."""
        return IPv6Address(raw)

    def build(self, builder: Builder) -> int:
        """Add `ipv6`, a typedef of four `__be32`, which reads back as this codec."""
        word = builder.typedef("__be32", builder.int("unsigned int", 4))
        return builder.typedef("ipv6", builder.array(word, 4))


class MacCodec(Codec[str]):
    """An Ethernet address, as `02:00:00:00:00:01`."""

    name = "mac"
    size = _MAC_SIZE

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of an address as text, with `:` or `-`, or of its 6 bytes; messages open with `where`."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            raw = bytes(value)
        elif isinstance(value, str):
            pairs = value.replace("-", ":").split(":")
            try:
                raw = bytes.fromhex("".join(pairs)) if all(len(pair) == 2 for pair in pairs) else b""
            except ValueError:
                raw = b""
        else:
            raise refuse(where, "an Ethernet address as str or 6 bytes", value)
        if len(raw) != _MAC_SIZE:
            raise ValueError(f"{where}: expected an Ethernet address such as '02:00:00:00:00:01', got {shown(value)}")
        return raw

    def decode(self, raw: bytes) -> str:
        """Return the address of `raw` as text."""
        return raw.hex(":")

    def build(self, builder: Builder) -> int:
        """Add `mac`, a typedef of six bytes, which reads back as this codec."""
        return builder.typedef("mac", builder.array(builder.int("unsigned char", 1), _MAC_SIZE))


def address_codec(name: str) -> Codec[object]:
    """Return the codec called `ipv4`, `ipv6` or `mac`."""
    codecs: dict[str, type[Codec[object]]] = {"ipv4": Ipv4Codec, "ipv6": Ipv6Codec, "mac": MacCodec}
    return codecs[name]()
