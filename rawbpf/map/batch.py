"""Many elements in one call: bytes in and out of whole maps, with the fallbacks where a type has no batch.

What is true of every type that has the commands: `count` is only believed where the type's own code
ran, the cursor takes max(4, key_size) bytes, a hash copies whole buckets and answers ENOSPC where one
does not fit, and ENOENT is the end of the map with the last elements in it.
Knows bytes, not codecs. Source: kernel/bpf/syscall.c:generic_map_lookup_batch,
kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError, IterationAborted, KeyExists, KeyNotFound
from rawbpf.map.chunk import Chunk
from rawbpf.map.memory import array_of, buffer_of
from rawbpf.syscall import group
from rawbpf.syscall import map as command
from rawbpf.syscall.error import bpf_error
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_LOOKUP_AND_DELETE_BATCH, MAP_LOOKUP_BATCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle

_ENOENT, _EINVAL, _ENOSPC, _ENOTSUPP = 2, 22, 28, 524
# EINVAL is what kernels before 5.6 say to the command; a type without batches says ENOTSUPP.
NO_BATCH = (_EINVAL, _ENOTSUPP)

DEFAULT_CHUNK = 16384
_MOST_BYTES = 16 << 20
_MAX_WALK = 4
_UNBOUNDED = 1 << 20
# The cursor of these is a bucket or an index, which nothing takes away: nothing is read twice. That of
# others is a key, and where it was deleted they go on at the first one.
_STEADY = (*group.HASHES, *group.PLAIN_ARRAYS, c.BPF_MAP_TYPE_ARRAY_OF_MAPS)


class Elements:
    """The elements of one map as bytes; sizes are those of the buffers, a per-CPU value's slots included."""

    __slots__ = ("handle", "key_size", "shape", "value_size")

    def __init__(self, handle: Handle, shape: Shape, value_size: int) -> None:
        self.handle = handle
        self.shape = shape
        self.key_size = shape.key_size
        self.value_size = value_size

    def portion(self, n: int = DEFAULT_CHUNK) -> int:
        """Return how many elements to hand over at once: `n`, and no more than 16 MiB of them."""
        if not isinstance(n, int):
            raise TypeError(f"a batch has a number of elements, not {n!r}")
        if n < 1:
            raise ValueError(f"a batch has at least one element, not {n}")
        # Rings have elements of neither keys nor values: what the kernel says to them is the answer.
        return max(1, min(n, _MOST_BYTES // (self.key_size + self.value_size or 1)))

    def chunk(self, n: int) -> int:
        """Return how many elements to ask for at once: a `portion`, and no more than fit the map."""
        return max(1, min(self.portion(n), self.shape.max_entries))

    # Reading ---------------------------------------------------------------------

    def read(
        self, n: int = DEFAULT_CHUNK, *, remove: bool = False, flags: int = 0
    ) -> Iterator[tuple[memoryview, memoryview, int]]:
        """Yield (keys, values, count) per batch, over buffers that a later batch may fill anew.

        With `remove` each batch is taken out of the map before it is yielded. `flags` may be BPF_F_LOCK.
        Raises: Closed; BpfError as LOOKUP_BATCH; IterationAborted where a walk by keys never ends.
        """
        chunks = self.chunks(n, remove=remove, flags=flags)
        try:
            first = next(chunks, None)
        except BpfError as error:
            if error.errno not in NO_BATCH:
                raise
            yield from self._walk(n, remove, flags)
            return
        if first is None:
            return
        if self.shape.map_type in _STEADY:
            yield first.keys, first.values, first.count
            for chunk in chunks:
                yield chunk.keys, chunk.values, chunk.count
        else:
            yield from self._without_repeats(first, chunks)

    def chunks(
        self, n: int, *, remove: bool = False, flags: int = 0, hold: Callable[[Chunk], None] | None = None
    ) -> Iterator[Chunk]:
        """Yield chunk after chunk, none of them empty; `hold` is given each before its call is made.

        Without `hold` two chunks take turns, which saves the kernel the making of pages: what was yielded holds
        until the next one is asked for.
        Raises: Closed; BpfError as LOOKUP_BATCH or LOOKUP_AND_DELETE_BATCH, ENOTSUPP and EINVAL among them.
        """
        layout = MAP_LOOKUP_AND_DELETE_BATCH if remove else MAP_LOOKUP_BATCH
        capacity = self.chunk(n)
        cursor: ctypes.Array[ctypes.c_char] | None = None
        last: Chunk | None = None
        spare: Chunk | None = None
        vain = 0
        while True:
            if spare is None or spare.capacity != capacity:
                spare = Chunk(self.key_size, self.value_size, capacity)
            chunk, spare = spare, None
            if hold is not None:
                hold(chunk)
            with self.handle as fd:
                errno = chunk.fill(self.handle.backend, layout, fd, cursor, flags)
            if chunk.count:
                yield chunk
                cursor = chunk.following  # which is why the one before it, and not this one, is filled next
                if hold is None:
                    last, spare = chunk, last
            if errno == _ENOENT:
                return
            if chunk.count:
                continue  # what stopped a batch in its middle, such as a bucket that is busy, may be over
            if errno == _ENOSPC and capacity <= self.shape.max_entries:
                capacity *= 2  # one bucket holds more than we had room for; the cursor still stands before it
            elif errno:
                values: dict[str, int | bytes] = {"elem_flags": flags}
                raise bpf_error(
                    self.handle.backend,
                    errno,
                    cmd=layout.cmd,
                    subject=str(self.shape),
                    map_type=self.shape.map_type,
                    values=values,
                )
            else:
                # Before 6.14 a walk by keys ends with EINTR where keys vanish under it, and a repeated call
                # then asks for as many elements as were found: none.
                vain += 1
                self._give_up_after(vain)

    def _without_repeats(self, first: Chunk, others: Iterator[Chunk]) -> Iterator[tuple[memoryview, memoryview, int]]:
        # The kernel walks by keys, in one call as over many: where others delete the key on which it
        # stands it starts again, so that a chunk may have an element twice.
        seen: set[bytes] = set()
        size, width = self.key_size, self.value_size
        chunk: Chunk | None = first
        steps = 0
        while chunk is not None:
            keys, values, count = chunk.keys, chunk.values, chunk.count
            fresh = []
            for i in range(count):
                key = bytes(keys[i * size : (i + 1) * size])
                if key not in seen:
                    seen.add(key)
                    fresh.append(i)
            if len(fresh) < count:
                keys = memoryview(b"".join(keys[i * size : (i + 1) * size] for i in fresh))
                values = memoryview(b"".join(values[i * width : (i + 1) * width] for i in fresh))
            if fresh:
                yield keys, values, len(fresh)
            steps += count
            chunk = next(others, None)
            if chunk is not None:
                self._give_up_after(steps)

    def _walk(self, n: int, remove: bool, flags: int) -> Iterator[tuple[memoryview, memoryview, int]]:
        # One key after the other. An element that vanishes under the walk restarts it at the first, so
        # keys seen before are dropped, and a walk that others keep restarting is given up.
        limit = self.chunk(n)
        seen: set[bytes] = set()
        keys, values = bytearray(), bytearray()
        value = ctypes.create_string_buffer(self.value_size)
        steps = 0
        key: ctypes.Array[ctypes.c_char] | None = None
        while True:
            following = ctypes.create_string_buffer(self.key_size)
            more = self.handle.call(command.map_get_next_key, key, following)
            found = more and following.raw not in seen and self._take(following, value, remove=remove, flags=flags)
            if found:
                seen.add(following.raw)
                keys += following.raw
                values += value.raw
            if keys and (not more or len(keys) >= limit * self.key_size):
                yield memoryview(bytes(keys)), memoryview(bytes(values)), len(keys) // self.key_size
                keys, values = bytearray(), bytearray()
            if not more:
                return
            steps += 1
            self._give_up_after(steps)
            # Of what was removed a hash goes on at the first key, and an array, whose slots stay, at the next.
            # What a trie answers may skip keys (seen on 5.10).
            key = None if remove and found and self.shape.map_type == c.BPF_MAP_TYPE_LPM_TRIE else following

    def _give_up_after(self, steps: int) -> None:
        # Storages say no number of entries.
        if steps > _MAX_WALK * (self.shape.max_entries or _UNBOUNDED):
            hint = f"gave up after {steps} steps: others delete keys faster than they can be read; try again"
            raise IterationAborted(_ENOENT, call="iterate", subject=str(self.shape), hint=hint)

    def _take(
        self, key: ctypes.Array[ctypes.c_char], value: ctypes.Array[ctypes.c_char], *, remove: bool, flags: int
    ) -> bool:
        try:
            try:
                self.handle.call(command.map_lookup_elem, key, value, flags)
            except BpfError as error:
                # Sockets in values of 4 bytes cannot be read, and can be taken out.
                if not remove or error.errno != _ENOSPC:
                    raise
            if remove:
                self.handle.call(command.map_delete_elem, key)
        except KeyNotFound:
            return False
        return True

    # Writing ---------------------------------------------------------------------

    def write(self, keys: bytes, values: bytes, count: int, flags: int = 0) -> None:
        """Store `count` elements, with `flags` as `put` takes them.

        Raises: Closed; MapFull and others as UPDATE_BATCH, with `.applied`.
        """
        done = 0
        # The kernel takes neither BPF_NOEXIST nor BPF_EXIST for a batch: they go one by one.
        if flags in (0, c.BPF_F_LOCK) and count:
            try:
                self.handle.call(command.map_update_batch, _buffer(keys), _buffer(values), count, flags)
                return
            except BpfError as error:
                if error.errno not in NO_BATCH:
                    raise
                done = error.applied or 0  # an element was refused, whose own error says more
        for i in range(done, count):
            try:
                self.put(_nth(keys, i, self.key_size), _nth(values, i, self.value_size), flags)
            except BpfError as error:
                error.applied = i
                raise

    def put(self, key: bytes, value: bytes, flags: int) -> None:
        """Store one element. Raises: as UPDATE_ELEM."""
        self.handle.call(command.map_update_elem, buffer_of(key), _buffer(value), flags)

    def insert(self, key: bytes, value: bytes) -> bool:
        """Store one element and return True; False where the key is there already. Raises: as UPDATE_ELEM."""
        try:
            self.put(key, value, c.BPF_NOEXIST)
        except KeyExists:
            return False
        return True

    def take(self, key: bytes, value: ctypes.Array[ctypes.c_char] | None = None) -> bytes:
        """Remove one element and return its value; in two steps where the type cannot do both in one.

        `value` is what the value is read into, if the caller wants to find it there. Raises: as LOOKUP_AND_DELETE_ELEM.
        """
        packed = buffer_of(key)
        if value is None:
            value = ctypes.create_string_buffer(self.value_size)
        try:
            self.handle.call(command.map_lookup_and_delete_elem, packed, value)
        except BpfError as error:
            if error.errno not in (_EINVAL, _ENOTSUPP):
                raise
            self.handle.call(command.map_lookup_elem, packed, value)
            self.handle.call(command.map_delete_elem, packed)
        return value.raw

    def has(self, key: bytes, value: bytes) -> bool:
        """Return whether the map has this value under this key. Raises: as LOOKUP_ELEM."""
        found = ctypes.create_string_buffer(self.value_size)
        return self._take(_buffer(key), found, remove=False, flags=0) and found.raw == value

    def delete(self, keys: bytes, count: int) -> int:
        """Delete those of `count` keys that are there; return how many were.

        Raises: Closed; as DELETE_BATCH, with `.applied`.
        """
        deleted = start = 0
        buffer = _buffer(keys)
        while start < count:
            # Its address is what counts: an array of each length would be a type of its own.
            rest = ctypes.c_char.from_buffer(buffer, start * self.key_size)
            try:
                self.handle.call(command.map_delete_batch, rest, count - start)
                return deleted + count - start
            except BpfError as error:
                applied = error.applied or 0
                deleted += applied
                start += applied
                if isinstance(error, KeyNotFound):
                    start += 1  # the one after those that were applied is missing: go on behind it
                elif error.errno in NO_BATCH:
                    return self._delete_each(keys, start, count, deleted)
                else:
                    if error.applied is not None or deleted:
                        error.applied = deleted
                    raise
        return deleted

    def _delete_each(self, keys: bytes, start: int, count: int, deleted: int) -> int:
        for i in range(start, count):
            try:
                self.handle.call(command.map_delete_elem, buffer_of(_nth(keys, i, self.key_size)))
                deleted += 1
            except KeyNotFound:
                continue
            except BpfError as error:
                error.applied = deleted
                raise
        return deleted


def _nth(content: bytes, i: int, size: int) -> bytes:
    return content[i * size : (i + 1) * size]


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return array_of(len(content)).from_buffer_copy(content)
