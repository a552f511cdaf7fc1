"""The machine that a simulated kernel runs on: what was asked for, and no more.

It has every capability, so that nothing depends on who runs the simulator. Its types are those of the
real kernel below, where they can be read: a program's types mean the same then.
"""

from __future__ import annotations

import os
import sys

from rawbpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    from rawbpf.btf.btf import Btf

_ENOENT = 2
_BTF = "/sys/kernel/btf/vmlinux"
# Of all simulators, for they are of the one kernel below: who indexes them knows them by identity.
_kernel_types: memoryview | None = None


class SimulatedHost:
    """A machine with `possible_cpus` CPUs and one NUMA node."""

    numa_nodes = (0,)
    version = ""

    def __init__(self, release: str, possible_cpus: int) -> None:
        if type(possible_cpus) is not int:
            raise TypeError(f"cpus={possible_cpus!r}: expected a number of CPUs")
        if not 1 <= possible_cpus <= 4096:
            raise ValueError(f"cpus={possible_cpus}: a machine has 1 to 4096")
        self._types: Btf | None = None
        self.release = release
        self.possible_cpus = possible_cpus
        self.page_size: int = os.sysconf("SC_PAGESIZE")
        self.byteorder: Literal["little", "big"] = sys.byteorder
        self.configuration: dict[str, str] = {}
        """What `kconfig` says: options are set here, as in `host.configuration["CONFIG_HZ"] = "250"`."""
        self.memory_available: int | None = 4 << 30
        """Bytes that a map may take: lower than the real machine's, where that must not run out."""

    def __deepcopy__(self, memo: dict[int, object]) -> SimulatedHost:
        return self

    @property
    def has_btf(self) -> bool:
        """Whether there is such a file as `btf` reads."""
        return os.access(_BTF, os.R_OK)

    def btf(self) -> memoryview:
        """The real kernel's BTF, read-only. Raises: NotSupported (ENOENT) where there is none."""
        global _kernel_types
        if _kernel_types is not None:
            return _kernel_types
        try:
            with open(_BTF, "rb", buffering=0) as file:
                _kernel_types = memoryview(file.read())
        except OSError:
            hint = "the simulator shows the types of the kernel below it, which has none"
            raise NotSupported(_ENOENT, call="open", subject=_BTF, hint=hint) from None
        return _kernel_types

    def types(self) -> Btf | None:
        """The types in it; None where there is none. They are read once."""
        from rawbpf.btf.btf import Btf

        if self._types is None:
            try:
                self._types = Btf(self.btf())
            except NotSupported:
                return None
        return self._types

    def kallsyms(self) -> Iterator[tuple[int, str]]:
        """No symbols: there is no kernel code."""
        return iter(())

    def kconfig(self) -> Mapping[str, str]:
        """The configuration that it was given; none by default."""
        return self.configuration

    def tracepoint(self, category: str, name: str) -> int:
        """Refuse: nothing happens here that could be traced. Raises: NotSupported (ENOENT)."""
        hint = "a simulated kernel has no tracepoints: nothing happens in it"
        raise NotSupported(_ENOENT, call="open", subject=f"tracepoint {category}/{name}", hint=hint)

    def trace_pipe(self) -> int:
        """Refuse: nothing runs here that could print. Raises: NotSupported (ENOENT)."""
        hint = "a simulated kernel traces nothing: no program runs in it"
        raise NotSupported(_ENOENT, call="open", subject="trace_pipe", hint=hint, backend="sim")

    def capabilities(self) -> frozenset[str]:
        """Every capability that bpf(2) asks for."""
        return frozenset({"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"})

    def unprivileged_bpf_disabled(self) -> int | None:
        """The sysctl, as distributions set it."""
        return 2

    def lockdown(self) -> str | None:
        """None is active."""
        return "none"

    def raise_memlock(self) -> bool:
        """Do nothing: no memory is charged."""
        return False
