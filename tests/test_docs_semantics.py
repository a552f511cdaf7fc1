"""The page of what the kernel answers has the tables that kernels are compared with."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
SEMANTICS = runpy.run_path(str(DOCS / "config/semantics.py"))


def test_the_page_says_what_the_tests_compare_with() -> None:
    text = (DOCS / "reference/map-semantics.md").read_text(encoding="utf-8")
    assert text == SEMANTICS["refreshed"](text), f"run: {SEMANTICS['COMMAND']}"
    # Every verb that has answers has a table.
    assert {found["verb"] for found in SEMANTICS["ANSWERS"].finditer(text)} == set(SEMANTICS["TABLES"]["hash"])
    assert "full: `E2BIG` / `E2BIG` / `ENOENT`" in text
