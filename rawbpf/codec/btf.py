"""Codecs of BTF types.

What a type is called decides where its kind leaves it open: arrays of `char` are text (clang marks
`signed char` alike), arrays of other unsigned bytes are bytes, typedefs `__be16` `__be32` `__be64`
(and `__le..`) say the byte order, the typedefs `ipv4`, `ipv6` and `mac` are those that the codecs of
these names write, and the structs `ipv4_prefix` and `ipv6_prefix` those that `codec.prefix` writes.
"""

from __future__ import annotations

from rawbpf.btf.layout import align_of
from rawbpf.btf.types import (
    MAX_DEPTH,
    Array,
    Datasec,
    Enum,
    Float,
    Int,
    Ptr,
    Reference,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Var,
    Void,
    strip,
)
from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec
from rawbpf.codec.special import POINTERS, STRUCTS, SpecialCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import BytesCodec, TextCodec
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.base import ByteOrder, Codec
    from rawbpf.codec.structure import Place

_LARGEST = (1 << 32) - 1
_ORDERED = {f"__{order[0]}e{bits}": (order, bits // 8) for order in ("big", "little") for bits in (16, 32, 64)}
_ADDRESSES = {"ipv4": 4, "ipv6": 16, "mac": 6}
_INT_SIZES = (1, 2, 4, 8, 16)


def codec_of_btf(type: Type, byteorder: ByteOrder | None = None) -> Codec[object]:
    """Return the codec of `type`, in the byte order of its BTF if `byteorder` is None.

    Void has a codec of no bytes. Raises: FormatError for a type without values (functions, forward
    declarations), and for one that no compiler could have laid out.
    """
    if isinstance(strip(type), Void):
        return BytesCodec(0, "void")
    return _Reader(byteorder or type.btf.byteorder).codec(type, 0)


class _Reader:
    # One run over types that use one another; each gets one codec, and none may be inside itself.

    def __init__(self, byteorder: ByteOrder) -> None:
        self.byteorder: ByteOrder = byteorder
        self.known: dict[Type, Codec[object]] = {}
        self.begun: set[Type] = set()

    def codec(self, type: Type, depth: int) -> Codec[object]:
        codec = self.known.get(type)
        if codec is None:
            if type in self.begun or depth > MAX_DEPTH:
                raise FormatError(f"{type!r} holds itself, or too many others")
            self.begun.add(type)
            codec = self.known[type] = self.made(type, depth)
            if codec.size > _LARGEST:
                raise FormatError(f"{type!r} has more than 4 GiB")
            codec.source = type
        return codec

    def made(self, type: Type, depth: int) -> Codec[object]:
        order = self.byteorder
        at = type
        for _ in range(MAX_DEPTH):
            if not isinstance(at, Reference) or isinstance(at, Ptr):
                break
            if isinstance(at, Typedef):
                special = _special(at)
                if special is not None:
                    return special
            at = at.type
        if isinstance(at, Int):
            return _int(at, order)
        if isinstance(at, Ptr):
            if isinstance(at.type, TypeTag) and at.type.name in POINTERS:
                return SpecialCodec(at.type.name, at.btf.pointer_size, at.btf.pointer_size)
            return IntCodec(at.btf.pointer_size, False, order, "ptr")
        if isinstance(at, Enum):
            from rawbpf.codec.enumeration import EnumCodec

            if at.size not in _INT_SIZES:
                raise FormatError(f"{at!r} has {at.size} bytes")
            return EnumCodec(at.name, at.size, at.signed, at.values, order)
        if isinstance(at, Float):
            return FloatCodec(at.size, order) if at.size in {4, 8} else BytesCodec(at.size, at.name)
        if isinstance(at, Array):
            return self.array(at, depth)
        if isinstance(at, Struct):
            if at.name in STRUCTS:
                return SpecialCodec(at.name, at.size, align_of(at))
            prefix = _prefix(at, order)
            return prefix or StructCodec(at.name, at.size, self.places(at, depth), align_of(at), order)
        if isinstance(at, Union):
            from rawbpf.codec.union import UnionCodec

            return UnionCodec(at.name, at.size, self.places(at, depth), align_of(at), order)
        if isinstance(at, Datasec):
            return self.section(at, depth)
        raise FormatError(f"{type!r} has no values: {at.kind_name} {at.name!r}")

    def array(self, type: Array, depth: int) -> Codec[object]:
        element = strip(type.type)
        if isinstance(element, Int) and element.size == 1 and not element.is_bool:
            if element.name == "char":
                return TextCodec(type.length)
            if not element.signed:
                return BytesCodec(type.length)
        return ArrayCodec(self.codec(type.type, depth + 1), type.length)

    def places(self, type: Struct | Union, depth: int) -> list[Place]:
        return [(name, self.codec(member, depth + 1), offset, bits) for name, member, offset, bits in type.members]

    # A data section is a struct of its variables: that is how the map's one value reads.
    def section(self, type: Datasec, depth: int) -> Codec[object]:
        places: list[Place] = [
            (variable.name, self.codec(variable.type, depth + 1), 8 * offset, 0)
            for variable, offset, _ in type.variables
            if isinstance(variable, Var)
        ]
        return StructCodec(type.name, type.size, places, 8, self.byteorder)


def _int(type: Int, order: ByteOrder) -> Codec[object]:
    if type.size not in _INT_SIZES:
        raise FormatError(f"{type!r} has {type.size} bytes")
    if type.is_bool:
        return IntCodec(type.size, False, order, "bool", TRUTH)
    return IntCodec(type.size, type.signed, order)


def _special(type: Typedef) -> Codec[object] | None:
    name = type.name
    if name in _ORDERED:
        order, size = _ORDERED[name]
        bare = strip(type)
        if isinstance(bare, Int) and bare.size == size:
            return IntCodec(size, False, "big" if order == "big" else "little", name.strip("_"))
    if name in _ADDRESSES:
        from rawbpf.btf.layout import size_of
        from rawbpf.codec.address import address_codec

        bare = strip(type)
        # ipv4 and ipv6 stand for words in network order, mac for bytes: others call other things so.
        inner = type.type if name == "ipv4" else bare.type if isinstance(bare, Array) else None
        if inner is None or size_of(type) != _ADDRESSES[name]:
            return None
        if (name == "mac" and size_of(inner) == 1) or (isinstance(inner, Typedef) and inner.name == "__be32"):
            return address_codec(name)
    return None


def _prefix(type: Struct, order: ByteOrder) -> Codec[object] | None:
    # struct ipv4_prefix { __u32 prefixlen; ipv4 address; }, and the same of ipv6.
    family = type.name.removesuffix("_prefix")
    if family not in ("ipv4", "ipv6") or family == type.name or len(type.members) != 2:
        return None
    (_, length, *first), (_, address, *second) = type.members
    bare = strip(length)
    if not isinstance(bare, Int) or bare.size != 4 or bare.signed or not isinstance(address, Typedef):
        return None
    if [*first, *second] != [0, 0, 32, 0] or address.name != family or _special(address) is None:
        return None
    from rawbpf.codec.prefix import PrefixCodec

    return PrefixCodec(family, order)
