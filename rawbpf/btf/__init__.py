"""BTF: reading, laying out, building and repairing the type information of BPF.

Names resolve on first use. This package never touches a kernel: `vmlinux()` asks `source`, which
the layer that does fills.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.btf.btf import Btf as Btf
    from rawbpf.btf.build import Builder as Builder
    from rawbpf.btf.ext import BtfExt as BtfExt
    from rawbpf.btf.layout import align_of as align_of
    from rawbpf.btf.layout import size_of as size_of
    from rawbpf.btf.layout import strip as strip
    from rawbpf.btf.types import Array as Array
    from rawbpf.btf.types import Composite as Composite
    from rawbpf.btf.types import Const as Const
    from rawbpf.btf.types import Datasec as Datasec
    from rawbpf.btf.types import DeclTag as DeclTag
    from rawbpf.btf.types import Enum as Enum
    from rawbpf.btf.types import Enum64 as Enum64
    from rawbpf.btf.types import Float as Float
    from rawbpf.btf.types import Func as Func
    from rawbpf.btf.types import FuncProto as FuncProto
    from rawbpf.btf.types import Fwd as Fwd
    from rawbpf.btf.types import Int as Int
    from rawbpf.btf.types import Member as Member
    from rawbpf.btf.types import Ptr as Ptr
    from rawbpf.btf.types import Restrict as Restrict
    from rawbpf.btf.types import Struct as Struct
    from rawbpf.btf.types import Type as Type
    from rawbpf.btf.types import Typedef as Typedef
    from rawbpf.btf.types import TypeTag as TypeTag
    from rawbpf.btf.types import Union as Union
    from rawbpf.btf.types import Var as Var
    from rawbpf.btf.types import Void as Void
    from rawbpf.btf.types import Volatile as Volatile

source: Callable[[], memoryview] | None = None
"""Gives the BTF of the kernel that new objects are made with; the same memoryview for the same kernel."""

_indexed: list[tuple[memoryview, Btf]] = []
_KEPT = 4

_HOMES = {
    "btf": ("Btf",),
    "build": ("Builder",),
    "ext": ("BtfExt",),
    "layout": ("align_of", "size_of", "strip"),
    "types": (
        "Array", "Composite", "Const", "Datasec", "DeclTag", "Enum", "Enum64", "Float", "Func", "FuncProto", "Fwd",
        "Int", "Member", "Ptr", "Restrict", "Struct", "Type", "TypeTag", "Typedef", "Union", "Var", "Void", "Volatile",
    ),
}  # fmt: skip


def vmlinux() -> Btf:
    """Return the types of the kernel itself; indexed once per kernel.

    Raises: NotSupported (ENOENT) where the kernel has no BTF (CONFIG_DEBUG_INFO_BTF is off);
    RuntimeError when no backend was chosen, that is without `import rawbpf`.
    """
    if source is None:
        raise RuntimeError("nothing here knows a kernel: import rawbpf first")
    return indexed(source())


def indexed(view: memoryview) -> Btf:
    """Return the types of BTF that does not change, such as a kernel's; the last few are kept by identity.

    Raises: FormatError.
    """
    for known, btf in _indexed:
        if known is view:
            return btf
    from rawbpf.btf.btf import Btf

    btf = Btf.from_bytes(view)
    _indexed.append((view, btf))
    del _indexed[:-_KEPT]
    return btf


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            # importlib itself would be the heavier import.
            value: object = getattr(__import__(f"rawbpf.btf.{module}", fromlist=(name,)), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for names in _HOMES.values() for name in names)})
