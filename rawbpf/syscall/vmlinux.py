"""The indexed types of a backend's kernel, whichever backend is the current one.

`btf.vmlinux()` has those of the current backend and is asked where that is meant: an index costs 25 ms.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.btf import Btf
    from rawbpf.syscall.protocol import Backend

# Weak, since the types hold a mapping of the kernel's file open for as long as they live.
_others: WeakKeyDictionary[Backend, Btf] = WeakKeyDictionary()


def kernel_btf(backend: Backend) -> Btf:
    """Return the types of the kernel behind `backend`. Raises: NotSupported (ENOENT) where it has none."""
    from rawbpf import btf

    view = backend.host.btf()
    if btf.source is not None and btf.source() is view:
        return btf.vmlinux()
    types = _others.get(backend)
    if types is None:
        types = _others[backend] = btf.Btf.from_bytes(view)
    return types
