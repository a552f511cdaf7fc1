"""What a recorded call and the same call made again differ in, and what differs by nature.

Ids and descriptors are compared by what they stand for: `Alias` keeps which name of one side is which of the
other. Must not make any call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass

from rawbpf.errors import errno_name
from rawbpf.testing.pointee import INFOS, PERCPU, Shape
from rawbpf.testing.recording import CLOSED, NAME, TEXTS, Event, Image, shown
from rawbpf.uapi import constants as c

# Fields of an attr, and whole memory, that differ by nature, and why.
_BY_NATURE = {
    "log_true_size": "what the verifier says",
    "btf_log_true_size": "what the verifier says",
    "log_buf": "what the verifier says",
    "btf_log_buf": "what the verifier says",
    "duration": "time",
    "pathname": "where pins are",
    "path_fd": "where pins are",
    "info.jited_prog_insns": "compiled code",
    "info.jited_ksyms": "compiled code",
    "info.jited_func_lens": "compiled code",
    "info.jited_line_info": "compiled code",
    "info.xlated_prog_insns": "the kernel's rewriting of programs",
    "info.line_info": "the kernel's rewriting of programs",
    "info.prog_tags": "the kernel's rewriting of programs",
}
_COMPILED = (
    "jited_prog_len",
    "jited_prog_insns",
    "nr_jited_ksyms",
    "nr_jited_func_lens",
    "nr_jited_line_info",
    "jited_line_info_rec_size",
)
_INFO_BY_NATURE: dict[str, dict[str, str]] = {
    "map": {"btf_vmlinux_id": "ids of the kernel's own types", "netns_dev": "namespaces", "netns_ino": "namespaces"},
    "prog": {
        **dict.fromkeys(_COMPILED, "compiled code"),
        "tag": "the kernel's rewriting of programs",
        "xlated_prog_len": "the kernel's rewriting of programs",
        "verified_insns": "what the verifier says",
        "load_time": "time",
        "run_time_ns": "time",
        "run_cnt": "runs of programs",
        "recursion_misses": "runs of programs",
        "created_by_uid": "the user",
        "netns_dev": "namespaces",
        "netns_ino": "namespaces",
        "attach_btf_obj_id": "ids of the kernel's own types",
    },
    "btf": {},
    "link": {},
}
_LINK_COMMON = 12
# Lines of an fdinfo file that say the same on every kernel.
_LINES = ("map_type", "key_size", "value_size", "max_entries", "map_flags", "map_extra", "frozen", "prog_type")
_COOKIES = (c.BPF_MAP_TYPE_SOCKMAP, c.BPF_MAP_TYPE_SOCKHASH)


@dataclass(frozen=True, slots=True)
class Difference:
    """`number` is that of the call in the recording, from 1, and `call` the call; `what` says what differs."""

    number: int
    call: str
    what: str

    def __str__(self) -> str:
        return f"call {self.number}, {self.call}: {self.what}"


class Differences(list[Difference]):
    """Empty where nothing differed. Prints one a line.

    `masked` counts what was not compared because it differs by nature (times, compiled code, ...); `skipped`
    has the calls that were not made again because they are about objects of others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.masked: Counter[str] = Counter()
        self.skipped: list[str] = []

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no difference"


