"""Keys and values: bytes to Python values and back, by a description of the C type.

`codec_for` takes a size, a name, a dict of fields, a ctypes class, a BTF type or a codec, and loads
only what that needs. This package never touches a kernel and knows no maps.
"""

from __future__ import annotations

from rawbpf.codec.base import NATIVE, Codec
from rawbpf.codec.name import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.btf.types import Type
    from rawbpf.codec.base import ByteOrder
    from rawbpf.codec.descriptor import MapId as MapId
    from rawbpf.codec.descriptor import ProgId as ProgId
    from rawbpf.codec.percpu import PerCpu as PerCpu
    from rawbpf.codec.percpu import PerCpuCodec as PerCpuCodec
    from rawbpf.codec.record import Record as Record

    # A ctypes class has no public base class to name it by.
    Description = int | str | Mapping[str, "Description"] | type | Type | Codec[object]

__all__ = ["Codec", "MapId", "PerCpu", "PerCpuCodec", "ProgId", "Record", "codec_for"]

_HOMES = {
    "MapId": "descriptor",
    "PerCpu": "percpu",
    "PerCpuCodec": "percpu",
    "ProgId": "descriptor",
    "Record": "record",
}


def codec_for(description: Description, *, byteorder: ByteOrder | None = None, name: str = "") -> Codec[object]:
    """Return the codec of the C type that `description` means.

    `description`: an int n (n bytes); a name (`u8`..`u64`, `s8`..`s64`, `be16` `be32` `be64`, `f32`
    `f64`, `bool`, `char[N]`, `ipv4`, `ipv6`, `mac`, `T[N]`; `bpf_spin_lock`, `bpf_timer`, `bpf_wq` for fields
    that the kernel keeps for itself); a dict of field names to descriptions, laid out as C does; a ctypes
    class; an `enum.IntEnum`; a BTF type; a codec, which is returned. `byteorder`: the
    machine's own if None, or the one that the BTF is in. `name`: what a dict's struct is called.

    Raises: TypeError and ValueError for what is no description; FormatError for a BTF type that has
    no values, or none that a C compiler could lay out.
    """
    if isinstance(description, str):
        return named(description, byteorder or NATIVE)
    if isinstance(description, Codec):
        return description
    if isinstance(description, int) and not isinstance(description, bool):
        if description < 0:
            raise ValueError(f"a key or value cannot have {description} bytes")
        from rawbpf.codec.text import BytesCodec

        return BytesCodec(description)
    if isinstance(description, dict):
        from rawbpf.codec.layout import struct_of

        return struct_of(description, byteorder or NATIVE, name)
    if isinstance(description, type):
        if hasattr(description, "_fields_") or hasattr(description, "_type_"):
            from rawbpf.codec.ctype import codec_of_ctype

            return codec_of_ctype(description)
        if getattr(description, "__members__", None):
            from enum import IntEnum

            if issubclass(description, IntEnum):
                from rawbpf.codec.enumeration import codec_of_enum

                return codec_of_enum(description, byteorder or NATIVE)
    elif hasattr(description, "btf"):
        from rawbpf.btf.types import Type as BtfType
        from rawbpf.codec.btf import codec_of_btf

        if isinstance(description, BtfType):
            return codec_of_btf(description, byteorder)
    what = description.__name__ if isinstance(description, type) else repr(description)
    raise TypeError(f"{what} is no type of keys or values: give a name such as 'u32', a size, a dict, or a C type")


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        value: object = getattr(import_module(f"rawbpf.codec.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
