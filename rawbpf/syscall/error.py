"""Which exception an errno of the kernel becomes: one table over command, map type and errno.

An errno means different things to different map types (a full hash and an array index out of range
are both E2BIG), and EINVAL is "not supported" where nothing else could be meant. The words come from
`hint`, which is imported only when something was refused for a reason that needs explaining.

Measured on Linux 6.18; source: kernel/bpf/syscall.c and the map types' own files (v6.12).
"""

from __future__ import annotations

from rawbpf import errors as e
from rawbpf.syscall import group
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.syscall.protocol import Backend

_EPERM, _ENOENT, _E2BIG, _EBADF, _EACCES, _EEXIST, _EINVAL, _ENOSPC = 1, 2, 7, 9, 13, 17, 22, 28
_ENFILE, _EMFILE, _EBADFD, _EOPNOTSUPP = 23, 24, 77, 95

_LOOKUP, _UPDATE, _DELETE, _NEXT = (
    c.BPF_MAP_LOOKUP_ELEM,
    c.BPF_MAP_UPDATE_ELEM,
    c.BPF_MAP_DELETE_ELEM,
    c.BPF_MAP_GET_NEXT_KEY,
)
_TAKE = c.BPF_MAP_LOOKUP_AND_DELETE_ELEM
_UPDATES = (_UPDATE, c.BPF_MAP_UPDATE_BATCH)
_DELETES = (_DELETE, c.BPF_MAP_DELETE_BATCH)
_BY_KEY = (_LOOKUP, *_UPDATES, *_DELETES, _TAKE, _NEXT)

_OPENING = (
    c.BPF_OBJ_PIN,
    c.BPF_OBJ_GET,
    c.BPF_MAP_GET_FD_BY_ID,
    c.BPF_PROG_GET_FD_BY_ID,
    c.BPF_LINK_GET_FD_BY_ID,
    c.BPF_BTF_GET_FD_BY_ID,
)

_ARRAYS = (*group.PLAIN_ARRAYS, *group.SLOT_ARRAYS)

_ALWAYS: dict[int, type[e.BpfError]] = {
    _EBADF: e.Closed,
    _EBADFD: e.Closed,  # what OBJ_GET_INFO_BY_FD says since Linux 6.18
    _EPERM: e.PermissionDenied,
    _EACCES: e.PermissionDenied,
    _EOPNOTSUPP: e.NotSupported,
    e.ENOTSUPP: e.NotSupported,
}

_BY_CMD: dict[tuple[int, int], type[e.BpfError]] = {
    (_LOOKUP, _ENOENT): e.KeyNotFound,
    (_TAKE, _ENOENT): e.KeyNotFound,
    **{(cmd, _ENOENT): e.KeyNotFound for cmd in (*_UPDATES, *_DELETES)},
    **{(cmd, _EEXIST): e.KeyExists for cmd in _UPDATES},
    **{(cmd, _E2BIG): e.MapFull for cmd in _UPDATES},
    (c.BPF_OBJ_PIN, _EEXIST): e.KeyExists,
    **{(cmd, _ENOENT): e.NotFound for cmd in _OPENING},
    # The verifier's usual "no"; its log tells what was wrong with the program.
    (c.BPF_PROG_LOAD, _EACCES): e.BpfError,
}