class Alias:
    """Which name of the recording is which name now."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._then: dict[str, str] = {}

    def bind(self, then: str, now: str) -> bool:
        """Note that two names mean the same; False if one of them means something else."""
        if CLOSED in {then, now}:
            return then == now
        return self._now.setdefault(then, now) == now and self._then.setdefault(now, then) == then

    def now(self, then: str) -> str | None:
        """Return the name now; None where it is not known."""
        return self._now.get(then)

    def then(self, now: str) -> str:
        """Return the name in the recording; the name itself where that is not known."""
        return self._then.get(now, now)


def outcome(event: Event) -> str:
    """Return how a call ended, in words."""
    if event.result < 0:
        return errno_name(event.errno)
    return event.opened or str(event.result)


def compare(then: Event, now: Event, shape: Shape, alias: Alias, masked: Counter[str]) -> Iterator[str]:
    """Yield in words what differs between two ends of a call on an object of this shape."""
    if (then.result, then.errno, bool(then.opened)) != (now.result, now.errno, bool(now.opened)):
        yield f"recorded {outcome(then)}, now {outcome(now)}"
        return
    if then.opened:
        alias.bind(then.opened, now.opened)
        yield from _fields(then.described, now.described, alias, masked)
    yield from _fields(then.after.attr, now.after.attr, alias, masked)
    yield from _memory(then.after, now.after, shape, masked)
    for at in sorted({*then.after.references, *now.after.references}):
        old, new = then.after.references.get(at, "nothing"), now.after.references.get(at, "nothing")
        if not alias.bind(old, new):
            yield f"{at}: recorded {old}, now {new}, which is something else"


def _fields(then: dict[str, int | str], now: dict[str, int | str], alias: Alias, masked: Counter[str]) -> Iterator[str]:
    for name in {**then, **now}:
        old, new = then.get(name, 0), now.get(name, 0)
        if name in _BY_NATURE:
            masked[_BY_NATURE[name]] += old != new
        elif isinstance(old, str) and isinstance(new, str) and (NAME.fullmatch(old) or old == CLOSED):
            if not alias.bind(old, new):
                yield f"{name}: recorded {old}, now {new}, which is something else"
        elif old != new:
            yield f"{name}: recorded {old}, now {new}"


def _memory(then: Image, now: Image, shape: Shape, masked: Counter[str]) -> Iterator[str]:
    for name in {**then.memory, **now.memory}:
        old, new = then.memory.get(name), now.memory.get(name)
        if old == new:
            continue
        if name in _BY_NATURE:
            masked[_BY_NATURE[name]] += 1
        elif old is None or new is None:
            yield f"{name}: recorded {_some(name, old)}, now {_some(name, new)}"
        elif name in TEXTS:
            yield f"{name}: recorded {shown(name, old)}, now {shown(name, new)}"
        elif len(old) != len(new):
            yield f"{name}: recorded {len(old)} bytes, now {len(new)}"
        else:
            reasons = list(_ranges(name, shape, len(old)))
            plain_old, plain_new = bytearray(old), bytearray(new)
            for start, end, reason in reasons:
                masked[reason] += plain_old[start:end] != plain_new[start:end]
                plain_old[start:end] = plain_new[start:end] = bytes(end - start)
            if plain_old != plain_new:
                at = next(i for i, byte in enumerate(plain_old) if byte != plain_new[i])
                some = slice(at, at + 16)
                yield f"{name} from byte {at} on: recorded {old[some].hex()}, now {new[some].hex()}"


def _ranges(name: str, shape: Shape, size: int) -> Iterator[tuple[int, int, str]]:
    # The parts of memory that differ by nature.
    if name == "info" and shape.kind in INFOS:
        layout = INFOS[shape.kind]
        for field, offset, _ in layout.fields:
            if reason := _INFO_BY_NATURE[shape.kind].get(field):
                yield offset, min(layout.end(field), size), reason
        if shape.kind == "link":
            yield _LINK_COMMON, size, "what a link is attached to"
    if name in {"value", "values"} and shape.value_size:
        step = (shape.value_size + 7) & -8
        if shape.type in PERCPU and step != shape.value_size:
            yield from ((at + shape.value_size, at + step, "padding") for at in range(0, size, step))
        if shape.type in _COOKIES:
            yield 0, size, "cookies of sockets"


def compare_inputs(then: Image, now: Image, read: Container[str], alias: Alias) -> Iterator[str]:
    """Yield in words how a call differs from the recorded one before it is made; `read`: the memory that it reads."""
    yield from _fields(then.attr, now.attr, alias, Counter())
    if then.rest != now.rest:
        yield f"behind the fields: expected {then.rest.hex()}, got {now.rest.hex()}"
    for name in {**then.memory, **now.memory}:
        if (name in then.memory) != (name in now.memory):
            yield f"{name}: {'a pointer' if name in now.memory else 'no pointer'}, unlike recorded"
            continue
        old, new = then.memory[name], now.memory[name]
        if name == "pathname" and old and new:
            old, new = old.rpartition(b"/")[2], new.rpartition(b"/")[2]
        if old is None or new is None or len(old) != len(new) or (name in read and old != new):
            yield f"{name}: recorded {_some(name, old)}, now {_some(name, new)}"
    places = {at for at in (*then.references, *now.references) if at.partition("@")[0] in read}
    for at in sorted(places):
        old_name, new_name = then.references.get(at, "nothing"), now.references.get(at, "nothing")
        if not alias.bind(old_name, new_name):
            yield f"{at}: recorded {old_name}, now {new_name}, which is something else"


def _some(name: str, content: bytes | None) -> str:
    if content is None:
        return "a bad address"
    return shown(name, content) if name in TEXTS else f"{len(content)} bytes {content[:16].hex()}"


def compare_text(then: Event, now: Event, masked: Counter[str]) -> Iterator[str]:
    """Yield in words what differs between two texts of an fdinfo file."""
    old, new = (_lines(event.after.memory.get("memory") or b"") for event in (then, now))
    for name in {**old, **new}:
        if name in _LINES and old.get(name) != new.get(name):
            yield f"{name}: recorded {old.get(name)}, now {new.get(name)}"
        elif name not in _LINES:
            masked["other lines of fdinfo"] += old.get(name) != new.get(name)


def _lines(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode("ascii", "replace").splitlines())
    return {name: value.strip() for name, _, value in pairs}
