"""PROG_LOAD as the loader and `Program.load` use it: first without a log, and with one after a refusal.

A log costs the verifier milliseconds and more, so only who asks or fails pays. Its buffer grows until
the log fits. What a refusal means is decided here, how a log reads in `verifier`.

Source: kernel/bpf/syscall.c:bpf_prog_load, kernel/bpf/verifier.c:bpf_check (v6.12).
"""

from __future__ import annotations

import ctypes
import errno as _errno

from rawbpf.asm.instruction import encode
from rawbpf.errors import BpfError, NotSupported, PermissionDenied
from rawbpf.syscall.prog import LoadReport, prog_load
from rawbpf.uapi.constants import (
    BPF_OBJ_NAME_LEN,
    BPF_PROG_LOAD,
    BPF_PROG_TYPE_SCHED_CLS,
    BPF_PROG_TYPE_SOCKET_FILTER,
    BPF_PROG_TYPE_TRACEPOINT,
)
from rawbpf.uapi.names import prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

    class LoadFields(TypedDict, total=False):
        """Fields of PROG_LOAD that are passed on as they are."""

        prog_flags: int
        kern_version: int
        ifindex: int
        btf_fd: int
        func_info: bytes
        func_info_rec_size: int
        line_info: bytes
        line_info_rec_size: int
        core_relos: bytes
        core_relo_rec_size: int
        attach_btf_id: int
        attach_prog_fd: int
        attach_btf_obj_fd: int
        fd_array: Sequence[int]
        fd_array_cnt: int
        token_fd: int


FUNC_INFO_SIZE, LINE_INFO_SIZE, CORE_RELO_SIZE = 8, 16, 16
"""Bytes of a record, as the kernel has had them from the start."""

FIRST_LOG_SIZE = 1 << 16
"""Bytes of the first log buffer; most logs of refused programs fit."""

# The greatest buffer that kernels before 5.2, and all since, accept.
_OLD_MAX_LOG, _MAX_LOG = (1 << 24) - 1, (1 << 30) - 1
# The smallest: less is EINVAL on some kernels, whatever the program. Source: kernel/bpf/verifier.c:bpf_check (v5.10)
_MIN_LOG = 128
# Failures that have nothing to do with the program, and where asking again would only repeat the wait.
_NOT_ABOUT_IT = (_errno.ENOMEM, _errno.EMFILE, _errno.ENFILE, _errno.ENOSYS, _errno.EAGAIN)


class Loaded:
    """A loaded program: its descriptor, and the verifier's log if one was asked for."""

    __slots__ = ("expected_attach_type", "fd", "log")

    def __init__(self, fd: int, log: str, expected_attach_type: int) -> None:
        self.fd = fd
        self.log = log
        self.expected_attach_type = expected_attach_type


def load(
    backend: Backend,
    instructions: Sequence[Instruction],
    *,
    prog_type: int,
    name: str,
    license: str,
    expected_attach_type: int,
    optional_type: bool,
    log_level: int,
    log_size: int | None,
    subject: str,
    fields: LoadFields,
    report: LoadReport,
) -> Loaded:
    """Load `instructions`, which refer to maps and functions by number by now.

    `optional_type`: where the kernel refuses without a word, try once more without the
    `expected_attach_type`, which kernels before 4.17 lack. `log_level` 0 asks for a log only after a refusal.
    `log_size`: bytes of the first log buffer. `report`: has the descriptor as soon as there is one.
    Raises: as `Program.load`.
    """
    attempt = _Attempt(backend, instructions, prog_type, name, license, subject, fields, report)
    try:
        return attempt.once(expected_attach_type, log_level, log_size)
    except BpfError as error:
        if not (
            optional_type and expected_attach_type and error.errno in (_errno.EINVAL, _errno.E2BIG) and not attempt.log
        ):
            raise attempt.verdict(error, expected_attach_type) from None
    try:
        return attempt.once(0, log_level, log_size)
    except BpfError as error:
        raise attempt.verdict(error, 0) from None


def kernel_name(name: str) -> bytes:
    """Return `name` as the kernel takes it: the first 15 characters.

    Raises: ValueError for characters other than letters, digits, underscore and dot.
    """
    plain = name.replace("_", "").replace(".", "")
    if plain and not (plain.isascii() and plain.isalnum()):
        raise ValueError(f"program name {name!r}: only A-Z a-z 0-9 _ and . are allowed")
    return name.encode()[: BPF_OBJ_NAME_LEN - 1]


