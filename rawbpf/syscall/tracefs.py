"""Tracepoint ids and trace_pipe, from tracefs wherever it is, also where it is mounted nowhere.

A detached mount (fsopen, fsconfig, fsmount; Linux 5.2) is a tracefs that only its file descriptor
reaches: nothing becomes visible to others and closing the descriptor ends it.
"""

from __future__ import annotations

import ctypes
import os

from rawbpf.errors import BpfError, PermissionDenied

# The three numbers are the same on every architecture of `kernel.SYSCALL_NUMBERS`.
# Source: include/uapi/asm-generic/unistd.h (v6.12)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_ENOENT, _EBUSY, _ENFILE, _EMFILE = 2, 16, 23, 24
_FILES = "too many open files: ulimit -n tells how many this process may have"
_MOUNTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def tracepoint_id(category: str, name: str) -> int:
    """Return the id of tracepoint `category/name`.

    Raises: BpfError (ENOENT: no such tracepoint; the message has close names), PermissionDenied
    (EPERM, EACCES: tracefs is for root).
    """
    subject = f"tracepoint {category}/{name}"
    if not all(part and "/" not in part and part not in (".", "..") for part in (category, name)):
        raise ValueError(
            f"a tracepoint is a category and a name, such as sched/sched_switch; got {category!r}, {name!r}"
        )
    root = _root(subject, "reading tracepoint ids")
    try:
        return int(_read(root, f"events/{category}/{name}/id"))
    except FileNotFoundError:
        hint = _close_names(root, category, name)
        raise BpfError(_ENOENT, call="open", subject=subject, hint=hint) from None
    except PermissionError as error:
        hint = "tracepoint ids are readable by root only"
        raise PermissionDenied(error.errno or 0, call="open", subject=subject, hint=hint) from error
    finally:
        os.close(root)


def open_trace_pipe() -> int:
    """Return a new descriptor of trace_pipe, whose reads do not wait.

    Raises: BpfError (EBUSY: somebody else reads it), PermissionDenied (EPERM, EACCES: it is for root).
    """
    root = _root("trace_pipe", "reading trace_pipe")
    try:
        return os.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except PermissionError as error:
        hint = "trace_pipe is readable by root only, and by nobody under lockdown"
        raise PermissionDenied(error.errno or 0, call="open", subject="trace_pipe", hint=hint) from error
    except OSError as error:
        # commit c2489bb7e6be ("tracing: Introduce pipe_cpumask to avoid race on trace_pipes") (in v6.6)
        busy = "something else reads it, and it has one reader at a time: a cat trace_pipe, or bpftool prog tracelog"
        hint = busy if error.errno == _EBUSY else _FILES if error.errno in (_ENFILE, _EMFILE) else ""
        raise BpfError(error.errno or 0, call="open", subject="trace_pipe", hint=hint) from error
    finally:
        os.close(root)


def _root(subject: str, what: str) -> int:
    # A descriptor of the directory. Raises: as the functions above.
    try:
        return _open_tracefs()
    except PermissionError as error:
        hint = f"{what} needs tracefs, which is for root (CAP_SYS_ADMIN mounts it)"
        raise PermissionDenied(error.errno or 0, call="open", subject=subject, hint=hint) from error
    except OSError as error:
        if error.errno in (_ENFILE, _EMFILE):
            hint = _FILES
        else:
            hint = "tracefs is not mounted and could not be mounted: mount -t tracefs tracefs /sys/kernel/tracing"
        raise BpfError(error.errno or 0, call="open", subject=subject, hint=hint) from error


def _open_tracefs() -> int:
    for path in _MOUNTS:
        if os.path.isdir(f"{path}/events"):
            return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return _mount_detached()


def _mount_detached() -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    context = _checked(syscall(_FSOPEN, b"tracefs", _FSOPEN_CLOEXEC))
    try:
        _checked(syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return _checked(syscall(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0))
    finally:
        os.close(context)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _read(root: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        return os.read(fd, 4096).decode("ascii", "replace")
    finally:
        os.close(fd)


def _close_names(root: int, category: str, name: str) -> str:
    import difflib

    try:
        names = _list(root, f"events/{category}")
    except FileNotFoundError:
        close = difflib.get_close_matches(category, _list(root, "events"))
        return f"this kernel has no tracepoint category {category!r}" + _suggest(close)
    return f"category {category!r} has no tracepoint {name!r} in this kernel" + _suggest(
        difflib.get_close_matches(name, names)
    )


def _list(root: int, path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def _suggest(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""
