#!/usr/bin/env python3
"""Writes the tables of docs/reference/map-verbs.md: which verbs the class of each map type has.

    docs/config/verbs.py            tells whether the page is not what the classes have; exit status 1
    docs/config/verbs.py --write    brings it up to date

A table stands between `<!-- verbs NAME -->` and `<!-- /verbs -->`, with the columns of `TABLES`. What a class
has that is in none of them, and that not every map has, is named in the first table's last column: no verb is left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1])]  # as this file may be run from anywhere, with nothing installed

from pages import refresh  # noqa: E402

from rawbpf.map.base import Map  # noqa: E402
from rawbpf.map.types import CLASSES, map_class  # noqa: E402
from rawbpf.uapi.names import map_type_name  # noqa: E402

COMMAND = "python3 docs/config/verbs.py --write"
PAGES = [HERE.parent / "reference/map-verbs.md"]

# Heading of a column: the attributes behind it, which a class has all of or none.
TABLES = {
    "one": {
        "m[k]": ("__getitem__",),
        "m[k] = v": ("__setitem__",),
        "del m[k]": ("__delitem__",),
        "k in m": ("__contains__",),
        "get": ("get",),
        "lookup": ("lookup",),
        "put": ("put",),
        "insert": ("insert",),
        "replace": ("replace",),
        "pop": ("pop",),
    },
    "many": {
        "for, len": ("__iter__", "__len__"),
        "keys, values, items, snapshot, batches": ("keys", "values", "items", "snapshot", "batches"),
        "get_many": ("get_many",),
        "update": ("update",),
        "put_many": ("put_many",),
        "delete_many": ("delete_many",),
        "drain": ("drain",),
        "clear": ("clear",),
        "columns, to_numpy": ("columns", "to_numpy"),
        "count, sum, min, max, filter, top": ("count", "sum", "min", "max", "filter", "top"),
    },
}
TABLE = re.compile(r"^<!-- verbs (?P<name>\w+) -->\n.*?^<!-- /verbs -->$", re.MULTILINE | re.DOTALL)


def has(family: type[object], attribute: str) -> bool:
    """Whether objects of a class have an attribute; special methods that are None are those it has not."""
    return getattr(family, attribute, None) is not None


def mark(family: type[object], heading: str, attributes: tuple[str, ...]) -> str:
    """Return the cell of a class in a column. Raises: ValueError where it has only some of the attributes."""
    found = [attribute for attribute in attributes if has(family, attribute)]
    if found and len(found) < len(attributes):
        raise ValueError(f"{family.__name__} has only {found} of {heading!r}: give them columns of their own")
    return "●" if found else ""


def others(family: type[object]) -> str:
    """Return what a class has beyond the columns and what every map has."""
    known = {attribute for columns in TABLES.values() for each in columns.values() for attribute in each}
    names = sorted(set(dir(family)) - set(dir(Map)) - known)
    return " ".join(f"`{name}`" for name in names if not name.startswith("_"))


def table(name: str) -> str:
    """Return a table: a row per type of map, in the order of the kernel's numbers."""
    columns = TABLES[name]
    headings = ["type", *(" ".join(f"`{word}`" for word in heading.split(", ")) for heading in columns)]
    rows = []
    for number in sorted(CLASSES):
        family = map_class(number)
        marks = [mark(family, heading, attributes) for heading, attributes in columns.items()]
        rows.append([f"`{map_type_name(number)}`", *marks])
        if name == "one":
            rows[-1].append(others(family))
    if name == "one":
        headings.append("its own")
    else:
        rows = [row for row in rows if any(row[1:])]
    lines = [headings, ["---", *(":-:" for _ in columns), *(["---"] if name == "one" else [])], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def refreshed(page: str) -> str:
    """Return the text of the page with its tables as the classes have them."""
    return TABLE.sub(lambda found: f"<!-- verbs {found['name']} -->\n\n{table(found['name'])}\n<!-- /verbs -->", page)


if __name__ == "__main__":
    sys.exit(refresh(COMMAND, PAGES, refreshed, "not what the classes have"))
