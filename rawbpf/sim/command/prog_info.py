"""What OBJ_GET_INFO_BY_FD tells of a program. Source: kernel/bpf/syscall.c:bpf_prog_get_info_by_fd (v6.12)."""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.debug_info import FUNC_INFO, LINE_INFO
from rawbpf.sim.error import Refused
from rawbpf.uapi.info import PROG_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.program import SimProgram

# The arrays of records, the size of a record, and whose size the caller must know if it asks for any.
_RECORD_SIZES = {"func_info": FUNC_INFO.size, "line_info": LINE_INFO.size, "jited_line_info": 8}


def prog_info(kernel: Kernel, program: SimProgram, given: bytes) -> bytes:
    """Return the info; `given` is what the caller's buffer held, which says where arrays go and how long they may be.

    Raises: Refused (EINVAL: another size of records; EFAULT).
    """
    image = bytearray(given)

    def number(name: str) -> int:
        return PROG_INFO.integer(given, name)

    def give(count: str, pointer: str, content: bytes, size: int) -> None:
        # As many as there is room for; the count says how many there are.
        room = number(count)
        PROG_INFO.set(image, count, len(content) // size)
        if room and content:
            kernel.memory.write(number(pointer), content[: room * size])

    order = kernel.host.byteorder
    functions = len(program.function_tags)
    give("nr_map_ids", "map_ids", b"".join(each.id.to_bytes(4, order) for each in program.maps), 4)
    for name, size in _RECORD_SIZES.items():
        if (number(f"nr_{name}") or number(f"{name}_rec_size")) and number(f"{name}_rec_size") != size:
            raise Refused(EINVAL)
        PROG_INFO.set(image, f"{name}_rec_size", size)
    give("xlated_prog_len", "xlated_prog_insns", program.instructions, 1)
    give("nr_jited_ksyms", "jited_ksyms", bytes(8 * functions), 8)
    give("nr_jited_func_lens", "jited_func_lens", bytes(4 * functions), 4)
    give("nr_func_info", "func_info", program.func_info, FUNC_INFO.size)
    give("nr_line_info", "line_info", program.line_info, LINE_INFO.size)
    give("nr_prog_tags", "prog_tags", b"".join(program.function_tags), 8)
    fields: dict[str, int | bytes] = {
        "type": program.type,
        "id": program.id,
        "tag": program.tag,
        "jited_prog_len": 0,
        "load_time": program.load_time,
        "created_by_uid": program.uid,
        "name": program.name,
        "ifindex": 0,
        "gpl_compatible": int(program.gpl),
        "netns_dev": 0,
        "netns_ino": 0,
        "btf_id": program.btf.id if program.btf else 0,
        "nr_jited_line_info": 0,
        "run_time_ns": 0,
        "run_cnt": 0,
        "recursion_misses": 0,
        "verified_insns": program.verified,
        "attach_btf_obj_id": _object(kernel, program),
        "attach_btf_id": program.target[0],
    }
    for name, value in fields.items():
        PROG_INFO.set(image, name, value)
    return bytes(image)


def _object(kernel: Kernel, program: SimProgram) -> int:
    # The id of the BTF that the program's target is in.
    if program.target_program is not None:
        return program.target_program.btf.id if program.target_program.btf else 0
    if not program.target[0]:
        return 0
    return next((each.id for each in kernel.btfs if each.is_kernel), 0)
