"""BPF instructions: the class, both byte orders' encodings, builders, and text in the kernel's spelling.

Pure: nothing of files, maps or kernels.
"""

from __future__ import annotations

from rawbpf.asm.instruction import (
    FunctionReference,
    Instruction,
    KernelReference,
    LabelReference,
    Line,
    MapReference,
    SymbolReference,
    decode,
    encode,
    slots,
)
from rawbpf.asm.label import Function, Label, Resolved, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm import build as build
    from rawbpf.asm.assembler import assemble as assemble
    from rawbpf.asm.disassembler import disassemble as disassemble
    from rawbpf.asm.disassembler import disassemble_jited as disassemble_jited

__all__ = [
    "Function",
    "FunctionReference",
    "Instruction",
    "KernelReference",
    "Label",
    "LabelReference",
    "Line",
    "MapReference",
    "Resolved",
    "SymbolReference",
    "decode",
    "encode",
    "resolve",
    "slots",
]


# What reads and writes text costs an import of `re`, or more.
_HOMES = {"assemble": "assembler", "disassemble": "disassembler", "disassemble_jited": "disassembler"}


def __getattr__(name: str) -> object:
    if name == "build":
        return __import__("rawbpf.asm.build", fromlist=[name])
    if name in _HOMES:
        value: object = getattr(__import__(f"rawbpf.asm.{_HOMES[name]}", fromlist=(name,)), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
