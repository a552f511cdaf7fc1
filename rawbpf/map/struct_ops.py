"""Tables of functions that the kernel calls, with programs for functions.

The kernel describes each table in its BTF: `struct bpf_struct_ops_NAME` is the map's value, with the
table `struct NAME` in it. Source: kernel/bpf/bpf_struct_ops.c (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.errors import BpfError, IndexOutOfRange
from rawbpf.map.base import Map
from rawbpf.map.memory import buffer_of
from rawbpf.map.types import above
from rawbpf.syscall import map as command
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import IntEnum
    from typing import Any, Self, TypedDict

    from rawbpf.btf.types import Struct
    from rawbpf.codec import Codec, Description, Record
    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle
    from rawbpf.map.module import Modules
    from rawbpf.syscall.descriptor import Descriptor
    from rawbpf.syscall.map import CreateFields
    from rawbpf.syscall.protocol import Backend

    class Target(TypedDict):
        """What a program is loaded with to become a member of the table."""

        attach_btf_id: int
        expected_attach_type: int


_ENOENT, _E2BIG = 2, 7
_PREFIX = "bpf_struct_ops_"


class StructOpsMap(Map[int, "Record"]):
    """A table of programs for one of the kernel's own interfaces, such as TCP's congestion control.

    `value` names the interface: `Map.create("struct_ops", value="tcp_congestion_ops")`. The map has one
    element: `m[0] = {"name": ..., "ssthresh": program, ...}` registers it, `del m[0]` ends that. What is
    registered stays so when the map is closed. With BPF_F_LINK in `flags` the assignment only makes the
    table ready, and a link registers it. Since: Linux 5.6.
    """

    __slots__ = ("_register",)

    # How the object that the table is of registers it; None for a table of one's own.
    _register: Callable[[], Descriptor] | None

    map_type = "struct_ops"
    _indexed = _index_keys = _takes_btf = True
    _default_key = "u32"
    _default_entries = 1
    # Python would fall back on m[0], m[1], ...
    __iter__ = __contains__ = __reversed__ = None

    @classmethod
    def _resolved(
        cls, backend: Backend, value: Description | None, word: str
    ) -> tuple[Description | None, CreateFields]:
        if not isinstance(value, str):
            given = "" if value is None else f"{value!r} is none"
            raise TypeError(
                f'a {word} map needs value=, the name of one of the kernel\'s tables, such as "tcp_congestion_ops"'
                f"{'; ' if given else ''}{given}"
            )
        found = find_table(backend, value)
        return found, {"btf_vmlinux_value_type_id": found.id}

    @classmethod
    def _made(
        cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any], owner: Map[Any, Any] | None
    ) -> Self:
        self = super()._made(handle, shape, key, value, owner)
        self._register = None
        return self

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        if hasattr(described, "btf"):
            from rawbpf.btf.types import Struct
            from rawbpf.codec.struct_ops import StructOpsCodec, is_value

            if isinstance(described, Struct) and is_value(described):
                return StructOpsCodec(described)
        return super()._value_codec(described, word)

    def __getitem__(self, index: int) -> Record:
        """Return what the kernel has: `common` with its state and reference count, `data` with the table.

        Before Linux 6.9 the record has `state` and `refcnt` instead of `common`: use the properties.
        The table is empty before it is registered; functions are ids of programs, or None.
        Raises: IndexOutOfRange for another index than 0; Closed.
        Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_sys_lookup_elem
        """
        room = ctypes.create_string_buffer(self._value.size)
        self._call(command.map_lookup_elem, index, c.BPF_MAP_LOOKUP_ELEM, room)
        return self._value.unpack(room.raw)

    def __setitem__(self, index: int, members: Mapping[str, object]) -> None:
        """Fill the table with `members` by name, functions as open programs, and register it.

        Members that are not named are zero. With BPF_F_LINK the table is not registered yet.
        Raises: TypeError for an unknown member or what is no program; BpfError (EINVAL: a program that was
        loaded for another member, or a member is missing that this table needs; EEXIST: one of that name is
        registered; EBUSY: this map was filled before); IndexOutOfRange; Closed.
        Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_update_elem
        """
        self._call(command.map_update_elem, index, c.BPF_MAP_UPDATE_ELEM, buffer_of(self._value.pack(members)))

    def attach(self) -> Descriptor:
        """Register the table, and return the link, which ends that when it is closed.

        A table of an object's file is filled before, as the file and the specification say; one that was made
        in Python has been filled by assignment. Without BPF_F_LINK that has registered it already, and what is
        returned stands for the registration.
        Raises: BpfError (EINVAL: not filled, or a member is missing that this table needs; EEXIST: one of that
        name is registered; EBUSY: registered already); Closed.
        Since: Linux 5.6; with BPF_F_LINK 6.4. Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_link_create
        """
        if self._register is not None:
            return self._register()
        made: Descriptor = above("link.struct_ops:attach_struct_ops")(self)
        return made

    def __delitem__(self, index: int) -> None:
        """End the registration; the kernel keeps what is in use, as a connection's algorithm, until it is not.

        Raises: KeyNotFound (ENOENT: not registered); BpfError (EINPROGRESS: ended before, and in use still);
        NotSupported (EOPNOTSUPP: with BPF_F_LINK the link ends it); IndexOutOfRange; Closed.
        Source: kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_delete_elem
        """
        self._call(command.map_delete_elem, index, c.BPF_MAP_DELETE_ELEM)

    def _call(self, call: Callable[..., None], index: int, cmd: int, *rest: object) -> None:
        packed, shape, backend = self._key.pack(index), self._shape, self._handle.backend
        if any(packed):  # the kernel deletes at any index
            hint = f"no index {index!r}: a struct_ops map has one element, 0"
            raise IndexOutOfRange(_E2BIG, call="use", cmd=cmd, subject=str(shape), hint=hint, backend=backend.name)
        self._handle.call(call, buffer_of(packed), *rest)

    @property
    def state(self) -> IntEnum:
        """Whether the table is empty, registered or ready, in the kernel's words: `..._STATE_INUSE`. Raises: Closed."""
        found: IntEnum = self._common().state
        return found

    @property
    def refcount(self) -> int:
        """How many users of the table the kernel counts. Raises: Closed."""
        return int(self._common().refcnt.refs.counter)

    def _common(self) -> Any:  # noqa: ANN401  (a record as the kernel has it)
        value = self[0]
        return getattr(value, "common", value)

    def target(self, member: str) -> Target:
        """Return the options with which a program for `member` is loaded.

        `Program.load("struct_ops", instructions, **m.target("ssthresh"))`. Raises: ValueError for what is
        no member; TypeError where the map was opened without knowing its table, and for one of a module.
        """
        from rawbpf.codec.struct_ops import StructOpsCodec

        if not isinstance(self._value, StructOpsCodec):
            raise TypeError(f"{self._shape}: which table it is of is not known here")
        if self._value.table_type.btf.base is not None:
            raise TypeError(f"{self._shape}: its table is a module's, and programs for that are loaded from an object")
        names = [name for name, *_ in self._value.table_type.members]
        if member not in names:
            raise ValueError(f"struct {self._value.table.tag} has no member {member!r}; it has {', '.join(names)}")
        return {"attach_btf_id": self._value.table_type.id, "expected_attach_type": names.index(member)}


