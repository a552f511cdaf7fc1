"""A BPF token as a container has it: of a bpf file system that was mounted in a user namespace of its own."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable

from rawbpf.syscall.kernel import KernelBackend
from rawbpf.syscall.misc import token_create

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_STRING, _CREATE = 1, 6
_NEWUSER, _NEWNS = 0x10000000, 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


def run_with_token(function: Callable[[int], str], delegate: str = "any") -> str:
    """Return what `function` returns in a child that is root of a user namespace, and holds the token it is given."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if pid := os.fork():
        theirs.close()
        try:
            return _delegate(ours, pid, delegate)
        finally:
            ours.close()
            os.waitpid(pid, 0)
    try:
        ours.close()
        theirs.sendall(_answer(theirs, function).encode())
    finally:
        os._exit(0)


def _answer(theirs: socket.socket, function: Callable[[int], str]) -> str:
    try:
        _checked(_libc.unshare(_NEWUSER | _NEWNS))
        theirs.send(b"u")
        theirs.recv(1)
        # The file system belongs to the namespace that opens it; what it delegates is for root outside to say.
        context = _checked(_libc.syscall(_FSOPEN, b"bpf", 0))
        socket.send_fds(theirs, [b"f"], [context])
        theirs.recv(1)
        root = _checked(_libc.syscall(_FSMOUNT, context, 0, 0))
        token = token_create(KernelBackend(), os.open(".", os.O_DIRECTORY, dir_fd=root))
        return function(token)
    except BaseException as error:  # noqa: BLE001 (nothing may leave the child but its answer)
        return repr(error)


def _delegate(ours: socket.socket, pid: int, delegate: str) -> str:
    ours.recv(1)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    ours.send(b"m")
    _, (context,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        for key in (b"delegate_cmds", b"delegate_maps", b"delegate_progs", b"delegate_attachs"):
            _checked(_libc.syscall(_FSCONFIG, context, _SET_STRING, key, delegate.encode(), 0))
        _checked(_libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0))
    finally:
        os.close(context)
    ours.send(b"c")
    answer = b""
    while part := ours.recv(4096):
        answer += part
    return answer.decode()


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
