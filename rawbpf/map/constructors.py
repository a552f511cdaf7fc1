"""How maps come to be: the constructors of `Map`, which return an object of the class for the map's type.

Only what users call and read stands here; `create` and `open` do it, and are imported when they are
needed.
"""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypedDict, Unpack, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Description
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.event.ring import RingBufMap
    from rawbpf.event.user_ring import UserRingBufMap
    from rawbpf.map.arena import ArenaMap
    from rawbpf.map.array import ArrayMap
    from rawbpf.map.base import Map
    from rawbpf.map.bloom_filter import BloomFilterMap
    from rawbpf.map.cgroup_array import CgroupArrayMap
    from rawbpf.map.cgroup_storage import CgroupStorageMap, PerCpuCgroupStorageMap
    from rawbpf.map.cpumap import CpuMap
    from rawbpf.map.devmap import DevMap, DevMapHash
    from rawbpf.map.hash import HashMap, LruHashMap
    from rawbpf.map.insn_array import InsnArrayMap
    from rawbpf.map.local_storage import CgrpStorageMap, InodeStorageMap, SkStorageMap, TaskStorageMap
    from rawbpf.map.lpm_trie import LpmTrieMap
    from rawbpf.map.map_in_map import ArrayOfMaps, HashOfMaps
    from rawbpf.map.percpu import LruPerCpuHashMap, PerCpuArrayMap, PerCpuHashMap
    from rawbpf.map.perf_event_array import PerfEventArrayMap
    from rawbpf.map.prog_array import ProgArrayMap
    from rawbpf.map.queue import QueueMap, StackMap
    from rawbpf.map.reuseport import ReuseportSockArray
    from rawbpf.map.sockmap import SockHash, SockMap
    from rawbpf.map.stack_trace import StackTraceMap
    from rawbpf.map.struct_ops import StructOpsMap
    from rawbpf.map.xskmap import XskMap
    from rawbpf.syscall.protocol import Backend

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)

    # A map whose class, and so whose verbs, are known only at run time.
    AnyMap: TypeAlias = Any

    class _Base(Generic[K, V]):
        pass

    Token: TypeAlias = int | HasFileno

    class CreateOptions(TypedDict, total=False):
        """The keyword arguments of `Map.create`."""

        key: Description | None
        value: Description | None
        max_entries: int | None
        name: str
        flags: int | None
        map_extra: int
        numa_node: int | None
        inner: Map[Any, Any] | None
        pin: str | os.PathLike[str] | None
        token: Token | None
        backend: Backend | None
