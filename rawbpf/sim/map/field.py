"""Fields of a map's values that belong to the kernel: where they lie, and what becomes of them.

The caller reads zeros there and cannot write them. Source: kernel/bpf/btf.c:btf_parse_fields,
include/linux/bpf.h:copy_map_value, check_and_init_map_value (v6.12).
"""

from __future__ import annotations


class Fields:
    """The byte ranges of such fields: `spans` of (offset, size); `has_lock` for a `struct bpf_spin_lock`."""

    def __init__(self, spans: tuple[tuple[int, int], ...], has_lock: bool) -> None:
        self._spans = spans
        self.has_lock = has_lock

    def zeroed(self, value: bytes) -> bytes:
        """Return `value` with zeros there."""
        return self.kept(bytes(len(value)), value)

    def kept(self, old: bytes, new: bytes) -> bytes:
        """Return `new` with what `old` has there."""
        result = bytearray(new)
        for offset, size in self._spans:
            result[offset : offset + size] = old[offset : offset + size]
        return bytes(result)
