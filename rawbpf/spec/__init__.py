"""What an object asks for, before any kernel has seen it: maps, variables, programs and sections.

Plain data that users may edit; nothing here reads files or makes system calls.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.spec.config import ConfigSpec as ConfigSpec
    from rawbpf.spec.ksym import KsymSpec as KsymSpec
    from rawbpf.spec.map import MapSpec as MapSpec
    from rawbpf.spec.object import ObjectData as ObjectData
    from rawbpf.spec.program import ProgramSpec as ProgramSpec
    from rawbpf.spec.section import Section as Section
    from rawbpf.spec.section import find_section as find_section
    from rawbpf.spec.section import register_section as register_section
    from rawbpf.spec.symbol import Symbol as Symbol
    from rawbpf.spec.variable import VariableSpec as VariableSpec

_HOMES = {
    "ConfigSpec": "config",
    "KsymSpec": "ksym",
    "MapSpec": "map",
    "ObjectData": "object",
    "ProgramSpec": "program",
    "Section": "section",
    "Symbol": "symbol",
    "VariableSpec": "variable",
    "find_section": "section",
    "register_section": "section",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(__import__(f"rawbpf.spec.{_HOMES[name]}", fromlist=[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
