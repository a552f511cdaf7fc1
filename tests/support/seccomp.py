"""Runs Python where bpf(2) is refused, by a seccomp filter, and without any capability: as most sandboxes are.

The filter is classic BPF, built here. What is confined stays so, with all its children: only a child process
should be. As a command, from tests/: `python -m support.seccomp COMMAND ...`.
Source: kernel/seccomp.c, include/uapi/linux/seccomp.h (v6.12).
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from errno import EINVAL, EPERM
from pathlib import Path

from rawbpf.syscall.kernel import syscall_numbers

# AUDIT_ARCH_ by `uname -m`. Source: include/uapi/linux/audit.h (v6.12)
_ARCHITECTURES = {
    "x86_64": 0xC000003E,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
    "s390x": 0x80000016,
    "ppc64le": 0xC0000015,
}
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
_MODE_FILTER = 2
_CAPSET_VERSION = 0x20080522
_SECONDS = 600


def run(
    command: Sequence[str | os.PathLike[str]],
    errno: int = EPERM,
    *,
    cwd: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end where bpf(2) fails with `errno`; return its status and output, both streams in one.

    It keeps the user's number, since an interpreter may lie where nobody else can read it.
    """
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_SECONDS,
        preexec_fn=lambda: confine(errno),
    )


def run_pytest(
    *arguments: str | os.PathLike[str],
    errno: int = EPERM,
    cwd: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run pytest with `arguments`, otherwise as `run`; rawbpf comes from where this process has it from."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return run(command, errno, cwd=cwd, environment={"PYTHONPATH": path, **(environment or {})})


def confine(errno: int) -> None:
    """Give up every capability for good, and let bpf(2) fail with `errno` in this process and its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    capability = 0
    # To the end of those that this kernel knows; an ordinary user may not, and exec gives him none.
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if ctypes.get_errno() not in (EINVAL, EPERM):
        raise _failed("prctl(PR_CAPBSET_DROP)")
    if libc.capset(struct.pack("=Ii", _CAPSET_VERSION, 0), bytes(24)):
        raise _failed("capset")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _failed("prctl(PR_SET_NO_NEW_PRIVS)")
    program = _filter(errno)
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, fprog, 0, 0):
        raise _failed("prctl(PR_SET_SECCOMP)")


def _filter(errno: int) -> bytes:
    machine = os.uname().machine
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            # A system call's number means something else in the table of another architecture.
            (_LOAD_WORD, 0, 0, _ARCHITECTURE_AT),
            (_JUMP_IF_EQUAL, 1, 0, _ARCHITECTURES[machine]),
            (_RETURN, 0, 0, _KILL),
            (_LOAD_WORD, 0, 0, _NUMBER_AT),
            (_JUMP_IF_EQUAL, 0, 1, syscall_numbers(machine)[0]),
            (_RETURN, 0, 0, _ERRNO | errno),
            (_RETURN, 0, 0, _ALLOW),
        )
    )


def _failed(call: str) -> OSError:
    return OSError(ctypes.get_errno(), call)


if __name__ == "__main__":
    confine(EPERM)
    os.execvp(sys.argv[1], sys.argv[1:])
