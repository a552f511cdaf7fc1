"""The symbols by which an object can be linked with others: what it defines for them, and what it needs of them.

The symbol table says which there are, BTF what they are. What is the kernel's to give (`.ksyms`, `.kconfig`) is
not among them.
"""

from __future__ import annotations

from rawbpf.btf.types import Func, Var
from rawbpf.elf.container import STB_GLOBAL, STB_WEAK, STT_FUNC, STT_OBJECT
from rawbpf.spec.symbol import Symbol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rawbpf.btf.btf import Btf
    from rawbpf.btf.types import Type
    from rawbpf.elf.container import Container
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.symbol import Kind


def read_symbols(
    elf: Container,
    btf: Btf | None,
    data_sections: Mapping[int, str],
    defined: Collection[tuple[int, int]],
    declared: Mapping[str, MapSpec],
    kernels: Collection[str],
) -> dict[str, Symbol]:
    """Return what the object has and needs, by name.

    `data_sections`: the names of data maps by their section's index; `defined`: where maps are defined, as (section's
    index, byte); `declared`: maps that others define; `kernels`: the names of undefined symbols that stand for
    something of the kernel.
    """
    out: dict[str, Symbol] = {}
    for symbol in elf.symbols:
        if not symbol.name or symbol.name in out or symbol.bind not in (STB_GLOBAL, STB_WEAK):
            continue
        name, weak = symbol.name, symbol.bind == STB_WEAK
        section = elf.section_of(symbol)
        if symbol.is_needed:
            if name not in kernels:
                type = _type(btf, name)
                kind: Kind = "map" if name in declared else "function" if isinstance(type, Func) else "variable"
                out[name] = Symbol(
                    name,
                    kind if type is not None else "",
                    defined=False,
                    weak=weak,
                    type=None if type is None else type.type,
                    map=declared.get(name),
                )
        elif section is None:
            continue
        elif symbol.type == STT_FUNC and section.is_code:
            out[name] = Symbol(name, "function", defined=True, weak=weak, type=_type_of(btf, name, Func))
        elif (section.index, symbol.value) in defined:
            out[name] = Symbol(name, "map", defined=True, weak=weak)
        elif symbol.type == STT_OBJECT and section.index in data_sections:
            out[name] = Symbol(
                name,
                "variable",
                defined=True,
                weak=weak,
                type=_type_of(btf, name, Var),
                section=data_sections[section.index],
                offset=symbol.value,
            )
    return out


def _type(btf: Btf | None, name: str) -> Func | Var | None:
    for type in btf.find_all(name) if btf is not None else ():
        if isinstance(type, (Func, Var)):
            return type
    return None


def _type_of(btf: Btf | None, name: str, kind: type[Func | Var]) -> Type | None:
    found = btf.find(name, kind) if btf is not None else None
    return None if found is None else found.type
