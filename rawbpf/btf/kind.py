"""The numbers of BTF's kinds, and what else its format fixes.

Source: include/uapi/linux/btf.h (v6.12)
"""

from __future__ import annotations

MAGIC = 0xEB9F
HEADER_SIZE = 24
MAX_DEPTH = 64
"""How many types may follow from one to the next; the kernel's own limit is 32 (MAX_RESOLVE_DEPTH)."""

KINDS = (
    "void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile", "const", "restrict", "func",
    "func_proto", "var", "datasec", "float", "decl_tag", "type_tag", "enum64",
)  # fmt: skip
"""The kernel's words for the kinds, by their numbers."""

(
    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(1, 20)  # fmt: skip

LINKAGES = ("static", "global", "extern")
"""The words for the linkage of functions and variables, by their numbers."""
