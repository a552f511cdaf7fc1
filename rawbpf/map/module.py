"""Modules of the kernel and their types, for whatever is loaded that refers to them.

Kernel side: kernel/bpf/btf.c:btf_module_notify; kernel/bpf/verifier.c:__find_kfunc_desc_btf (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.map.btf import KERNEL, read_content, read_info
from rawbpf.syscall import obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self, TypeVar

    from rawbpf.btf import Btf
    from rawbpf.btf.types import Type
    from rawbpf.syscall.protocol import Backend

    T = TypeVar("T", bound=Type)

_EPERM, _EINVAL = 1, 22


class Module:
    """A module of the kernel: its `name`, its `types`, and the `id` of the BTF object that has them."""

    __slots__ = ("id", "name", "types")

    def __init__(self, name: str, btf_id: int, types: Btf) -> None:
        self.name = name
        self.id = btf_id
        self.types = types

    def own(self, name: str, kind: type[T]) -> T | None:
        """Return its type of this `name` and class, which is none of the kernel's; None where it has none."""
        for found in self.types.find_all(name):
            if found.id >= self.types.first_id and isinstance(found, kind):
                return found
        return None

    def __repr__(self) -> str:
        return f"<Module {self.name!r}: {self.types!r}>"


class Modules:
    """The modules of a kernel, as they are when they are first iterated over; closes what it opened of them.

    `fd_array` is what programs are loaded with whose calls count in it: index 0 is the kernel itself.
    """

    __slots__ = ("_backend", "_fds", "_found", "fd_array")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._found: list[Module] | None = None
        self._fds: dict[int, int] = {}
        self.fd_array: list[int] = []

    def __iter__(self) -> Iterator[Module]:
        """Yield them in the order of their ids; none where they may not be listed. Raises: FormatError; BpfError."""
        if self._found is None:
            self._found = _listed(self._backend)
        yield from self._found

    @property
    def unseen(self) -> str:
        """A remark for messages about what was not found, where this process sees no modules; else empty."""
        seen = "CAP_SYS_ADMIN" in self._backend.host.capabilities()
        return "" if seen else " (modules are seen with CAP_SYS_ADMIN only)"

    def fd(self, module: Module) -> int:
        """Return a descriptor of the module's types, open until `close`. Raises: NotFound (ENOENT: it is gone)."""
        if module.id not in self._fds:
            self._fds[module.id] = obj.btf_get_fd_by_id(self._backend, module.id)
        return self._fds[module.id]

    def fd_of(self, types: Btf) -> int:
        """Return the descriptor of `types`; 0 for those of the kernel itself and of no module. Raises: as `fd`."""
        return next((self.fd(module) for module in self._found or () if module.types is types), 0)

    def index(self, module: Module) -> int:
        """Return the place of the module's types in `fd_array`, to which they are added. Raises: as `fd`."""
        fd = self.fd(module)
        if not self.fd_array:
            self.fd_array.append(0)
        if fd not in self.fd_array:
            self.fd_array.append(fd)
        return self.fd_array.index(fd)

    def close(self) -> None:
        """Close the descriptors; loaded programs hold the types and the module by themselves. Idempotent."""
        while self._fds:
            self._backend.close(self._fds.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find(name: str, kind: type[T], kernel: Btf, modules: Iterable[Module]) -> tuple[T | None, Module | None]:
    """Return the type of this `name` and class of the `kernel`, else of the first of `modules` that has one.

    With it comes that module, None for the kernel; both are None where there is none.
    """
    found = kernel.find(name, kind)
    if found is not None:
        return found, None
    for module in modules:
        found = module.own(name, kind)
        if found is not None:
            return found, module
    return None, None


def _listed(backend: Backend) -> list[Module]:
    from rawbpf.btf import Btf, indexed  # what loads no object may do without

    kernel = indexed(backend.host.btf())
    found = []
    try:
        for fd in obj.every(backend, obj.btf_get_next_id, obj.btf_get_fd_by_id):
            info = read_info(backend, fd)
            if info.kernel and info.name != KERNEL:
                found.append(Module(info.name, info.id, Btf.from_bytes(read_content(backend, fd, info.size), kernel)))
    except BpfError as error:
        if error.errno not in (_EPERM, _EINVAL):  # before Linux 5.4 they cannot be listed, and modules have none
            raise
    return found
