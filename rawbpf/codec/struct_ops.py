"""The value of a struct_ops map: what the kernel says of it, and a table of programs in the kernel's own struct.

Written are only those members that a dict names, functions as open programs; all others are zero. What
is read is the whole: functions as the ids of programs, None where there is none.
Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_update_elem (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.layout import align_of
from rawbpf.btf.types import FuncProto, Ptr, Struct, strip
from rawbpf.codec.base import Codec, inside, refuse
from rawbpf.codec.btf import codec_of_btf
from rawbpf.codec.descriptor import DescriptorCodec, ProgId
from rawbpf.codec.structure import StructCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Type
    from rawbpf.codec.base import ByteOrder
    from rawbpf.codec.record import Record
    from rawbpf.codec.structure import Place

# What says how the table does; before Linux 6.9 without a struct of its own.
_COMMON = (["common"], ["refcnt", "state"])


def is_value(type: Type) -> bool:
    """Whether `type` is what the kernel wraps a table of functions in: `struct bpf_struct_ops_NAME`."""
    if not isinstance(type, Struct) or not type.members:
        return False
    *common, (name, table, _, _) = type.members
    return [member[0] for member in common] in _COMMON and name == "data" and isinstance(strip(table), Struct)


class StructOpsCodec(Codec["Record"]):
    """The codec of `struct bpf_struct_ops_NAME`: a record to read, a dict of members of `struct NAME` to write."""

    def __init__(self, type: Struct) -> None:
        order = type.btf.byteorder
        *common, data = type.members
        table = strip(data[1])
        assert isinstance(table, Struct)
        places: list[Place] = [
            (name, _member(member, order), offset, bits) for name, member, offset, bits in table.members
        ]
        self.table = StructCodec(table.name, table.size, places, align_of(table), order)
        self.table_type = table
        self.at = data[2] // 8
        outer = [(name, codec_of_btf(member, order), offset, 0) for name, member, offset, _ in common]
        self.whole = StructCodec(
            type.name, type.size, [*outer, ("data", self.table, data[2], 0)], align_of(type), order
        )
        self.name, self.size, self.alignment = self.whole.name, type.size, self.whole.alignment
        self.hashable, self.source = self.whole.hashable, type

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a value with the members that the dict `value` names, functions as open programs."""
        if not hasattr(value, "keys") or not hasattr(value, "__getitem__"):
            raise refuse(where, f"a dict of members of struct {self.table.tag}", value)
        fields = {field.name: field for field in self.table.fields}
        table = bytearray(self.table.size)
        for name in value.keys():  # noqa: SIM118  (any mapping)
            if name not in fields:
                raise TypeError(f"{where}: no member {name!r}; there are {', '.join(fields)}")
            fields[name].write(table, value[name], inside(self.table.tag, name))
        return (bytes(self.at) + table).ljust(self.size, b"\0")

    def decode(self, raw: bytes) -> Record:
        """Return the record of `raw`: `common`, with state and refcnt, and `data`, the table.

        Before Linux 6.9 `state` and `refcnt` are in the record itself.
        """
        return self.whole.decode(raw)

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of the members in the dict `value`. Raises: TypeError, ValueError, OverflowError."""
        return self.encode(value, self.label)

    def explain(self) -> str:
        """Return a table of offsets and types of the table, gaps included."""
        return self.table.explain()


class _FunctionCodec(DescriptorCodec):
    # A function of the table: no program is 0.

    def encode(self, value: object, where: str) -> bytes:
        return bytes(self.size) if value is None else super().encode(value, where)

    def decode(self, raw: bytes) -> int:
        return super().decode(raw) or None  # type: ignore[return-value]  # a record's field is of any type


def _member(type: Type, order: ByteOrder) -> Codec[object]:
    bare = strip(type)
    if isinstance(bare, Ptr) and isinstance(strip(bare.type), FuncProto):
        return _FunctionCodec("a program", ProgId, bare.btf.pointer_size)
    return codec_of_btf(type, order)