class _Attempt:
    # The attempts to load one program: without a log, then with one that grows.

    def __init__(
        self,
        backend: Backend,
        instructions: Sequence[Instruction],
        prog_type: int,
        name: str,
        license: str,
        subject: str,
        fields: LoadFields,
        report: LoadReport,
    ) -> None:
        self.backend = backend
        self.report = report
        self.instructions = instructions
        self.prog_type = prog_type
        self.subject = subject
        self.log = ""
        self._code = encode(instructions, backend.host.byteorder)
        self._name = kernel_name(name)
        self._license = license.encode("utf-8", "surrogateescape")  # as it stands in the file
        self._fields = fields

    def once(self, attach_type: int, log_level: int, log_size: int | None) -> Loaded:
        # Raises the first error, which is the true one: with a log, ENOSPC may stand before it.
        self.log = ""
        first: BpfError | None = None
        if not log_level:
            try:
                return Loaded(self._load(attach_type), "", attach_type)
            except BpfError as error:
                if error.errno in _NOT_ABOUT_IT:
                    raise
                first = error
        size = min(max(log_size or FIRST_LOG_SIZE, _MIN_LOG), _MAX_LOG)
        while True:
            buffer = ctypes.create_string_buffer(size)
            try:
                fd = self._load(attach_type, log_level or 1, buffer)
            except BpfError as error:
                log = buffer.value.decode("utf-8", "replace")
                if error.errno == _errno.EINVAL and self.log and not log:
                    # Kernels before 5.2 refuse a great buffer: what fitted the last one has to do.
                    if first is not None:
                        raise first from None
                    return Loaded(self._load(attach_type), self.log, attach_type)
                if error.errno != _errno.ENOSPC:
                    self.log = log
                    raise (first or error) from None
                self.log = log
                if size >= _MAX_LOG:
                    raise (first or error) from None
                size = _grown(size, self.report.log_true_size)
                continue
            return Loaded(fd, buffer.value.decode("utf-8", "replace") if log_level else "", attach_type)

    def _load(
        self,
        attach_type: int,
        log_level: int = 0,
        log_buffer: ctypes.Array[ctypes.c_char] | None = None,
    ) -> int:
        return prog_load(
            self.backend,
            prog_type=self.prog_type,
            insns=self._code,
            license=self._license,
            name=self._name,
            expected_attach_type=attach_type,
            log_level=log_level,
            log_buffer=log_buffer,
            report=self.report,
            subject=self.subject,
            **self._fields,
        )

    def verdict(self, error: BpfError, attach_type: int) -> BpfError:
        # What a refusal comes down to: the program, a permission, or what this kernel can do.
        number = error.errno or 0
        if number in _NOT_ABOUT_IT:
            return error
        from rawbpf.program.verifier import verifier_error

        refusal = verifier_error(
            self.log, number, self.instructions, cmd=BPF_PROG_LOAD, subject=self.subject, backend=self.backend.name
        )
        if refusal is not None and number != _errno.EPERM:
            return refusal
        if refusal is not None:
            error.hint = f"{refusal.summary}; {error.hint}"
            return error
        hint = self._lacking(error, attach_type)
        if not hint:
            return error
        return NotSupported(
            number, call="prog_load", cmd=BPF_PROG_LOAD, subject=self.subject, hint=hint, backend=self.backend.name
        )

    def _lacking(self, error: BpfError, attach_type: int) -> str:
        # The verifier said nothing. Why not, if it is this kernel and not the caller?
        kind = prog_type_name(self.prog_type)
        if isinstance(error, PermissionDenied):
            from rawbpf.syscall import permission

            wanted = permission.needed(BPF_PROG_LOAD, {"prog_type": self.prog_type})
            has = self.backend.host.capabilities()
            if not ("CAP_SYS_ADMIN" in has or has.issuperset(wanted)) or not self._counts(wanted):
                return ""
            how = f" ({_attach_word(attach_type)})" if attach_type else ""
            return (
                f"this kernel refuses programs of type {kind}{how} without a word, although the capabilities suffice: "
                "it was built or configured without what they need, or a security module forbids them"
            )
        if isinstance(error, NotSupported):
            return error.hint
        if error.errno == _errno.EINVAL:
            from rawbpf import features

            if features.prog_type(self.prog_type, backend=self.backend).answer is features.Answer.UNSUPPORTED:
                return f"this kernel has no programs of type {kind}"
            error.hint = (
                "refused before the verifier looked at it: expected_attach_type, prog_flags, attach_btf_id or the "
                f"BTF records do not suit a program of type {kind}"
            )
        elif error.errno == _errno.EACCES:
            error.hint = "refused before the verifier looked at it, as security modules do"
        return ""

    def _counts(self, wanted: tuple[str, ...]) -> bool:
        # Capabilities that count only in a user namespace let nothing load: then it is a matter of permission.
        from rawbpf import features

        kin = next((kin for word, kin in _KIN if word in wanted), BPF_PROG_TYPE_SOCKET_FILTER)
        return bool(features.prog_type(kin, backend=self.backend))


# A program type that every kernel has, for each capability that types ask for.
_KIN = (("CAP_PERFMON", BPF_PROG_TYPE_TRACEPOINT), ("CAP_NET_ADMIN", BPF_PROG_TYPE_SCHED_CLS))


def _attach_word(attach_type: int) -> str:
    from rawbpf.uapi.names import attach_type_name

    return attach_type_name(attach_type)


def _grown(size: int, needed: int) -> int:
    # Since Linux 6.4 the kernel says how much it needs; before, one more load is dearer than memory.
    if needed > size:
        return min(needed + 4096, _MAX_LOG)
    return _OLD_MAX_LOG if size << 4 > _OLD_MAX_LOG > size else min(size << 4, _MAX_LOG)
