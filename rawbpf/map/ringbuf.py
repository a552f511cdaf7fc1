"""Ring buffers. Kernel side: kernel/bpf/ringbuf.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class RingBufMap(GenericMap["K", "V"]):
    """Records from programs to user space."""

    __slots__ = ()

    map_type = "ringbuf"
    _default_key = 0
    _default_value = 0


class UserRingBufMap(GenericMap["K", "V"]):
    """Records from user space to programs."""

    __slots__ = ()

    map_type = "user_ringbuf"
    _default_key = 0
    _default_value = 0
