"""What the scripts that keep parts of pages up to date have in common: they compare, or write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def refresh(command: str, pages: Iterable[Path], refreshed: Callable[[str], str], stale: str) -> int:
    """Name the `pages` that are not what `refreshed` makes of them, or write them; return the exit status.

    The command line has `--write`, as `command` shows it, or nothing. `stale` says what is the matter with a page
    that is not up to date.
    """
    words = sys.argv[1:]
    if words not in ([], ["--write"]):
        print(f"usage: {command}", file=sys.stderr)
        return 2
    status = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if (new := refreshed(text)) == text:
            continue
        if words:
            page.write_text(new, encoding="utf-8")
        else:
            status = 1
        print(f"{page.relative_to(ROOT)}: {'written' if words else f'{stale}: {command}'}")
    return status
