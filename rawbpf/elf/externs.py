"""What an object declares and others define: variables of `.kconfig`, and symbols of the kernel in `.ksyms`.

The symbol table says what is undefined, BTF what it is. Where the two disagree nothing is declared, and
only code that refers to it is refused.

Source: tools/lib/bpf/libbpf.c:bpf_object__collect_externs (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import KernelReference, MapReference
from rawbpf.btf.btf import Btf
from rawbpf.btf.fixup import KSYMS
from rawbpf.btf.layout import strip
from rawbpf.btf.text import declare
from rawbpf.btf.types import Datasec, Var, Void
from rawbpf.elf.container import STB_WEAK
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.config import ConfigSpec, config_kind
from rawbpf.spec.ksym import KsymSpec
from rawbpf.spec.map import KCONFIG, MapSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Type
    from rawbpf.elf.container import Container
    from rawbpf.spec.object import ObjectData


class Extern:
    """What an undefined symbol stands for: the `reference` of an instruction to it, and `src` of one that loads it."""

    __slots__ = ("reference", "src")

    def __init__(self, src: int, reference: MapReference | KernelReference) -> None:
        self.src = src
        self.reference = reference


def read_externs(elf: Container, out: ObjectData) -> dict[str, Extern]:
    """Add to `out` what the object declares, and return it by the names of its symbols.

    Raises: SpecError for a type that no configuration gives; FormatError for damaged bytes.
    """
    weak = {symbol.name: symbol.bind == STB_WEAK for symbol in elf.symbols if symbol.is_needed}
    section = elf.find(".BTF")
    if not weak or out.btf is None or section is None:
        return {}
    externs = _kconfig(out.btf, weak, out)
    # As the compiler wrote them: what is loaded into the kernel has none of these types.
    return _ksyms(Btf.from_bytes(bytes(section.content)), weak, len(externs), out) | externs


def _ksyms(btf: Btf, weak: dict[str, bool], first: int, out: ObjectData) -> dict[str, Extern]:
    section = btf.find(KSYMS, Datasec)
    if section is None:
        return {}
    declared: dict[str, Type] = {}
    for symbol, _, _ in section.variables:
        if symbol.name in weak and symbol.linkage == "extern":
            declared.setdefault(symbol.name, strip(symbol.type))
    externs = {}
    for index, name in enumerate(sorted(declared), first):
        type = None if isinstance(declared[name], Void) else declared[name]
        out.ksyms[name] = KsymSpec(name, type, weak=weak[name], index=index)
        externs[name] = Extern(0 if type is None else c.BPF_PSEUDO_BTF_ID, KernelReference(name))
    return externs


def _kconfig(btf: Btf, weak: dict[str, bool], out: ObjectData) -> dict[str, Extern]:
    types = btf.find(KCONFIG, Datasec)
    if types is None or not types.size:
        return {}
    if KCONFIG in out.maps:
        raise SpecError(f"two maps are called {KCONFIG!r}")
    if types.size >= 1 << 31:
        raise FormatError(f"section {KCONFIG!r} of {types.size} bytes is too large for a map")
    spec = MapSpec(
        KCONFIG,
        c.BPF_MAP_TYPE_ARRAY,
        4,
        types.size,
        1,
        map_flags=c.BPF_F_MMAPABLE | c.BPF_F_RDONLY_PROG,
        value=types,
        value_type_id=types.id,
        frozen=True,
        section=KCONFIG,
    )
    externs = {}
    for variable, offset, size in types.variables:
        name = variable.name
        if name not in weak or not isinstance(variable, Var):
            continue
        if offset + size > types.size:
            raise FormatError(f"variable {name!r} ends behind the {types.size} bytes of section {KCONFIG!r}")
        if config_kind(variable.type) is None:
            raise SpecError(
                f"variable '{declare(variable.type, name)}': of section {KCONFIG!r} are bool, enum libbpf_tristate, "
                "char, arrays of char and integers"
            )
        out.variables[name] = ConfigSpec(
            name, spec, offset, size, variable.type, weak=weak[name], byteorder=out.byteorder
        )
        externs[name] = Extern(c.BPF_PSEUDO_MAP_VALUE, MapReference(KCONFIG, offset))
    if externs:
        out.maps[KCONFIG] = spec
    return externs
