"""Which XDP programs an interface has, asked by rtnetlink: it knows those that no link attached, too.

Asked only after a refusal. Source: net/core/rtnetlink.c:rtnl_xdp_fill (v6.12).
"""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_RTM_NEWLINK, _RTM_GETLINK, _NLM_F_REQUEST = 16, 18, 1
_IFLA_XDP = 43
_TYPE_BITS = 0x3FFF
# IFLA_XDP_DRV_PROG_ID, _SKB_PROG_ID, _HW_PROG_ID: one program in each mode.
_MODES = {5: "driver", 6: "skb", 7: "offload"}
_HEADER = struct.Struct("=IHHII")
_INTERFACE = struct.Struct("=BxHiII")


def xdp_programs(index: int) -> dict[str, int]:
    """Return the ids of the XDP programs on the interface, by the mode that they run in.

    Raises: OSError where the kernel does not answer.
    """
    import socket

    request = _INTERFACE.pack(0, 0, index, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(request), _RTM_GETLINK, _NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + request)
        answer = netlink.recv(1 << 16)
    if _HEADER.unpack_from(answer)[1] != _RTM_NEWLINK:
        return {}  # an error: there is no such interface
    xdp = dict(_attributes(answer[_HEADER.size + _INTERFACE.size :])).get(_IFLA_XDP, b"")
    return {_MODES[kind]: int.from_bytes(raw, sys.byteorder) for kind, raw in _attributes(xdp) if kind in _MODES}


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    # Each has a length, which counts these four bytes, and a type; the next begins at a multiple of four.
    while len(content) >= 4:
        length, kind = struct.unpack_from("=HH", content)
        if length < 4:
            return
        yield kind & _TYPE_BITS, content[4:length]
        content = content[length + 3 & ~3 :]
