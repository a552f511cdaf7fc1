"""docs/reference: the tables that were written by hand have what the code has, no more and no less."""

from __future__ import annotations

import ast
import re
import runpy
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import rawbpf
import rawbpf.errors
from rawbpf.cli.parser import make_parser
from rawbpf.codec import codec_for
from rawbpf.codec.name import NAMES
from rawbpf.map.types import CLASSES
from rawbpf.program.attach import obstacle
from rawbpf.spec.section import Section, sections
from rawbpf.uapi.names import attach_type_name, map_type_name, prog_type_name

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
    reason = obstacle(section, "category/name")
    method = re.search(r": (attach_\w+)\(", reason)
    attaches = f"by `{method[1]}()`" if method else "no" if reason else "yes"
    return [shown, prog_type_name(section.prog_type) + flags, attach_type, attaches]


def test_the_sections_are_those_of_the_table_in_its_order() -> None:
    assert rows(page("reference/sections.md"))[2:] == [row_of(section) for section in sections()]


def test_the_names_of_types_are_those_that_codec_for_takes() -> None:
    listed = [name for row in rows(below(page("reference/codec.md"), "Names"))[2:] for name in row[0].split()]
    names = {name.strip("`,") for name in listed}
    assert names - {"T[N]", "T[N][M]", "u8[N]"} == set(NAMES)
    for name in names:
        codec_for(name.replace("T", "u16").replace("[N]", "[4]").replace("[M]", "[2]"))


def commands(parser: ArgumentParser, words: str = "rawbpf") -> Iterator[tuple[str, ArgumentParser]]:
    """Yield each command, as it is typed without its operands, and its parser."""
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    for word, each in (pair for some in choices for pair in some.items()):
        yield from commands(each, f"{words} {word}")
    if not choices:
        yield words, parser


def test_every_command_is_documented_with_the_options_that_it_takes() -> None:
    for words, parser in commands(make_parser()):
        operands = [str(action.metavar) for action in parser._actions if not action.option_strings]
        section = below(page("reference/cli.md"), " ".join([words, *operands]))
        first = {row[0] for row in rows(section) if row[0].startswith("`")}
        documented = {word for cell in first for word in re.findall(r"(?<![\w-])(?:--[a-z]+|-[a-z])\b", cell)}
        documented |= {cell.strip("`") for cell in first}.intersection(operands)
        actual = {name for action in parser._actions for name in action.option_strings or [str(action.metavar)]}
        assert documented == actual, words


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


def test_every_public_name_of_the_root_is_in_a_table_of_names() -> None:
    named = {name for page in NAMED_PAGES for name in names(page)}
    assert {f"rawbpf.{name}" for name in rawbpf._HOMES} <= named


NAMED_PAGES = [
    path.name
    for path in sorted((DOCS / "reference").glob("*.md"))
    if re.search("^::: ", path.read_text(encoding="utf-8"), re.MULTILINE)
]
TABLES = runpy.run_path(str(DOCS / "config/names.py"))


def table(name: str) -> list[list[str]]:
    """Return the rows of a page's table of names."""
    return rows(page(f"reference/{name}").partition("<!-- names -->")[2].partition("<!-- /names -->")[0])[2:]


def names(name: str) -> set[str]:
    return {row[0].strip("`").partition("(")[0] for row in table(name)}


