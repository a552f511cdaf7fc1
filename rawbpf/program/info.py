"""What the kernel tells of a program: `struct bpf_prog_info`.

Source: include/uapi/linux/bpf.h:struct bpf_prog_info, kernel/bpf/syscall.c:bpf_prog_get_info_by_fd (v6.12).
"""

from __future__ import annotations

from rawbpf.syscall import obj
from rawbpf.syscall.current import current
from rawbpf.syscall.prog import prog_info
from rawbpf.uapi.info import PROG_INFO
from rawbpf.uapi.names import prog_type_name, prog_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.enums import ProgType

_ENOENT = 2


class ProgramInfo:
    """A program as it was when asked; holds no descriptor. Sizes are bytes.

    `id type_number name tag map_ids btf_id load_time created_by_uid gpl_compatible`; `tag` is the
    hash of its instructions in hex, `load_time` nanoseconds since boot, `map_ids` the maps that it
    uses. `xlated_size` and `jited_size` are its code's sizes after verification and as native code,
    `verified_insns` how many steps the verifier took (0 before Linux 5.16). `run_time_ns`, `run_cnt`
    count while BPF statistics are enabled. `attach_btf_id` is the target of a program that has it by BTF.
    """

    __slots__ = (
        "attach_btf_id",
        "attach_btf_obj_id",
        "btf_id",
        "created_by_uid",
        "gpl_compatible",
        "id",
        "jited_size",
        "load_time",
        "map_ids",
        "name",
        "recursion_misses",
        "run_cnt",
        "run_time_ns",
        "tag",
        "type_number",
        "verified_insns",
        "xlated_size",
    )

    def __init__(self, raw: bytes, map_ids: tuple[int, ...]) -> None:
        field = PROG_INFO.unpack(raw)
        self.id: int = field["id"]
        self.type_number: int = field["type"]
        self.name: str = field["name"].rstrip(b"\0").decode("ascii", "backslashreplace")
        self.tag: str = field["tag"].hex()
        self.map_ids = map_ids
        self.btf_id: int = field["btf_id"]
        self.load_time: int = field["load_time"]
        self.created_by_uid: int = field["created_by_uid"]
        self.gpl_compatible = field["gpl_compatible"] != 0
        self.xlated_size: int = field["xlated_prog_len"]
        self.jited_size: int = field["jited_prog_len"]
        self.verified_insns: int = field["verified_insns"]
        self.run_time_ns: int = field["run_time_ns"]
        self.run_cnt: int = field["run_cnt"]
        self.recursion_misses: int = field["recursion_misses"]
        self.attach_btf_obj_id: int = field["attach_btf_obj_id"]
        self.attach_btf_id: int = field["attach_btf_id"]

    @property
    def type(self) -> ProgType | int:
        """The program type; a plain int where this release does not know it."""
        return type_of(self.type_number)

    def __repr__(self) -> str:
        return f"<ProgramInfo {self.id}: {self.name!r} ({prog_type_name(self.type_number)}), tag {self.tag}>"


def type_of(number: int) -> ProgType | int:
    """Return the enum member for a program type; the number itself where this release does not know it."""
    from rawbpf.uapi.enums import ProgType  # enums cost milliseconds: only who asks pays

    try:
        return ProgType(number)
    except ValueError:
        return number


def read_info(backend: Backend, fd: int) -> ProgramInfo:
    """Ask the kernel about the program behind `fd`. Raises: Closed (EBADF); BpfError (EINVAL: no program)."""
    return ProgramInfo(*prog_info(backend, fd))


def programs(name: str | None = None, type: str | int | None = None) -> list[ProgramInfo]:  # noqa: A002  (a filter)
    """Return what the kernel tells of every program, or of those with that name and type; holds no descriptor.

    `type`: a name such as "xdp", or the kernel's number. Raises: PermissionDenied (EPERM: needs
    CAP_SYS_ADMIN); ValueError for an unknown type name. Since: Linux 4.13.
    """
    number = prog_type_number(type) if isinstance(type, str) else type
    return [info for info in infos(current()) if name in (None, info.name) and number in (None, info.type_number)]


def infos(backend: Backend) -> Iterator[ProgramInfo]:
    """Yield what the kernel tells of every program. Raises: PermissionDenied (EPERM: needs CAP_SYS_ADMIN)."""
    for fd in obj.every(backend, obj.prog_get_next_id, obj.prog_get_fd_by_id):
        yield read_info(backend, fd)
