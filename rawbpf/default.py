"""The first backend of a process, by the environment: `RAWBPF_BACKEND` and `RAWBPF_TRACE`.

The one place outside testing and cli that may know every backend. It also tells lower layers what only
higher ones know: where the kernel's types are, and how a program is opened.
"""

from __future__ import annotations

import os

from rawbpf import btf
from rawbpf.syscall import current, opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.program.program import Program
    from rawbpf.syscall.protocol import Backend


def choose() -> Backend:
    """Return the backend that the environment asks for; the running kernel where it is silent.

    Raises: ValueError for an unknown `RAWBPF_BACKEND`; NotSupported on other systems than Linux.
    """
    name = os.environ.get("RAWBPF_BACKEND") or "kernel"
    if name not in _BACKENDS:
        raise ValueError(f"RAWBPF_BACKEND={name!r}: expected {', '.join(_BACKENDS)}")
    backend = _BACKENDS[name]()
    if os.environ.get("RAWBPF_TRACE", "") not in ("", "0"):
        from rawbpf.syscall.trace import TraceBackend

        backend = TraceBackend(backend)
    return backend


def _kernel() -> Backend:
    from rawbpf.syscall.kernel import KernelBackend

    return KernelBackend()


def _sim() -> Backend:
    from rawbpf.sim.simulator import Simulator

    return Simulator()


def _auto() -> Backend:
    # The kernel where it makes a map for us, which is the least that it can be used for.
    from rawbpf.errors import BpfError
    from rawbpf.syscall.map import map_create
    from rawbpf.uapi.constants import BPF_MAP_TYPE_HASH

    try:
        backend = _BACKENDS["kernel"]()
        backend.close(map_create(backend, map_type=BPF_MAP_TYPE_HASH, key_size=4, value_size=4, max_entries=1))
    except BpfError as error:
        if error.errno not in _REFUSALS:
            raise
        import warnings

        message = f"RAWBPF_BACKEND=auto: a simulated kernel is used, for the running one refuses: {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return _sim()
    return backend


_REFUSALS = (1, 13, 38)  # EPERM, EACCES, ENOSYS: of the kernel itself, or of the sandbox around this process
_BACKENDS: dict[str, Callable[[], Backend]] = {"kernel": _kernel, "sim": _sim, "auto": _auto}


def kernel_types() -> memoryview:
    """Return the BTF of the current backend's kernel. Raises: NotSupported (ENOENT) where it has none."""
    return current.current().host.btf()


def open_program(prog_id: int, backend: Backend) -> Program:
    """Return the program with this id. Raises: as `Program.from_id`."""
    from rawbpf.program.program import Program

    return Program.from_id(prog_id, backend=backend)


current.chooser = choose
opener.program = open_program
btf.source = kernel_types
