"""A program of our own over memory of our own: what is asked of many elements at once runs in the kernel.

The memory is that of an array with one element, mapped here and named in the program; the program is
run by BPF_PROG_RUN. One system call then does what else takes one for each element. Where the kernel
takes no such program, `Unavailable` says why, and whoever asked makes the system calls instead.

Kernel side: net/bpf/test_run.c:bpf_prog_test_run_syscall (v6.12).
"""

from __future__ import annotations

import ctypes
from weakref import WeakKeyDictionary

from rawbpf.asm.instruction import encode
from rawbpf.asm.label import resolve
from rawbpf.errors import BpfError
from rawbpf.spec.function import describe_functions
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.command import pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.lifetime import own, owns
from rawbpf.syscall.map import map_create
from rawbpf.syscall.pointer import pointer_to
from rawbpf.syscall.prog import prog_load
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import PROG_TEST_RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.asm.instruction import Instruction
    from rawbpf.asm.label import Label
    from rawbpf.syscall.protocol import Backend

    Code = list[Instruction | Label]

_EAGAIN, _ENOMEM, _EINVAL, _ENFILE, _EMFILE, _ENOTSUPP = 11, 12, 22, 23, 24, 524
_PASSING = (_EAGAIN, _ENOMEM, _ENFILE, _EMFILE)
_LOG_SIZE = 1 << 16
_FUNC_INFO_SIZE = 8
_STEP = 4  # bytes of an element that nobody reads
_NAME = b"rawbpf_many"
# Kernels that have been found to run no such programs, and why: not to be asked for every map.
_unable: WeakKeyDictionary[Backend, str] = WeakKeyDictionary()
# A sleepable program is called with the least ado, but may not use every map; an XDP program may.
_KINDS = ((c.BPF_PROG_TYPE_SYSCALL, c.BPF_F_SLEEPABLE), (c.BPF_PROG_TYPE_XDP, 0))
_ONLY_SLEEPABLE = "Sleepable programs can only use"
_PERCPU_HELPER = "#195"
# What a log says of kernels and settings, and not of the program: (in the log, in our words).
_KNOWN = (
    ("callbacks are not allowed in non-JITed programs", "the kernel runs programs without a JIT"),
    ("invalid func unknown", "this kernel lacks a helper that it needs (Linux 5.14)"),
    ("unknown func ", "this kernel lacks a helper that it needs (Linux 5.14)"),
    ("program of this type cannot use helper", "this kernel lacks a helper that it needs (Linux 5.14)"),
)


GONE = memoryview(b"")
"""What was memory, of a runner that was closed: an error's traceback may keep the runner itself for long."""


