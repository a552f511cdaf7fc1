"""Arrays of cgroups, of which programs ask whether a task or a packet is in one.

The kernel takes directories of cgroup version 2 and tells nothing back. Kernel side:
kernel/bpf/arraymap.c:cgroup_fd_array_get_ptr (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.map.slot import SlotMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rawbpf.codec.descriptor import HasFileno

    Cgroup = HasFileno | str | os.PathLike[str]

_EBADF = 9
_REFUSALS = {
    _EBADF: "it is no directory of cgroup version 2, which is mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified"
}


class CgroupArrayMap(SlotMap[int, int]):
    """An array of cgroups, written to only: `m[i] = "/sys/fs/cgroup/system.slice"`.

    A cgroup is a path of its directory, which is opened for the call, or what is open on it.
    """

    __slots__ = ()

    map_type = "cgroup_array"
    _index_keys = True
    _default_key = "u32"
    _noun = "a cgroup, by the path of its directory, or that"
    _refusals = _REFUSALS

    def __setitem__(self, key: int, value: Cgroup) -> None:
        """Store the cgroup `value` in slot `key`, in place of what is there.

        Raises: IndexOutOfRange; OSError for a path that cannot be opened; BpfError (EBADF: no directory of
        cgroup version 2); TypeError for what is neither, ints among them; Closed.
        """
        self.put(key, value)

    def put(self, key: int, value: Cgroup, flags: int = 0) -> None:
        """Store the cgroup `value` in slot `key`, with BPF_ flags. Raises: as `m[key] = value`."""
        with _Opened([value]) as (opened,):
            super().put(key, opened, flags)

    def update(self, items: Mapping[int, Cgroup] | Iterable[tuple[int, Cgroup]]) -> None:
        """Store all of `items`, a mapping or pairs; all are opened before the first is stored.

        Raises: as `m[key] = value`, with `.applied`, how many were stored before the one that was refused.
        """
        pairs = list(items.items() if hasattr(items, "items") else items)
        with _Opened([value for _, value in pairs]) as opened:
            super().update(zip([key for key, _ in pairs], opened, strict=True))

    if TYPE_CHECKING:

        def put_many(  # noqa: D102
            self, items: Mapping[int, Cgroup] | Iterable[tuple[int, Cgroup]]
        ) -> None: ...


class _Opened:
    # Has those of `cgroups` open for a `with` block that are paths.

    def __init__(self, cgroups: list[Cgroup]) -> None:
        self._cgroups = cgroups
        self._files: list[_Directory] = []

    def __enter__(self) -> list[HasFileno]:
        try:
            return [self._open(each) if isinstance(each, (str, os.PathLike)) else each for each in self._cgroups]
        except BaseException:
            self.__exit__()
            raise

    def _open(self, path: str | os.PathLike[str]) -> _Directory:
        self._files.append(_Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
        return self._files[-1]

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            os.close(file.fileno())


class _Directory:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd
