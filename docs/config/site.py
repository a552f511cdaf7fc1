"""Hooks of the documentation's build: the order of the pages, and the reference from the docstrings.

A page `reference/<name>.md` exists for each module or package right below `rawbpf/`, and shows the
public names of all its modules; a new package has its page without an entry here. A page that was
written by hand under that name wins.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {"tutorial": "Tutorial", "how-to": "How-to", "reference": "Reference", "explanation": "Explanation"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated reference pages, and name the order of all pages."""
    written = {file.src_uri for file in files}
    for name, modules in _packages().items():
        uri = f"reference/{name}.md"
        if uri not in written:
            files.append(File.generated(config, uri, content=_page(name, modules)))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = ["index.md"]
    for folder, title in SECTIONS.items():
        inside = [page for page in pages if page.startswith(f"{folder}/")]
        # The index first: navigation.indexes makes it the section's own page.
        inside.sort(key=lambda page: (not page.endswith("/index.md"), page))
        if inside:
            config.nav.append({title: inside})
    return files


def _packages() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "rawbpf").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        importable = (path.parent / "__init__.py").exists()
        if name != "rawbpf" and importable and not any(part.startswith("_") for part in name.split(".")):
            found.setdefault(parts[1], []).append(name)
    return found


def _page(name: str, modules: list[str]) -> str:
    blocks = [f"# rawbpf.{name}\n"]
    # A module without public names would be a heading over nothing.
    blocks += [f"::: {module}\n" for module in modules if _has_docstring(module)]
    return "\n".join(blocks)


def _has_docstring(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is not None