class Unavailable(Exception):
    """That the kernel does not run our program, and why; `lasting` unless the next try may do better."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.lasting = lasting


class Refused(RuntimeWarning):
    """The verifier refused a program that rawbpf made. The same was done by system calls; please report it."""


class Runner:
    """A loaded program and the `memory` that it shares with us at `address`, whole pages of at least `size` bytes.

    `code` makes the program, given the descriptors of the array and of another one with as many elements as there are
    `steps` to go through; -1 for none. Raises: Unavailable.
    """

    __slots__ = ("_attr", "_backend", "_fd", "_kept", "_mark", "_reference", "address", "memory", "words")

    def __init__(self, backend: Backend, size: int, code: Callable[[int, int], Code], steps: int = 0) -> None:
        self._backend = backend
        self._fd = -1
        self._mark: tuple[int, int] | None = None
        if backend in _unable:
            raise Unavailable(_unable[backend])
        self._kept: list[object] = []
        page = backend.host.page_size
        scratch = turns = -1
        try:
            scratch = _array(backend, size, 1, c.BPF_F_MMAPABLE)
            if steps:
                turns = _array(backend, _STEP, steps)
            pages = backend.mmap_at(scratch, size + page - 1 & -page)
            self.address = pointer_to(pages)
            self.memory = memoryview(pages).cast("B")
            self.words = self.memory.cast("Q")
            kind = self._load(code(scratch, turns))
            self._mark = own(self._fd)
        except OSError as error:
            raise unavailable(error) from None
        finally:
            for array in (scratch, turns):
                if array >= 0:
                    backend.close(array)
        fields: dict[str, int | bytes] = {"prog_fd": self._fd}
        if kind == c.BPF_PROG_TYPE_XDP:
            packet = ctypes.create_string_buffer(64)
            self._kept.append(packet)
            fields.update(data_in=pointer_to(packet), data_size_in=64)
        self._attr = pack(PROG_TEST_RUN, fields)
        self._reference = ctypes.byref(self._attr)

    def _load(self, code: Code) -> int:
        # Return the program type that it was loaded as. Nothing comes between the kernel's return and the descriptor's
        # place in this object, where an interrupt finds it.
        backend = self._backend
        resolved = resolve(code)
        types, func_info = describe_functions(resolved.functions, backend.host.byteorder)
        insns = encode(resolved.instructions, backend.host.byteorder)
        btf = btf_load(backend, types)
        try:
            why = ""
            for kind, flags in _KINDS:
                try:
                    self._fd = prog_load(
                        backend,
                        prog_type=kind,
                        prog_flags=flags,
                        insns=insns,
                        name=_NAME,
                        btf_fd=btf,
                        func_info=func_info,
                        func_info_rec_size=_FUNC_INFO_SIZE,
                    )
                except BpfError:
                    why, lasting = _explained(backend, kind, flags, insns, btf, func_info)
                    if why != _ONLY_SLEEPABLE:
                        raise Unavailable(why, lasting=lasting) from None
                else:
                    _interruptible()
                    return kind
            raise Unavailable(why)
        finally:
            backend.close(btf)

    def run(self, *, blocking: bool = True) -> None:
        """Run the program once. `blocking`: let other threads go on meanwhile, which takes a little longer.

        Raises: Unavailable where it could not be run; nothing was done then.
        """
        call = self._backend.bpf_blocking if blocking else self._backend.bpf
        if call(c.BPF_PROG_TEST_RUN, self._reference, PROG_TEST_RUN.size) == 0:
            return
        # What was refused did not run: once more, to know why.
        result = invoke(self._backend, c.BPF_PROG_TEST_RUN, self._attr, PROG_TEST_RUN.size, blocking=blocking)
        if result < 0:
            if result == -_ENOTSUPP:
                _unable[self._backend] = "this kernel does not run programs on demand"
                raise Unavailable(_unable[self._backend])
            raise unavailable(bpf_error(self._backend, -result, cmd=c.BPF_PROG_TEST_RUN, subject="of many keys"))

    def close(self) -> None:
        """Unload the program and let go of the memory, which stays mapped for views that others took. Idempotent."""
        self.memory = self.words = GONE
        fd = self._fd
        # Asked first: an interrupt then finds the descriptor in its place. One may have come before there was a mark.
        is_own = fd >= 0 and (self._mark is None or owns(fd, self._mark))
        self._fd = -1
        if is_own:
            self._backend.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):  # or the map was closed before there was anything to unload
            self.close()


def _array(backend: Backend, size: int, entries: int, flags: int = 0) -> int:
    return map_create(
        backend,
        map_type=c.BPF_MAP_TYPE_ARRAY,
        key_size=4,
        value_size=size,
        max_entries=entries,
        map_flags=flags,
        name=_NAME,
    )


def _interruptible() -> None:
    # An interrupt that came while the verifier was at work comes now, and not when descriptors are being closed.
    pass


def _explained(backend: Backend, kind: int, flags: int, insns: bytes, btf: int, func_info: bytes) -> tuple[str, bool]:
    # Why the program was refused, which the kernel is asked once more, and whether that lasts.
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        backend.close(
            prog_load(
                backend,
                prog_type=kind,
                prog_flags=flags,
                insns=insns,
                btf_fd=btf,
                func_info=func_info,
                func_info_rec_size=_FUNC_INFO_SIZE,
                log_level=1,
                log_buffer=log,
            )
        )
    except BpfError as error:
        said, number, why = str(error), error.errno, error.hint or str(error)
    else:
        return "the kernel refused the program, and takes it now", False
    if number in _PASSING:
        return why, False
    text = log.value.decode("utf-8", "replace")
    if _ONLY_SLEEPABLE in text:
        return _ONLY_SLEEPABLE, True
    verdict = [line for line in text.splitlines() if line and not line.startswith("processed ")]
    for told, known in _KNOWN:
        for line in verdict:
            if told in line and _PERCPU_HELPER in line:
                return "this kernel lacks the helper for values of other CPUs (Linux 5.19)", True
            if told in line:
                _unable[backend] = known
                return known, True
    if not verdict or number == _ENOTSUPP:  # of a frozen array that programs only read, the kernel reads ahead
        if number == _EINVAL and kind == c.BPF_PROG_TYPE_SYSCALL:
            why = _unable[backend] = "this kernel has no programs of type syscall (Linux 5.14)"
        return why, True
    import warnings

    warnings.warn(f"{verdict[-1]} ({said})", Refused, stacklevel=2)
    return f"the verifier refused the program: {verdict[-1]}", True


def unavailable(error: OSError) -> Unavailable:
    """Return what is raised where `error` stands in the way of a program."""
    number = error.errno or 0
    lasting = number not in _PASSING
    said = error.hint or str(error) if isinstance(error, BpfError) else str(error)
    return Unavailable(said, lasting=lasting)
