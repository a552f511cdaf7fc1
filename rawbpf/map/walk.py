"""Walks through a whole map in the kernel: what every element is asked or copied for, in one system call.

`Walks` belongs to one open map. What adds up or compares is kept until the map is closed; what copies is
loaded for the number of elements that are expected, with memory that becomes the result, and is repeated
where there were more. None says that the batches of `Elements` do it as well or better: maps that are small,
values that are long or not for programs, kernels that run no programs.

A walk takes no lock. Of a hash into which others store at the same time, an element that is replaced while
the walk passes can be missed or come twice; without others' writes, and in arrays, each comes once.
Kernel side: kernel/bpf/hashtab.c:bpf_for_each_hash_elem, kernel/bpf/arraymap.c:bpf_for_each_array_elem (v6.12).
"""

from __future__ import annotations

from rawbpf.map.handle import closed
from rawbpf.map.many import READ, SPECIAL
from rawbpf.map.runner import Runner, Unavailable
from rawbpf.map.walk_code import (
    BEST,
    HIGH,
    LIMIT,
    LOW,
    MATCHED,
    OVERFLOW,
    VISITED,
    Number,
    Room,
    adding,
    choosing,
    copying,
    walk_code,
)
from rawbpf.syscall.group import HASHES, LRU_HASHES, PERCPU, PLAIN_ARRAYS
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.many import Many
    from rawbpf.map.runner import Code

MOST_BYTES = 256 << 20
"""Bytes of the memory that elements are copied to, at most, and no more than half of what is available."""
_AT_ONCE = 16 << 20
_FIRST_MATCHES = 4096
_LONGEST = 4096
_MOST_CPUS = 32
_TRIES = 4
_KEPT = 8
_MASK, _SIGN = (1 << 64) - 1, 1 << 63


