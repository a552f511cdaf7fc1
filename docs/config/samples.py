#!/usr/bin/env python3
"""Copies samples into the pages that show them, so that docs/ is readable as it lies there.

    docs/config/samples.py            names the pages that differ from their samples; exit status 1
    docs/config/samples.py --write    brings them up to date

A page says before a fenced block what is in it, `<!-- sample: docs/examples/tutorial/own_map.py#create -->`:
a file of the project or, after `#`, a section of one, which lies there between the lines `[start:create]` and
`[end:create]` (comments, in languages that have them). The block is the copy; only the file is edited.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # as this file may be run from anywhere

from pages import ROOT, refresh

COMMAND = "python3 docs/config/samples.py --write"

SAMPLE = re.compile(
    r"(?<=^<!-- sample: )(?P<path>[^ #\n]+)(?:#(?P<section>\w+))? -->\n```\w+\n(?P<text>.*?)(?=^```$)",
    re.MULTILINE | re.DOTALL,
)
MARKER = re.compile(r"^\s*(?:# )?\[(start|end):(\w+)\]$")


def without_markers(text: str) -> str:
    """Return what of a sample's file is shown: all but the lines that start and end sections."""
    return "".join(line for line in text.splitlines(keepends=True) if not MARKER.match(line))


def sample(path: str, section: str | None = None) -> str:
    """Return a file of the project or a section of one, without its common indentation.

    Raises: ValueError where there is no such file or section, or none that can stand in a fenced block.
    """
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if section is not None:
        text = _section(path, text, section)
    text = textwrap.dedent(without_markers(text))
    if "```" in text:
        raise ValueError(f"{path}: ``` would end the fenced block that shows it")
    return text


def _section(path: str, text: str, section: str) -> str:
    lines, inside, found = [], False, False
    for line in text.splitlines(keepends=True):
        marker = MARKER.match(line)
        if marker and marker[2] == section:
            inside = marker[1] == "start"
            found = True
        elif inside:
            lines.append(line)
    if not found or inside:
        raise ValueError(f"{path} has no [start:{section}] with an [end:{section}]")
    return "".join(lines)


def refreshed(page: str) -> str:
    """Return the text of a page with all its samples as their files have them."""

    def shown(block: re.Match[str]) -> str:
        return block[0].removesuffix(block["text"]) + sample(block["path"], block["section"])

    return SAMPLE.sub(shown, page)


def pages() -> list[Path]:
    """Return the pages that may show samples: all of docs/."""
    return sorted((ROOT / "docs").rglob("*.md"))


if __name__ == "__main__":
    sys.exit(refresh(COMMAND, pages(), refreshed, "differs from its samples"))
