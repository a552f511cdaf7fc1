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
