"""Maps for many keys at once, and what one call for each key does to the same map."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import rawbpf
from rawbpf.map.many import VERBS
from rawbpf.syscall.wrapper import Wrapper
from support.backends import said


def one_by_one(m: Any, keys: Iterable[Any], default: Any = None) -> list[Any]:
    """Return what `get_many` should, by a call for each key."""
    if hasattr(m, "get"):
        return [m.get(key, default) for key in keys]
    values = []
    for key in keys:
        try:
            values.append(m[key])
        except rawbpf.IndexOutOfRange:
            values.append(default)
    return values


def put_one_by_one(m: Any, pairs: Iterable[tuple[Any, Any]], flags: int) -> None:
    """Do what `put_many` should, by a call for each element."""
    done = 0
    try:
        for key, value in pairs:
            m.put(key, value, flags)
            done += 1
    except rawbpf.BpfError as error:
        error.applied = done
        raise


def delete_one_by_one(m: Any, keys: Iterable[Any]) -> int:
    """Do what `delete_many` should, by a call for each key."""
    deleted = 0
    for key in keys:
        try:
            del m[key]
            deleted += 1
        except rawbpf.KeyNotFound:
            pass
    return deleted


def answer(verb: Callable[[], object]) -> str:
    """Return what a call returns or raises, in a form in which a NaN equals itself."""
    try:
        return repr(verb())
    except rawbpf.BpfError as error:
        key = getattr(error, "key", None)
        return f"{type(error).__name__} {error.errno}, applied {error.applied or 0}, key {key!r}"
    except (TypeError, ValueError, OverflowError) as error:
        return f"{type(error).__name__}: {said(error)}"


def ways(m: Any) -> dict[str, str]:
    """Return what `many_path` says, by verb."""
    path = m.many_path
    verbs = [verb for verb in VERBS if hasattr(m, verb)]
    if ": " not in path or path.startswith("system calls: "):
        return dict.fromkeys(verbs, path)
    parts = re.split(r"(?:^|; )([a-z]+_many): ", path)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def by_program(m: Any, *verbs: str) -> bool:
    """Whether each of `verbs` runs a program, which is loaded to find out."""
    found = ways(m)
    return all(found[verb] == "program" for verb in verbs)


class Around(Wrapper):
    """Calls `before` and `after` around every bpf call, with its number, as a signal handler or thread would run there.

    What they do runs without either.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.before: Callable[[int], object] | None = None
        self.after: Callable[[int], object] | None = None

    def intercept(self, call: Callable[[int, Any, int], int], cmd: int, attr: Any, size: int) -> int:
        """Make the call between the two."""
        before, after, self.before, self.after = self.before, self.after, None, None
        try:
            if before:
                before(cmd)
            result = call(cmd, attr, size)
            if after:
                after(cmd)
        finally:
            self.before, self.after = before, after
        return result
