"""What a family of map types is to whoever creates or opens one: its codecs, its defaults, its fix-ups.

`create` and `open` know no map type: they ask the class that `types` names. A family says what it
needs in class attributes, and overrides a method where that is not enough. What a type does not
accept is the kernel's to say, with the words of `syscall.rule`.
"""

from __future__ import annotations

from rawbpf.codec import codec_for
from rawbpf.syscall.rule import article
from rawbpf.uapi.constants import BPF_F_NUMA_NODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from rawbpf.codec import Codec, Description
    from rawbpf.syscall.map import CreateFields
    from rawbpf.syscall.protocol import Backend


class Family:
    """Defaults and hooks that a family of map types has; those here suit a hash."""

    __slots__ = ()

    map_type: ClassVar[str | None] = None

    _default_key: ClassVar[Description | None] = None
    """What keys are where nobody says; None: it has to be said."""
    _default_value: ClassVar[Description | None] = None
    _default_entries: ClassVar[int | None] = None
    _entries_by_cpu: ClassVar[bool] = False
    """Whether max_entries is the number of possible CPUs where it is left out, or 0."""
    _entries_mean: ClassVar[str] = "how many elements it can hold"
    _index_keys: ClassVar[bool] = False
    """Whether keys are u32 indices, whatever the maker calls them."""
    _required_flags: ClassVar[int] = 0
    _takes_btf: ClassVar[bool] = False
    """Whether the kernel lets maps of this type carry BTF of keys and values; it refuses or ignores others'."""
    _needs_btf: ClassVar[bool] = False
    """Whether the kernel makes no map of this type without that BTF."""
    _per_cpu: ClassVar[bool] = False

    @classmethod
    def _resolved(
        cls, backend: Backend, value: Description | None, word: str
    ) -> tuple[Description | None, CreateFields]:
        # The value of a map to be made, and fields of MAP_CREATE that follow from it, where only the kernel
        # knows what the maker's words mean.
        del backend, word
        return value, {}

    @classmethod
    def _codecs(cls, key: Description | None, value: Description | None, word: str) -> tuple[Codec[Any], Codec[Any]]:
        # `key` and `value` are what the maker said, BTF types that a map carries, sizes where it carries
        # none, and None where nothing was said. `word` names the type in messages.
        return cls._key_codec(key, word), cls._value_codec(value, word)

    @classmethod
    def _key_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        codec = _described("key", described, cls._default_key, word)
        if not cls._index_keys:
            return codec
        if codec.size != 4:
            raise ValueError(f"key={described!r}: {word} maps are indexed by a u32; leave key= out")
        # A name for the u32, such as signal_t, is kept.
        return codec if codec.format == "I" else codec_for("u32")

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        return _described("value", described, cls._default_value, word)

    @classmethod
    def _carries_btf(cls, key: Codec[Any]) -> bool:
        # Whether a map of this type can carry BTF when its keys are such.
        del key
        return cls._takes_btf

    @classmethod
    def _completed(cls, backend: Backend, fields: CreateFields, word: str) -> CreateFields:
        # Fields of MAP_CREATE as the type wants them: what the maker left out is filled in, and sizes that
        # have one sensible reading are corrected, as libbpf does. A missing max_entries is no field at all.
        if cls._entries_by_cpu and not fields.get("max_entries"):
            fields["max_entries"] = backend.host.possible_cpus
        if "max_entries" not in fields:
            if cls._default_entries is None:
                raise TypeError(f"{article(word)} map needs max_entries=, {cls._entries_mean}")
            fields["max_entries"] = cls._default_entries
        node = BPF_F_NUMA_NODE if fields.get("numa_node") is not None else 0
        fields["map_flags"] = fields.get("map_flags", 0) | cls._required_flags | node
        return fields


def _described(what: str, description: Description | None, default: Description | None, word: str) -> Codec[Any]:
    if default is None:
        if description is None:
            needs = f'needs {what}=, such as {what}="u32", a dict of fields, or a size in bytes'
            raise TypeError(f"{article(word)} map {needs}")
        return codec_for(description)
    usual = codec_for(default)
    # A size says no more than that it is as usual.
    return usual if description is None or description == usual.size else codec_for(description)
