"""Records: the values of C structs, immutable and hashable tuples with named fields.

One class per struct name and field names, whatever map or object it came from, so that records of
the same struct are of the same class and can be pickled. A record whose padding held something keeps
it, apart from the fields: such a record is of a subclass, so that others stay plain tuples.
"""

from __future__ import annotations

from keyword import iskeyword

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, ClassVar, Self

    def _getter(index: int, doc: str, /) -> object: ...
else:
    try:
        # What namedtuple uses: 1.6 times faster than property(itemgetter(i)), but not promised.
        from _collections import _tuplegetter as _getter
    except ImportError:
        from operator import itemgetter

        def _getter(index: int, doc: str, /) -> object:
            return property(itemgetter(index), doc=doc)


# What a record needs for itself; fields called so get an underscore.
_OWN = frozenset({"asdict", "_fields", "_names", "_padding", "_replace", "_dirty", "_forwards"})

_classes: dict[tuple[str, tuple[str, ...], tuple[tuple[str, int], ...]], type[Record]] = {}


class Record(tuple[object, ...]):
    """The value of a C struct: its fields by name, by index, and by unpacking.

    `_fields` are the attributes' names. Records are equal to tuples of equal fields, and to no record
    or tuple if their padding differs from it.
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()
    # As C calls them: keywords without underscore, anonymous unions empty.
    _names: ClassVar[tuple[str, ...]] = ()
    # (attribute, index of the anonymous union that has it)
    _forwards: ClassVar[tuple[tuple[str, int], ...]] = ()
    _dirty: ClassVar[type[Record] | None] = None
    _padding: bytes = b""
    __match_args__: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401  # fields have types of their own

    def __new__(cls, /, *values: object, **named: object) -> Self:
        """Make a record of all fields, by position or by name. Raises TypeError for any other number."""
        fields = cls._fields
        if named:
            rest = fields[len(values) :]
            try:
                values += tuple([named.pop(field) for field in rest])
            except KeyError as error:
                raise TypeError(f"{cls.__name__}: field {error} is missing") from None
            if named:
                raise TypeError(f"{cls.__name__} has no field {next(iter(named))!r}; it has {', '.join(fields)}")
        if len(values) != len(fields):
            raise TypeError(f"{cls.__name__} has {len(fields)} fields ({', '.join(fields)}), got {len(values)}")
        return tuple.__new__(cls, values)

    def _replace(self, /, **named: object) -> Self:
        """Return a copy with other values in the fields that are `named`. Raises TypeError for no field."""
        values = tuple([named.pop(field, value) for field, value in zip(self._fields, self, strict=True)])
        if named:
            raise TypeError(f"{_name(self)} has no field {next(iter(named))!r}; it has {', '.join(self._fields)}")
        made: Self = make(clean(type(self)), values, self._padding)  # type: ignore[assignment]  # of self's struct
        return made

    def asdict(self) -> dict[str, object]:
        """Return the fields by their names in C, records inside as dicts too, and unions by all members."""
        result: dict[str, object] = {}
        for name, value in zip(self._names, self, strict=True):
            if name:
                result[name] = plain(value)
            else:
                inner = plain(value)
                assert isinstance(inner, dict)
                result.update(inner)
        return result

    def __repr__(self) -> str:
        fields = [f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True)]
        if self._padding:
            fields.append(f"padding={self._padding!r}")
        return f"{_name(self)}({', '.join(fields)})"

    def __reduce__(self) -> tuple[Callable[..., Record], tuple[object, ...]]:
        return _rebuild, (_name(self), self._names, self._forwards, tuple(self), self._padding)


class _Dirty(Record):
    # Mixed in before the record's own class. Its instances have a __dict__, which holds the padding.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dirty) and self._padding == other._padding and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self._padding))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a record cannot be changed: use _replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a record cannot be changed: {name}")


def record_class(name: str, names: Sequence[str], forwards: Sequence[tuple[str, int]] = ()) -> type[Record]:
    """Return the class of the records of struct `name`.

    `names`: the fields as C calls them; empty for an anonymous union. `forwards`: (member, index of
    the anonymous union that has it): such a member reads as an attribute of the record too.
    """
    name = name or "record"
    key = (name, tuple(names), tuple(forwards))
    cls = _classes.get(key)
    if cls is None:
        fields = attribute_names(names)
        body: dict[str, object] = {
            "__slots__": (),
            "__doc__": f"struct {name}: {', '.join(fields)}",
            "__match_args__": fields,
            "_fields": fields,
            "_names": key[1],
            "_forwards": key[2],
        }
        for member, index in forwards:
            body[member] = _forward(index, member)
        for index, field in enumerate(fields):
            body[field] = _getter(index, f"field {index}: {names[index]}")
        cls = type(name, (Record,), body)
        _classes[key] = cls
    return cls


def make(cls: type[Record], values: Sequence[object], padding: bytes = b"") -> Record:
    """Return the record of `values`, one per field. `padding`: what was in the gaps, empty or all zero for nothing."""
    if not padding.strip(b"\0"):
        return tuple.__new__(cls, values)
    if cls._dirty is None:
        cls._dirty = type(cls.__name__, (_Dirty, cls), {"__doc__": cls.__doc__})
    record = tuple.__new__(cls._dirty, values)
    record.__dict__["_padding"] = padding
    return record


def attribute_names(names: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a Python attribute for each C name: keywords and `taken` get an underscore, none is there twice.

    What has no name, or one that is no identifier, is called by its index, such as `_2`.
    """
    used = {*taken, *_OWN}
    fields = []
    for index, name in enumerate(names):
        field = name if name.isidentifier() else f"_{index}"
        for candidate in (field, f"{field}_"):
            special = candidate[:2] == "__" and candidate[-2:] == "__"
            if candidate not in used and not special and not iskeyword(candidate):
                field = candidate
                break
        else:
            while field in used or field[-1] == "_":
                field = f"{field}_{index}"
        used.add(field)
        fields.append(field)
    return tuple(fields)


def plain(value: object) -> object:
    """Return `value` with dicts for the records and unions in it."""
    if isinstance(value, tuple):
        return value.asdict() if isinstance(value, Record) else tuple([plain(one) for one in value])
    asdict: Callable[[], Mapping[str, object]] | None = getattr(value, "asdict", None)
    return value if asdict is None else asdict()


def clean(cls: type[Record]) -> type[Record]:
    """Return the class of the struct's records without padding."""
    return cls.__mro__[2] if issubclass(cls, _Dirty) else cls


def _name(record: Record) -> str:
    return clean(type(record)).__name__


def _forward(index: int, member: str) -> property:
    return property(lambda self: getattr(self[index], member), doc=f"{member} of the union in field {index}")


def _rebuild(
    name: str, names: tuple[str, ...], forwards: tuple[tuple[str, int], ...], values: tuple[object, ...], padding: bytes
) -> Record:
    return make(record_class(name, names, forwards), values, padding)