def find_table(backend: Backend, name: str, modules: Modules | None = None) -> Struct:
    """Return `struct bpf_struct_ops_NAME` of the kernel or else of one of the `modules`, for its table `name`.

    It is the value of maps that hold the table.
    Raises: BpfError (ENOENT: there is no such table, the text says which there are); NotSupported where the
    kernel has no BTF.
    """
    from rawbpf.btf import indexed
    from rawbpf.btf.types import Struct
    from rawbpf.codec.struct_ops import is_value

    found = indexed(backend.host.btf()).find(_PREFIX + name, Struct)
    for module in modules or ():
        found = found or module.own(_PREFIX + name, Struct)
    if found is None or not is_value(found):
        hint = _there_are(backend, name)
        raise BpfError(_ENOENT, call="find", subject=f"struct_ops {name!r}", hint=hint, backend=backend.name)
    return found


def _there_are(backend: Backend, name: str) -> str:
    import difflib
    import re

    from rawbpf.btf import indexed
    from rawbpf.btf.types import Struct
    from rawbpf.codec.struct_ops import is_value

    types = backend.host.btf()
    pattern = rb"\0" + _PREFIX.encode() + rb"(\w+)(?=\0)"
    names = sorted({found.decode("ascii", "replace") for found in re.findall(pattern, types)})
    tables = [n for n in names if (found := indexed(types).find(_PREFIX + n, Struct)) and is_value(found)]
    close = difflib.get_close_matches(name, tables)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"this kernel has no such table, {'but ' + ', '.join(tables) if tables else 'and no other'}{meant}"
