"""Of which type the events of a map are: what `--event` says, else the struct that is called as the map is, else bytes.

Types are looked up by their names where the map's object has them; nothing is read here.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass, replace

from rawbpf.cli.failure import Failure
from rawbpf.cli.leaf import NUMBER, OTHER, PID, Leaf, leaves
from rawbpf.codec import codec_for
from rawbpf.codec.structure import StructCodec
from rawbpf.event.decode import record_codec
from rawbpf.event.perf_event_array import PerfEventArrayMap
from rawbpf.event.ring import RingBufMap
from rawbpf.event.tagged import TaggedDecoder
from rawbpf.syscall.rule import article
from rawbpf.uapi.constants import BPF_MAP_TYPE_PERF_EVENT_ARRAY, BPF_MAP_TYPE_RINGBUF
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rawbpf.codec import Codec
    from rawbpf.loader.spec import ObjectSpec
    from rawbpf.map.named import Types

    EventMap = RingBufMap | PerfEventArrayMap

_TYPES = (BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_PERF_EVENT_ARRAY)
_TAGGED = "MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT"
_MOST_WRITTEN = 255


@dataclass(frozen=True, slots=True)
class Asked:
    """What `--event` says of a map, as `written`: the name of a type or, by the values of a field, of several."""

    written: str
    map: str
    types: str | Mapping[int | str, str]
    tag: str = ""

    def __str__(self) -> str:
        most = _MOST_WRITTEN
        return f"--event {self.written if len(self.written) <= most else self.written[: most - 3] + '...'}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event is: in which map, of which type and how decoded (None: bytes), and its columns."""

    map: str
    type: str | None
    codec: Codec[object] | None
    leaves: Sequence[Leaf]


class Kinds:
    """What the records of a map are. `codec_of` finds the codec of a record, None for bytes; `names` has its type."""

    def __init__(
        self, map: str, codec_of: Callable[[bytes], Codec[object] | None], names: Mapping[Codec[object], str]
    ) -> None:
        self._codec_of = codec_of
        self._bytes = Kind(map, None, None, [Leaf((), "value", OTHER)])
        self._kinds = {codec: Kind(map, name, codec, _columns(codec)) for codec, name in names.items()}

    def of(self, record: bytes) -> Kind:
        """Return what a record is; one that is too short for its type is bytes."""
        codec = self._codec_of(record)
        return self._bytes if codec is None or len(record) < codec.size else self._kinds[codec]


def event_option(written: str) -> Asked:
    """Return what is written behind `--event`. Raises: ArgumentTypeError."""
    left, _, right = written.partition("=")
    name, colon, tag = left.partition(":")
    if not name or not right or bool(colon) != bool(tag):
        raise ArgumentTypeError(
            f"expected MAP=STRUCT, such as events=event, or {_TAGGED}, such as events:kind=1:opened,2:closed, "
            f"got {written!r}"
        )
    if not tag:
        return Asked(written, name, right)
    types: dict[int | str, str] = {}
    for each in right.split(","):
        value, _, type = each.partition(":")
        if not value or not type:
            raise ArgumentTypeError(f"expected {_TAGGED}, such as events:kind=1:opened,2:closed, got {each!r} there")
        number = _number(value)
        if number in types:
            raise ArgumentTypeError(f"{value} is there twice, for {types[number]} and for {type}")
        types[number] = type
    return Asked(written, name, types, tag)


def event_maps(spec: ObjectSpec, names: Sequence[str], wanted: Sequence[Asked]) -> dict[str, Asked | None]:
    """Return the maps of events among `names` and in `wanted`, each with what is asked of it.

    Raises: Failure for a map that has no events, and for one that is there twice.
    """
    having = [name for name, each in spec.maps.items() if each.map_type in _TYPES]
    found: dict[str, Asked | None] = {name: None for name in names if name in having}
    for asked in wanted:
        if asked.map not in having:
            known = f"its maps of events are {', '.join(sorted(having))}" if having else "it has no maps of events"
            why = "the object has no such map"
            if asked.map in spec.maps and not spec.maps[asked.map].is_data:
                why = f"{article(map_type_name(spec.maps[asked.map].map_type))} has no events"
            raise Failure(f"{asked}: {why}; {known}")
        if other := found.get(asked.map):
            raise Failure(f"{asked}: there is {other}; types that a field tells apart go together: --event {_TAGGED}")
        found[asked.map] = asked
    return found


def kinds_of(m: EventMap, name: str, asked: Asked | None) -> Kinds:
    """Return what the records of the map called `name` are.

    Raises: Failure for a type that is asked for and that there is not, and for types that the field cannot tell apart.
    """
    if asked is None:
        guessed = guessed_type(m._types, name)
        return Kinds(name, lambda _: None, {}) if guessed is None else _alike(name, guessed[1], guessed[0])
    try:
        if isinstance(asked.types, str):
            return _alike(name, record_codec(m, asked.types), asked.types)
        codecs = {value: record_codec(m, type) for value, type in asked.types.items()}
        tagged = TaggedDecoder(codecs, asked.tag)
    except (TypeError, ValueError, OverflowError) as error:
        message = str(error).removeprefix(f"map {m._shape}: ")
        raise Failure(f"{asked}: {message}") from error
    return Kinds(name, tagged.codec_of, {codecs[value]: type for value, type in asked.types.items()})


def guessed_type(types: Types | None, name: str) -> tuple[str, Codec[object]] | None:
    """Return the struct among an object's `types` that the records of the map `name` are probably of, and its codec.

    As C programs call them: the map `events` has records of `struct event`.
    """
    for called in (name, *_singulars(name)):
        try:
            found = None if types is None else types.find(called)
            codec = None if found is None else codec_for(found)
        except ValueError:  # what is damaged, or no type of values, is not what was meant
            continue
        if isinstance(codec, StructCodec):
            return called, codec
    return None


def _alike(name: str, codec: Codec[object], called: str) -> Kinds:
    return Kinds(name, lambda _: codec, {codec: called})


def _singulars(name: str) -> list[str]:
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return [name.removesuffix(many) + one for many, one in endings if name.endswith(many)]


def _columns(codec: Codec[object]) -> list[Leaf]:
    # What a process is called now is not what it was called then, and its number may be another's by now.
    return [replace(leaf, kind=NUMBER) if leaf.kind == PID else leaf for leaf in leaves(codec, "value")]


def _number(written: str) -> int | str:
    # Of the field that tells types apart: a number, or an enumerator's name.
    try:
        return int(written, 0)
    except ValueError:
        return written
