"""What a map is to be: its type, sizes, limits, BTF types, and contents it starts with.

Plain data, editable until it is loaded; which sizes a type allows is the kernel's to say.
"""

from __future__ import annotations

from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Type

_DATA = (".rodata", ".data", ".bss", ".kconfig")
PIN_NONE = 0
PIN_BY_NAME = 1
"""`LIBBPF_PIN_BY_NAME`: the map is shared through a pin of its own name."""
KCONFIG = ".kconfig"
"""The name of the map that holds what the kernel's configuration says."""


class MapSpec:
    """A map to create.

    `key` and `value` are BTF types (None: plain bytes), `key_type_id` and `value_type_id` their ids in
    the object's BTF (0: none). `inner` is the template of a map-in-map, `values` what it starts with,
    index to the name of a map or program. `contents` are the bytes of the only value of a data section
    (None: zeros), which linking places at multiples of `alignment`; `frozen` makes user space's side read-only once
    they are written. Of a struct_ops map, `value` is the object's struct, `contents` its data members, and `programs`
    its functions: the name of a program by the member's name. `autocreate` False (a section that begins with `?`):
    loading does not make it, and one that is given with `maps=` is used nevertheless.
    """

    __slots__ = (
        "alignment",
        "autocreate",
        "contents",
        "frozen",
        "inner",
        "key",
        "key_size",
        "key_type_id",
        "map_extra",
        "map_flags",
        "map_type",
        "max_entries",
        "name",
        "numa_node",
        "pinning",
        "programs",
        "section",
        "value",
        "value_size",
        "value_type_id",
        "values",
    )

    def __init__(
        self,
        name: str,
        map_type: int,
        key_size: int = 0,
        value_size: int = 0,
        max_entries: int = 0,
        *,
        map_flags: int = 0,
        map_extra: int = 0,
        numa_node: int | None = None,
        pinning: int = PIN_NONE,
        key: Type | None = None,
        value: Type | None = None,
        key_type_id: int = 0,
        value_type_id: int = 0,
        inner: MapSpec | None = None,
        values: dict[int, str] | None = None,
        programs: dict[str, str] | None = None,
        contents: bytearray | None = None,
        frozen: bool = False,
        autocreate: bool = True,
        section: str = "",
        alignment: int = 1,
    ) -> None:
        self.name = name
        self.map_type = map_type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.map_flags = map_flags
        self.map_extra = map_extra
        self.numa_node = numa_node
        self.pinning = pinning
        self.key = key
        self.value = value
        self.key_type_id = key_type_id
        self.value_type_id = value_type_id
        self.inner = inner
        self.values = {} if values is None else values
        self.programs = {} if programs is None else programs
        self.contents = contents
        self.frozen = frozen
        self.autocreate = autocreate
        self.section = section
        self.alignment = alignment

    @property
    def is_data(self) -> bool:
        """Whether this is a data section (`.rodata`, `.data`, `.bss`, `.kconfig`): one value that holds variables."""
        return self.section.startswith(_DATA)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes of the contents from `offset`.

        Raises: SpecError when they end earlier.
        """
        self._check(offset, size)
        return bytes(size) if self.contents is None else bytes(self.contents[offset : offset + size])

    def write(self, offset: int, content: bytes) -> None:
        """Replace the contents from `offset` by `content`.

        Raises: SpecError when they end earlier.
        """
        self._check(offset, len(content))
        if self.contents is None:
            self.contents = bytearray(self.value_size)
        self.contents[offset : offset + len(content)] = content

    def _check(self, offset: int, size: int) -> None:
        have = self.value_size if self.contents is None else len(self.contents)
        if offset < 0 or offset + size > have:
            raise SpecError(f"map {self.name!r}: bytes {offset} to {offset + size} lie outside its {have} bytes")

    def copy(self) -> MapSpec:
        """Return a copy whose contents, values, programs and inner map are its own."""
        new = MapSpec.__new__(MapSpec)
        for slot in MapSpec.__slots__:
            setattr(new, slot, getattr(self, slot))
        new.values = dict(self.values)
        new.programs = dict(self.programs)
        new.contents = None if self.contents is None else bytearray(self.contents)
        new.inner = None if self.inner is None else self.inner.copy()
        return new

    def __repr__(self) -> str:
        from rawbpf.uapi.names import map_type_name

        parts = [
            f"MapSpec({self.name!r}: {map_type_name(self.map_type)}",
            f"key {_side(self.key, self.key_size)}",
            f"value {_side(self.value, self.value_size)}",
            f"max_entries {self.max_entries}",
        ]
        if self.map_flags:
            parts.append(f"flags {self.map_flags:#x}")
        if self.pinning:
            parts.append("pinned by name")
        if not self.autocreate:
            parts.append("not made unless asked")
        if self.programs:
            parts.append("of " + " ".join(f"{member}={name}" for member, name in self.programs.items()))
        if self.inner is not None:
            parts.append(f"of {self.inner!r}")
        return ", ".join(parts) + ")"


def _side(btf_type: Type | None, size: int) -> str:
    name = btf_type.name if btf_type is not None else ""
    return f"{name} ({size} bytes)" if name else f"{size} bytes"
