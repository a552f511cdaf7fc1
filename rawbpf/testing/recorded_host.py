"""The machine that a recording was made on: what of it the recording tells, and a refusal for all else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rawbpf.errors import NotSupported

_ENOENT = 2


class RecordedHost:
    """The machine that a recording was made on, as far as it tells."""

    def __init__(self, told: Mapping[str, int | str | list[str]]) -> None:
        capabilities = told.get("capabilities", [])
        self.possible_cpus = int(str(told["possible_cpus"]))
        self.page_size = int(str(told["page_size"]))
        self.release = str(told["release"])
        self.version = ""
        self.byteorder: Literal["little", "big"] = "big" if told["byteorder"] == "big" else "little"
        self.memory_available: int | None = None
        self.numa_nodes = (0,)
        self._capabilities = frozenset(capabilities if isinstance(capabilities, list) else ())

    def btf(self) -> memoryview:
        """Refuse. Raises: NotSupported (ENOENT)."""
        raise self._unknown("the kernel's BTF")

    def kallsyms(self) -> Iterable[tuple[int, str]]:
        """Return no symbols."""
        return ()

    def kconfig(self) -> Mapping[str, str]:
        """Refuse. Raises: NotSupported (ENOENT)."""
        raise self._unknown("the kernel's configuration")

    def tracepoint(self, category: str, name: str) -> int:
        """Refuse. Raises: NotSupported (ENOENT)."""
        raise self._unknown(f"tracepoint {category}/{name}")

    def trace_pipe(self) -> int:
        """Refuse. Raises: NotSupported (ENOENT)."""
        raise self._unknown("trace_pipe")

    def capabilities(self) -> frozenset[str]:
        """Return the names of the capabilities that the recorded process had."""
        return self._capabilities

    def unprivileged_bpf_disabled(self) -> int | None:
        """Return None: unknown."""
        return None

    def lockdown(self) -> str | None:
        """Return None: unknown."""
        return None

    def raise_memlock(self) -> bool:
        """Change nothing."""
        return False

    @staticmethod
    def _unknown(what: str) -> NotSupported:
        return NotSupported(_ENOENT, call="read", subject=what, hint="a recording does not have it", backend="replay")
