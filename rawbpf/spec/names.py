"""What the parts of linked files are called in the whole."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.symbol import Symbol


class Names:
    """New names by file and old one: global names stay, static ones are numbered where theirs is taken.

    `chosen`: the file that defines each global name, and its symbol there.
    """

    def __init__(self, files: Sequence[ObjectData], chosen: Mapping[str, tuple[int, Symbol]]) -> None:
        self._files = files
        self._chosen = chosen
        self.functions: list[dict[str, str]] = []  # programs too
        self.maps: list[dict[str, str]] = []
        taken = set(chosen)
        taken_maps = taken | {name for file in files for name, spec in file.maps.items() if spec.is_data}
        for number, file in enumerate(files):
            maps = [name for name, spec in file.maps.items() if not spec.is_data]
            self.functions.append(self._unique(number, dict.fromkeys((*file.programs, *file.functions)), taken))
            self.maps.append(self._unique(number, maps, taken_maps))

    def is_replaced(self, number: int, name: str) -> bool:
        """Return whether the file's own definition is out, because another file's was chosen."""
        return self._is_global(number, name) and self._chosen[name][0] != number

    def _is_global(self, number: int, name: str) -> bool:
        symbol = self._files[number].symbols.get(name)
        return symbol is not None and symbol.defined

    def _unique(self, number: int, names: Iterable[str], taken: set[str]) -> dict[str, str]:
        out = {}
        for name in names:
            unique, count = name, 1
            while unique in taken and not self._is_global(number, name):
                count += 1
                unique = f"{name}.{count}"
            taken.add(unique)
            out[name] = unique
        return out
