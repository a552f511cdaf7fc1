"""The BTF in a file: an object, a kernel (`vmlinux`), a module (`.ko`), or nothing but BTF.

Of an object these are the types as the compiler wrote them, not as the kernel takes them.
"""

from __future__ import annotations

from rawbpf.btf.btf import Btf
from rawbpf.btf.kind import MAGIC
from rawbpf.elf.container import read
from rawbpf.errors import FormatError

_MAGICS = (MAGIC.to_bytes(2, "little"), MAGIC.to_bytes(2, "big"))
STARTS = (b"\x7fELF", *_MAGICS)
"""How a file begins that may have types."""


def read_types(data: bytes, name: str, base: Btf | None = None) -> Btf:
    """Return the types in `data`, a BTF or an ELF file of any machine with a `.BTF` section.

    `name`: the file's, for messages. `base`: what they continue, if they are a module's. A module that brings a base
    of its own (`.BTF.base`) gets that, moved to `base` if it is given.

    Raises: FormatError; ImportError without pyelftools, for an ELF file.
    """
    if data[:2] in _MAGICS:
        return Btf.from_bytes(data, base)
    if not data.startswith(STARTS):
        raise FormatError(f"{name}: neither BTF nor an ELF file (it begins with {bytes(data[:4])!r})", 0)
    container = read(data, name, any_machine=True)
    section = container.find(".BTF")
    if section is None:
        raise FormatError(f"{name}: has no .BTF section: compile with -g, a kernel with CONFIG_DEBUG_INFO_BTF=y")
    own_base = container.find(".BTF.base")
    if own_base is None:
        return Btf.from_bytes(bytes(section.content), base)
    split = Btf.from_bytes(bytes(section.content), Btf.from_bytes(bytes(own_base.content)))
    return split if base is None else split.rebase(base)
