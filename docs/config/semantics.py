#!/usr/bin/env python3
"""Writes the tables of docs/reference/map-semantics.md: what the kernel answers to each operation, by type of map.

    docs/config/semantics.py            tells whether the page is not what the tests compare with; exit status 1
    docs/config/semantics.py --write    brings it up to date

A table stands between `<!-- answers VERB -->` and `<!-- /answers -->`; it is read from rawbpf.testing.cells. Those of
other releases stand between `<!-- older -->` and `<!-- /older -->`, and with `newer`, from rawbpf.testing.older.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1])]  # as this file may be run from anywhere, with nothing installed

from pages import refresh  # noqa: E402

from rawbpf.testing.cells import RELEASE, TABLES  # noqa: E402
from rawbpf.testing.older import NEWER, OLDER  # noqa: E402

COMMAND = "python3 docs/config/semantics.py --write"
PAGES = [HERE.parent / "reference/map-semantics.md"]
ANSWERS = re.compile(r"^<!-- answers (?P<verb>\w+) -->\n.*?^<!-- /answers -->$", re.MULTILINE | re.DOTALL)
OTHERS = re.compile(r"^<!-- (?P<which>older|newer) -->\n.*?^<!-- /(?P=which) -->$", re.MULTILINE | re.DOTALL)
ROWS = {"older": ("before", OLDER), "newer": ("since", NEWER)}
RELEASE_LINE = re.compile(r"^<!-- release -->.*$", re.MULTILINE)


def spelled(text: str) -> str:
    """Return the cell of one type: cases and answers, `a / b / c` for the three flags of an update."""
    cases = []
    for row in text.split(", "):
        words = row.split()
        first = next(at for at, word in enumerate(words) if word in {"ok", "-"} or word.isupper())
        answers = " / ".join(word if word in {"ok", "-"} else f"`{word}`" for word in words[first:])
        cases.append(f"{' '.join(words[:first])}: {answers}")
    return "; ".join(cases)


def table(verb: str) -> str:
    """Return a table: a row for the types that answer alike."""
    rows: dict[str, list[str]] = {}
    for map_type, answers in TABLES.items():
        rows.setdefault(spelled(answers[verb]), []).append(f"`{map_type}`")
    lines = [["type", "answers"], ["---", "---"], *([" ".join(types), text] for text, types in rows.items())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def others(which: str) -> str:
    """Return the table of what other releases answer, which says "and" where the rest is as without the row."""
    word, rows = ROWS[which]
    lines = [[word, "types", "operations", "answers"], ["---"] * 4]
    for first, map_types, verbs, text in rows:
        types = "all" if set(map_types) == set(TABLES) else " ".join(f"`{each}`" for each in sorted(map_types))
        answers = f"and {spelled(text[3:])}" if text.startswith("*, ") else spelled(text)
        lines.append([first, types, " ".join(f"`{verb}`" for verb in verbs), answers])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def refreshed(page: str) -> str:
    """Return the text of the page with its tables as the tests have them."""
    page = RELEASE_LINE.sub(f"<!-- release --> Linux {RELEASE}, x86-64.", page)
    page = OTHERS.sub(lambda found: "<!-- {0} -->\n\n{1}\n<!-- /{0} -->".format(found[1], others(found[1])), page)
    return ANSWERS.sub(
        lambda found: f"<!-- answers {found['verb']} -->\n\n{table(found['verb'])}\n<!-- /answers -->", page
    )


if __name__ == "__main__":
    sys.exit(refresh(COMMAND, PAGES, refreshed, "not what the tests compare with"))
