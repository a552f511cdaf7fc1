"""What `/proc/self/fdinfo` says of a descriptor, for what info structs lack.

Source: kernel/bpf/syscall.c:bpf_map_show_fdinfo, bpf_prog_show_fdinfo; kernel/bpf/btf.c:bpf_btf_show_fdinfo (v6.12).
"""

from __future__ import annotations

from rawbpf.sim.btf import KernelBtf, LoadedBtf
from rawbpf.sim.map.base import SimMap
from rawbpf.sim.map.prog_array import SimProgArray
from rawbpf.sim.map.shape import rounded
from rawbpf.sim.program import SimProgram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.file import File
    from rawbpf.sim.release import Release

# struct bpf_prog, before the instructions.
_PROG = 56
_O_RDONLY, _O_WRONLY, _O_RDWR = range(3)


def describe(file: File, release: Release, page_size: int) -> str:
    """Return the text of the file's fdinfo."""
    access = _O_RDWR if file.may_read and file.may_write else _O_RDONLY if file.may_read else _O_WRONLY
    if isinstance(file.content, (LoadedBtf, KernelBtf)):
        access = _O_RDONLY
    fields: dict[str, object] = {"pos": 0, "flags": f"02{access:06o}", "mnt_id": 0, "ino": 0}
    content = file.content
    if isinstance(content, SimMap):
        fields |= {
            "map_type": content.type,
            "key_size": content.key_size,
            "value_size": content.value_size,
            "max_entries": content.max_entries,
            "map_flags": hex(content.flags),
            "map_extra": hex(content.map_extra),
            "memlock": content.memory_usage,
            "map_id": content.id,
            "frozen": int(content.frozen),
        }
        if isinstance(content, SimProgArray) and content.owner.prog_type is not None:
            fields |= {"owner_prog_type": content.owner.prog_type, "owner_jited": 1}
    elif isinstance(content, SimProgram):
        fields |= {
            "prog_type": content.type,
            "prog_jited": 1,
            "prog_tag": content.tag.hex(),
            "memlock": rounded(_PROG + len(content.instructions), page_size),
            "prog_id": content.id,
            "run_time_ns": 0,
            "run_cnt": 0,
            "recursion_misses": 0,
            "verified_insns": content.verified,
        }
    elif isinstance(content, (LoadedBtf, KernelBtf)):
        fields["btf_id"] = content.id
    return "".join(f"{name}:\t{value}\n" for name, value in fields.items() if release.shows(name))
