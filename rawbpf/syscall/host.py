"""What is known of the machine that the running kernel runs on. Each fact is read once.

Knows files under /proc and /sys, and no bpf command. What is in tracefs has a file
of its own, `tracefs`.
"""

from __future__ import annotations

import os
import sys

from rawbpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

# Bit numbers of those capabilities that bpf(2) and perf_event_open(2) ask for, and of those that stand in for them.
# Source: include/uapi/linux/capability.h (v6.12)
CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_ENOENT = 2
_BTF = "/sys/kernel/btf/vmlinux"


class KernelHost:
    """The machine under the running kernel."""

    def __init__(self) -> None:
        self.page_size: int = os.sysconf("SC_PAGESIZE")
        self.release: str = os.uname().release
        self.byteorder: Literal["little", "big"] = sys.byteorder
        self._possible_cpus = 0
        self._btf: memoryview | None = None
        self._kconfig: dict[str, str] | None = None
        self._tracepoints: dict[tuple[str, str], int] = {}

    @property
    def possible_cpus(self) -> int:
        """How many CPUs may ever come online; per-CPU values have one slot for each."""
        if not self._possible_cpus:
            with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
                self._possible_cpus = count_cpus(file.read())
        return self._possible_cpus

    @property
    def version(self) -> str:
        """What `uname -v` prints, or /proc/version_signature where there is one: distributions' exact version."""
        try:
            with open("/proc/version_signature", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return os.uname().version

    @property
    def memory_available(self) -> int | None:
        """Bytes that can be allocated without swapping, read anew; None where that is not known."""
        try:
            with open("/proc/meminfo", encoding="ascii", errors="replace") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line)
            return int(lines["MemAvailable"].split()[0]) << 10
        except (OSError, KeyError, ValueError, IndexError):
            return None

    def btf(self) -> memoryview:
        """The kernel's own BTF, read-only.

        Raises: NotSupported (ENOENT) where the kernel has none (CONFIG_DEBUG_INFO_BTF).
        """
        if self._btf is None:
            try:
                # Reading costs a millisecond more than mapping, which would hold a descriptor as long as the view.
                with open(_BTF, "rb", buffering=0) as file:
                    self._btf = memoryview(file.read())
            except FileNotFoundError:
                hint = "this kernel carries no BTF of itself (CONFIG_DEBUG_INFO_BTF is off)"
                raise NotSupported(_ENOENT, call="open", subject=_BTF, hint=hint) from None
        return self._btf

    def kallsyms(self) -> Iterator[tuple[int, str]]:
        """(address, name) of each kernel symbol; addresses are 0 without privileges."""
        with open("/proc/kallsyms", encoding="ascii", errors="replace") as file:
            for line in file:
                address, _, name = line.split(maxsplit=3)[:3]
                yield int(address, 16), name

    def kconfig(self) -> Mapping[str, str]:
        """The kernel's configuration, `CONFIG_...` to `y`, `m`, a number or a string.

        Raises: NotSupported (ENOENT) where neither /proc/config.gz nor /boot has it.
        """
        if self._kconfig is None:
            self._kconfig = dict(_parse_kconfig(_read_kconfig(self.release)))
        return self._kconfig

    def tracepoint(self, category: str, name: str) -> int:
        """The id that perf_event_open wants. Raises BpfError (ENOENT, EACCES, EPERM)."""
        from rawbpf.syscall.tracefs import tracepoint_id

        key = (category, name)
        if key not in self._tracepoints:
            self._tracepoints[key] = tracepoint_id(category, name)
        return self._tracepoints[key]

    def trace_pipe(self) -> int:
        """A new descriptor of tracefs' trace_pipe, whose reads do not wait. Raises BpfError (EBUSY, EACCES, EPERM)."""
        from rawbpf.syscall.tracefs import open_trace_pipe

        return open_trace_pipe()

    def capabilities(self) -> frozenset[str]:
        """Names of the effective capabilities that matter to bpf(2). Read anew: a process may drop them."""
        try:
            with open("/proc/self/status", encoding="ascii", errors="replace") as file:
                mask = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
        except OSError:  # no /proc: asked after a refusal, which must not be hidden by that
            return frozenset()
        return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)

    def unprivileged_bpf_disabled(self) -> int | None:
        """The sysctl of that name: 0, 1 or 2; None where it cannot be read."""
        try:
            with open("/proc/sys/kernel/unprivileged_bpf_disabled", encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def lockdown(self) -> str | None:
        """The active lockdown mode: `none`, `integrity` or `confidentiality`; None: unknown."""
        try:
            with open("/sys/kernel/security/lockdown", encoding="ascii") as file:
                _, _, rest = file.read().partition("[")
        except OSError:
            return None
        return rest.partition("]")[0] or None

    def raise_memlock(self) -> bool:
        """Raise RLIMIT_MEMLOCK to its hard limit, and that where CAP_SYS_RESOURCE allows; whether anything changed.

        Kernels before 5.11 charge maps and programs to that limit, 64 KiB by default.
        """
        try:
            import resource
        except ImportError:  # an interpreter built small; the refusal itself says more than its lack
            return False
        before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        unlimited = resource.RLIM_INFINITY
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))
        except (OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (before[1], before[1]))
        return resource.getrlimit(resource.RLIMIT_MEMLOCK) != before


def count_cpus(ranges: str) -> int:
    """Return how many CPUs a list like `0-3,8` names.

    Raises: ValueError for text of another form.
    """
    total = 0
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def _read_kconfig(release: str) -> str:
    if os.path.exists("/proc/config.gz"):
        import gzip

        with gzip.open("/proc/config.gz", "rt", encoding="utf-8") as file:
            return file.read()
    path = f"/boot/config-{release}"
    try:
        with open(path, encoding="utf-8") as plain:
            return plain.read()
    except FileNotFoundError:
        hint = f"this kernel's configuration is neither in /proc/config.gz nor in {path}"
        raise NotSupported(_ENOENT, call="open", subject="kernel configuration", hint=hint) from None


def _parse_kconfig(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.startswith("CONFIG_"):
            yield name, value.strip('"')
