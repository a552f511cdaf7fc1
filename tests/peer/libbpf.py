"""libbpf's answers about an object file, by way of `libbpf_dump.c`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

NEEDS = ("tool:gcc", "file:/usr/include/bpf/libbpf.h")
"""What a test needs that asks libbpf."""
_SOURCE = Path(__file__).with_name("libbpf_dump.c")
_SECONDS = 60


class Created(TypedDict):
    """What the kernel is asked for."""

    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    map_extra: int
    numa_node: int


class MapNumbers(Created):
    """The properties that a map and a template for inner maps have; `key_type_id` and `value_type_id` are BTF ids."""

    key_type_id: int
    value_type_id: int


class MapAnswer(MapNumbers):
    """A map; `is_internal`: of a data section."""

    name: str
    is_internal: bool
    is_pinned: bool
    inner: MapNumbers | None


class Update(TypedDict, total=False):
    """What is written into a map before programs run: the bytes of a data section in hex, or what `name` is called."""

    map: str
    key: int
    value: str
    name: str | None


class ProgramAnswer(TypedDict):
    """A program; `code` are its relocated instructions in hex, `error` why there are none.

    `functions` and `lines` are what the kernel is told of them, `struct bpf_func_info` and `bpf_line_info`.
    """

    name: str
    section: str
    prog_type: int
    expected_attach_type: int
    autoload: bool
    code: str | None
    functions: NotRequired[str]
    lines: NotRequired[str]
    error: str | None


class Answer(TypedDict):
    """An object. Only of one that `is_whole`, all its programs relocated, it is known what is done with maps."""

    maps: list[MapAnswer]
    created: NotRequired[dict[str, Created]]
    updates: NotRequired[list[Update]]
    programs: list[ProgramAnswer]
    is_whole: bool
    error: str | None


class Refused(Exception):
    """libbpf does not open the object; the text is its warnings."""


class Libbpf:
    """The driver, compiled into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "libbpf_dump"
        flags = ["-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", self._program, _SOURCE, "-lbpf"], check=True)

    def relocated(self, path: Path, btf: Path | None = None) -> Answer:
        """Return what libbpf makes of the object at `path`, relocated to the running kernel or to the types in `btf`.

        Raises: Refused.
        """
        answer: Answer = self._asked("relocate", path, *([btf] if btf is not None else []))
        return answer

    def loaded(self, path: Path) -> dict[str, int]:
        """Load the programs of the object at `path`; return 0 or the error's number by the program's name.

        Raises: Refused.
        """
        answer: dict[str, int] = self._asked("load", path)["programs"]
        return answer

    def sections(self, names: Iterable[str]) -> dict[str, list[int] | None]:
        """Return program type and expected attach type by the names of sections; None where libbpf knows none."""
        answer: dict[str, list[int] | None] = self._run("sections", *names)
        return answer

    def _asked(self, *arguments: str | Path) -> Any:
        answer = self._run(*arguments)
        if "programs" not in answer:
            raise Refused(answer["error"])
        return answer

    def _run(self, *arguments: str | Path) -> Any:
        command = [self._program, *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=_SECONDS)
        return json.loads(done.stdout)
