"""BTF of functions that were not compiled from C: as much as the verifier wants of callbacks.

It asks for a record per function; of a static one it takes the prototype on trust.
Source: kernel/bpf/verifier.c:check_btf_func, check_ld_imm (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.build import Builder
from rawbpf.btf.ext import pack_func_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.asm.label import Function


def describe_functions(
    functions: list[tuple[Function, int]], byteorder: Literal["little", "big"]
) -> tuple[bytes, bytes]:
    """Return (BTF, func_info) for `functions` and the slots that they begin at, the main program first."""
    builder = Builder(byteorder)
    number = builder.int("long long", 8, signed=True)
    starts: list[tuple[int, int]] = []
    for function, slot in functions:
        parameters = [(f"r{i}", number) for i in range(1, function.parameters + 1)]
        prototype = builder.func_proto(number, parameters)
        linkage = "static" if starts else "global"
        starts.append((slot, builder.func(_identifier(function.name), prototype, linkage)))
    return builder.to_bytes(), pack_func_info(starts, byteorder)


def _identifier(name: str) -> str:
    # The kernel wants C's names, of functions to which nothing refers by them.
    plain = "".join(each if each.isascii() and each.isalnum() else "_" for each in name)
    return f"_{plain}" if plain[:1].isdigit() else plain
