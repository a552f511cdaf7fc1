"""BTF for tests: one blob with all kinds that the kernel accepts, and ways to look at every corner of a Btf."""

from __future__ import annotations

from typing import Literal

from rawbpf.btf import Btf, Builder, Type
from rawbpf.btf.layout import align_of, size_of
from rawbpf.errors import FormatError

VMLINUX = "/sys/kernel/btf/vmlinux"
ByteOrder = Literal["little", "big"]

# What only some types have; every one is read by `walk`.
_PARTS = (
    "type", "index_type", "length", "members", "values", "signed", "size", "bits", "offset", "is_char", "is_bool",
    "is_union", "return_type", "params", "variadic", "linkage", "variables", "component_index", "name",
)  # fmt: skip


def sample(byteorder: ByteOrder = "little") -> tuple[bytes, dict[str, int]]:
    """Return the BTF of a small program with all 19 kinds, and the ids of its types by a word for each."""
    b = Builder(byteorder)
    ids = {}
    ids["int"] = b.int("int", 4, signed=True)
    ids["unsigned int"] = b.int("unsigned int", 4)
    ids["char"] = b.int("char", 1, signed=True)
    ids["_Bool"] = b.int("_Bool", 1, bool=True)
    ids["double"] = b.float("double", 8)
    ids["u64"] = b.typedef("u64", b.int("unsigned long long", 8))
    ids["array"] = b.array(ids["char"], 16, ids["int"])
    ids["fwd"] = b.fwd("task")
    ids["const"] = b.const(ids["int"])
    ids["volatile"] = b.volatile(ids["const"])
    ids["type_tag"] = b.type_tag("user", ids["volatile"])
    ids["ptr"] = b.ptr(ids["type_tag"])
    ids["restrict"] = b.restrict(ids["ptr"])
    ids["union"] = b.union("number", 8, [("i", ids["int"], 0), ("d", ids["double"], 0)])
    ids["enum"] = b.enum("mode", [("OFF", 0), ("ON", 7), ("BROKEN", -1)], signed=True)
    ids["enum64"] = b.enum64("big", [("LITTLE", 1), ("BIG", 1 << 40)])
    ids["anonymous"] = b.struct("", 8, [("left", ids["int"], 0), ("right", ids["int"], 32)])
    ids["task"] = b.ptr(ids["fwd"])
    ids["self"] = b.ptr(len(b) + 1)
    ids["struct"] = b.struct(
        "event",
        72,
        [
            ("ts", ids["u64"], 0),
            ("comm", ids["array"], 64),
            ("low", ids["unsigned int"], 192, 3),
            ("high", ids["unsigned int"], 195, 5),
            ("mode", ids["enum"], 224),
            ("next", ids["self"], 256),
            ("number", ids["union"], 320),
            ("", ids["anonymous"], 384),
            ("task", ids["task"], 448),
            ("ok", ids["_Bool"], 512),
        ],
    )
    ids["func_proto"] = b.func_proto(ids["int"], [("ctx", b.ptr(0)), ("flags", ids["u64"])])
    ids["variadic"] = b.func_proto(0, [("", ids["int"])], variadic=True)
    ids["func"] = b.func("count", ids["func_proto"])
    ids["static func"] = b.func("helper", ids["func_proto"], "static")
    ids["var"] = b.var("total", ids["u64"])
    ids["static var"] = b.var("hidden", ids["struct"], "static")
    ids["datasec"] = b.datasec(".data", 80, [(ids["static var"], 8, 72), (ids["var"], 0, 8)])
    ids["decl_tag"] = b.decl_tag("counted", ids["struct"])
    ids["member tag"] = b.decl_tag("stamp", ids["struct"], 0)
    return b.to_bytes(), ids


