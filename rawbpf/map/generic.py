"""Any map type that has no class of its own: the verbs of single elements, as far as the kernel has them."""

from __future__ import annotations

from rawbpf.map.hash import HashMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)


class GenericMap(HashMap["K", "V"]):
    """A map of a type without its own class. What its type does not do raises NotSupported."""

    __slots__ = ()

    map_type: ClassVar[str | None] = None
    _takes_btf = False
