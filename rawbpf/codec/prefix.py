"""Networks as keys of longest-prefix-match tries: a u32 prefix length, then an address in network order.

A key says how many of its address's bits count. Whoever writes one may leave the other bits as they
are, and the kernel keeps them: such a key reads back as an interface (an address with its network),
so that it packs to the bytes that it came from. Source: include/uapi/linux/bpf.h:struct
bpf_lpm_trie_key_u8 (v6.12)
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from rawbpf.codec.base import NATIVE, Codec, exactly, refuse
from rawbpf.codec.text import exact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import ByteOrder, Raw

    Prefix = IPv4Network | IPv4Interface | IPv6Network | IPv6Interface | bytes

_LENGTH = 4
_FAMILIES: dict[str, tuple[type[Any], type[Any], type[Any]]] = {
    "ipv4": (IPv4Address, IPv4Network, IPv4Interface),
    "ipv6": (IPv6Address, IPv6Network, IPv6Interface),
}


class PrefixCodec(Codec["Prefix"]):
    """A network of `family`, "ipv4" or "ipv6": `struct ipv4_prefix { __u32 prefixlen; ipv4 address; }`.

    Takes networks, addresses (as prefixes of full length), interfaces, and the text of each. What reads
    back is a network; an interface where bits beyond the prefix are set; bytes where the length is
    more than an address has, which no trie takes.
    """

    alignment = 4

    def __init__(self, family: str, byteorder: ByteOrder = NATIVE) -> None:
        self.family = family
        self.byteorder: ByteOrder = byteorder
        self.name = f"struct {family}_prefix"
        self._address, self._network, self._interface = _FAMILIES[family]
        self._bits: int = self._address(0).max_prefixlen
        self.size = _LENGTH + self._bits // 8

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of a network, address or interface, or of its text."""
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> Prefix:
        """Return the network of exactly `size` bytes."""
        return self.decode(exactly(buffer, self.size, self.name))

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a network, address or interface, or of its text; messages open with `where`."""
        if isinstance(value, str):
            try:
                # An interface is a network and any address in it: it takes the text of all three.
                value = self._interface(value) if "/" in value else self._address(value)
            except ValueError as error:
                raise ValueError(f"{where}: expected an {self._noun} network or address: {error}") from error
        if isinstance(value, self._interface):  # which is an address, too
            return self._joined(value.network.prefixlen, value.packed)
        if isinstance(value, self._address):
            return self._joined(self._bits, value.packed)
        if isinstance(value, self._network):
            return self._joined(value.prefixlen, value.network_address.packed)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return exact(value, self.size, where)
        raise refuse(where, f"an {self._noun} network, address or interface, or its text", value)

    def decode(self, raw: bytes) -> Prefix:
        """Return the network of `raw`."""
        length, address = int.from_bytes(raw[:_LENGTH], self.byteorder), int.from_bytes(raw[_LENGTH:], "big")
        if length > self._bits:
            return raw
        beyond = address & (1 << self._bits - length) - 1
        found: Prefix = (self._interface if beyond else self._network)((address, length))
        return found

    @property
    def _noun(self) -> str:
        return "IPv4" if self.family == "ipv4" else "IPv6"

    def _joined(self, length: int, address: bytes) -> bytes:
        return length.to_bytes(_LENGTH, self.byteorder) + address

    def explain(self) -> str:
        """Return the layout."""
        return f"{self.name}: u32 prefixlen, then the {self._noun} network's address in network order"

    def build(self, builder: Builder) -> int:
        """Add the struct, which reads back as this codec."""
        from rawbpf.codec.address import address_codec

        length = builder.typedef("__u32", builder.int("unsigned int", 4))
        address = address_codec(self.family).build(builder)
        members = [("prefixlen", length, 0), ("address", address, 8 * _LENGTH)]
        return builder.struct(f"{self.family}_prefix", self.size, members)