_BY_TYPE: dict[tuple[int, int, int], type[e.BpfError]] = {
    **{(cmd, kind, _E2BIG): e.IndexOutOfRange for kind in _ARRAYS for cmd in (*_UPDATES, *_DELETES)},
    **{(cmd, kind, _ENOENT): e.IndexOutOfRange for kind in group.PLAIN_ARRAYS for cmd in (_LOOKUP, *_UPDATES)},
    **{(cmd, kind, _EINVAL): e.NotSupported for kind in group.PLAIN_ARRAYS for cmd in _DELETES},
    **{(cmd, kind, _ENOENT): e.Empty for kind in group.QUEUES for cmd in (_LOOKUP, _TAKE)},
    **{(cmd, kind, _EINVAL): e.NotSupported for kind in group.QUEUES for cmd in (*_DELETES, _NEXT)},
    **{(cmd, kind, _EINVAL): e.NotSupported for kind in group.CGROUP_STORAGES for cmd in _DELETES},
    **{(cmd, c.BPF_MAP_TYPE_LPM_TRIE, _ENOSPC): e.MapFull for cmd in _UPDATES},
    (_UPDATE, c.BPF_MAP_TYPE_STACK_TRACE, _EINVAL): e.NotSupported,
    (_DELETE, c.BPF_MAP_TYPE_STACK_TRACE, _E2BIG): e.IndexOutOfRange,
    (_LOOKUP, c.BPF_MAP_TYPE_ARENA, _EINVAL): e.NotSupported,
    # These delete an empty slot without complaint: only an index out of range is left to mean.
    (_DELETE, c.BPF_MAP_TYPE_DEVMAP, _EINVAL): e.IndexOutOfRange,
    (_DELETE, c.BPF_MAP_TYPE_CPUMAP, _EINVAL): e.IndexOutOfRange,
    (_DELETE, c.BPF_MAP_TYPE_XSKMAP, _EINVAL): e.IndexOutOfRange,
    # An empty slot and an index out of range are one to a sockmap.
    (_DELETE, c.BPF_MAP_TYPE_SOCKMAP, _EINVAL): e.KeyNotFound,
    # Sockets of a map with 4-byte values cannot be read back as anything.
    (_LOOKUP, c.BPF_MAP_TYPE_SOCKMAP, _ENOSPC): e.NotSupported,
    (_LOOKUP, c.BPF_MAP_TYPE_SOCKHASH, _ENOSPC): e.NotSupported,
    (_LOOKUP, c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, _ENOSPC): e.NotSupported,
    # The update is supported, this kind of socket is not.
    (_UPDATE, c.BPF_MAP_TYPE_XSKMAP, _EOPNOTSUPP): e.BpfError,
    # EBADF is about the descriptor in the key or value as well, of the wrong kind perhaps: "closed" may be untrue.
    **{(cmd, kind, _EBADF): e.BpfError for kind in group.LOCAL_STORAGES for cmd in _BY_KEY},
    **{(_UPDATE, kind, _EBADF): e.BpfError for kind in group.OF_DESCRIPTORS},
    # It is not the key that exists, but another table of the same name.
    (_UPDATE, c.BPF_MAP_TYPE_STRUCT_OPS, _EEXIST): e.BpfError,
}

# Short, constant, and made often: a miss must not pay for an import.
_PLAIN = (_ENOENT, _EEXIST, _E2BIG, _EBADF)
_WORDS: dict[type[e.BpfError], str] = {
    e.KeyNotFound: "the map has no such key",
    e.KeyExists: "the map has this key already",
    e.IndexOutOfRange: "the index is not below max_entries",
    e.Empty: "there is nothing to take",
    e.Closed: "the descriptor is closed",
}

# Of these nothing is found out, for that needs a descriptor, as the import does.
_FULL = {
    _EMFILE: "this process may open no more files: close maps and the like, or raise its limit (ulimit -n)",
    _ENFILE: "the system may open no more files (sysctl fs.file-max)",
}


def error_class(errno: int, *, cmd: int, map_type: int | None = None) -> type[e.BpfError]:
    """Return the exception class that `errno` of command `cmd`, on a map of type `map_type`, becomes."""
    if map_type is not None and (found := _BY_TYPE.get((cmd, map_type, errno))):
        return found
    return _BY_CMD.get((cmd, errno)) or _ALWAYS.get(errno, e.BpfError)


def bpf_error(
    backend: Backend,
    errno: int,
    *,
    cmd: int,
    subject: str = "",
    map_type: int | None = None,
    hint: str = "",
    values: Mapping[str, int | bytes] | None = None,
) -> e.BpfError:
    """Return the exception for `errno`: its class from the table, its text from `hint` or the hint of `cmd`.

    `values` are the fields that the attr was packed from: what the hint is found out from.
    """
    kind = error_class(errno, cmd=cmd, map_type=map_type)
    # Where a descriptor may be the value's, and where a miss has to do with an owner, more is to be said.
    own_words = map_type in (group.OF_DESCRIPTORS if errno == _EBADF else group.STORAGES if errno == _ENOENT else ())
    if not hint and cmd in _BY_KEY and errno in _PLAIN and not own_words:
        hint = _WORDS.get(kind, "")
    if not hint:
        hint = _FULL.get(errno, "")
    if not hint:
        from rawbpf.syscall.hint import hint_for

        hint = hint_for(backend, errno, cmd=cmd, map_type=map_type, values=values or {})
    return kind(errno, call=cmd_name(cmd), cmd=cmd, subject=subject, hint=hint, backend=backend.name)
