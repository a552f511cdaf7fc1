"""Arenas: memory that programs and user space share, pointers included.

The kernel maps an arena at one address in all processes, so that a pointer in it means the same to
everybody: what `map_extra` says, or where the first mapping happened to lie.
Kernel side: kernel/bpf/arena.c:arena_map_mmap, arena_get_unmapped_area (v6.12).
"""

from __future__ import annotations

import ctypes
import os
from _thread import RLock
from weakref import WeakValueDictionary

from rawbpf.codec import codec_for
from rawbpf.errors import BpfError
from rawbpf.map.base import Map
from rawbpf.map.mapping import refused
from rawbpf.uapi.constants import BPF_F_MMAPABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec import Codec, Description
    from rawbpf.codec.dtype import Array
    from rawbpf.map.info import MapInfo
    from rawbpf.syscall.protocol import Backend

    Pages = ctypes.Array[ctypes.c_char]

_EBUSY, _EEXIST, _EINVAL = 16, 17, 22
_ELSEWHERE = (
    "an arena has one address in all processes, and it was mapped elsewhere: "
    "hand that in as memory(address), or create the arena with map_extra="
)
_TAKEN = "something else lies at its address in this process; create the arena with another map_extra="

# What is mapped, by kernel, id and process. A process can map an arena only once, whatever objects it has of
# it; a child need not have what its parent mapped, but learns the address.
_mapped: WeakValueDictionary[tuple[object, int, int], Pages] = WeakValueDictionary()
_mapping = RLock()


class ArenaMap(Map[bytes, bytes]):
    """Pages that programs and user space share; `max_entries` is how many.

    `map_extra` is the address of the first, by default where the kernel has room when it is first
    mapped. A program that uses the arena can be loaded only when its address is known. Since: Linux 6.9.
    """

    __slots__ = ("_pages",)

    map_type = "arena"
    _required_flags = BPF_F_MMAPABLE
    _default_key = _default_value = 0
    _entries_mean = "how many pages it can hold"

    _pages: Pages | None

    @property
    def address(self) -> int:
        """The address of the arena in this and every process.

        Raises: ValueError where this process does not know it: nobody said it, and `memory()` was not called;
        Closed.
        """
        info = self.info
        with _mapping:
            known = _known(self._handle.backend, info)
        if info.map_extra:
            return info.map_extra
        if known is None:
            raise ValueError(f"{self._shape} has no address that this process knows: memory() maps it and settles that")
        return ctypes.addressof(known)

    def memory(self, address: int = 0) -> memoryview:
        """Return the arena's memory, as bytes; reads and writes make no system call.

        A page comes into being when it is first touched, or when a program allocates it; with
        BPF_F_SEGV_ON_FAULT touching one that no program has allocated ends the process. `address`:
        where other processes have mapped it, needed only if that is not `map_extra` and not known to
        this process. The memory stays mapped until the map is closed and the last view is gone; a
        forked child has not got it and calls `memory()` itself.
        Raises: Closed; BpfError (EINVAL, EBUSY: mapped at another address by others; EEXIST: something
        else lies there; ENOMEM); PermissionDenied (EACCES: opened for reading or writing only; EPERM: frozen).
        Source: kernel/bpf/arena.c:arena_map_mmap
        """
        backend, info = self._handle.backend, self.info
        here = (_kernel(backend), info.id, os.getpid())
        with _mapping:
            pages = _mapped.get(here)
            if pages is None:
                try:
                    pages = _mapped[here] = self._map(address or info.map_extra, _known(backend, info))
                except BpfError:
                    pages = _mapped.get(here)
                    if pages is None:  # or else a signal handler was faster
                        raise
            self._pages = pages
        return memoryview(pages).cast("B")

    def view(self, description: Description, offset: int = 0, count: int | None = None) -> memoryview:
        """Return `count` values of a type as a view of the arena's memory, from `offset`; all that fit, if None.

        `description`: as `codec_for` takes it, or a codec. Numbers are items, arrays of numbers a dimension more, all
        else a row of bytes for each: `Codec.column` makes items of one field of structs.
        Raises: ValueError for what is not all in the arena; as `memory()`.
        """
        codec = codec_for(description)
        return codec.view(self._part(codec, offset, count))

    def as_numpy(self, description: Description, offset: int = 0, count: int | None = None) -> Array:
        """Return `count` values of a type as a numpy array over the arena's memory; as `view()`.

        Raises: as `view()`; ImportError where numpy is not installed.
        """
        codec = codec_for(description)
        return codec.as_numpy(self._part(codec, offset, count))

    def _part(self, codec: Codec[object], offset: int, count: int | None) -> memoryview:
        memory = self.memory()
        if count is None and 0 <= offset <= len(memory) and codec.size:
            count = (len(memory) - offset) // codec.size
        if not codec.size or count is None or not 0 <= offset <= offset + count * codec.size <= len(memory):
            what = f"{count} values of {codec.size} bytes" if count is not None else f"values of {codec.size} bytes"
            raise ValueError(f"{what} at {offset} are not in the {len(memory)} bytes of {self._shape}")
        return memory[offset : offset + count * codec.size]

    def _map(self, address: int, parents: Pages | None) -> Pages:
        # `parents`: what this process was forked from had mapped.
        backend = self._handle.backend
        length = self._shape.max_entries * backend.host.page_size
        if not address and parents is not None:
            address = ctypes.addressof(parents)
        with self._handle as fd:
            try:
                return backend.mmap_at(fd, length, address)
            except OSError as error:
                if error.errno == _EEXIST and parents is not None and _is_inherited(address):
                    return parents
                hint = {_EINVAL: _ELSEWHERE, _EBUSY: _ELSEWHERE, _EEXIST: _TAKEN}.get(error.errno or 0, "")
                raise refused(self._handle, error, hint) from None

    def close(self) -> None:
        """Close the map, as every map; views of its memory remain good."""
        super().close()
        if self._owner is None:
            self._pages = None


def _known(backend: Backend, info: MapInfo) -> Pages | None:
    # What this process, or one that it was forked from, has mapped of the arena.
    return next((pages for key, pages in _mapped.items() if key[:2] == (_kernel(backend), info.id)), None)


def _kernel(backend: Backend) -> object:
    # Ids are a kernel's own. However many backends lead to the running one; each other has a machine for itself.
    return backend.name if backend.name == "kernel" else backend.host


def _is_inherited(address: int) -> bool:
    # The first kernels with arenas let a child have what its parent had mapped.
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return any(line.startswith(f"{address:x}-") and "bpf-map" in line for line in file)
