"""Linking: the variables of `.kconfig` that several objects declare, and where each comes to lie.

Source: tools/lib/bpf/libbpf.c:bpf_object__collect_externs (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.layout import align_of
from rawbpf.errors import SpecError
from rawbpf.spec.config import ConfigSpec
from rawbpf.spec.map import KCONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData


def declared(files: Sequence[ObjectData]) -> dict[str, ConfigSpec]:
    """Return for each variable that `files` declare the one that stands for all, `weak` if all are.

    It is the first, or the first that a value was set for. Changes `weak` of the variables in `files`.
    Raises: SpecError where the types or the values of two differ.
    """
    out: dict[str, ConfigSpec] = {}
    for file in files:
        for name, variable in file.variables.items():
            if not isinstance(variable, ConfigSpec):
                continue
            known = out.setdefault(name, variable)
            if known.size != variable.size or str(known.type) != str(variable.type):
                raise SpecError(f"variable {name!r} of {KCONFIG} has not the same type in all files")
            if known.given and variable.given and known.value != variable.value:
                raise SpecError(f"variable {name!r} of {KCONFIG} was set to {known.value!r} and {variable.value!r}")
            chosen = variable if variable.given and not known.given else known
            chosen.weak = known.weak and variable.weak
            out[name] = chosen
    return out


def lay_out(variables: Mapping[str, ConfigSpec]) -> tuple[MapSpec, dict[str, int]]:
    """Return a map of `variables` with the values that were set, and by their names the bytes at which they begin.

    As libbpf lays them out: those of the greatest alignment first, then the smaller ones, then by name.
    """
    places: dict[str, int] = {}
    end = 0
    ordered = sorted(variables.values(), key=lambda variable: (-_align(variable), variable.size, variable.name))
    for variable in ordered:
        places[variable.name] = start = -(-end // _align(variable)) * _align(variable)
        end = start + variable.size
    whole = ordered[0].map.copy()
    whole.value_size, whole.contents = end, None
    for variable in ordered:
        if variable.given:
            whole.write(places[variable.name], variable.map.read(variable.offset, variable.size))
    return whole, places


def _align(variable: ConfigSpec) -> int:
    return 1 if variable.type is None else align_of(variable.type)
