"""The verbs over many or all elements, decoded: what dictionaries and arrays of the kernel share.

Built on `batch`, which moves bytes; here they become keys and values. Each pass over a map reads
batch by batch, so that memory stays bounded whatever the map's size.
"""

from __future__ import annotations

import ctypes
from itertools import islice

from rawbpf.errors import BpfError, KeyExists, KeyNotFound
from rawbpf.map.base import Map
from rawbpf.map.batch import DEFAULT_CHUNK, Elements
from rawbpf.map.memory import buffer_of, cast_view
from rawbpf.map.view import ItemsView, KeysView, ValuesView
from rawbpf.syscall.map import map_lookup_elem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    import numpy as np
    from typing_extensions import TypeVar

    from rawbpf.codec import Codec
    from rawbpf.map.many import Many

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")


class BulkMap(Map["K", "V"]):
    """A map whose elements can all be read: hashes and arrays, per CPU or not."""

    __slots__ = ()

    if TYPE_CHECKING:
        # What a missing key is, hashes and arrays say.
        def _get(self, key: K, default: D | None) -> V | D | None: ...
        def _has_key(self, key: object) -> bool: ...

    def _elements(self) -> Elements:
        return Elements(self._handle, self._shape, self._value.size)

    def _lookup(self, key: K, flags: int) -> V:
        packed, value = buffer_of(self._key.pack(key)), ctypes.create_string_buffer(self._value.size)
        try:
            self._handle.call(map_lookup_elem, packed, value, flags)
        except KeyNotFound as error:
            error.key = key
            raise
        return self._value.unpack(value.raw)

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

        Raises: Closed.
        """
        result: dict[K, V] = {}
        for keys, values in self.batches():
            result.update(zip(keys, values, strict=True))
        return result

    def columns(self) -> tuple[memoryview, memoryview]:
        """Return all keys and all values, each as one memoryview with an item per element.

        Scalars give a view of their own format; what is wider gives rows of bytes: shape (count, size).
        Raises: Closed.
        """
        keys, values, total = bytearray(), bytearray(), 0
        for some_keys, some_values, count in self._elements().read():
            keys += some_keys
            values += some_values
            total += count
        return _column(keys, self._key, total), _column(values, self._value, total)

    def to_numpy(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return all keys and all values as numpy arrays over the memory of `columns()`.

        Raises: Closed; ImportError where numpy is not installed.
        """
        import numpy as np

        keys, values = self.columns()
        return np.asarray(keys), np.asarray(values)

    def get_many(self, keys: Iterable[K], default: D | None = None) -> list[V | D | None]:
        """Return the values of `keys`, in their order, with `default` for those that are missing.

        A program looks them up in the kernel, thousands in one call, where `many_path` says so.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only); TypeError, ValueError, OverflowError for
        a key that cannot be encoded. Since: Linux 5.17 in one call; one by one before.
        """
        every = keys if isinstance(keys, (list, tuple)) else list(keys)
        many = self._many if len(every) > 1 else None
        found = None if many is None else many.get(self._key, self._value, every, default)
        if found is None:
            one: Callable[..., V | D | None] = self._get
            return [one(key, default) for key in every]
        return found

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

    @property
    def many_path(self) -> str:
        """How `get_many` and its like do their work: `program`, or `system calls` and why, by verb if they differ.

        A program is loaded to find that out, if none is. Raises: Closed.
        """
        from rawbpf.map.many import VERBS

        with self._handle:
            reasons = {verb: self._many.why_not(verb) for verb in VERBS if hasattr(self, verb)}
        ways = {verb: f"system calls: {why}" if why else "program" for verb, why in reasons.items()}
        if len(set(ways.values())) == 1:
            return next(iter(ways.values()))
        return "; ".join(f"{verb}: {way}" for verb, way in ways.items())

    # Writing ---------------------------------------------------------------------

    def update(self, items: Mapping[K, V] | Iterable[tuple[K, V]], flags: int = 0) -> None:
        """Store all of `items`, a mapping or pairs, in batches; the last of equal keys wins.

        `flags`: as `put` takes them; BPF_F_LOCK stores each value under its bpf_spin_lock, BPF_NOEXIST and
        BPF_EXIST go one by one, since the kernel refuses them for batches. A dict or a list is encoded
        before the first element is stored; the elements of an iterator are encoded and stored portion by
        portion. Raises: Closed; PermissionDenied (EPERM); MapFull, IndexOutOfRange, KeyExists, KeyNotFound;
        TypeError, ValueError, OverflowError for what cannot be encoded; what the iterator raises. `.applied`
        of the error counts the elements that were stored before.
        Since: Linux 5.6 in batches; one by one before.
        Source: kernel/bpf/syscall.c:generic_map_update_batch
        """
        elements, key, value, many = self._elements(), self._key, self._value, self._many

        def store(portion: tuple[bytes, bytes, int]) -> int:
            keys, values, count = portion
            try:
                many.put(elements, keys, values, count, flags)
            except (KeyNotFound, KeyExists) as error:
                at = (error.applied or 0) * key.size
                error.key = key.unpack(keys[at : at + key.size])
                raise
            return count

        def encoded(some: tuple[list[K], list[V]]) -> tuple[bytes, bytes, int]:
            keys, values = some
            return key.pack_many(keys), value.pack_many(values), len(keys)

        portions = map(encoded, _sides(items, elements.portion()))
        in_turn(beforehand(portions, items), store)

    def put_many(self, items: Mapping[K, V] | Iterable[tuple[K, V]], flags: int = 0) -> None:
        """Store all of `items`; as `update`."""
        self.update(items, flags)

    # In one pass -----------------------------------------------------------------

    def count(self) -> int:
        """Count the elements. Raises: Closed."""
        return sum(count for _, _, count in self._elements().read())

    def sum(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Add up all values, or that `field` of them; per-CPU values count with all CPUs.

        Raises: Closed; ValueError for a field that the values do not have.
        """
        return sum(map(_picker(field), self.values()))

    def min(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Return the least value, or least `field`. Raises: Closed; ValueError for an empty map."""
        return min(map(_picker(field), self.values()))

    def max(self, field: str | None = None) -> Any:  # noqa: ANN401  (as the values)
        """Return the greatest value, or greatest `field`. Raises: Closed; ValueError for an empty map."""
        return max(map(_picker(field), self.values()))

    def filter(self, predicate: Callable[[K, V], object]) -> dict[K, V]:
        """Return the elements for which `predicate(key, value)` is true. Raises: Closed."""
        return {key: value for key, value in self.items() if predicate(key, value)}

    def top(self, n: int, by: str | None = None) -> list[tuple[K, V]]:
        """Return the `n` elements with the greatest values, or greatest field `by`, greatest first. Raises: Closed."""
        import heapq

        pick = _picker(by)
        return heapq.nlargest(n, self.items(), key=lambda item: pick(item[1]))


def in_portions(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the `items` in lists of `size`, the last one shorter."""
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


def _sides(items: Mapping[K, V] | Iterable[tuple[K, V]], size: int) -> Iterator[tuple[list[K], list[V]]]:
    # Keys and values in lists of `size`. A dict has both already, and need not make pairs of them.
    if isinstance(items, dict):
        yield from zip(in_portions(items, size), in_portions(items.values(), size), strict=True)
        return
    pairs = items.items() if hasattr(items, "items") else items
    if not hasattr(pairs, "__iter__"):
        raise TypeError(f"update() takes a mapping or (key, value) pairs, got {items!r}")
    for some in in_portions(pairs, size):
        try:
            sides = [each for each, _ in some], [each for _, each in some]
        except (TypeError, ValueError) as error:
            raise TypeError(f"update() takes a mapping or (key, value) pairs: {error}") from None
        yield sides


def beforehand(portions: Iterator[Any], items: object) -> Iterable[Any]:
    """Return `portions`, encoded now if `items` are in memory already: what is wrong in one is then found in time."""
    return list(portions) if isinstance(items, (dict, list, tuple, set, frozenset, range)) else portions


def in_turn(portions: Iterable[Any], apply: Callable[[Any], int]) -> int:
    """Apply one portion after the other and return the sum; what fails has `.applied` for all of them."""
    done = 0
    try:
        for portion in portions:
            done += apply(portion)
    except BpfError as error:
        if error.applied is not None:
            error.applied += done
        elif done:
            error.applied = done  # a batch of which the kernel tells nothing was refused as a whole
        raise
    except Exception as error:  # of what cannot be encoded, or of the iterator itself
        if done:
            error.add_note(f"{done} elements before it were applied")
            error.applied = done  # type: ignore[attr-defined]  # as a BpfError has it
        raise
    return done


def _picker(field: str | None) -> Callable[[Any], Any]:
    from rawbpf.codec.percpu import PerCpu  # only who asks pays

    def pick(value: Any) -> Any:  # noqa: ANN401  (a value of any type)
        total = value.sum() if isinstance(value, PerCpu) else value
        if field is None:
            return total
        try:
            return getattr(total, field)
        except AttributeError:
            fields = getattr(total, "_fields", ())
            of = f"the fields of the values are {', '.join(fields)}" if fields else "the values are no structs"
            raise ValueError(f"no field {field!r}: {of}") from None

    return pick


def _column(content: bytearray, codec: Codec[object], count: int) -> memoryview:
    view = memoryview(content)
    if codec.format:
        return cast_view(view, codec.format)
    return view.cast("B", [count, codec.size]) if count else view
