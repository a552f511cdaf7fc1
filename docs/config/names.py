#!/usr/bin/env python3
"""Writes the table of names that each page of the reference begins with, so that the page tells them without a build.

    docs/config/names.py            names the pages whose table is not what the code has; exit status 1
    docs/config/names.py --write    brings them up to date

The table stands between `<!-- names -->` and `<!-- /names -->` and has what the page's `:::` entries stand
for: where to import it from, the first sentence of its docstring, and what a class has of its own. All of it
is read from the source, nothing is imported.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # as this file may be run from anywhere

from pages import ROOT, refresh

COMMAND = "python3 docs/config/names.py --write"

TABLE = re.compile(r"(?<=^<!-- names -->\n)(.*?)(?=^<!-- /names -->$)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^::: (?P<name>\S+)\n(?P<options>(?: +.*\n)*)", re.MULTILINE)

Definition = ast.ClassDef | ast.FunctionDef | ast.AnnAssign | ast.Assign


def refreshed(page: str) -> str:
    """Return the text of a page with its table as the code has it. Raises: ValueError where it has none."""
    found = [each for entry in ENTRY.finditer(page) for each in definitions_of(entry["name"], entry["options"])]
    shown: dict[Definition, str] = {}
    for module, name, node, _ in found:
        # One that two modules offer is one name, the shorter.
        shown[node] = min(importable(module, name), shown.get(node, f"{module}.{name}"), key=len)
    names = {}
    for module, _, node, text in found:
        cells = (f"`{shown[node]}{arguments(node)}`", first_sentence(text), members(module, node, shown))
        names[shown[node]] = f"| {' | '.join(cells)} |\n"
    if not names:
        return page
    if len(TABLE.findall(page)) != 1:
        raise ValueError("a page with ::: entries has one <!-- names --> with a <!-- /names --> below it")
    table = "| name | what it is | has |\n| --- | --- | --- |\n" + "".join(names.values())
    return TABLE.sub(lambda _: f"\n{table}\n", page)


def definitions_of(name: str, options: str = "") -> Iterator[tuple[str, str, Definition, str]]:
    """Yield what an entry stands for, one object or the public names of a module: module, name, node, docstring."""
    module, wanted = name, None
    if source_of(name) is None:
        module, _, only = name.rpartition(".")
        wanted = [only]
    elif chosen := re.search(r"members: \[(.*)\]", options):
        wanted = chosen[1].split(", ")
    for each, node, text in definitions(module):
        if wanted is None or each in wanted:
            yield module, each, node, text


def source_of(module: str) -> Path | None:
    """Return the file of a module or package, None where there is none."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.exists():
            return candidate
    return None


@cache
def tree_of(module: str) -> ast.Module:
    """Return a module's source, parsed. Raises: ValueError where there is no such module."""
    source = source_of(module)
    if source is None:
        raise ValueError(f"there is no module {module}")
    return ast.parse(source.read_text(encoding="utf-8"))


def definitions(module: str) -> Iterator[tuple[str, Definition, str]]:
    """Yield name, node and docstring of what a module defines for others, and imports for them by `__all__`."""
    tree = tree_of(module)
    exported = assigned(tree, "__all__")
    for node, text in documented(tree.body):
        names = defined_names(node)
        if isinstance(node, ast.ImportFrom):
            offered = {alias.name for alias in node.names if alias.name in exported}
            if offered and node.module:
                yield from (found for found in definitions(node.module) if found[0] in offered)
        elif isinstance(node, Definition) and len(names) == 1:
            # A constant without a description is a detail; a class or function without one still has its name.
            is_listed = names[0] in exported if exported else not names[0].startswith("_")
            if is_listed and (text or not isinstance(node, ast.Assign | ast.AnnAssign)):
                yield names[0], node, text


