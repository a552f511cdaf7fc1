"""What a map's columns are: the fields of its keys and values, what they are called, and what they mean.

Names come from BTF: members of structs have theirs, and a bare number has its typedef's, without a
trailing `_t`. What a number means is told by a typedef of bpf/names.h, anywhere in its chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rawbpf.btf.types import MAX_DEPTH, Ptr, Reference, Typedef
from rawbpf.codec.scalar import FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.codec import Codec

NUMBER, COUNT, KTIME, UID, GID, PID, SIGNAL, OTHER = (
    "number",
    "count",
    "ktime",
    "uid",
    "gid",
    "pid",
    "signal",
    "other",
)
_MEANINGS = {
    "uid_t": UID,
    "gid_t": GID,
    "pid_t": PID,
    "signal_t": SIGNAL,
    "ktime_ns": KTIME,
    "count_t": COUNT,
}
# Typedefs that say how wide a number is, and nothing of what it is.
_WIDTHS = re.compile(
    r"""
    _*(?: (?:[su]|be|le)\d+ | u?int(?:_least|_fast)?\d*_t | u_?int\d+_t | u?intptr_t | s?size_t
        | (?:[su]_?)?(?:char|short|int|long) | bool )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One column: where in the key or value it is, how it is headed, and what it means (`kind`)."""

    path: tuple[int, ...]
    heading: str
    kind: str

    @property
    def is_numeric(self) -> bool:
        """Whether it is aligned as numbers are."""
        return self.kind not in {OTHER, KTIME}

    def of(self, value: object) -> object:
        """Return this part of `value`, a whole key or value."""
        for index in self.path:
            assert isinstance(value, tuple)
            value = value[index]
        return value


def leaves(codec: Codec[object], otherwise: str) -> list[Leaf]:
    """Return the columns of what `codec` decodes; `otherwise` heads what has no name of its own."""
    return list(_leaves(codec, (), "", otherwise))


def kind_of(codec: Codec[object]) -> str:
    """Return what a number of this type means; OTHER for what is no plain number."""
    if isinstance(codec, FloatCodec):
        return NUMBER
    if not isinstance(codec, IntCodec) or codec.known is not None:
        return OTHER
    return next((_MEANINGS[name] for name in _typedefs(codec) if name in _MEANINGS), NUMBER)


def heading_of(codec: Codec[object]) -> str:
    """Return what the type calls a value of it; empty if it says only how wide it is."""
    for name in _typedefs(codec):
        if not _WIDTHS.fullmatch(name):
            return name.removesuffix("_t")
    tag: str = getattr(codec, "tag", "")
    return tag


def _leaves(codec: Codec[object], path: tuple[int, ...], heading: str, otherwise: str) -> Iterator[Leaf]:
    if isinstance(codec, StructCodec) and codec.fields:
        for index, field in enumerate(codec.fields):
            name = field.name or field.attribute
            yield from _leaves(field.codec, (*path, index), f"{heading}.{name}" if heading else name, otherwise)
    else:
        yield Leaf(path, heading or heading_of(codec) or otherwise, kind_of(codec))


def _typedefs(codec: Codec[object]) -> Iterator[str]:
    at = codec.source
    for _ in range(MAX_DEPTH):
        if not isinstance(at, Reference) or isinstance(at, Ptr):
            return
        if isinstance(at, Typedef):
            yield at.name
        at = at.type
