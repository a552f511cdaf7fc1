"""The verbs over many keys, decoded: what dictionaries and arrays of the kernel share.

Built on `batch` and `many`, which move bytes; here they come from keys and values, portion by portion, so
that memory stays bounded whatever the number.
"""

from __future__ import annotations

from itertools import islice

from rawbpf.errors import BpfError, KeyExists, KeyNotFound
from rawbpf.map.whole import WholeMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")


class BulkMap(WholeMap["K", "V"]):
    """A map whose elements can all be read: hashes and arrays, per CPU or not."""

    __slots__ = ()

    # Many keys ----------------------------------------------------------------------

    def get_many(self, keys: Iterable[K], default: D | None = None) -> list[V | D | None]:
        """Return the values of `keys`, in their order, with `default` for those that are missing.

        A program looks them up in the kernel, thousands in one call, where `many_path` says so.
        Raises: Closed; PermissionDenied (EPERM: opened for writing only); TypeError, ValueError, OverflowError for
        a key that cannot be encoded. Since: Linux 5.14 in one call; one by one before.
        """
        every = keys if isinstance(keys, (list, tuple)) else list(keys)
        many = self._many_for(len(every))
        found = None if many is None else many.get(self._key, self._value, every, default)
        if found is None:
            one: Callable[..., V | D | None] = self._get
            return [one(key, default) for key in every]
        return found

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
        elements, key, value = self._elements(), self._key, self._value

        def store(portion: tuple[bytes, bytes, int]) -> int:
            keys, values, count = portion
            many = self._many_for(count)
            try:
                if many is None:
                    elements.write(keys, values, count, flags)
                else:
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


def in_portions(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield the `items` in lists of `size`, the last one shorter."""
    if isinstance(items, list):
        for start in range(0, len(items), size):
            yield items[start : start + size]
        return
    source = iter(items)
    while some := list(islice(source, size)):
        yield some


def _sides(items: Mapping[K, V] | Iterable[tuple[K, V]], size: int) -> Iterator[tuple[list[K], list[V]]]:
    # Keys and values in lists of `size`. A dict has both already, and need not make pairs of them.
    if isinstance(items, dict):
        keys, values = list(items), list(items.values())
        if len(keys) != len(values):
            raise RuntimeError("the dict was changed by another thread")
        if 0 < len(keys) <= size:  # as they are: cutting would copy them
            yield keys, values
            return
        yield from zip(in_portions(keys, size), in_portions(values, size), strict=True)
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
