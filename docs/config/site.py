"""Hooks of the documentation's build: the order of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkdocs.structure.files import Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

SECTIONS = {"tutorial": "Tutorial", "how-to": "How-to", "reference": "Reference", "explanation": "Explanation"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name the order of all pages."""
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = ["index.md"]
    for folder, title in SECTIONS.items():
        inside = [page for page in pages if page.startswith(f"{folder}/")]
        # The index first: navigation.indexes makes it the section's own page.
        inside.sort(key=lambda page: (not page.endswith("/index.md"), page))
        if inside:
            config.nav.append({title: inside})
    return files