class Walks:
    """The walks through the map of `many`."""

    __slots__ = ("_allowed", "_cpus", "_free", "_last", "_many", "why_not")

    def __init__(self, many: Many) -> None:
        self._many = many
        self._free: dict[tuple[Any, ...], list[Runner]] = {}
        self._last: int | None = None
        self._allowed = False
        shape = many.shape
        self._cpus = many.handle.backend.host.possible_cpus if shape.map_type in PERCPU else 0
        self.why_not = self._unsuitable()

    def _unsuitable(self) -> str:
        shape, many = self._many.shape, self._many
        if shape.map_type not in (*HASHES, *PLAIN_ARRAYS) or shape.map_type == c.BPF_MAP_TYPE_INSN_ARRAY:
            return "programs cannot go through such a map"
        if many.special or many.special is None:
            return SPECIAL[many.special]
        if shape.map_flags & c.BPF_F_WRONLY_PROG:
            return "programs may not read the map"
        if self._cpus > _MOST_CPUS or max(shape.key_size, many.value_size) > _LONGEST:
            return "keys or values are too long"
        if self._cpus and shape.map_type in LRU_HASHES:
            return "a program's look-up counts as a use of the element"
        return ""

    def _may_run(self) -> bool:
        many = self._many
        if many.handle.fd < 0:
            raise closed(many.handle.describe)
        many.forget_parents()
        if not self.why_not and not self._allowed:
            try:
                many.require(READ)
                self._allowed = True
            except Unavailable as unavailable:
                self.why_not = unavailable.why
        return not self.why_not

    def drop(self) -> None:
        """Unload what is kept."""
        while self._free:
            try:
                _, kept = self._free.popitem()
            except KeyError:
                return
            for runner in kept:
                runner.close()

    # What comes to one number -----------------------------------------------------------

    def count(self) -> int | None:
        """Return how many elements there are; None: read them. Raises: Closed."""
        header = self._asked(("count",), lambda fd, scratch: walk_code(fd, scratch, self._cpus))
        if header is None:
            return None
        self._last = header[VISITED]
        return self._last

    def sum(self, number: Number) -> int | None:
        """Return the sum of `number` over all elements; None: read them. Raises: Closed."""

        def code(fd: int, scratch: int) -> Code:
            return walk_code(fd, scratch, self._cpus, number=number, action=adding(number, scratch))

        header = self._asked(("sum", *number.key), code)
        if header is None:
            return None
        total = header[HIGH] << 64 | header[LOW]
        return total - (1 << 128) if number.signed and header[HIGH] & _SIGN else total

    def best(self, number: Number, operator: str) -> tuple[int, ...] | None:
        """Return the `number` that is `operator` ("<" or ">") all others, () for an empty map; None: read them."""

        def code(fd: int, scratch: int) -> Code:
            return walk_code(fd, scratch, self._cpus, number=number, action=choosing(number, scratch, operator))

        header = self._asked((operator, *number.key), code)
        if header is None:
            return None
        if not header[MATCHED]:
            return ()
        best = header[BEST]
        return (best - (1 << 64) if number.signed and best & _SIGN else best,)

    def _asked(self, key: tuple[Any, ...], code: Any) -> list[int] | None:  # noqa: ANN401  (Callable[[int, int], Code])
        # Run a program without copies and return its header.
        if not self._may_run():
            return None
        try:
            runner: Runner | None = self._free[key].pop()
        except (KeyError, IndexError):
            runner = self._loaded(64, code)
        if runner is None:
            return None
        try:
            runner.run()
            header: list[int] = runner.words[:8].tolist()
        except Unavailable as unavailable:
            if unavailable.lasting:
                self.why_not = unavailable.why
            return None
        finally:
            if self._many.handle.fd < 0 or sum(map(len, self._free.values())) >= _KEPT:
                runner.close()
            else:
                self._free.setdefault(key, []).append(runner)
                if self._many.handle.fd < 0:  # closed meanwhile
                    self.drop()
        return None if header[OVERFLOW] or header[VISITED] & _SIGN else header

    def _loaded(self, size: int, code: Any) -> Runner | None:  # noqa: ANN401  (Callable[[int, int], Code])
        handle = self._many.handle
        try:
            with handle as fd:
                return Runner(handle.backend, size, lambda scratch, _: code(fd, scratch))
        except Unavailable as unavailable:
            if unavailable.lasting:
                self.why_not = unavailable.why
            return None

    # What comes to elements ---------------------------------------------------------------

    def elements(self) -> tuple[memoryview, memoryview, int] | None:
        """Return (keys, values, count) of all elements, as bytes in memory of their own; None: read them."""
        return self._copied(self._expected())

    def matching(self, number: Number, test: str, limit: int) -> tuple[memoryview, memoryview, int] | None:
        """Return as `elements` those whose `number` is `test`, an operator, `limit`; None: read them."""
        return self._copied(_FIRST_MATCHES, number, test, limit)

    def _expected(self) -> int:
        shape = self._many.shape
        if self._last is None and shape.max_entries * self._size > _AT_ONCE:
            self._last = self.count()
        if self._last is None:
            return shape.max_entries
        return min(shape.max_entries, self._last + self._last // 8 + 1024)

    @property
    def _size(self) -> int:
        return self._many.shape.key_size + self._many.value_size

    def _copied(
        self, capacity: int, number: Number | None = None, test: str = "", limit: int = 0
    ) -> tuple[memoryview, memoryview, int] | None:
        if not self._may_run():
            return None
        available = self._many.handle.backend.host.memory_available
        most = MOST_BYTES if available is None else min(MOST_BYTES, available // 2)
        for _ in range(_TRIES):
            room = Room(capacity, self._many.shape.key_size, self._many.value_size)
            if room.size > most:
                return None

            def code(fd: int, scratch: int, room: Room = room) -> Code:
                action = copying(room, fd, scratch, self._cpus, self._many.shape.value_size)
                return walk_code(fd, scratch, self._cpus, number=number, test=test, action=action)

            runner = self._loaded(room.size, code)
            if runner is None:
                return None
            memory = runner.memory
            try:
                runner.words[LIMIT] = limit & _MASK
                runner.run()
                header = runner.words[:8].tolist()
            except Unavailable as unavailable:
                if unavailable.lasting:
                    self.why_not = unavailable.why
                return None
            finally:
                runner.close()
            found: int = header[MATCHED]
            if header[OVERFLOW] or header[VISITED] & _SIGN:
                return None
            self._last = header[VISITED]
            if found <= capacity:
                keys = memory[room.keys : room.keys + found * room.key_size]
                return keys, memory[room.values : room.values + found * room.value_size], found
            capacity = found + found // 8 + 1024
        return None


def number_of(codec: Codec[Any], field: str | None) -> Number | None:
    """Return where `field` of a value lies, or the value itself (None), if it is an integer that programs can read."""
    from rawbpf.codec.percpu import PerCpuCodec
    from rawbpf.codec.scalar import IntCodec
    from rawbpf.codec.structure import StructCodec

    offset = 0
    if isinstance(codec, PerCpuCodec):
        codec = codec.inner
    if field is not None:
        if not isinstance(codec, StructCodec):
            return None
        found = next((each for each in codec.fields if each.attribute == field and not each.width), None)
        if found is None:
            return None
        codec, offset = found.codec, found.offset
    if not isinstance(codec, IntCodec) or codec.format is None:
        return None
    return Number(offset, codec.size, codec.signed)  # type: ignore[arg-type]  # a format has 1, 2, 4 or 8 bytes
