"""What a test left open: maps, programs, links and BTF that this process has descriptors of since a moment before."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from fcntl import F_GETFL, fcntl
from typing import TYPE_CHECKING

from rawbpf.map.base import Map
from rawbpf.syscall.descriptor import Descriptor
from rawbpf.syscall.obj import obj_get_info_by_fd
from rawbpf.uapi.info import MAP_INFO, PROG_INFO
from rawbpf.uapi.names import map_type_name, prog_type_name

if TYPE_CHECKING:
    from typing import Any

    from rawbpf.syscall.protocol import Backend

# The line of an object's fdinfo that has its number. A link's tells its program as well.
_KINDS = {"link": "link_id", "map": "map_id", "program": "prog_id", "BTF": "btf_id"}
_TOLD = {"map": (MAP_INFO, map_type_name), "program": (PROG_INFO, prog_type_name)}


def descriptors() -> set[int]:
    """Return the descriptors of this process; none where there is no /proc."""
    try:
        found = {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:
        return set()
    return {fd for fd in found if os.path.lexists(f"/proc/self/fd/{fd}")}  # the listing's own is gone


def close_left_open(backend: Backend, before: AbstractSet[int]) -> list[str]:
    """Close the objects of `backend` that were opened since the descriptors were `before`; return what they were."""
    if not _opened_since(backend, before):
        return []
    gc.collect()  # what was dropped closes itself, with a ResourceWarning
    left = _opened_since(backend, before)
    said = [_told(backend, fd, kind, number) for fd, (kind, number) in left.items()]
    for owner in _owners(left):
        owner.close()
    for fd in _opened_since(backend, before):
        backend.close(fd)
    return said


def _owners(fds: Collection[int]) -> list[Map[Any, Any] | Descriptor]:
    # An object that goes on thinking that its descriptor is open would close whatever has the number by then.
    every = [each for each in gc.get_objects() if isinstance(each, (Map, Descriptor))]
    return [each for each in every if not each.closed and each.fileno() in fds]


def _opened_since(backend: Backend, before: AbstractSet[int]) -> dict[int, tuple[str, str]]:
    # Kind and number of each object by its descriptor.
    found = {}
    for fd in sorted(descriptors() - before):
        try:
            # The other end of a descriptor of a simulator, which is the simulator's.
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                continue
            lines = [line.split() for line in backend.fdinfo(fd).splitlines()]
        except OSError:  # it is closed by now
            continue
        words = {line[0].rstrip(":"): line[1] for line in lines if len(line) > 1}
        kind = next((kind for kind, key in _KINDS.items() if key in words), None)
        if kind is not None:
            found[fd] = (kind, words[_KINDS[kind]])
    return found


def _told(backend: Backend, fd: int, kind: str, number: str) -> str:
    # Such as: map 'quota' (hash, id 1, descriptor 14)
    if kind not in _TOLD:
        return f"{kind} (id {number}, descriptor {fd})"
    layout, type_name = _TOLD[kind]
    field = layout.unpack(obj_get_info_by_fd(backend, fd, layout.size))
    name = field["name"].rstrip(b"\0").decode("ascii", "backslashreplace")
    return f"{kind}{f' {name!r}' * bool(name)} ({type_name(field['type'])}, id {number}, descriptor {fd})"
