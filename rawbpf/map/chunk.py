"""Room for the elements of one batch that is read, and what the kernel left in it.

The buffers outlive the call on purpose: whoever takes elements out of a map holds the chunk first, and
finds in it what was taken, even when an interrupt ends the call on its way back from the kernel.
Knows bytes, not codecs. Source: kernel/bpf/hashtab.c:__htab_map_lookup_and_delete_batch,
kernel/bpf/syscall.c:generic_map_lookup_batch (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.syscall.command import pack
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.pointer import pointer_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import AttrBuffer, Layout

    Buffer = ctypes.Array[ctypes.c_char]

_ENOENT = 2
# No cursor: hashes write the number of a bucket, others a key, of which none is all ones in its first four bytes.
_UNWRITTEN = b"\xff\xff\xff\xff"


class Chunk:
    """Keys and values of up to `capacity` elements, and `following`, the cursor behind them."""

    __slots__ = ("_attr", "_errno", "_keys", "_layout", "_values", "capacity", "following", "key_size", "value_size")

    def __init__(self, key_size: int, value_size: int, capacity: int) -> None:
        self.key_size = key_size
        self.value_size = value_size
        self.capacity = capacity
        # Hashes write a u32 whatever their keys are, others a key.
        self.following: Buffer = ctypes.create_string_buffer(max(4, key_size))
        self._keys: Buffer = ctypes.create_string_buffer(capacity * key_size)
        self._values: Buffer = ctypes.create_string_buffer(capacity * value_size)
        self._layout: Layout | None = None
        self._attr: AttrBuffer | None = None
        self._errno: int | None = None

    def fill(self, backend: Backend, layout: Layout, fd: int, cursor: Buffer | None, flags: int) -> int:
        """Make the call that `layout` is of from `cursor` (None: the start); return 0 or the errno."""
        ctypes.memmove(self.following, _UNWRITTEN, len(_UNWRITTEN))
        self._layout = layout
        self._attr = pack(
            layout,
            {
                "in_batch": pointer_to(cursor),
                "out_batch": pointer_to(self.following),
                "keys": pointer_to(self._keys),
                "values": pointer_to(self._values),
                "count": self.capacity,
                "map_fd": fd,
                "elem_flags": flags,
            },
        )
        self._errno = max(0, -invoke(backend, layout.cmd, self._attr, layout.size, blocking=True))
        return self._errno

    @property
    def count(self) -> int:
        """How many elements the kernel put here: 0 where the map type's own code did not run."""
        if self._layout is None or self._attr is None:
            return 0
        # What comes back is a count only if that code ran to its end, which then wrote the cursor as well.
        if self._errno not in (0, _ENOENT) and self.following.raw[:4] == _UNWRITTEN:
            return 0
        return self._layout.integer(self._attr, "count")

    @property
    def keys(self) -> memoryview:
        """The keys that were read, side by side."""
        return memoryview(self._keys).cast("B")[: self.count * self.key_size]

    @property
    def values(self) -> memoryview:
        """The values that were read, side by side."""
        return memoryview(self._values).cast("B")[: self.count * self.value_size]
