"""BPF instructions: the class, both byte orders' encodings, builders and the kernel's spelling.

Pure: nothing of files, maps or kernels.
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    FunctionReference,
    Instruction,
    LabelReference,
    Line,
    MapReference,
    decode,
    encode,
    slots,
)
from rawbpf.asm.label import Function, Label, Resolved, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm import build as build

__all__ = [
    "Function",
    "FunctionReference",
    "Instruction",
    "Label",
    "LabelReference",
    "Line",
    "MapReference",
    "Resolved",
    "decode",
    "encode",
    "resolve",
    "slots",
]


def __getattr__(name: str) -> object:
    if name == "build":
        return __import__("rawbpf.asm.build", fromlist=[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
