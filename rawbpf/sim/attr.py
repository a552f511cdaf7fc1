"""The attr of one call, as the kernel takes it over: copied, zero-filled, its tail checked."""

from __future__ import annotations

from errno import E2BIG, EINVAL
from struct import pack, unpack_from

from rawbpf.sim.error import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.memory import Memory
    from rawbpf.uapi.layout import Layout

_PAGE_SIZE = 4096


class Attr:
    """What the caller handed in at `address`, in an `image` of as many bytes as the kernel's union has.

    Raises: Refused (E2BIG) where bytes that this kernel does not know are not zero; EFAULT.
    Source: kernel/bpf/syscall.c:bpf_check_uarg_tail_zero (v6.12).
    """

    __slots__ = ("_address", "_memory", "_size", "image")

    def __init__(self, memory: Memory, address: int, size: int, known: int) -> None:
        if size > _PAGE_SIZE:
            raise Refused(E2BIG)
        self._memory = memory
        self._address = address
        self._size = size
        image = memory.read(address, size)
        if size > known and image[known:].strip(b"\0"):
            raise Refused(E2BIG)
        self.image = image[:known].ljust(known, b"\0")

    def check(self, end: int) -> None:
        """Raise Refused (EINVAL) where a byte after the command's last field, at `end`, is not zero."""
        if self.image[end:].strip(b"\0"):
            raise Refused(EINVAL)

    def number(self, layout: Layout, field: str) -> int:
        """Return a field that is a number; 0 where this kernel's union ends before it."""
        return layout.integer(self.image, field)

    def take(self, form: str) -> tuple[int, ...]:
        """Return the fields at the start by a `struct` format, for the commands that are called most."""
        return unpack_from(form, self.image)

    def reaches(self, end: int) -> bool:
        """Whether the caller's own attr goes up to `end`."""
        return self._size >= end

    def store(self, offset: int, form: str, value: int) -> None:
        """Write a number back into the caller's attr. Raises: Refused (EFAULT)."""
        self._memory.write(self._address + offset, pack(form, value))