def entries(name: str) -> list[str]:
    return re.findall(r"^::: (\S+)$", page(f"reference/{name}"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMED_PAGES)
def test_a_page_begins_with_the_names_that_the_code_has(name: str) -> None:
    text = page(f"reference/{name}")
    assert text == TABLES["refreshed"](text), f"run: {TABLES['COMMAND']}"
    assert text.index("<!-- names -->") < text.index("\n::: ")


def resolved(name: str) -> object:
    module, _, member = name.rpartition(".")
    return import_module(name) if _is_module(name) else getattr(import_module(module), member)


def public(module: ModuleType) -> set[str]:
    """Return the classes and functions that a module defines, as the interpreter sees them."""
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return {
        name
        for name in listed
        if getattr(getattr(module, name), "__module__", "") == module.__name__ and callable(getattr(module, name))
    }


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize("name", NAMED_PAGES)
def test_a_table_of_names_is_complete_and_what_it_names_can_be_imported(name: str) -> None:
    shown = {id(resolved(each)): each for each in names(name)}
    for entry in entries(name):
        found = resolved(entry)
        chosen = re.search(
            rf"^::: {re.escape(entry)}\n(?: +.*\n)*? +members: \[(.*)\]", page(f"reference/{name}"), re.MULTILINE
        )
        members = [found]
        if isinstance(found, ModuleType):
            members = [getattr(found, each) for each in (chosen[1].split(", ") if chosen else public(found))]
        missing = [member for member in members if id(member) not in shown]
        assert not missing, entry


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize("name", NAMED_PAGES)
def test_a_table_of_names_has_the_methods_and_properties_of_each_class(name: str) -> None:
    for row in table(name):
        found = resolved(row[0].strip("`").partition("(")[0])
        if isinstance(found, type) and "more" not in row[2]:
            own = {
                each
                for each, value in vars(found).items()
                if not each.startswith("_")
                and (callable(value) or isinstance(value, property | classmethod | staticmethod))
            }
            shown = {each.strip("`()") for each in row[2].split()}
            assert own <= shown, f"{found}: {own - shown}"


def test_every_package_has_a_page_and_the_index_has_every_page() -> None:
    pages = {path.stem for path in (DOCS / "reference").glob("*.md")} - {"index"}
    packages = {
        path.stem
        for path in (ROOT / "rawbpf").iterdir()
        if not path.stem.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert packages <= pages, "write docs/reference/<package>.md; another one there shows how"
    assert set(re.findall(r"\(([\w-]+)\.md\)", page("reference/index.md"))) == pages


def test_the_files_of_maps_that_the_architecture_names_exist() -> None:
    table = page("explanation/architecture.md").partition("\n### Maps\n")[2].partition("\n### ")[0]
    named = {word for row in rows(table)[2:] for cell in row for word in re.findall(r"`(\w+)`", cell)}
    files = {path.stem for path in (ROOT / "rawbpf/map").glob("*.py")}
    assert named <= files
    assert {"base", "family", "slot"} <= named


VERBS = runpy.run_path(str(DOCS / "config/verbs.py"))


def marked(name: str) -> dict[str, dict[str, str]]:
    """Return a table of verbs: the cells of each type of map, by their headings."""
    found = re.search(rf"<!-- verbs {name} -->\n(.*?)<!-- /verbs -->", page("reference/map-verbs.md"), re.DOTALL)
    assert found
    headings, _, *lines = rows(found[1])
    return {cells[0].strip("`"): dict(zip(headings[1:], cells[1:], strict=True)) for cells in lines}


def test_the_verbs_of_each_type_are_those_of_its_class() -> None:
    text = page("reference/map-verbs.md")
    assert text == VERBS["refreshed"](text), f"run: {VERBS['COMMAND']}"


@pytest.mark.needs("kernel")
def test_the_tables_of_verbs_say_what_objects_have() -> None:
    # Told by hand, as users meet them, so that the tables are not only what wrote them thinks.
    one, many = marked("one"), marked("many")
    assert set(one) == {map_type_name(number) for number in CLASSES}
    with rawbpf.Map.create("array", value="u64", max_entries=2, flags=0) as array:
        with pytest.raises(AttributeError):
            del array[0]  # type: ignore[attr-defined]  # that there is no such thing is the point
        assert not hasattr(array, "drain")
        assert one["array"]["`del m[k]`"] == many["array"]["`drain`"] == ""
        assert len(array) == 2
        assert many["array"]["`for` `len`"] == one["array"]["`m[k]`"] == "●"
    assert one["queue"]["its own"] == "`peek` `push`"
    assert "xskmap" in many
    assert "ringbuf" not in many


def test_verbs_that_a_class_has_only_some_of_need_columns_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"ArrayMap has only \['put'\]"):
        VERBS["mark"](rawbpf.ArrayMap, "put, drain", ("put", "drain"))
