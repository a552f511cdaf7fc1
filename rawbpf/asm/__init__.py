"""BPF instructions: the class, both byte orders' encodings, builders and the kernel's spelling.

Pure: nothing of files, maps or kernels.
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    FunctionReference,
    Instruction,
    Line,
    MapReference,
    decode,
    encode,
    slots,
)

__all__ = [
    "FunctionReference",
    "Instruction",
    "Line",
    "MapReference",
    "decode",
    "encode",
    "slots",
]
