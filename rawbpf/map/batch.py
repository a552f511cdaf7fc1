"""Many elements in one call: bytes in and out of whole maps, with the fallbacks where a type has no batch.

What is true of every type that has the commands: `count` is only believed where the type's own code
ran, the cursor takes max(4, key_size) bytes, a hash copies whole buckets and answers ENOSPC where one
does not fit, and ENOENT is the end of the map with the last elements in it.
Knows bytes, not codecs. Source: kernel/bpf/syscall.c:generic_map_lookup_batch,
kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError, IterationAborted, KeyNotFound
from rawbpf.syscall import map as command
from rawbpf.uapi.constants import BPF_MAP_TYPE_LPM_TRIE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle

_ENOENT, _EINVAL, _ENOSPC, _ENOTSUPP = 2, 22, 28, 524
# EINVAL is what kernels before 5.6 say to the command; a type without batches says ENOTSUPP.
_NO_BATCH = (_EINVAL, _ENOTSUPP)

DEFAULT_CHUNK = 16384
_MOST_BYTES = 16 << 20
_MAX_WALK = 4


class Elements:
    """The elements of one map as bytes; sizes are those of the buffers, a per-CPU value's slots included."""

    __slots__ = ("handle", "key_size", "shape", "value_size")

    def __init__(self, handle: Handle, shape: Shape, value_size: int) -> None:
        self.handle = handle
        self.shape = shape
        self.key_size = shape.key_size
        self.value_size = value_size

    def chunk(self, n: int) -> int:
        """Return how many elements to ask for at once: `n`, and no more than 16 MiB of them or than fit the map."""
        if n < 1:
            raise ValueError(f"a batch has at least one element, not {n}")
        # Rings have elements of neither keys nor values: what the kernel says to them is the answer.
        return max(1, min(n, self.shape.max_entries, _MOST_BYTES // (self.key_size + self.value_size or 1)))

    def read(self, n: int = DEFAULT_CHUNK, *, remove: bool = False) -> Iterator[tuple[memoryview, memoryview, int]]:
        """Yield (keys, values, count) per batch, over buffers that are the caller's to keep.

        With `remove` each batch is taken out of the map before it is yielded.
        Raises: Closed; BpfError as LOOKUP_BATCH; IterationAborted where a walk by keys never ends.
        """
        run = command.map_lookup_and_delete_batch if remove else command.map_lookup_batch
        backend, subject, map_type = self.handle.backend, str(self.shape), self.shape.map_type
        capacity = self.chunk(n)
        cursor_size = max(4, self.key_size)
        cursor: ctypes.Array[ctypes.c_char] | None = None
        while True:
            following = ctypes.create_string_buffer(cursor_size)
            keys = ctypes.create_string_buffer(capacity * self.key_size)
            values = ctypes.create_string_buffer(capacity * self.value_size)
            try:
                with self.handle as fd:
                    count, errno = run(
                        backend, fd, cursor, following, keys, values, capacity, subject=subject, map_type=map_type
                    )
            except BpfError as error:
                if error.errno == _ENOSPC and capacity <= self.shape.max_entries:
                    capacity *= 2  # one bucket holds more than we had room for; the cursor still stands before it
                    continue
                if cursor is not None or error.errno not in _NO_BATCH:
                    raise
                yield from self._walk(n, remove)
                return
            if count:
                yield _octets(keys, count * self.key_size), _octets(values, count * self.value_size), count
            if errno == _ENOENT:
                return
            cursor = following

    def _walk(self, n: int, remove: bool) -> Iterator[tuple[memoryview, memoryview, int]]:
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
            with self.handle as fd:
                more = command.map_get_next_key(
                    self.handle.backend, fd, key, following, subject=str(self.shape), map_type=self.shape.map_type
                )
            found = more and following.raw not in seen and self._take(following, value, remove)
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
            if steps > _MAX_WALK * self.shape.max_entries:
                hint = f"gave up after {steps} steps: others delete keys faster than they can be read; try again"
                raise IterationAborted(_ENOENT, call="iterate", subject=str(self.shape), hint=hint)
            # Of what was removed a hash goes on at the first key, and an array, whose slots stay, at the next.
            # What a trie answers may skip keys (seen on 5.10).
            key = None if remove and found and self.shape.map_type == BPF_MAP_TYPE_LPM_TRIE else following

    def _take(self, key: ctypes.Array[ctypes.c_char], value: ctypes.Array[ctypes.c_char], remove: bool) -> bool:
        backend = self.handle.backend
        try:
            with self.handle as fd:
                command.map_lookup_elem(backend, fd, key, value, subject=str(self.shape), map_type=self.shape.map_type)
                if remove:
                    command.map_delete_elem(backend, fd, key, subject=str(self.shape), map_type=self.shape.map_type)
        except KeyNotFound:
            return False
        return True

    def write(self, keys: bytes, values: bytes, count: int) -> None:
        """Store `count` elements. Raises: Closed; MapFull and others as UPDATE_BATCH, with `.applied`."""
        if not count:
            return
        key_buffer, value_buffer = _buffer(keys), _buffer(values)
        try:
            with self.handle as fd:
                command.map_update_batch(
                    self.handle.backend,
                    fd,
                    key_buffer,
                    value_buffer,
                    count,
                    subject=str(self.shape),
                    map_type=self.shape.map_type,
                )
        except BpfError as error:
            if error.errno not in _NO_BATCH:
                raise
            self._write_each(keys, values, count)

    def _write_each(self, keys: bytes, values: bytes, count: int) -> None:
        for i in range(count):
            key = _buffer(keys[i * self.key_size : (i + 1) * self.key_size])
            value = _buffer(values[i * self.value_size : (i + 1) * self.value_size])
            try:
                with self.handle as fd:
                    command.map_update_elem(
                        self.handle.backend, fd, key, value, 0, subject=str(self.shape), map_type=self.shape.map_type
                    )
            except BpfError as error:
                error.applied = i
                raise

    def delete(self, keys: bytes, count: int) -> int:
        """Delete those of `count` keys that are there; return how many were. Raises: Closed; as DELETE_BATCH."""
        deleted = start = 0
        buffer = _buffer(keys)
        while start < count:
            # Its address is what counts: an array of each length would be a type of its own.
            rest = ctypes.c_char.from_buffer(buffer, start * self.key_size)
            try:
                with self.handle as fd:
                    command.map_delete_batch(
                        self.handle.backend,
                        fd,
                        rest,
                        count - start,
                        subject=str(self.shape),
                        map_type=self.shape.map_type,
                    )
                return deleted + count - start
            except KeyNotFound as error:
                # The one after those that were applied is missing: go on behind it.
                applied = error.applied or 0
                deleted += applied
                start += applied + 1
            except BpfError as error:
                if error.errno not in _NO_BATCH:
                    raise
                return deleted + sum(self._delete_one(keys, i) for i in range(start, count))
        return deleted

    def _delete_one(self, keys: bytes, i: int) -> bool:
        try:
            with self.handle as fd:
                key = _buffer(keys[i * self.key_size : (i + 1) * self.key_size])
                command.map_delete_elem(
                    self.handle.backend, fd, key, subject=str(self.shape), map_type=self.shape.map_type
                )
        except KeyNotFound:
            return False
        return True


def _octets(buffer: ctypes.Array[ctypes.c_char], size: int) -> memoryview:
    return memoryview(buffer).cast("B")[:size]


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(content)).from_buffer_copy(content)
