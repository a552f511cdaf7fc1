"""What is asked of a whole map: all of it, how much it is, the greatest, those that pass a test.

Each pass reads batch by batch, so that memory stays bounded whatever the map's size. Of a large map a program in
the kernel finds the answer, if it is about integers (`walk`). Both say the same of a map that nobody writes to
meanwhile.
"""

from __future__ import annotations

import ctypes
import operator

from rawbpf.errors import KeyNotFound
from rawbpf.map.base import Map
from rawbpf.map.batch import DEFAULT_CHUNK, Elements
from rawbpf.map.memory import buffer_of
from rawbpf.map.view import ItemsView, KeysView, ValuesView
from rawbpf.syscall.map import map_lookup_elem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.codec.dtype import Array
    from rawbpf.map.many import Many
    from rawbpf.map.walk import Walks
    from rawbpf.map.walk_code import Number

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")

    Operator = Literal["<", "<=", ">", ">=", "==", "!="]

FEW = 4096
"""Maps that cannot hold as many elements as these are gone through by batches, without a program."""
AT_ONCE = 128
"""From how many keys on the first call loads a program; fewer wait for the second call."""
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class WholeMap(Map["K", "V"]):
    """A map whose elements can all be read at once."""

    __slots__ = ()

    if TYPE_CHECKING:
        # What a missing key is, hashes and arrays say.
        def _get(self, key: K, default: D | None) -> V | D | None: ...
        def _has_key(self, key: object) -> bool: ...

    def _lookup(self, key: K, flags: int) -> V:
        packed, value = buffer_of(self._key.pack(key)), ctypes.create_string_buffer(self._value.size)
        try:
            self._handle.call(map_lookup_elem, packed, value, flags)
        except KeyNotFound as error:
            error.key = key
            raise
        return self._value.unpack(value.raw)

    def _elements(self) -> Elements:
        return Elements(self._handle, self._shape, self._value.size)

    @property
    def _many(self) -> Many:
        # Views share the one of the map that they are of, whose codec knows what is in a value.
        handle = self._handle
        if handle.many is None:
            from rawbpf.codec.special import holds_special
            from rawbpf.map.many import Many

            special = holds_special((self if self._owner is None else self._owner)._value) or self._shape.special
            many = Many(handle, self._shape, self._value.size, special=special)
            if handle.many is None:  # nor has another thread made one meanwhile
                handle.many = many
        return handle.many

    def _many_for(self, count: int) -> Many | None:
        # What runs programs, None as long as it would load none: it is more than most users of maps have to import.
        handle = self._handle
        if count < 2:
            return None
        if not handle.many_asked:
            handle.many_asked = True
            if count < AT_ONCE:
                return None
        return handle.many or self._many

    def __len__(self) -> int:
        """Count the elements, which reads all of a hash."""
        return self.count()

    # Reading ---------------------------------------------------------------------

    def batches(self, n: int = DEFAULT_CHUNK, flags: int = 0) -> Iterator[tuple[list[K], list[V]]]:
        """Yield (keys, values) of up to `n` elements at a time, each element once.

        Every element that is there during the whole iteration is yielded exactly once; others may
        appear or not. `flags`: BPF_F_LOCK reads each value under its bpf_spin_lock.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only); ValueError for `n` below 1;
        IterationAborted where the kernel walks by keys; BpfError (EINVAL: flags that this map does not take).
        Since: Linux 5.6 in batches; one by one before.
        """
        key, value = self._key, self._value
        for keys, values, count in self._elements().read(n, flags=flags):
            yield key.unpack_many(keys, count), value.unpack_many(values, count)

    def keys(self) -> KeysView[K]:
        """Return a view of the keys, read anew by each iteration."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the values, read anew by each iteration."""
        return ValuesView(self)

    def items(self) -> ItemsView[K, V]:
        """Return a view of the (key, value) pairs, read anew by each iteration."""
        return ItemsView(self)

    def snapshot(self) -> dict[K, V]:
        """Return all elements as a dict; the kernel gives no moment at which all were so at once.

        A large map is read by a program that takes no lock: an element that others replace meanwhile can be
        missing. `dict(m.items())` has every element that is there during the whole iteration.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only).
        """
        walked = self._walked()
        if walked is not None:
            keys, values, count = walked
            return dict(zip(self._key.unpack_many(keys, count), self._value.unpack_many(values, count), strict=True))
        result: dict[K, V] = {}
        for some_keys, some_values in self.batches():
            result.update(zip(some_keys, some_values, strict=True))
        return result

    def columns(self) -> tuple[memoryview, memoryview]:
        """Return all keys and all values, each as one memoryview with an item per element.

        Numbers are items, arrays of numbers a dimension more, and all else is a row of bytes for each element:
        `m.value_type.column(view, field)` makes items of one field of all. A large map is read by a program that
        takes no lock: an element that others replace meanwhile can be missing, or there twice. Its columns are memory
        that a forked child shares: copy them (`bytearray(keys)`) before one of the two writes there.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only).
        """
        walked = self._walked()
        if walked is not None:
            return self._key.view(walked[0]), self._value.view(walked[1])
        keys, values = bytearray(), bytearray()
        for some_keys, some_values, _ in self._elements().read():
            keys += some_keys
            values += some_values
        return self._key.view(keys), self._value.view(values)

    def to_numpy(self) -> tuple[Array, Array]:
        """Return all keys and all values as numpy arrays of `key_type.dtype` and `value_type.dtype`.

        They lie over the memory of `columns()`: no element becomes a Python object. Per-CPU values have a
        dimension for the CPUs. Raises: Closed; ImportError where numpy is not installed.
        """
        keys, values = self.columns()
        return self._key.as_numpy(keys), self._value.as_numpy(values)

    # In one pass -----------------------------------------------------------------

    # Of large maps a program in the kernel does it, for integers that it can read. What it says of elements that
    # others replace meanwhile is what `columns` says.

    def _walks(self) -> Walks | None:
        if self._shape.max_entries < FEW:
            return None
        many = self._many
        if many.walks is None:
            from rawbpf.map.walk import Walks

            many.walks = Walks(many)
        return many.walks

    def _walked(self) -> tuple[memoryview, memoryview, int] | None:
        walks = self._walks()
        return None if walks is None else walks.elements()

    def _number(self, field: str | None) -> tuple[Walks, Number] | None:
        # What walks, and what it looks at in a value; None where Python has to look.
        walks = self._walks()
        if walks is None:
            return None
        from rawbpf.map.walk import number_of

        number = number_of(self._value, field)
        return None if number is None else (walks, number)

    def _picker(self, field: str | None) -> Callable[[Any], Any]:
        # What a value, or that field of it, is to compare and to add up. Raises: ValueError for a field that is none.
        codec: Codec[Any] = getattr(self._value, "inner", self._value)
        total: Callable[[Any], Any] = operator.methodcaller("sum") if self._per_cpu else _itself
        if field is None:
            return total
        names = codec.field_names
        if field not in names:
            of = f"the fields of the values are {', '.join(names)}" if names else "the values are no structs"
            raise ValueError(f"no field {field!r}: {of}")
        pick = operator.attrgetter(field)
        return (lambda value: pick(value.sum())) if self._per_cpu else pick

    def count(self) -> int:
        """Count the elements. Raises: Closed; PermissionDenied (EPERM: opened for writing only)."""
        walks = self._walks()
        counted = None if walks is None else walks.count()
        return sum(count for _, _, count in self._elements().read()) if counted is None else counted

    def sum(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Add up all values, or that `field` of them; per-CPU values count with all CPUs.

        Raises: Closed; PermissionDenied (EPERM); ValueError for a field that the values do not have.
        """
        found = self._number(field)
        total = None if found is None else found[0].sum(found[1])
        return sum(map(self._picker(field), self.values())) if total is None else total

    def min(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Return the least value, or least `field`; of per-CPU values the least sum over the CPUs.

        Raises: Closed; PermissionDenied (EPERM); ValueError for an empty map, or a field that values do not have.
        """
        return self._best(field, "<", min)

    def max(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Return the greatest value, or greatest `field`. Raises: as `min`."""
        return self._best(field, ">", max)

    def _best(self, field: str | None, operator: str, over: Callable[..., Any]) -> Any:  # noqa: ANN401
        found = self._number(field)
        best = None if found is None else found[0].best(found[1], operator)
        if best is None:
            best = over(((value,) for value in map(self._picker(field), self.values())), default=())
        if not best:
            raise ValueError(f"{self._shape} is empty")
        return best[0]

    if TYPE_CHECKING:

        @overload
        def filter(self, test: Callable[[K, V], object]) -> dict[K, V]: ...
        @overload
        def filter(self, test: Operator, limit: float, field: str | None = None) -> dict[K, V]: ...

    def filter(
        self, test: Callable[[K, V], object] | Operator, limit: float | None = None, field: str | None = None
    ) -> dict[K, V]:
        """Return the elements that pass a test.

        `test`: an operator, with which the value, or that `field` of it, is compared with `limit`, as in
        `m.filter(">=", 1000, field="calls")`; per-CPU values by their sum. Or a function of key and value, which
        Python calls for each.
        Raises: Closed; PermissionDenied (EPERM); TypeError, ValueError for what is no test or no field.
        """
        if callable(test):
            return {key: value for key, value in self.items() if test(key, value)}
        compare = _OPERATORS.get(test)
        if compare is None or limit is None:
            raise TypeError(f"filter() takes a function, or one of {' '.join(_OPERATORS)} and a number, got {test!r}")
        found = self._number(field)
        if found is not None and isinstance(limit, int) and found[1].least <= limit <= found[1].most:
            walked = found[0].matching(found[1], test, limit)
            if walked is not None:
                keys, values, count = walked
                matches = zip(self._key.unpack_many(keys, count), self._value.unpack_many(values, count), strict=True)
                return dict(matches)
        pick = self._picker(field)
        return {key: value for key, value in self.items() if compare(pick(value), limit)}

    def top(self, n: int, by: str | None = None) -> list[tuple[K, V]]:
        """Return the `n` elements with the greatest values, or greatest field `by`, greatest first.

        Raises: Closed; PermissionDenied (EPERM); ValueError for a field that the values do not have.
        """
        import heapq

        wanted, pick = operator.index(n), self._picker(by)
        found = None if self._per_cpu else self._number(by)
        walked = None if found is None else found[0].elements()
        if walked is None:
            return heapq.nlargest(wanted, self.items(), key=lambda item: pick(item[1]))
        keys, values, count = walked
        numbers = self._numbers(values, by)
        key, value = self._key, self._value
        return [
            (
                key.unpack(keys[at * key.size : (at + 1) * key.size]),
                value.unpack(values[at * value.size : (at + 1) * value.size]),
            )
            for at in heapq.nlargest(wanted, range(count), key=numbers.__getitem__)
        ]

    def _numbers(self, values: memoryview, field: str | None) -> list[int]:
        # The integers of all values, or of that field of them.
        if field is None:
            return self._value.view(values).tolist()
        try:
            return self._value.column(values, field).tolist()
        except ValueError:  # where they lie does not let a view step from one to the next
            pick = operator.attrgetter(field)
            return [pick(value) for value in self._value.iter_unpack(values)]


def _itself(value: Any) -> Any:  # noqa: ANN401  (a value of any type)
    return value
