"""Maps of network devices, for XDP redirection: `bpf_redirect_map()` sends a packet out of the device in a slot.

A slot keeps its device until it is emptied or the device goes, and then it is empty. Devices are those of
the network namespace of the thread that stores them.
Kernel side: kernel/bpf/devmap.c (v6.12).
"""

from __future__ import annotations

from rawbpf.map.target import TargetCodec, TargetMap
from rawbpf.syscall.interface import absence, interface_index
from rawbpf.uapi.constants import BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from typing_extensions import TypeVar

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.codec.record import Record
    from rawbpf.errors import BpfError

    K = TypeVar("K", default=Any)
    # A name or an index, alone or with a program that the packets pass on their way out; what was read, without one.
    Device = str | int | tuple[str | int, HasFileno | None] | Record

_EINVAL = 22


class DeviceCodec(TargetCodec):
    """A network interface by name or index, alone or with a program; reads back as `ifindex` and `prog_id`."""

    _struct = "bpf_devmap_val"
    _field = "ifindex"

    def number(self, value: object, where: str) -> int:
        """Return the index of the interface. Raises: BpfError (ENODEV: none has this name); TypeError; ValueError."""
        return interface_index(value, where)


class _Devices(TargetMap["K"]):
    __slots__ = ()

    _default_key = _default_value = "u32"
    _codec = DeviceCodec
    _word = "devmap"

    def __setitem__(self, key: K, value: Device) -> None:  # type: ignore[override]  # a device has no descriptor
        """Store a device under `key`: a name, an index, or a pair of one of those and a program.

        Raises: BpfError (ENODEV: no interface has this name, the text has close ones; EINVAL: none has this
        index, or the program is not for a devmap; the text says which); IndexOutOfRange; MapFull (E2BIG);
        TypeError for what is neither, and for a program where the map was not created with `value=8`;
        ValueError for 0; Closed; PermissionDenied (EPERM: opened for reading only).
        Source: kernel/bpf/devmap.c:__dev_map_alloc_node
        """
        self.put(key, value)

    def put(self, key: K, value: Device, flags: int = 0) -> None:  # type: ignore[override]  # as above
        """Store a device under `key`, with BPF_ flags. Raises: as `m[key] = value`."""
        super().put(key, value, flags)  # type: ignore[arg-type]  # as above

    if TYPE_CHECKING:

        def update(  # type: ignore[override]
            self, items: Mapping[K, Device] | Iterable[tuple[K, Device]]
        ) -> None: ...
        def put_many(  # type: ignore[override]
            self, items: Mapping[K, Device] | Iterable[tuple[K, Device]]
        ) -> None: ...

    def _why(self, error: BpfError, value: object) -> str:
        if error.errno != _EINVAL:
            return ""
        pair = value if isinstance(value, tuple) else (value, None)
        index = interface_index(pair[0], "value")
        return absence(index) or ("" if pair[1] is None else self._why_program(pair[1]))


class DevMap(_Devices[int]):
    """An array of network devices, a dict of its filled slots: `m[i] = "eth0"`, `m[i].ifindex`.

    Created with `value=8`, it also holds programs (`SEC("xdp/devmap")`) that a packet passes before it
    leaves: `m[i] = "eth0", program`, and `m[i].prog_id`; the default of 4 bytes suits every kernel. Emptying an
    empty slot is no error. Since: Linux 4.14; programs since 5.8.
    """

    __slots__ = ()

    map_type = "devmap"
    _index_keys = True


class DevMapHash(_Devices["K"]):
    """Network devices by any key of 4 bytes, such as their own index: `m[k] = "eth0"`, `m[k].ifindex`.

    Created with `value=8`, it also holds programs, as a `DevMap` does. Since: Linux 5.4; programs since 5.8.
    """

    __slots__ = ()

    map_type = "devmap_hash"

    def insert(self, key: K, value: Device) -> None:
        """Store a device under a `key` that must be free. Raises: KeyExists (EEXIST); else as `m[key] = value`."""
        self.put(key, value, BPF_NOEXIST)
