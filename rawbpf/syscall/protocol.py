"""The seam: what every kernel, real or simulated, offers to the code above it.

It is the C ABI of bpf(2) and the little that bpf(2) cannot express. Nothing here knows maps,
programs or files; `kernel` implements it with system calls, `trace` and `fault` wrap any other
implementation.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap as _mmap
    from collections.abc import Iterable, Mapping, Sequence
    from ctypes import Array, c_char
    from ctypes import _CArgObject as ByRef
    from typing import Literal, Protocol

    class Host(Protocol):
        """What is known of the machine that a backend's kernel runs on. Each is read once."""

        @property
        def possible_cpus(self) -> int:
            """How many CPUs may ever come online; per-CPU values have one slot for each."""

        @property
        def page_size(self) -> int:
            """Bytes in a page."""

        @property
        def memory_available(self) -> int | None:
            """Bytes that can be allocated without swapping, read anew; None where that is not known."""

        @property
        def release(self) -> str:
            """The kernel's release, as `uname -r` prints it."""

        @property
        def version(self) -> str:
            """What `uname -v` prints, or /proc/version_signature where there is one: distributions' exact version."""

        @property
        def byteorder(self) -> Literal["little", "big"]:
            """The byte order of the CPUs."""

        def btf(self) -> memoryview:
            """The kernel's own BTF. Raises NotSupported where it has none."""

        def kallsyms(self) -> Iterable[tuple[int, str]]:
            """(address, name) of each kernel symbol; addresses are 0 without privileges."""

        def kconfig(self) -> Mapping[str, str]:
            """The kernel's configuration, `CONFIG_...` to `y`, `m`, a number or a string."""

        def tracepoint(self, category: str, name: str) -> int:
            """The id that perf_event_open wants. Raises BpfError (ENOENT, EACCES)."""

        def trace_pipe(self) -> int:
            """A new descriptor of trace_pipe, whose reads do not wait. Raises BpfError (EBUSY, EACCES)."""

        def capabilities(self) -> frozenset[str]:
            """Names of the effective capabilities, such as `CAP_BPF`."""

        def unprivileged_bpf_disabled(self) -> int | None:
            """The sysctl of that name: 0, 1 or 2; None where it cannot be read."""

        def lockdown(self) -> str | None:
            """The active lockdown mode: `none`, `integrity` or `confidentiality`; None: unknown."""

        def raise_memlock(self) -> bool:
            """Raise RLIMIT_MEMLOCK to its hard limit; whether that changed anything."""

    class Backend(Protocol):
        """A kernel to talk to. `bpf` and `bpf_blocking` return -1 and leave the errno in `ctypes.get_errno()`."""

        @property
        def name(self) -> str:
            """`kernel`, or a word that messages and reprs show in brackets."""

        @property
        def host(self) -> Host:
            """The machine under this kernel."""

        def bpf(self, cmd: int, attr: ByRef, size: int, /) -> int:
            """One bpf(2) call that takes microseconds; holds the GIL. `attr` is `ctypes.byref(buffer)`."""

        def bpf_blocking(self, cmd: int, attr: ByRef, size: int, /) -> int:
            """One bpf(2) call that may take long; releases the GIL."""

        def close(self, fd: int) -> None:
            """Close `fd`. Raises OSError."""

        def dup(self, fd: int) -> int:
            """Return a new close-on-exec descriptor of the same object. Raises OSError."""

        def mmap(self, fd: int, length: int, offset: int = 0, writable: bool = True) -> _mmap.mmap:
            """Map `length` bytes from `offset`, shared. Raises OSError."""

        def mmap_at(self, fd: int, length: int, address: int = 0) -> Array[c_char]:
            """Map `length` bytes from 0, shared and writable, at `address` if not 0. Raises OSError (EEXIST: taken).

            They are unmapped when the last view of them is gone.
            """

        def read(self, fd: int, size: int) -> bytes:
            """Read at most `size` bytes. Raises OSError."""

        def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
            """Return which of `fds` are readable, at the latest after `timeout` seconds."""

        def perf_event_open(self, attr: bytes, pid: int, cpu: int, group_fd: int, flags: int) -> int:
            """perf_event_open(2) with a `struct perf_event_attr` as bytes. Raises OSError."""

        def ioctl(self, fd: int, request: int, arg: int = 0) -> int:
            """ioctl(2) with an integer argument. Raises OSError."""

        def fdinfo(self, fd: int) -> str:
            """The text of the fd's `/proc/self/fdinfo` file, which tells what info structs lack. Raises OSError."""
