"""docs/reference: the tables that were written by hand have what the code has, no more and no less."""

from __future__ import annotations

import ast
import re
from argparse import ArgumentParser
from pathlib import Path

import rawbpf.errors
from rawbpf.cli.parser import make_parser
from rawbpf.codec import codec_for
from rawbpf.codec.name import _NAMES
from rawbpf.program.attach import obstacle
from rawbpf.spec.section import Section, sections
from rawbpf.uapi.names import attach_type_name, prog_type_name

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in `text`."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]


def below(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def row_of(section: Section) -> list[str]:
    name = section.pattern.removesuffix("+")
    shown = f"`{name}/...`" if section.pattern.endswith("+") else f"`{name}`"
    flags = (", sleepable" if section.sleepable else "") + (", frags" if section.frags else "")
    attach_type = attach_type_name(section.expected_attach_type) if section.expected_attach_type else ""
    attaches = "no" if obstacle(section, "category/name") else "yes"
    return [shown, prog_type_name(section.prog_type) + flags, attach_type, attaches]


def test_the_sections_are_those_of_the_table_in_its_order() -> None:
    assert rows(page("reference/sections.md"))[2:] == [row_of(section) for section in sections()]


def test_the_names_of_types_are_those_that_codec_for_takes() -> None:
    listed = [name for row in rows(below(page("reference/codec.md"), "Names"))[2:] for name in row[0].split()]
    names = {name.strip("`,") for name in listed}
    assert names - {"T[N]", "T[N][M]", "u8[N]"} == set(_NAMES)
    for name in names:
        codec_for(name.replace("T", "u16").replace("[N]", "[4]").replace("[M]", "[2]"))


def run_parser() -> ArgumentParser:
    commands = next(action for action in make_parser()._actions if isinstance(action.choices, dict))
    assert isinstance(commands.choices, dict)
    assert list(commands.choices) == ["run"], "a new command needs a section in reference/cli.md"
    parser = commands.choices["run"]
    assert isinstance(parser, ArgumentParser)
    return parser


def test_the_options_of_run_are_those_that_it_takes() -> None:
    table = below(page("reference/cli.md"), "rawbpf run OBJ")
    first = {row[0] for row in rows(table) if row[0].startswith("`")}
    documented = {word for cell in first for word in re.findall(r"--[a-z]+|-h|OBJ", cell)}
    actual = {name for action in run_parser()._actions for name in action.option_strings or [str(action.metavar)]}
    assert documented == actual


def test_the_environment_variables_are_those_that_are_read() -> None:
    read = set()
    for path in (ROOT / "rawbpf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                read |= set(re.findall(r"^RAWBPF_\w+$", node.value))
    documented = {row[0].strip("`") for row in rows(page("reference/environment.md"))[2:]}
    assert documented == read


def test_every_error_is_in_the_table_with_its_base() -> None:
    classes = {
        name: value
        for name, value in vars(rawbpf.errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(page("how-to/handle-errors.md"))[2:]}
    assert set(table) == set(classes) - {"BpfError"}
    for name, base in table.items():
        if base:
            assert base in [each.__name__ for each in classes[name].__mro__]
        assert issubclass(classes[name], rawbpf.BpfError) == (base != "ValueError")


def test_the_reference_names_only_what_exists() -> None:
    for path in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            module, _, member = name.rpartition(".")
            found = __import__(name if member.islower() and _is_module(name) else module, fromlist=["x"])
            assert _is_module(name) or hasattr(found, member), name


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def test_every_public_name_of_the_root_is_on_a_reference_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"::: \S+\.(\w+)$", pages, re.MULTILINE)) | set(re.findall(r"\w+", pages))
    assert {name for name in rawbpf._HOMES if name not in vars(rawbpf.errors)} - named == set()
