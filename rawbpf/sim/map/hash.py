"""Hash tables: buckets in the kernel's order, of values or of values per CPU.

A new element comes first in its bucket, and so does one whose value was replaced; per-CPU values are
changed in place. Source: kernel/bpf/hashtab.c (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ENOENT, ENOSPC

from rawbpf.sim.error import Refused
from rawbpf.sim.map.base import ACCESS, U32, SimMap
from rawbpf.sim.map.batch import generic_delete, generic_update
from rawbpf.sim.map.buckets import Buckets
from rawbpf.sim.map.jhash import jhash
from rawbpf.sim.map.shape import power_of_two, rounded
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.batch import Batch
    from rawbpf.sim.map.shape import Shape

# KMALLOC_MAX_SIZE (4 MiB) less `struct htab_elem` and the stack that a key must fit on.
_ELEMENT_LIMIT = 4194255
# Buckets of 16 bytes, a power of two of them, that 32 bits can count.
_MOST_BUCKETS = 1 << 27
# Bytes of struct bpf_htab, bucket and htab_elem, of a pointer, and of the locks of each CPU (HASHTAB_MAP_LOCK_COUNT).
_HEAD, _BUCKET, _ELEMENT, _POINTER, _LOCKS = 832, 16, 48, 8, 32


class SimHash(SimMap):
    """BPF_MAP_TYPE_HASH."""

    flags_allowed = ACCESS | c.BPF_F_NO_PREALLOC | c.BPF_F_NUMA_NODE | c.BPF_F_ZERO_SEED
    # An existing element's value is replaced by a new element, not changed in place.
    in_place = False
    # There is an element to spare for each CPU, so that one can be replaced in a full map.
    has_spare = spare_pointers = True
    update_batch = generic_update
    delete_batch = generic_delete

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.n_buckets = power_of_two(self.max_entries)
        self._seed = 0 if shape.has(c.BPF_F_ZERO_SEED) else kernel.random.getrandbits(32)
        self._values: dict[bytes, bytes] = {}
        self._buckets = Buckets()
        self.check_memory(kernel, self.memory_usage)

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags. Source: htab_map_alloc_check, htab_map_alloc."""
        shape.check_flags(self.flags_allowed)
        if not shape.max_entries or not shape.key_size or not shape.value_size:
            raise Refused(EINVAL)
        if shape.key_size + shape.value_size > _ELEMENT_LIMIT or shape.max_entries > _MOST_BUCKETS:
            raise Refused(E2BIG)

    @property
    def memory_usage(self) -> int:
        """Bytes that the table and its elements take. Source: htab_map_mem_usage."""
        cpus = self.kernel.host.possible_cpus
        element = _ELEMENT + rounded(self.key_size) + self.element_value_bytes
        table = _HEAD + _BUCKET * self.n_buckets + _LOCKS * cpus
        if self.flags & c.BPF_F_NO_PREALLOC:
            return table + len(self._values) * (element + self.allocations * _POINTER)
        # Each CPU's is kept by a pointer.
        spare = cpus if self.has_spare else 0
        return table + (self.max_entries + spare) * element + (cpus * _POINTER if self.spare_pointers else 0)

    @property
    def element_value_bytes(self) -> int:
        """Bytes of an element that its value takes."""
        return rounded(self.value_size)

    @property
    def allocations(self) -> int:
        """Pointers that precede what is allocated for an element, where that is not done at once."""
        return 1

    def lookup(self, key: bytes, value: bytes) -> bytes:
        """Return the value. Raises: Refused (ENOENT)."""
        try:
            found = self._values[key]
        except KeyError:
            raise Refused(ENOENT) from None
        return found if self.fields is None else self.fields.zeroed(found)

    def value(self, key: bytes) -> bytes:
        """Return the value as it is stored. Raises: Refused (ENOENT)."""
        try:
            return self._values[key]
        except KeyError:
            raise Refused(ENOENT) from None

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store a value. Raises: Refused (EINVAL: flags; EEXIST; ENOENT; E2BIG: full). Source: htab_map_update_elem."""
        self.check_update_flags(flags)
        old = self._values.get(key)
        if old is not None and flags & ~c.BPF_F_LOCK == c.BPF_NOEXIST:
            raise Refused(EEXIST)
        if old is None and flags & ~c.BPF_F_LOCK == c.BPF_EXIST:
            raise Refused(ENOENT)
        if old is not None and (self.in_place or flags & c.BPF_F_LOCK):
            self._values[key] = self.merged(old, value)
            return
        if old is None:
            self.make_room()
        self.store(key, self.cleaned(value))

    def make_room(self) -> None:
        """See that one more element fits. Raises: Refused (E2BIG)."""
        if len(self._values) >= self.max_entries:
            raise Refused(E2BIG)

    def store(self, key: bytes, value: bytes) -> None:
        """Make `key` the first of its bucket, with this value."""
        self._buckets.put(self._hash(key), key)
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        """Remove an element. Raises: Refused (ENOENT)."""
        self.remove(key)

    def remove(self, key: bytes) -> bytes:
        """Remove an element and return its value as it was stored. Raises: Refused (ENOENT)."""
        value = self.value(key)
        self._buckets.remove(self._hash(key), key)
        del self._values[key]
        return value

    def lookup_and_delete(self, key: bytes) -> bytes:
        """Remove an element and return its value. Raises: Refused (ENOENT)."""
        return self.cleaned(self.remove(key))

    def next_key(self, key: bytes | None) -> bytes:
        """Return the next key in the order of buckets. Raises: Refused (ENOENT: the last).

        Source: htab_map_get_next_key: a key that is not there starts the walk again.
        """
        if key is not None and key in self._values:
            return self._buckets.after(self._hash(key), key)
        return self._buckets.first()

    def lookup_batch(self, batch: Batch) -> None:
        """Copy whole buckets; the cursor is the next bucket's number."""
        self._copy_buckets(batch, remove=False)

    def lookup_and_delete_batch(self, batch: Batch) -> None:
        """Copy whole buckets and empty them."""
        self._copy_buckets(batch, remove=True)

    def _copy_buckets(self, batch: Batch, *, remove: bool) -> None:
        # Source: __htab_map_lookup_and_delete_batch.
        wanted = batch.check()
        if batch.flags:
            raise Refused(EINVAL)
        if not wanted:
            return
        batch.done(0)
        number = U32.unpack(batch.memory.read(batch.in_batch, U32.size))[0] if batch.in_batch else 0
        if number >= self.n_buckets:
            raise Refused(ENOENT)
        count, end = 0, 0
        while not end:
            keys = self._buckets.keys(number)
            if len(keys) > batch.count - count:
                end = 0 if count else ENOSPC
                break
            # What was removed is gone, although the caller's memory may turn out to be bad.
            values = [self.lookup_and_delete(key) if remove else self.lookup(key, b"") for key in keys]
            if keys:
                batch.put(count, keys, values)
                count += len(keys)
            number += 1
            end = ENOENT if number >= self.n_buckets else 0
        batch.memory.write(batch.out_batch, U32.pack(number))
        batch.done(count)
        if end:
            raise Refused(end)

    def _hash(self, key: bytes) -> int:
        return jhash(key, self._seed) & (self.n_buckets - 1)


class SimPerCpuHash(SimHash):
    """BPF_MAP_TYPE_PERCPU_HASH."""

    in_place = True
    has_spare = spare_pointers = False

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        self.value_bytes = rounded(shape.value_size) * kernel.host.possible_cpus

    @property
    def element_value_bytes(self) -> int:
        """Bytes of a pointer and of the value of each CPU."""
        return _POINTER + rounded(self.value_size) * self.kernel.host.possible_cpus

    @property
    def allocations(self) -> int:
        """The element, the values and the pointer to them."""
        return 3

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes and flags; a value must fit a per-CPU allocation (PCPU_MIN_UNIT_SIZE)."""
        shape.check_no_node()
        super().check(kernel, shape)
        if rounded(shape.value_size) > PERCPU_LIMIT:
            raise Refused(E2BIG)


PERCPU_LIMIT = 32768
"""Bytes of a value of one CPU. Source: include/linux/percpu.h:PCPU_MIN_UNIT_SIZE (v6.12)."""
