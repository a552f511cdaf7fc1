"""Queues and stacks. Kernel side: kernel/bpf/queue_stack_maps.c (v6.12)."""

from __future__ import annotations

from rawbpf.map.generic import GenericMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class QueueMap(GenericMap["K", "V"]):
    """Values, first in, first out."""

    __slots__ = ()

    map_type = "queue"
    _default_key = 0


class StackMap(GenericMap["K", "V"]):
    """Values, last in, first out."""

    __slots__ = ()

    map_type = "stack"
    _default_key = 0
