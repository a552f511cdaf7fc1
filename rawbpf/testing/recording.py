"""Recorded bpf(2) traffic as data, and as a file: JSON lines. The first says what follows, the last how many calls.

An `Event` is one call: its attr by field names, and what its pointers led to, before and after. Descriptors
and ids stand there as names (`fd2`, `map1`), since another kernel has other numbers. Must not know any
kernel: `recorder` makes events, `replayer` and `answer` use them. A file is hostile until it was parsed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rawbpf.errors import FormatError
from rawbpf.testing.file import replace_file

__all__ = ["Event", "Image", "Recording"]

FORMAT, VERSION = "rawbpf traffic", 2
NAME = re.compile(r"(fd|map|prog|btf|link|dir|mapping)[1-9][0-9]{0,8}")
"""What a name of a descriptor, an id, a directory or a mapping looks like."""
CLOSED = "closed"
"""The name of a descriptor that was not open."""
_PLACE = re.compile(r"[a-z_.]{1,64}@(0|[1-9][0-9]{0,8})")
_WORD = re.compile(r"[a-z0-9_.]{1,64}")
_MEMBERS = frozenset(
    (
        "number",
        "call",
        "size",
        "attr",
        "rest",
        "memory",
        "references",
        "result",
        "errno",
        "opened",
        "described",
        "after",
    )
)
_MOST = 1 << 28
TEXTS = ("pathname", "license", "name", "info.name")
"""What ends with a NUL byte, and is shown as text."""
_FIELD = range(-(1 << 63), 1 << 64)


@dataclass(slots=True)
class Image:
    """What a call's attr and memory held at one moment.

    `attr`: fields that are not zero: numbers, names of descriptors and ids, texts. `rest`: what the attr holds
    between and behind its fields. `memory`: by pointer, the bytes there (None: a bad address). `references`:
    names of descriptors and ids in that memory by their place (`value@0`), where the bytes are zero.
    """

    attr: dict[str, int | str] = field(default_factory=dict)
    rest: bytes = b""
    memory: dict[str, bytes | None] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Event:
    """One call: `call` is the command's name, or that of another call of the Backend protocol.

    `size`: of the attr. `result` is -1 for a call that failed with `errno`; a descriptor that it returned is
    `opened` by name, and `described` says what it is of. Besides, `unlink` is a pin that was gone, `unmap` a
    mapping, and `store` and `changed` are mapped memory that was written by the program, and by the kernel.
    """

    call: str
    size: int = 0
    before: Image = field(default_factory=Image)
    after: Image = field(default_factory=Image)
    result: int = 0
    errno: int = 0
    opened: str = ""
    described: dict[str, int | str] = field(default_factory=dict)

    @classmethod
    def unchanging(cls, call: str, image: Image) -> Self:
        """Return the event of a call that writes nothing into memory."""
        after = Image(dict(image.attr), image.rest, dict(image.memory), dict(image.references))
        return cls(call, before=image, after=after)

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in self.before.attr.items())
        memory = ", ".join(f"*{name}={shown(name, value)}" for name, value in self.before.memory.items())
        return f"{self.call}({', '.join(filter(None, (fields, memory)))})"


def shown(name: str, content: bytes | None) -> str:
    """Return the content of the memory `name` in short: text in quotes, all else in hexadecimal."""
    if content is None:
        return "bad address"
    if name in TEXTS:
        return repr(content.partition(b"\0")[0].decode("utf-8", "backslashreplace"))
    return content.hex() if len(content) <= 16 else f"{content[:16].hex()}... ({len(content)} bytes)"


@dataclass(slots=True)
class Recording:
    """A list of events, and the host that they were recorded on (`possible_cpus`, `page_size`, ...)."""

    host: dict[str, int | str | list[str]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __repr__(self) -> str:
        return f"<Recording of {len(self)} calls, Linux {self.host.get('release', '?')}>"

    @property
    def possible_cpus(self) -> int:
        """How many possible CPUs the recorded kernel had, which a kernel that replays it has to have as well."""
        return int(str(self.host["possible_cpus"]))

    def lines(self) -> Iterator[str]:
        """Yield the lines of the file: a head, the calls by number, from 1, and an end that says how many."""
        yield json.dumps({"format": FORMAT, "version": VERSION, "host": self.host})
        for number, event in enumerate(self.events, 1):
            yield json.dumps({"number": number, **_line(event)})
        yield json.dumps({"end": len(self.events)})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file: all of it, or what was there before stays. Raises: OSError that names the file."""
        replace_file(path, "".join(f"{line}\n" for line in self.lines()).encode("ascii"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file. Raises: OSError; FormatError with the line number."""
        return cls.from_bytes(Path(path).read_bytes())

    @classmethod
    def from_bytes(cls, content: bytes | bytearray | memoryview) -> Self:
        """Parse the content of a file.

        Raises: FormatError with the line number, whatever the bytes, also where the end is missing; TypeError.
        """
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(
                f"expected the bytes of a recording, got {content!r:.60}; Recording.load(path) reads a file"
            )
        content = bytes(content)
        lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
        if not lines:
            raise FormatError("the recording is empty: its first line says its format and version")
        head = _parsed(*lines[0])
        if head.get("format") != FORMAT:
            raise FormatError(f"line {lines[0][0]}: this is no recording: its format is not {FORMAT!r}")
        if head.get("version") != VERSION:
            raise FormatError(
                f"line {lines[0][0]}: version {head.get('version')!r}: this release reads {VERSION}; record it again"
            )
        host = _Parser(lines[0][0]).host(head.get("host"))
        events: list[Event] = []
        for at, line in lines[1:]:
            found, parser = _parsed(at, line), _Parser(at)
            if "end" in found:
                parser.end(found, len(events))
                if (at, line) != lines[-1]:
                    raise parser.wrong("the end is not the last line")
                return cls(host, events)
            events.append(parser.event(found, len(events) + 1))
        raise FormatError(
            f"line {lines[-1][0]}: the file was cut off behind call {len(events)}: its last line is no end"
        )


def require_recording(value: object) -> None:
    """Return if `value` is a Recording. Raises: TypeError."""
    if not isinstance(value, Recording):
        hint = "; Recording.load(path) reads a file" if isinstance(value, str | bytes | os.PathLike) else ""
        raise TypeError(f"expected a Recording, got {value!r:.60}{hint}")


# Writing -----------------------------------------------------------------------------


def _line(event: Event) -> dict[str, Any]:
    line: dict[str, Any] = {"call": event.call}
    parts = {
        "size": event.size,
        "attr": event.before.attr,
        "rest": event.before.rest.hex(),
        "memory": {name: _packed(content) for name, content in event.before.memory.items()},
        "references": event.before.references,
        "result": event.result,
        "errno": event.errno,
        "opened": event.opened,
        "described": event.described,
        "after": _after(event.before, event.after),
    }
    return line | {name: part for name, part in parts.items() if part}


def _after(before: Image, after: Image) -> dict[str, Any]:
    # What is different afterwards.
    changed = {name: after.attr.get(name, 0) for name in {**before.attr, **after.attr}}
    memory = {n: _packed(c) for n, c in after.memory.items() if n not in before.memory or before.memory[n] != c}
    references = {at: after.references.get(at, "") for at in {**before.references, **after.references}}
    parts = {
        "attr": {name: value for name, value in changed.items() if value != before.attr.get(name, 0)},
        "memory": memory,
        "references": {at: name for at, name in references.items() if name != before.references.get(at, "")},
    }
    return {name: part for name, part in parts.items() if part}


def _packed(content: bytes | None) -> dict[str, int | str] | None:
    return None if content is None else {"size": len(content), "bytes": content.rstrip(b"\0").hex()}


# Reading -----------------------------------------------------------------------------


def _parsed(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"line {number}: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise FormatError(f"line {number}: expected an object")
    return found


class _Parser:
    # Of one line: every value is of the type that it claims, and no size is beyond reason.

    def __init__(self, number: int) -> None:
        self._number = number

    def wrong(self, what: str) -> FormatError:
        return FormatError(f"line {self._number}: {what}")

    def host(self, found: object) -> dict[str, int | str | list[str]]:
        host: dict[str, int | str | list[str]] = {}
        for name, value in self.dict(found, "host").items():
            if isinstance(value, list):
                host[name] = [self.text(each, name) for each in value]
            else:
                host[name] = value if isinstance(value, str) else self.int(value, name)
        for name in ("possible_cpus", "page_size"):
            if not isinstance(host.get(name), int) or not 0 < int(str(host[name])) <= 1 << 20:
                raise self.wrong(f"the host's {name} is missing or no number of them")
        for name in ("release", "byteorder"):
            if not isinstance(host.get(name), str):
                raise self.wrong(f"the host's {name} is missing")
        return host

    def end(self, found: dict[str, Any], calls: int) -> None:
        if found.keys() != {"end"} or self.int(found["end"], "end") != calls:
            raise self.wrong(f"the end says {found['end']!r} calls, and there are {calls}")

    def event(self, found: dict[str, Any], number: int) -> Event:
        if self.int(found.get("number"), "number") != number:
            raise self.wrong(f"expected call {number}, and this is call {found['number']}: lines are missing")
        if unknown := found.keys() - _MEMBERS:
            raise self.wrong(f"unknown member {min(unknown)!r}")
        call, opened = self.text(found.get("call"), "call"), self.text(found.get("opened", ""), "opened")
        if not _WORD.fullmatch(call):
            raise self.wrong(f"call {call!r} is no word")
        if opened and not NAME.fullmatch(opened):
            raise self.wrong(f"opened {opened!r} is no name")
        before = Image(
            self.attr(found.get("attr", {})),
            self.hex(found.get("rest", ""), "rest"),
            self.memory(found.get("memory", {})),
            self.references(found.get("references", {})),
        )
        change = self.dict(found.get("after", {}), "after")
        attr = before.attr | self.attr(change.get("attr", {}))
        references = before.references | self.references(change.get("references", {}), "")
        after = Image(
            {name: value for name, value in attr.items() if value != 0},
            before.rest,
            before.memory | self.memory(change.get("memory", {})),
            {at: name for at, name in references.items() if name},
        )
        for image in (before, after):
            self.places(image)
        size, result = self.int(found.get("size", 0), "size"), self.int(found.get("result", 0), "result")
        errno = self.int(found.get("errno", 0), "errno")
        if not 0 <= size <= 4096 or not -1 <= result < 1 << 31 or not 0 <= errno < 4096:
            raise self.wrong("a size, result or errno that no call has")
        return Event(call, size, before, after, result, errno, opened, self.attr(found.get("described", {})))

    def places(self, image: Image) -> None:
        for at in image.references:
            name, _, offset = at.partition("@")
            content = image.memory.get(name)
            if content is None or int(offset) + 4 > len(content):
                raise self.wrong(f"reference {at}: there is no such place")

    def attr(self, found: object) -> dict[str, int | str]:
        values = self.dict(found, "attr")
        return {name: value if isinstance(value, str) else self.int(value, name) for name, value in values.items()}

    def references(self, found: object, *also: str) -> dict[str, str]:
        names = {at: self.text(name, "reference") for at, name in self.dict(found, "references").items()}
        for at, name in names.items():
            if not _PLACE.fullmatch(at) or not (NAME.fullmatch(name) or name in (CLOSED, *also)):
                raise self.wrong(f"reference {at!r}: {name!r} is none")
        return names

    def memory(self, found: object) -> dict[str, bytes | None]:
        memory: dict[str, bytes | None] = {}
        for name, each in self.dict(found, "memory").items():
            if each is None:
                memory[name] = None
                continue
            packed = self.dict(each, name)
            size, content = self.int(packed.get("size"), "size"), self.hex(packed.get("bytes", ""), name)
            if not len(content) <= size <= _MOST:
                raise self.wrong(f"memory {name!r} has {len(content)} bytes and a size of {size}")
            memory[name] = content.ljust(size, b"\0")
        return memory

    def dict(self, found: object, what: str) -> dict[str, Any]:
        if not isinstance(found, dict) or not all(_WORD.fullmatch(name.replace("@", "")) for name in found):
            raise self.wrong(f"{what}: expected an object with plain names")
        return found

    def text(self, found: object, what: str) -> str:
        if not isinstance(found, str):
            raise self.wrong(f"{what}: expected a text")
        return found

    def int(self, found: object, what: str) -> int:
        if not isinstance(found, int) or isinstance(found, bool) or found not in _FIELD:
            raise self.wrong(f"{what}: expected a number of 64 bits")
        return found

    def hex(self, found: object, what: str) -> bytes:
        try:
            return bytes.fromhex(self.text(found, what))
        except ValueError:
            raise self.wrong(f"{what}: expected bytes in hexadecimal") from None
