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
    from rawbpf.program.program import Program
    from rawbpf.syscall.protocol import Backend


def choose() -> Backend:
    """Return the backend that the environment asks for; the running kernel where it is silent.

    Raises: ValueError for an unknown `RAWBPF_BACKEND`; NotSupported on other systems than Linux.
    """
    name = os.environ.get("RAWBPF_BACKEND", "kernel")
    if name != "kernel":
        raise ValueError(f"RAWBPF_BACKEND={name!r}: the only backend of this release is 'kernel'")
    from rawbpf.syscall.kernel import KernelBackend

    backend: Backend = KernelBackend()
    if os.environ.get("RAWBPF_TRACE", "") not in ("", "0"):
        from rawbpf.syscall.trace import TraceBackend

        backend = TraceBackend(backend)
    return backend


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
