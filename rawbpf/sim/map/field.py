"""Fields of a map's values that belong to the kernel: where they lie, and what becomes of them.

The caller reads them as they are in a new value and cannot write them. A `bpf_list_head` reads as zeros
here, where the kernel hands out an address of its own. Source: include/linux/bpf.h:copy_map_value,
check_and_init_map_value, bpf_obj_init_field (v6.12).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Fields:
    """The byte ranges of such fields: `spans` of (offset, what is read there).

    `size` is a value's, also of one that is repeated for each CPU. `has_lock`: a `struct bpf_spin_lock`.
    `kinds`: all, as `rawbpf.sim.types.special` has them. `user_pointers`: (offset, size of what it leads to).
    """

    def __init__(
        self,
        spans: Iterable[tuple[int, bytes]],
        size: int,
        has_lock: bool,
        kinds: int,
        user_pointers: tuple[tuple[int, int], ...],
    ) -> None:
        self._spans = sorted(spans)
        self._size = size
        self._stride = -(-size // 8) * 8
        self.has_lock = has_lock
        self.kinds = kinds
        self.user_pointers = user_pointers

    def same_as(self, other: Fields | None) -> bool:
        """Return whether the fields of another map are the same. Source: kernel/bpf/syscall.c:btf_record_equal."""
        return other is not None and vars(self) == vars(other)

    def zeroed(self, value: bytes) -> bytes:
        """Return `value` with the fields as they are in a new one."""
        result = bytearray(value)
        for start in range(0, len(value), self._stride):
            for offset, initial in self._spans:
                result[start + offset : start + offset + len(initial)] = initial
        return bytes(result)

    def kept(self, old: bytes, new: bytes) -> bytes:
        """Return `new` with what `old` has there; where a value has fields, padding is not copied either."""
        result = bytearray(new)
        for start in range(0, len(new), self._stride):
            for offset, initial in self._spans:
                at, end = start + offset, start + offset + len(initial)
                result[at:end] = old[at:end]
            result[start + self._size : start + self._stride] = old[start + self._size : start + self._stride]
        return bytes(result)