def shapes(b: Builder) -> None:
    """Add structs, unions and enums of all the ways in which members can lie."""
    char, short, int_, long = b.int("char", 1), b.int("short", 2), b.int("unsigned int", 4), b.int("long long", 8)
    bool_, wide = b.int("_Bool", 1, bool=True), b.int("__int128", 16, signed=True)
    b.struct("empty", 0, [])
    b.struct("only_padding", 24, [])
    b.struct("natural", 16, [("a", char, 0), ("b", int_, 32), ("c", long, 64)])
    b.struct("aligned_member", 128, [("a", char, 0), ("b", int_, 512)])
    b.struct("aligned_size", 64, [("a", long, 0)])
    packed = b.struct("packed", 13, [("a", char, 0), ("b", long, 8), ("c", int_, 72)])
    b.struct("packed_by_size", 12, [("a", long, 0), ("b", int_, 64)])
    b.struct("packed_gap", 16, [("a", char, 0), ("b", long, 24), ("c", char, 120)])
    b.struct("holds_packed", 32, [("a", char, 0), ("p", packed, 32), ("b", long, 192)])
    b.struct("flexible", 8, [("a", int_, 0), ("b", b.array(long, 0), 64)])
    b.struct("far", 1 << 20, [("a", char, 0), ("b", char, 1 << 22)])
    b.struct("wide", 32, [("a", char, 0), ("b", wide, 128)])
    b.struct("wide_packed", 24, [("a", long, 0), ("b", wide, 64)])
    b.struct("bits", 8, [("a", int_, 0, 3), ("b", int_, 3, 5), ("c", int_, 8, 20), ("d", int_, 32, 32)])
    b.struct("bits_in_two_units", 8, [("a", int_, 0, 3), ("b", int_, 32, 5)])
    b.struct("bits_apart", 16, [("a", int_, 3, 2), ("b", int_, 17, 9), ("c", char, 64), ("d", long, 77, 40)])
    b.struct("bits_mixed", 8, [("a", char, 0, 4), ("b", short, 4, 12), ("c", int_, 16, 16), ("d", bool_, 32, 1)])
    b.struct("bits_across", 8, [("a", int_, 0, 30), ("b", int_, 30, 20), ("c", char, 56)])
    b.struct("bits_at_the_end", 12, [("a", int_, 0), ("b", char, 90, 6)])
    b.union("plain_union", 8, [("a", char, 0), ("b", long, 0)])
    b.union("padded_union", 8, [("a", char, 0), ("b", int_, 0)])
    b.union("long_union", 64, [("a", long, 0)])
    b.union("packed_union", 5, [("a", int_, 0), ("b", b.array(char, 5), 0)])
    b.union("bit_union", 4, [("a", int_, 0, 3), ("b", int_, 0, 17)])
    inner = b.struct("", 12, [("x", long, 0), ("y", int_, 64)])
    inner_union = b.union("", 16, [("s", inner, 0), ("z", int_, 0)])
    b.struct("nested", 48, [("a", char, 0), ("", inner_union, 64), ("i", b.array(inner, 2), 192)])
    byte, two, eight = (b.enum(f"e{size}", [(f"E{size}", 1)], size) for size in (1, 2, 8))
    b.struct("enums", 24, [("a", byte, 0), ("b", two, 16), ("c", eight, 64), ("d", byte, 128)])
    b.enum64("big", [("BIG", 1 << 40), ("LOW", 1)])
    b.enum64("half", [("HALF", 3 << 30)])
    b.enum64("lowest", [("LOWEST", -1 << 63), ("HIGH", 1 << 40)], signed=True)
    b.enum("negative", [("MINUS", -1), ("PLUS", 1)], signed=True)
    four, twelve, sixteen = b.float("float", 4), b.float("long double", 12), b.float("long double", 16)
    b.struct("floats", 64, [("a", four, 0), ("b", b.float("double", 8), 64), ("c", sixteen, 128), ("d", twelve, 256)])
    size = b.int("ssizetype", 8, signed=True)
    b.struct("other_numbers", 16, [("a", b.int("i32", 4, signed=True), 0), ("b", size, 64)])
    list_ = b.typedef("va_list", b.typedef("__builtin_va_list", b.array(long, 3)))
    b.struct("variadic", 32, [("a", char, 0), ("b", list_, 64)])


def walk(btf: Btf) -> int:
    """Look at every part of every type, as text too. Return how many parts raised FormatError; nothing else may."""
    damaged = 0
    for type in btf:
        for part in (*_PARTS, "__str__", "__repr__"):
            try:
                value = getattr(type, part, None)
                if callable(value):
                    value()
            except FormatError:
                damaged += 1
        damaged += _raises(size_of, type) + _raises(align_of, type) + _raises(Builder().add, type)
    return damaged


def _raises(function: object, type: Type) -> int:
    assert callable(function)
    try:
        function(type)
    except FormatError:
        return 1
    return 0
