"""Maps of maps: arrays and hash tables whose values are maps like a template.

Source: kernel/bpf/map_in_map.c; kernel/bpf/arraymap.c and hashtab.c for the outer maps (v6.12).
"""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.base import U32, SimMap
from rawbpf.sim.map.batch import generic_lookup, generic_update
from rawbpf.sim.map.fd_array import SimFdArray
from rawbpf.sim.map.hash import SimHash
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.map.shape import Shape

_OF_MAPS = (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)
# Types without map_ops.map_meta_equal.
_NEVER_INNER = (
    c.BPF_MAP_TYPE_PROG_ARRAY,
    c.BPF_MAP_TYPE_STRUCT_OPS,
    c.BPF_MAP_TYPE_CGROUP_STORAGE,
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
)
# Types whose map_meta_equal compares the number of elements.
_FIXED_SIZE = (c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_XSKMAP)


class Template:
    """What all inner maps have in common: taken from a map, which it does not keep."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        """Source: bpf_map_meta_alloc. Raises: Refused (EBADF; EINVAL: no map, or one of maps; ENOTSUPP)."""
        like = map_of(kernel, fd)
        if like.type in _OF_MAPS:
            raise Refused(EINVAL)
        if like.type in _NEVER_INNER:
            raise Refused(ENOTSUPP)
        self._shape = _shape(like)
        self._fields = like.fields
        self._fixed = like.type in _FIXED_SIZE and not like.flags & c.BPF_F_INNER_MAP
        self._max_entries = like.max_entries

    def get(self, kernel: Kernel, fd: int) -> SimMap:
        """Return the map behind `fd` if it suits. Raises: Refused (EBADF, EINVAL). Source: bpf_map_fd_get_ptr."""
        inner = map_of(kernel, fd)
        same_fields = inner.fields is None if self._fields is None else self._fields.same_as(inner.fields)
        if self._shape != _shape(inner) or not same_fields:
            raise Refused(EINVAL)
        if self._fixed and self._max_entries != inner.max_entries:
            raise Refused(EINVAL)
        return inner


def _shape(like: SimMap) -> tuple[int, ...]:
    return like.type, like.key_size, like.value_size, like.flags


def map_of(kernel: Kernel, fd: int) -> SimMap:
    """Return the map behind `fd`. Raises: Refused (EBADF; EINVAL: no map). Source: __bpf_map_get."""
    content = kernel.files.get(fd, SimMap).content
    assert isinstance(content, SimMap)
    return content


class SimArrayOfMaps(SimFdArray[SimMap]):
    """BPF_MAP_TYPE_ARRAY_OF_MAPS."""

    reads_back = True
    lookup_batch = generic_lookup
    update_batch = generic_update

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes, flags and the template. Source: array_of_map_alloc."""
        super().check(kernel, shape)
        self.template = Template(kernel, shape.inner_map_fd)

    def get(self, fd: int) -> SimMap:
        """Return an inner map. Raises: Refused (EBADF, EINVAL)."""
        return self.template.get(self.kernel, fd)

    def number(self, item: SimMap) -> int:
        """Return the map's id."""
        return item.id


class SimHashOfMaps(SimHash):
    """BPF_MAP_TYPE_HASH_OF_MAPS."""

    takes_btf = False
    takes_no_key_type = True
    spare_pointers = True

    def __init__(self, kernel: Kernel, shape: Shape) -> None:
        super().__init__(kernel, shape)
        # Source: htab_map_update_elem_in_place (v6.16); before, a new element came first in its bucket.
        self.in_place = kernel.release.version >= (6, 16)
        self.has_spare = not self.in_place
        self._inner: dict[bytes, SimMap] = {}

    def check(self, kernel: Kernel, shape: Shape) -> None:
        """Check sizes, flags and the template. Source: fd_htab_map_alloc_check, htab_of_map_alloc."""
        if shape.value_size != U32.size:
            raise Refused(EINVAL)
        super().check(kernel, shape)
        self.template = Template(kernel, shape.inner_map_fd)

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        """Store an inner map. Raises: Refused (EBADF, EINVAL and what hash tables say).

        Source: bpf_fd_htab_map_update_elem.
        """
        inner = self.template.get(self.kernel, U32.unpack(value)[0])
        super().update(key, U32.pack(inner.id), flags)
        self._inner[key] = inner

    def remove(self, key: bytes) -> bytes:
        """Remove an inner map and return its id. Raises: Refused (ENOENT)."""
        number = super().remove(key)
        del self._inner[key]
        return number
