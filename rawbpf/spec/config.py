"""A variable of `.kconfig`: declared by the object, given by the kernel's configuration when it is loaded.

Which types may be declared so is said here, what the configuration makes of them by the loader.
Source: tools/lib/bpf/libbpf.c:find_kcfg_type (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.layout import strip
from rawbpf.btf.types import Array, Enum, Int
from rawbpf.spec.variable import VariableSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.btf.types import Type
    from rawbpf.spec.map import MapSpec

    Kind = Literal["bool", "tristate", "char", "int", "string"]

_TRISTATE = "libbpf_tristate"
_SIZES = (2, 4, 8)


class ConfigSpec(VariableSpec):
    """An extern variable such as `CONFIG_HZ` or `LINUX_KERNEL_VERSION`, before loading.

    `value` is None until one is set, which then counts; what is not set the kernel's configuration says
    when the object is loaded. `weak`: it may be unknown there, and is 0 then.
    """

    __slots__ = ("given", "weak")

    def __init__(
        self,
        name: str,
        map: MapSpec,
        offset: int,
        size: int,
        type: Type | None,
        *,
        weak: bool,
        byteorder: Literal["little", "big"],
    ) -> None:
        super().__init__(name, map, offset, size, type, constant=True, byteorder=byteorder)
        self.weak = weak
        self.given = False

    @property
    def value(self) -> object:
        """The value that was set for it; None: the kernel's configuration gives it one.

        Raises: as that of other variables.
        """
        return super().value if self.given else None

    @value.setter
    def value(self, value: object) -> None:
        self._set(value)
        self.given = True

    def copy(self, of: MapSpec) -> ConfigSpec:
        """Return a copy that lies in the map `of`."""
        new = ConfigSpec(self.name, of, self.offset, self.size, self.type, weak=self.weak, byteorder=self.byteorder)
        new.given = self.given
        return new


def config_kind(type: Type) -> Kind | None:
    """Return what an extern variable of `type` is in terms of configurations, None for any other type.

    Raises: FormatError for broken BTF.
    """
    type = strip(type)
    if isinstance(type, Int):
        if type.is_bool:
            return "bool" if type.size == 1 else None
        return "char" if type.size == 1 else "int" if type.size in _SIZES else None
    if isinstance(type, Enum):
        return "tristate" if type.size == 4 and type.name == _TRISTATE else None
    if isinstance(type, Array) and type.length:
        element = strip(type.type)
        return "string" if isinstance(element, Int) and element.size == 1 and not element.is_bool else None
    return None
