"""What an object declares and others define: variables of `.kconfig`, which the kernel's configuration gives a value.

The symbol table says what is undefined, BTF what it is. Where the two disagree nothing is declared, and
only code that refers to it is refused.

Source: tools/lib/bpf/libbpf.c:bpf_object__collect_externs (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import MapReference
from rawbpf.btf.text import declare
from rawbpf.btf.types import Datasec, Var
from rawbpf.elf.container import SHN_UNDEF, STB_GLOBAL, STB_WEAK, STT_NOTYPE
from rawbpf.errors import FormatError, SpecError
from rawbpf.spec.config import ConfigSpec, config_kind
from rawbpf.spec.map import KCONFIG, MapSpec
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.btf import Btf
    from rawbpf.elf.container import Container
    from rawbpf.spec.object import ObjectData


def read_externs(elf: Container, out: ObjectData) -> dict[str, MapReference]:
    """Add to `out` what the object declares, and return what instructions refer to by the names of symbols.

    Raises: SpecError for a type that no configuration gives; FormatError for damaged bytes.
    """
    weak = {
        symbol.name: symbol.bind == STB_WEAK
        for symbol in elf.symbols
        if symbol.section == SHN_UNDEF and symbol.bind in (STB_GLOBAL, STB_WEAK) and symbol.type == STT_NOTYPE
    }
    if not weak or out.btf is None:
        return {}
    return _kconfig(out.btf, weak, out)


def _kconfig(btf: Btf, weak: dict[str, bool], out: ObjectData) -> dict[str, MapReference]:
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
    references = {}
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
        references[name] = MapReference(KCONFIG, offset)
    if references:
        out.maps[KCONFIG] = spec
    return references