def documented(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each statement with its docstring, which stands below an assignment."""
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        text = None
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
        elif isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = following.value.value if isinstance(following.value.value, str) else None
        yield node, text or ""


def defined_names(node: ast.stmt) -> list[str]:
    """Return what a statement gives a name."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def assigned(tree: ast.Module | ast.ClassDef, name: str) -> list[str]:
    """Return the strings of an assignment such as `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and defined_names(node) == [name]:
            constants = (each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant))
            return [value for value in constants if isinstance(value, str)]
    return []


def importable(module: str, name: str) -> str:
    """Return the shortest dotted name by which it can be imported."""
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if any(name in names and f"{module}.".startswith(f"{home}.") for home, names in offers(package)):
            return f"{package}.{name}"
    return f"{module}.{name}"


@cache
def offers(package: str) -> list[tuple[str, list[str]]]:
    """Return what a package offers of its modules: what it imports `as` itself, lazily too, or has in `__all__`."""
    tree = tree_of(package)
    exported = assigned(tree, "__all__")
    is_lazy = any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
    imports = [node for node in (ast.walk(tree) if is_lazy else tree.body) if isinstance(node, ast.ImportFrom)]
    return [
        (
            node.module or "",
            [alias.name for alias in node.names if alias.asname == alias.name or alias.name in exported],
        )
        for node in imports
    ]


def arguments(node: Definition) -> str:
    """Return the parameters of a function, without annotations; nothing for what is none."""
    if not isinstance(node, ast.FunctionDef):
        return ""
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"({ast.unparse(node.args)})"


def members(module: str, node: Definition, others: Container[Definition]) -> str:
    """Return the public names that a class has of its own or of bases that are not among `others`, in source order."""
    if not isinstance(node, ast.ClassDef):
        return ""
    found = own_members(node)
    for base in bases(module, node, others):
        found |= {name: call for name, call in own_members(base).items() if name not in found}
    public = [f"`{name}{call}`" for name, call in found.items() if not name.startswith("_")]
    if any(ast.unparse(base).endswith(("Enum", "IntFlag")) for base in node.bases) and len(public) > 12:
        return f"{public[0]} and {len(public) - 1} more"
    return " ".join(public)


def bases(module: str, node: ast.ClassDef, others: Container[Definition]) -> Iterator[ast.ClassDef]:
    """Yield the classes of the project that a class has as bases, and theirs, up to those among `others`."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        home = module
        for each in tree_of(module).body:
            if isinstance(each, ast.ImportFrom) and name in {alias.name for alias in each.names}:
                home = each.module or ""
        if source_of(home) is None:
            continue
        for each in tree_of(home).body:
            if isinstance(each, ast.ClassDef) and each.name == name and each not in others:
                yield each
                yield from bases(home, each, others)


def own_members(node: ast.ClassDef) -> dict[str, str]:
    """Return the names in a class's body, `__slots__` and `__init__`, with `()` for what is called."""
    found: dict[str, str] = dict.fromkeys(assigned(node, "__slots__"), "")
    for each in statements(node.body):
        if isinstance(each, ast.FunctionDef):
            decorators = {ast.unparse(decorator) for decorator in each.decorator_list}
            is_property = "property" in decorators or any(word.endswith(".setter") for word in decorators)
            found.setdefault(each.name, "" if is_property else "()")
            if each.name == "__init__":
                found |= dict.fromkeys(attributes_set_in(each), "")
        else:
            found |= dict.fromkeys(defined_names(each), "")
    return found


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a class's body that are executed: type checkers see other ones."""
    for each in body:
        if isinstance(each, ast.If) and ast.unparse(each.test) in {"TYPE_CHECKING", "not TYPE_CHECKING"}:
            yield from each.orelse if isinstance(each.test, ast.Name) else each.body
        else:
            yield each


def attributes_set_in(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the names of the attributes that a method gives `self`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring as a cell of a table."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]
    return sentence.rstrip(".:").replace("|", r"\|")


def pages() -> list[Path]:
    """Return the pages that may have entries."""
    return sorted((ROOT / "docs/reference").glob("*.md"))


if __name__ == "__main__":
    sys.exit(refresh(COMMAND, pages(), refreshed, "its names are not those of the code"))
