"""A map's own memory, shared with the kernel: mapping it, and why that may be refused.

Knows what mmap(2) says of maps in general; which pages of a type mean what, its family says.
Kernel side: kernel/bpf/syscall.c:bpf_map_mmap (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import ENOTSUPP, BpfError, NotSupported, PermissionDenied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.map.handle import Handle

_EPERM, _EACCES, _EINVAL, _ENOMEM = 1, 13, 22, 12

_HINTS = {
    _EPERM: "the map is frozen, so that user space may no longer write to it",
    # Where a descriptor is read-only the kernel does not share even what is only read, and says EINVAL.
    _EACCES: 'the descriptor is for reading or for writing only: open the map with mode="rw"',
    _EINVAL: 'the descriptor may be read-only: open the map with mode="rw"',
    ENOTSUPP: "the kernel shares no memory of such maps, nor of values with locks, timers or pointers of its own",
    _ENOMEM: "the process has no room for it, or the kernel no memory",
}


def map_memory(handle: Handle, length: int, offset: int, *, writable: bool) -> memoryview:
    """Return `length` bytes of the map from `offset`, whole pages, as they are now and will be.

    They stay mapped until the last view of them is gone, also when the map is closed.
    Raises: Closed; PermissionDenied (EPERM: frozen; EACCES: opened for reading only); BpfError (ENOMEM).
    """
    with handle as fd:
        try:
            return memoryview(handle.backend.mmap(fd, length, offset, writable))
        except OSError as error:
            raise refused(handle, error) from None


def refused(handle: Handle, error: OSError, hint: str = "") -> BpfError:
    """Return what is raised for `error` of mmap(2), with `hint` instead of what is usually the reason."""
    number = error.errno or 0
    kind = {_EPERM: PermissionDenied, _EACCES: PermissionDenied, ENOTSUPP: NotSupported}.get(number, BpfError)
    hint = hint or _HINTS.get(number, "")
    return kind(number, call="mmap", subject=handle.describe, hint=hint, backend=handle.backend.name)