else:

    class _Base:
        # typing costs 7 ms to import; at run time Map[K, V] need only be an alias.
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class Constructors(_Base["K", "V"]):
    """`create`, `from_fd`, `from_id`, `from_pin` and `from_name`."""

    __slots__ = ()

    map_type: ClassVar[str | None] = None

    if TYPE_CHECKING:

        @overload
        @classmethod
        def create(cls, map_type: Literal["hash"], /, **options: Unpack[CreateOptions]) -> HashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["array"], /, **options: Unpack[CreateOptions]) -> ArrayMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["prog_array"], /, **options: Unpack[CreateOptions]) -> ProgArrayMap: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["perf_event_array"], /, **options: Unpack[CreateOptions]
        ) -> PerfEventArrayMap: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["percpu_hash"], /, **options: Unpack[CreateOptions]
        ) -> PerCpuHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["percpu_array"], /, **options: Unpack[CreateOptions]
        ) -> PerCpuArrayMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["stack_trace"], /, **options: Unpack[CreateOptions]) -> StackTraceMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["cgroup_array"], /, **options: Unpack[CreateOptions]) -> CgroupArrayMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["lru_hash"], /, **options: Unpack[CreateOptions]) -> LruHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["lru_percpu_hash"], /, **options: Unpack[CreateOptions]
        ) -> LruPerCpuHashMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["lpm_trie"], /, **options: Unpack[CreateOptions]) -> LpmTrieMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["array_of_maps"], /, **options: Unpack[CreateOptions]) -> ArrayOfMaps: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["hash_of_maps"], /, **options: Unpack[CreateOptions]) -> HashOfMaps[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["devmap"], /, **options: Unpack[CreateOptions]) -> DevMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["sockmap"], /, **options: Unpack[CreateOptions]) -> SockMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["cpumap"], /, **options: Unpack[CreateOptions]) -> CpuMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["xskmap"], /, **options: Unpack[CreateOptions]) -> XskMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["sockhash"], /, **options: Unpack[CreateOptions]) -> SockHash[Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["cgroup_storage"], /, **options: Unpack[CreateOptions]
        ) -> CgroupStorageMap[Any, Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["reuseport_sockarray"], /, **options: Unpack[CreateOptions]
        ) -> ReuseportSockArray: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["percpu_cgroup_storage"], /, **options: Unpack[CreateOptions]
        ) -> PerCpuCgroupStorageMap[Any, Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["queue"], /, **options: Unpack[CreateOptions]) -> QueueMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["stack"], /, **options: Unpack[CreateOptions]) -> StackMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["sk_storage"], /, **options: Unpack[CreateOptions]) -> SkStorageMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["devmap_hash"], /, **options: Unpack[CreateOptions]) -> DevMapHash[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["struct_ops"], /, **options: Unpack[CreateOptions]) -> StructOpsMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["ringbuf"], /, **options: Unpack[CreateOptions]) -> RingBufMap: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["inode_storage"], /, **options: Unpack[CreateOptions]
        ) -> InodeStorageMap[Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["task_storage"], /, **options: Unpack[CreateOptions]
        ) -> TaskStorageMap[Any]: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["bloom_filter"], /, **options: Unpack[CreateOptions]
        ) -> BloomFilterMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["user_ringbuf"], /, **options: Unpack[CreateOptions]) -> UserRingBufMap: ...
        @overload
        @classmethod
        def create(
            cls, map_type: Literal["cgrp_storage"], /, **options: Unpack[CreateOptions]
        ) -> CgrpStorageMap[Any]: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["arena"], /, **options: Unpack[CreateOptions]) -> ArenaMap: ...
        @overload
        @classmethod
        def create(cls, map_type: Literal["insn_array"], /, **options: Unpack[CreateOptions]) -> InsnArrayMap: ...
        @overload
        @classmethod
        def create(cls, map_type: str | int, /, **options: Unpack[CreateOptions]) -> AnyMap: ...
        @overload
        @classmethod
        def create(cls, /, **options: Unpack[CreateOptions]) -> Self: ...

    @classmethod
    def create(
        cls,
        map_type: str | int | None = None,
        /,
        *,
        key: Description | None = None,
        value: Description | None = None,
        max_entries: int | None = None,
        name: str = "",
        flags: int | None = None,
        map_extra: int = 0,
        numa_node: int | None = None,
        inner: Map[Any, Any] | None = None,
        pin: str | os.PathLike[str] | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> AnyMap:
        """Create a map and return an object of the class for its type.

        `map_type`: a name (`"hash"`) or the kernel's number; not given where the class says it, as in
        `HashMap.create(key="u32", ...)`. `key`, `value`: what `codec_for` takes, such as `"u32"`, a dict
        of fields, a size in bytes. `max_entries`: how many elements. `name`: at most 15 of `A-Za-z0-9_.`.
        `flags`: BPF_F_ flags, to which those are added that the type requires; where they are left out,
        arrays without a pin can be mapped into memory (BPF_F_MMAPABLE), with 0 they cannot. `map_extra`: the
        type's extra number. `numa_node`: where to allocate. `inner`: for maps of maps, a map like those to
        be held. `pin`: a path on a bpffs. `token`: a BPF token, as its fd or an object with `fileno()`.
        `backend`: by default the current one.

        Raises: TypeError, ValueError, OverflowError for arguments that no kernel accepts; PermissionDenied
        (EPERM), NotSupported (ENOTSUPP), BpfError (E2BIG; EINVAL; ENOMEM, also before the call for a map that
        would take more memory at once than the machine has available).
        Since: Linux 3.19.
        Source: kernel/bpf/syscall.c:map_create
        """
        from rawbpf.map.create import create

        return create(
            cls._said_type(map_type, "create"),
            key=key,
            value=value,
            max_entries=max_entries,
            name=name,
            flags=flags,
            map_extra=map_extra,
            numa_node=numa_node,
            inner=inner,
            pin=pin,
            token=token,
            backend=backend,
        )

    @classmethod
    def estimate_memory(
        cls,
        map_type: str | int | None = None,
        /,
        *,
        key: Description | None = None,
        value: Description | None = None,
        max_entries: int | None = None,
        flags: int | None = None,
        map_extra: int = 0,
        backend: Backend | None = None,
    ) -> int:
        """Return about how many bytes of kernel memory such a map takes when it is full; creates nothing.

        The arguments are those of `create`. It is what `info.memory` of that map would say, within a
        twentieth for maps of 64 KiB and more. Types that allocate as they fill (hashes with
        BPF_F_NO_PREALLOC, tries, arenas) take it only then; what local storage takes depends on how many
        owners there are and is not in it. Raises: TypeError, ValueError, OverflowError as `create`.
        """
        from rawbpf.map.create import estimate

        return estimate(
            cls._said_type(map_type, "estimate_memory"),
            key=key,
            value=value,
            max_entries=max_entries,
            flags=flags,
            map_extra=map_extra,
            backend=backend,
        )

    @classmethod
    def _said_type(cls, map_type: str | int | None, verb: str) -> str | int:
        kind = map_type if map_type is not None else cls.map_type
        if kind is None:
            example = f'Map.{verb}("hash", key="u32", value="u64", max_entries=1024)'
            raise TypeError(f"{cls.__name__}.{verb}() needs a map type: {example}")
        if cls.map_type not in (None, kind):
            raise TypeError(
                f"{cls.__name__}.{verb}() makes maps of type {cls.map_type}; Map.{verb}({kind!r}, ...) others"
            )
        return kind

    @classmethod
    def from_fd(
        cls,
        fd: HasFileno | int,
        own: bool = False,
        *,
        key: Description | None = None,
        value: Description | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> AnyMap:
        """Open the map behind `fd`, which is duplicated unless `own` hands it over.

        Keys and values are of the types that the map's BTF says, and bytes where it has none; `key` and
        `value` say others, as for `create`. `token`: what may read that BTF in place of CAP_SYS_ADMIN.
        Raises: Closed (EBADF), BpfError (EINVAL: no map's), TypeError for a map of another class than this,
        SpecError for types that disagree with the map's sizes or BTF; `fd` then stays the caller's.
        """
        from rawbpf.map.open import Wishes, from_fd

        return from_fd(fd, own, Wishes(cls, key, value, token), backend)

    @classmethod
    def from_id(
        cls,
        map_id: int,
        *,
        key: Description | None = None,
        value: Description | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> AnyMap:
        """Open the map with the id `map_id`, as `info.id` and bpftool show it; `key`, `value`, `token` as `from_fd`.

        Raises: NotFound (ENOENT), PermissionDenied (EPERM: needs CAP_SYS_ADMIN); SpecError.
        Since: Linux 4.13.
        """
        from rawbpf.map.open import Wishes, from_id

        return from_id(map_id, Wishes(cls, key, value, token), backend)

    @classmethod
    def from_pin(
        cls,
        path: str | os.PathLike[str],
        mode: str = "rw",
        *,
        dir_fd: HasFileno | int | None = None,
        key: Description | None = None,
        value: Description | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> AnyMap:
        """Open the map pinned at `path`; `mode` is "r", "w" or "rw".

        A relative `path` starts at the directory `dir_fd`. `key`, `value`, `token` as `from_fd`.
        Raises: NotFound (ENOENT), BpfError (EINVAL: no map is pinned there), PermissionDenied (EACCES, EPERM),
        ValueError for another mode; SpecError. Since: Linux 4.4; `dir_fd` since 6.5.
        """
        from rawbpf.map.open import Wishes, from_pin

        return from_pin(path, mode, dir_fd, Wishes(cls, key, value, token), backend)

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        key: Description | None = None,
        value: Description | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> AnyMap:
        """Open the map of that name, of which there must be exactly one; `key`, `value`, `token` as `from_fd`.

        Raises: NotFound (ENOENT), ValueError where several maps have the name (it lists their ids),
        PermissionDenied (EPERM: needs CAP_SYS_ADMIN); SpecError.
        """
        from rawbpf.map.open import Wishes, from_name

        return from_name(name, Wishes(cls, key, value, token), backend)
