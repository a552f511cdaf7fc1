"""What the kernel tells of links: `struct bpf_link_info`, whose second half depends on the type.

Source: include/uapi/linux/bpf.h:struct bpf_link_info, kernel/bpf/syscall.c:bpf_link_get_info_by_fd (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import LINK_INFO, LINK_INFOS
from rawbpf.uapi.names import attach_type_name, link_type_name, link_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.enums import LinkType

_ENOENT, _EAGAIN = 2, 11
_SIZE = 256
_NAME_SIZE = 512
_GONE = "(none: it is gone)"
# Where the name's pointer and its size stand, by link type. Perf events share one place, whatever they are.
_NAMES = {
    c.BPF_LINK_TYPE_RAW_TRACEPOINT: ("tp_name", "tp_name_len"),
    c.BPF_LINK_TYPE_ITER: ("target_name", "target_name_len"),
    c.BPF_LINK_TYPE_PERF_EVENT: ("tracepoint_tp_name", "tracepoint_name_len"),
}
# enum bpf_perf_event_type (since Linux 6.6): what it is, and the prefix of its fields.
_PERF_KINDS = {
    c.BPF_PERF_EVENT_UPROBE: ("uprobe", "uprobe_"),
    c.BPF_PERF_EVENT_URETPROBE: ("uretprobe", "uprobe_"),
    c.BPF_PERF_EVENT_KPROBE: ("kprobe", "kprobe_"),
    c.BPF_PERF_EVENT_KRETPROBE: ("kretprobe", "kprobe_"),
    c.BPF_PERF_EVENT_TRACEPOINT: ("tracepoint", "tracepoint_"),
    c.BPF_PERF_EVENT_EVENT: ("perf event", "event_"),
}


class LinkInfo:
    """A link as it was when asked; holds no descriptor.

    `id type_number prog_id`; `name` of what it is attached to, where the kernel tells one (a
    tracepoint, a function, a path); `kind` is the type in words; `fields` are the numbers that only
    this type has, by the kernel's names, `cookie` among them.
    """

    __slots__ = ("fields", "id", "kind", "name", "prog_id", "type_number")

    def __init__(
        self, type_number: int, link_id: int, prog_id: int, kind: str, name: str, fields: dict[str, int]
    ) -> None:
        self.type_number = type_number
        self.id = link_id
        self.prog_id = prog_id
        self.kind = kind
        self.name = name
        self.fields = fields

    @property
    def type(self) -> LinkType | int:
        """The link type; a plain int where this release does not know it."""
        from rawbpf.uapi.enums import LinkType

        try:
            return LinkType(self.type_number)
        except ValueError:
            return self.type_number

    @property
    def cookie(self) -> int:
        """The cookie that the program gets; 0 where there is none, or the kernel does not tell."""
        return self.fields.get("cookie", 0)

    def describe(self) -> str:
        """Return what it is attached to in words, as `tracepoint sched_switch`."""
        if self.name:
            return f"{self.kind} {self.name}"
        if "target_btf_id" in self.fields:
            word = attach_type_name(self.fields.get("attach_type", 0))
            return f"{word} of BTF {self.fields.get('target_obj_id', 0)}, type {self.fields['target_btf_id']}"
        # Names would be those of this thread's namespace, which may not be the link's.
        if "ifindex" in self.fields:
            return f"{self.kind} interface {self.fields['ifindex'] or _GONE}"
        if "cgroup_id" in self.fields:
            return f"{attach_type_name(self.fields['attach_type'])} of cgroup {self.fields['cgroup_id'] or _GONE}"
        if "map_id" in self.fields:
            what = attach_type_name(self.fields["attach_type"]) if "attach_type" in self.fields else self.kind
            return f"{what} of map {self.fields['map_id'] or _GONE}"
        return self.kind

    def __repr__(self) -> str:
        program = f", program {self.prog_id}" if self.prog_id else ""
        return f"<LinkInfo {self.id}: {self.describe()}{program}>"


def read_info(backend: Backend, fd: int) -> LinkInfo:
    """Ask the kernel about the link behind `fd`. Raises: Closed (EBADF); BpfError (EINVAL: it is no link)."""
    raw = obj.obj_get_info_by_fd(backend, fd, _SIZE)
    link_type = LINK_INFO.unpack(raw)["type"]
    layout = LINK_INFOS.get(link_type, LINK_INFO)
    names = _NAMES.get(link_type)
    name = ""
    if names is not None:
        # The first answer says whether there is a name; the second call says where it shall go.
        buffer = ctypes.create_string_buffer(_NAME_SIZE)
        request = ctypes.create_string_buffer(_SIZE)
        if layout.unpack(raw).get("perf_type", 0) != c.BPF_PERF_EVENT_EVENT:
            layout.set(request, names[0], ctypes.addressof(buffer))
            layout.set(request, names[1], _NAME_SIZE)
        obj.obj_fill_info_by_fd(backend, fd, request)
        raw, name = request.raw, buffer.value.decode("utf-8", "surrogateescape")
    values = layout.unpack(raw)
    head = [values.pop(field) for field in ("type", "id", "prog_id")]
    kind = link_type_name(link_type).replace("_", " ")
    if link_type == c.BPF_LINK_TYPE_PERF_EVENT:
        kind, prefix = _PERF_KINDS.get(values["perf_type"], (kind, "?"))
        values = {field.removeprefix(prefix): value for field, value in values.items() if field.startswith(prefix)}
    for pointer in (
        "name",
        "name_len",
        "tp_name",
        "tp_name_len",
        "func_name",
        "file_name",
        "target_name",
        "target_name_len",
    ):
        values.pop(pointer, None)
    return LinkInfo(head[0], head[1], head[2], kind, name, values)


def links(type: str | int | None = None) -> list[LinkInfo]:  # noqa: A002  (reads as a filter)
    """Return what the kernel tells of every link, or of those with that type; holds no descriptor.

    `type`: a name such as "perf_event", or the kernel's number. Raises: PermissionDenied (EPERM:
    needs CAP_SYS_ADMIN); ValueError for an unknown type name. Since: Linux 5.8.
    """
    number = link_type_number(type) if isinstance(type, str) else type
    return [info for info in infos(current()) if number in (None, info.type_number)]


def infos(backend: Backend) -> Iterator[LinkInfo]:
    """Yield what the kernel tells of every link. Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN)."""
    for fd in obj.every(backend, obj.link_get_next_id, obj.link_get_fd_by_id):
        yield read_info(backend, fd)
