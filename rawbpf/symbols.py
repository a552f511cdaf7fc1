"""Addresses as names: of the kernel's functions by its symbol table, of a process's code by file and offset.

A symbol table is read once and then searched. It has no sizes: an address belongs to the last symbol
that is not above it, unless that lies so far below that it cannot be of it. Nothing here reads ELF
files: the offset of an address in its file is what tools that do (addr2line, nm) go on from.

Source: kernel/kallsyms.c, fs/proc/task_mmu.c:show_map_vma (v6.12)
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from operator import itemgetter

from rawbpf.errors import NotSupported, PermissionDenied
from rawbpf.syscall.current import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from rawbpf.syscall.protocol import Backend, Host

_EPERM, _ENOENT = 1, 2
# No function of the kernel is as long, and what lies between the kernel and its modules is longer.
_FARTHEST = 1 << 20
_KALLSYMS = "/proc/kallsyms"
# What clang's link-time optimisation puts behind the names of what was static.
_RENAMED = ".llvm."

_last: tuple[Host, KernelSymbols] | None = None


class Symbol:
    """A place by name: `name` of a kernel symbol or path of a file, and the `offset` in it, in bytes."""

    __slots__ = ("name", "offset")
    __match_args__ = ("name", "offset")

    def __init__(self, name: str, offset: int) -> None:
        self.name = name
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Symbol):
            return NotImplemented
        return (self.name, self.offset) == (other.name, other.offset)

    def __hash__(self) -> int:
        return hash((self.name, self.offset))

    def __str__(self) -> str:
        return f"{self.name}+{self.offset:#x}" if self.offset else self.name

    def __repr__(self) -> str:
        return f"Symbol({self.name!r}, {self.offset:#x})"


class KernelSymbols:
    """The symbols of a kernel as they were when this was made; modules and BPF programs come and go."""

    def __init__(self, symbols: Iterable[tuple[int, str]]) -> None:
        self._addresses = array("Q")
        self._names: list[str] = []
        before = 0  # the address of what is hidden, and of no symbol
        # Of several names for one address the first counts, as to the kernel itself: the sort is stable.
        for address, name in sorted(symbols, key=itemgetter(0)):
            if address != before:
                before = address
                self._addresses.append(address)
                self._names.append(name)

    @classmethod
    def read(cls, host: Host) -> KernelSymbols:
        """Read the symbols of the kernel of `host`.

        Raises: PermissionDenied where the kernel hides its addresses; NotSupported where it has no
        table (CONFIG_KALLSYMS is off).
        """
        try:
            found = cls(host.kallsyms())
        except FileNotFoundError:
            raise _no_table() from None
        if not found._names:
            raise _hidden()
        return found

    def __len__(self) -> int:
        return len(self._names)

    def find(self, address: int) -> Symbol | None:
        """Return the symbol that `address` lies in, None where there is none. Raises: TypeError for no int."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] >= _FARTHEST:
            return None
        return Symbol(self._names[index], address - self._addresses[index])


class ProcessFiles:
    """Which files the memory of process `pid` is mapped from, as it was when this was made."""

    def __init__(self, pid: int) -> None:
        self._starts: list[int] = []
        self._mappings: list[tuple[int, int, str]] = []
        for start, end, offset, path in sorted(_mappings(pid)):
            self._starts.append(start)
            self._mappings.append((end, offset - start, path))

    def find(self, address: int) -> Symbol | None:
        """Return the file that `address` is mapped from and the offset in it; None for memory of no file."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        end, shift, path = self._mappings[index]
        return Symbol(path, address + shift) if address < end and path else None


def ksym(address: int, *, backend: Backend | None = None) -> Symbol | None:
    """Return the kernel's symbol that `address` lies in, such as `Symbol('do_exit', 0x12)`; None where there is none.

    The table of symbols is read at the first call and kept: what modules and BPF programs loaded later
    have is not in it. `backend`: whose kernel, by default the current one.
    Raises: PermissionDenied where the kernel hides its addresses (CAP_SYSLOG, kernel.kptr_restrict);
    NotSupported (CONFIG_KALLSYMS is off).
    """
    return kernel_symbols((backend or current()).host).find(address)


def kernel_symbols(host: Host) -> KernelSymbols:
    """Return the symbols of the kernel of `host`, read once. Raises: as `ksym`."""
    global _last
    kept = _last
    if kept is None or kept[0] is not host:
        _last = kept = host, KernelSymbols.read(host)
    return kept[1]


def find_addresses(host: Host, names: Collection[str]) -> dict[str, set[int]]:
    """Return the addresses of those of `names` that the kernel of `host` has, a static function's several.

    What the linker renamed (`NAME.llvm.123`) counts where nothing has the name itself. Raises: as `ksym`.
    """
    exact: dict[str, set[int]] = {}
    renamed: dict[str, set[int]] = {}
    shown = False
    try:
        for address, name in host.kallsyms():
            shown = shown or address != 0
            if name in names:
                exact.setdefault(name, set()).add(address)
            elif _RENAMED in name and name.partition(_RENAMED)[0] in names:
                renamed.setdefault(name.partition(_RENAMED)[0], set()).add(address)
    except FileNotFoundError:
        raise _no_table() from None
    found = renamed | exact
    if found and not shown:
        raise _hidden()
    return found


def _no_table() -> NotSupported:
    hint = "this kernel has no table of its symbols (CONFIG_KALLSYMS is off)"
    return NotSupported(_ENOENT, call="open", subject=_KALLSYMS, hint=hint)


def _hidden() -> PermissionDenied:
    hint = (
        "the kernel shows addresses of 0 to this process: it needs CAP_SYSLOG, "
        "and kernel.kptr_restrict below 2 (sysctl)"
    )
    return PermissionDenied(_EPERM, call="read", subject=_KALLSYMS, hint=hint)


def _mappings(pid: int) -> Iterator[tuple[int, int, int, str]]:
    # (start, end, offset in the file, path); what is no file has no path or one in brackets, as [heap].
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise ProcessLookupError(3, f"no process {pid}") from None
    for line in lines:
        addresses, _, offset, _, inode, *rest = line.split(maxsplit=5)
        start, _, end = addresses.partition(b"-")
        path = os.fsdecode(rest[0]) if rest and inode != b"0" else ""
        yield int(start, 16), int(end, 16), int(offset, 16), path
