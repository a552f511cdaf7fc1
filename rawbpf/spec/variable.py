"""A global variable of an object: a typed window on the contents of its data section's map.

Edits go into the map specification's contents, which the loader writes into the new map. Knows no
file and no kernel.
"""

from __future__ import annotations

from types import GenericAlias

from rawbpf.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, Literal

    from typing_extensions import TypeVar

    from rawbpf.btf.types import Type
    from rawbpf.codec import Codec
    from rawbpf.spec.map import MapSpec

    T = TypeVar("T", default=object)

    class _Base(Generic[T]):
        pass
else:

    class _Base:
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class VariableSpec(_Base["T"]):
    """A variable before loading: `spec.variables["min_uid"].value = 1000`.

    `constant`: it lies in `.rodata`, so the verifier may take its value for known and user space cannot
    change it once it is loaded.
    """

    __slots__ = ("byteorder", "constant", "map", "name", "offset", "size", "type")

    def __init__(
        self,
        name: str,
        map: MapSpec,
        offset: int,
        size: int,
        type: Type | None = None,
        *,
        constant: bool = False,
        byteorder: Literal["little", "big"] = "little",
    ) -> None:
        self.name = name
        self.map = map
        self.offset = offset
        self.size = size
        self.type = type
        self.constant = constant
        self.byteorder = byteorder

    @property
    def value(self) -> T:
        """The value that it will start with; bytes where the object has no type for it.

        Setting packs by the variable's type. Raises: TypeError, ValueError or OverflowError when the new
        value does not fit that type, SpecError when the variable lies outside its section.
        """
        codec = self._codec()
        content: Any = self.map.read(self.offset, self.size)
        value: T = content if codec is None else codec.unpack(content)
        return value

    @value.setter
    def value(self, value: T) -> None:
        self._set(value)

    def _set(self, value: object) -> None:
        codec = self._codec()
        if codec is not None:
            try:
                content = codec.pack(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise type(error)(f"variable {self.name!r}: {error}") from error
        elif isinstance(value, (bytes, bytearray, memoryview)):
            content = bytes(value)
            if len(content) != self.size:
                raise ValueError(f"variable {self.name!r} takes {self.size} bytes, not {len(content)}")
        else:
            raise TypeError(f"variable {self.name!r} has no type in BTF and takes {self.size} bytes, not {value!r}")
        self.map.write(self.offset, content)

    def copy(self, of: MapSpec) -> VariableSpec:
        """Return a copy that lies in the map `of`."""
        return VariableSpec(
            self.name, of, self.offset, self.size, self.type, constant=self.constant, byteorder=self.byteorder
        )

    def _codec(self) -> Codec[Any] | None:
        if self.type is None:
            return None
        from rawbpf.codec import codec_for

        codec: Codec[Any] = codec_for(self.type, byteorder=self.byteorder)
        if codec.size != self.size:
            raise SpecError(f"variable {self.name!r} takes {self.size} bytes, but its type {codec.name} {codec.size}")
        return codec

    def __repr__(self) -> str:
        kind = "constant " if self.constant else ""
        return f"VariableSpec({kind}{self.name!r}: {self.size} bytes at {self.map.name}+{self.offset})"
