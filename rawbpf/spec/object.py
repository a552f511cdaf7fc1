"""A whole object as data: what `elf` reads and `loader` loads.

Knows neither side. Everything is found by name, and nothing is shared with a copy but what is
immutable.
"""

from __future__ import annotations

from rawbpf.errors import SpecError
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.btf import Btf
    from rawbpf.spec.ksym import KsymSpec
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.spec.symbol import Symbol
    from rawbpf.spec.variable import VariableSpec


class ObjectData:
    """An object's maps, programs, subprograms (`functions`) and variables.

    `btf` is the object's own BTF, `btf_bytes` the same as the kernel takes it (data sections filled
    in); `kernel_version` is the `version` section that kprobe programs needed before Linux 5.0. `file` is
    the whole file, in whose debug information types are looked up that BTF lacks, and into which edits are saved.
    `core_order`: the names of functions in the order in which their CO-RE relocations are to be resolved.
    `ksyms` are the symbols of the kernel that it declares, `symbols` what it has for other objects and needs of them.
    """

    __slots__ = (
        "btf",
        "btf_bytes",
        "byteorder",
        "core_order",
        "file",
        "functions",
        "kernel_version",
        "ksyms",
        "license",
        "maps",
        "name",
        "programs",
        "symbols",
        "variables",
    )

    def __init__(
        self,
        name: str = "",
        *,
        byteorder: Literal["little", "big"] = "little",
        license: str = "",
        kernel_version: int = 0,
        maps: dict[str, MapSpec] | None = None,
        programs: dict[str, ProgramSpec] | None = None,
        functions: dict[str, list[Instruction]] | None = None,
        variables: dict[str, VariableSpec] | None = None,
        btf: Btf | None = None,
        btf_bytes: bytes = b"",
        file: bytes = b"",
        core_order: tuple[str, ...] = (),
        ksyms: dict[str, KsymSpec] | None = None,
        symbols: dict[str, Symbol] | None = None,
    ) -> None:
        self.name = name
        self.byteorder = byteorder
        self.license = license
        self.kernel_version = kernel_version
        self.maps = {} if maps is None else maps
        self.programs = {} if programs is None else programs
        self.functions = {} if functions is None else functions
        self.variables = {} if variables is None else variables
        self.btf = btf
        self.btf_bytes = btf_bytes
        self.file = file
        self.core_order = core_order
        self.ksyms = {} if ksyms is None else ksyms
        self.symbols = {} if symbols is None else symbols

    def find_arena(self) -> MapSpec | None:
        """Return the arena, which an object has one of at most. Raises: SpecError where there are more."""
        arenas = [spec for spec in self.maps.values() if spec.map_type == c.BPF_MAP_TYPE_ARENA]
        if len(arenas) > 1:
            names = " and ".join(repr(spec.name) for spec in arenas)
            raise SpecError(f"an object has one arena at most, and here are {names}")
        return arenas[0] if arenas else None

    def copy(self) -> ObjectData:
        """Return a copy that can be edited without changing this one; variables point into its own maps."""
        # By identity: a variable belongs to the map object, whatever name the map was given since.
        copies = {id(spec): spec.copy() for spec in self.maps.values()}
        variables = {}
        for name, v in self.variables.items():
            of = copies.get(id(v.map)) or copies.setdefault(id(v.map), v.map.copy())
            variables[name] = v.copy(of)
        return ObjectData(
            self.name,
            byteorder=self.byteorder,
            license=self.license,
            kernel_version=self.kernel_version,
            maps={name: copies[id(spec)] for name, spec in self.maps.items()},
            programs={name: program.copy() for name, program in self.programs.items()},
            functions={name: list(code) for name, code in self.functions.items()},
            variables=variables,
            btf=self.btf,
            btf_bytes=self.btf_bytes,
            file=self.file,
            core_order=self.core_order,
            ksyms=dict(self.ksyms),
            symbols=dict(self.symbols),
        )

    def __repr__(self) -> str:
        return (
            f"ObjectData({self.name!r}, {self.byteorder}-endian, "
            f"{len(self.programs)} programs, {len(self.maps)} maps, {len(self.variables)} variables)"
        )
