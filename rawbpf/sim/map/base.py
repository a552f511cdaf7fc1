"""What every simulated map has, and what a type answers that does not say otherwise.

A map knows keys and values as bytes, and raises Refused. Permissions, pointers and the attr were
checked by the commands before; flags are the type's own to check, as in the kernel.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from mmap import PROT_READ, PROT_WRITE
from struct import Struct

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.kernel import Identified
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char
    from mmap import mmap

    from rawbpf.sim.btf import LoadedBtf
    from rawbpf.sim.file import File
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.batch import Batch
    from rawbpf.sim.map.field import Fields
    from rawbpf.sim.map.memory import SharedMemory
    from rawbpf.sim.map.shape import Shape
    from rawbpf.sim.types.record import Record, Records

U32 = Struct("=I")
POINTER = 8
ACCESS = c.BPF_F_RDONLY | c.BPF_F_WRONLY | c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG
"""Flags that say who may read and write."""


class SimMap(Identified):
    """A map of any type.

    `value_bytes` is what a value takes in the caller's memory: `value_size`, or for per-CPU types eight-byte
    units for each possible CPU. `peeks` types read the caller's value before a lookup. `head_bytes` is what the
    map takes without elements. `memory` is what mappings show, `protection` how a mapping at a fixed address is
    protected.
    """

    flags_allowed = 0
    takes_btf = True
    takes_no_key_type = False
    peeks = False
    freezable = True
    head_bytes = 304
    can_be_mapped = False
    protection = PROT_READ | PROT_WRITE
    memory: SharedMemory | None = None

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        self.check(kernel, shape)
        self.kernel = kernel
        self.type = shape.map_type
        self.key_size = shape.key_size
        self.value_size = shape.value_size
        self.max_entries = shape.max_entries
        self.flags = shape.map_flags & ~(c.BPF_F_RDONLY | c.BPF_F_WRONLY | c.BPF_F_TOKEN_FD)
        self.map_extra = shape.map_extra
        self.name = b""
        # The SHA-256 of the only program that may use the map.
        self.exclusive_to = b""
        self.value_bytes = shape.value_size
        self.frozen = False
        self.btf: LoadedBtf | None = None
        self.btf_key_type_id = 0
        self.btf_value_type_id = 0
        self.btf_vmlinux_value_type_id = 0
        self.fields: Fields | None = None

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check what the map shall be. Raises: Refused. Source: the type's map_alloc_check and map_alloc."""

    def check_memory(self, kernel: Kernel, size: int) -> None:
        """Check that so many bytes can be allocated. Raises: Refused (ENOMEM)."""
        available = kernel.host.memory_available
        if available is not None and size > available:
            raise Refused(ENOMEM)

    def check_btf(self, records: Records, key: Record, value: Record) -> None:
        """Check the types of key and value. Raises: Refused. Source: the type's map_check_btf."""
        if not self.takes_btf:
            raise Refused(ENOTSUPP)

    @property
    def writable_mappings(self) -> int:
        """How many mappings may be written through, which prevents freezing."""
        return 0 if self.memory is None else self.memory.writers

    @property
    def has_lock(self) -> bool:
        """Whether values have a `struct bpf_spin_lock`."""
        return self.fields is not None and self.fields.has_lock

    @property
    def memory_usage(self) -> int:
        """Bytes that the map takes, as the kernel counts; here those of an array of pointers.

        Measured on 6.18, where the kernel's structs depend on how it was built. Source: the types' map_mem_usage.
        """
        return self.head_bytes + self.max_entries * POINTER

    def check_update_flags(self, flags: int) -> None:
        """Check the flags of an update where the type takes ANY, NOEXIST and EXIST. Raises: Refused (EINVAL)."""
        if flags & ~c.BPF_F_LOCK > c.BPF_EXIST:
            raise Refused(EINVAL)

    def cleaned(self, value: bytes) -> bytes:
        """Return a value as it is handed out: without the fields that are the kernel's alone."""
        return value if self.fields is None else self.fields.zeroed(value)

    def merged(self, old: bytes, new: bytes) -> bytes:
        """Return the value that an update leaves: `new`, except for the fields that are the kernel's alone."""
        return new if self.fields is None else self.fields.kept(old, new)

    def digest(self) -> bytes:
        """Return the SHA-256 of what the map holds. Raises: Refused (EINVAL: the type has none; EPERM: not frozen)."""
        raise Refused(EINVAL)

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the value of `key`; `value` is what the caller's buffer held, for types that peek."""
        raise Refused(ENOTSUPP)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store `value`."""
        raise Refused(ENOTSUPP)

    def update_through(self, file: File, key: bytes, value: bytes, flags: int) -> None:
        """Store `value`, handed in through `file`, which some types remember."""
        self.update(key, value, flags)

    def delete(self, key: bytes) -> None:
        """Remove `key`."""
        raise Refused(ENOTSUPP)

    def next_key(self, key: bytes | None) -> bytes:
        """Return the key after `key`; the first after None and, as a rule, after a key that is absent."""
        raise Refused(ENOTSUPP)

    def lookup_and_delete(self, key: bytes) -> bytes:
        """Remove `key` and return what its value was."""
        raise Refused(ENOTSUPP)

    def lookup_batch(self, batch: Batch) -> None:
        """Copy elements, from a cursor on."""
        raise Refused(ENOTSUPP)

    def lookup_and_delete_batch(self, batch: Batch) -> None:
        """Copy elements, from a cursor on, and remove them."""
        raise Refused(ENOTSUPP)

    def update_batch(self, batch: Batch) -> None:
        """Store elements."""
        raise Refused(ENOTSUPP)

    def delete_batch(self, batch: Batch) -> None:
        """Remove elements."""
        raise Refused(ENOTSUPP)

    def readable(self) -> bool:
        """Whether poll(2) reports the map: at once, as an error, where the type cannot be polled."""
        return True

    def place(self, length: int, offset: int, address: int) -> int:
        """Return where a mapping is to lie that is wanted at `address`; 0 is anywhere. Raises: Refused."""
        return address

    def map_memory(self, length: int, offset: int, writable: bool) -> SharedMemory:
        """Return the memory that a mapping of the map is to show. Raises: Refused."""
        raise Refused(ENOTSUPP)

    def placed(self, length: int, made: mmap | Array[c_char]) -> None:
        """Take note of a new mapping."""
