"""The global variables worth showing beside the maps: numbers that programs change, such as `dropped`."""

from __future__ import annotations

from dataclasses import dataclass

from rawbpf.cli.leaf import kind_of
from rawbpf.cli.text import printable, text
from rawbpf.codec import codec_for
from rawbpf.codec.scalar import FloatCodec, IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.cli.names import Names
    from rawbpf.loader.object import Object
    from rawbpf.loader.spec import ObjectSpec
    from rawbpf.loader.variable import Variable


@dataclass(frozen=True, slots=True)
class Reading:
    """What a variable was: `kind` is what its number means."""

    name: str
    value: object
    kind: str

    def text(self, names: Names, separator: str = " ") -> str:
        """Return it for human eyes; `separator` stands between a date and its time."""
        name = names.of(self.kind, self.value)
        return text(self.value, self.kind, separator) + (f"({printable(name)})" if name else "")


class Globals:
    """The variables of a loaded object that are numbers, truth values or enumerators, and not constant."""

    def __init__(self, spec: ObjectSpec, obj: Object) -> None:
        self._variables: list[tuple[Variable, str]] = []
        for name, each in spec.variables.items():
            if each.constant or each.type is None or name not in obj.variables:
                continue
            codec = codec_for(each.type, byteorder=each.byteorder)
            # A pointer, such as keeps a type in BTF, counts nothing.
            if isinstance(codec, (IntCodec, FloatCodec)) and codec.size == each.size and codec.name != "ptr":
                self._variables.append((obj.variables[name], kind_of(codec)))

    def read(self) -> list[Reading]:
        """Return all of them as they are now."""
        return [Reading(variable.name, variable.value, kind) for variable, kind in self._variables]
