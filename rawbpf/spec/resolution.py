"""Which of several objects defines a name for all of them, and whether they agree on what it is.

A strong definition goes before weak ones, and of weak ones the first counts. Knows nothing of where things come to lie.
Source: tools/lib/bpf/linker.c:linker_append_elf_sym, glob_syms_match (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.core_compare import Comparison
from rawbpf.btf.text import declare
from rawbpf.btf.types import Array, strip
from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from rawbpf.btf.types import Type
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.symbol import Symbol

    V = TypeVar("V", str, int)

_NUMBERS = (
    "map_type",
    "key_size",
    "value_size",
    "max_entries",
    "map_flags",
    "map_extra",
    "numa_node",
    "pinning",
)


def resolve(files: Sequence[ObjectData]) -> dict[str, tuple[int, Symbol]]:
    """Return for each name that `files` define for one another the file's number and its symbol.

    Raises: SpecError for a name with two strong definitions, and where files disagree on what a name is.
    """
    chosen: dict[str, tuple[int, Symbol]] = {}
    for number, file in enumerate(files):
        for name, symbol in file.symbols.items():
            if not symbol.defined:
                continue
            if name in chosen and not symbol.weak:
                other, first = chosen[name]
                if not first.weak:
                    raise SpecError(
                        f"{symbol.kind} {name!r} is defined both in {files[other].name} and in {file.name}: "
                        "make one of them static or __weak, or declare it extern"
                    )
                chosen[name] = number, symbol
            chosen.setdefault(name, (number, symbol))
    comparison = Comparison()
    for number, file in enumerate(files):
        for name, symbol in file.symbols.items():
            if name in chosen and chosen[name][0] != number:
                _check(files, chosen[name], (number, symbol), comparison)
    return chosen


def one_of(files: Sequence[ObjectData], what: str, of: Callable[[ObjectData], V]) -> V:
    """Return the value that all `files` have that have one. Raises: SpecError where two differ."""
    first = files[0]
    for file in files:
        if not of(first):
            first = file
        elif of(file) and of(file) != of(first):
            raise SpecError(f"{first.name} has the {what} {of(first)!r} and {file.name} {of(file)!r}: they must agree")
    return of(first)


def _check(
    files: Sequence[ObjectData], chosen: tuple[int, Symbol], other: tuple[int, Symbol], comparison: Comparison
) -> None:
    (definer, definition), (number, symbol) = chosen, other
    name, where, here = symbol.name, files[definer].name, files[number].name
    if symbol.kind and symbol.kind != definition.kind:
        raise SpecError(f"{name!r} is a {definition.kind} in {where} and a {symbol.kind} in {here}")
    if symbol.kind == "map":
        own, theirs = files[definer].maps.get(name), symbol.map or files[number].maps.get(name)
        difference = None if own is None or theirs is None else next(_differences(own, theirs, comparison), None)
        if difference is not None:
            raise SpecError(f"map {name!r} has not the same {difference} in {where} and in {here}")
    elif symbol.type and definition.type and not _same(symbol.type, definition.type, comparison):
        raise SpecError(
            f"{where} defines '{declare(definition.type, name)}', and for {here} it is '{declare(symbol.type, name)}'"
        )


def _same(declared: Type, defined: Type, comparison: Comparison) -> bool:
    declared, defined = strip(declared), strip(defined)
    if isinstance(declared, Array) and isinstance(defined, Array) and not declared.length:
        return _same(declared.type, defined.type, comparison)
    return comparison.matching(declared, defined)


def _differences(own: MapSpec, theirs: MapSpec, comparison: Comparison) -> Iterator[str]:
    for name in _NUMBERS:
        if getattr(own, name) != getattr(theirs, name):
            yield name
    for side, one, other in (("key type", own.key, theirs.key), ("value type", own.value, theirs.value)):
        if one is not None and other is not None and not comparison.matching(one, other):
            yield side
    if own.inner is not None and theirs.inner is not None:
        for name in _differences(own.inner, theirs.inner, comparison):
            yield f"{name} of inner maps"
    elif own.inner is not theirs.inner:
        yield "values"
