"""Network interfaces by name and by index, as the network namespace of the calling thread has them.

An index means nothing in another namespace, and names change: whoever keeps an index keeps what the
kernel keeps. Source: net/core/dev.c:dev_get_by_name, dev_get_by_index (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError

_ENODEV = 19
_MAX = 2**31 - 1


def interface_index(interface: object, where: str) -> int:
    """Return the index of `interface`, a name or already an index; messages of wrong arguments open with `where`.

    Whether there is an interface with a given index is the kernel's to say.
    Raises: BpfError (ENODEV: none has this name, the text has close ones); TypeError; ValueError for
    a number that is no index.
    """
    if isinstance(interface, str):
        return _index_of(interface)
    if not isinstance(interface, int) or isinstance(interface, bool):
        raise TypeError(f"{where}: expected an interface as name or index, got {interface!r}")
    if not 0 < interface <= _MAX:
        raise ValueError(f"{where}: interfaces count from 1 to {_MAX}, got {interface}")
    return interface


def absence(index: int) -> str:
    """Return, where no interface has this index, the words for that; empty where one has."""
    import socket

    try:
        socket.if_indextoname(index)
    except OSError:
        return f"this network namespace has no interface with index {index}"
    return ""


def _index_of(name: str) -> int:
    import socket

    try:
        return socket.if_nametoindex(name)
    except (OSError, ValueError):
        # With a NUL in it, too, it is a name that no interface has.
        hint = f"this network namespace has none of this name{_did_you_mean(name)}"
        raise BpfError(_ENODEV, call="find", subject=f"interface {name!r}", hint=hint) from None


def _did_you_mean(name: str) -> str:
    import difflib
    import socket

    names = sorted(known for _, known in socket.if_nameindex())
    close = difflib.get_close_matches(name, names)
    return f"; did you mean {' or '.join(close)}?" if close else f"; it has {', '.join(names)}" if names else ""
