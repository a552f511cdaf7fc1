"""PROG_LOAD and what is done with loaded programs without running them.

Order matters, as for maps. Source: kernel/bpf/syscall.c:bpf_prog_load, kernel/bpf/verifier.c:bpf_check (v6.12).
"""

from __future__ import annotations

import socket
from errno import E2BIG, EINVAL, ENOENT, ENOMEM, EOPNOTSUPP

from rawbpf.sim import attach
from rawbpf.sim.attach_target import check_target
from rawbpf.sim.btf import KernelBtf, LoadedBtf
from rawbpf.sim.code import SIZE, Code
from rawbpf.sim.command.map import object_name, opened
from rawbpf.sim.command.token import check_token
from rawbpf.sim.debug_info import DebugInfo
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.cpumap import SimCpuMap
from rawbpf.sim.map.devmap import SimDevMap
from rawbpf.sim.map.prog_array import SimProgArray
from rawbpf.sim.program import SimProgram, program_of
from rawbpf.sim.types.log import Log
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import PROG_BIND_MAP, PROG_LOAD, PROG_STREAM_READ_BY_FD
from rawbpf.uapi.names import prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

# The flags, and the release that brought each.
_FLAGS = (
    (c.BPF_F_STRICT_ALIGNMENT, "4.12"),
    (c.BPF_F_ANY_ALIGNMENT, "5.0"),
    (c.BPF_F_TEST_RND_HI32, "5.3"),
    (c.BPF_F_TEST_STATE_FREQ, "5.4"),
    (c.BPF_F_SLEEPABLE, "5.10"),
    (c.BPF_F_XDP_HAS_FRAGS, "5.18"),
    (c.BPF_F_XDP_DEV_BOUND_ONLY, "6.3"),
    (c.BPF_F_TEST_REG_INVARIANTS, "6.8"),
    (c.BPF_F_TOKEN_FD, "6.9"),
)
_WITH_BTF_ID = (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_LSM, c.BPF_PROG_TYPE_STRUCT_OPS, c.BPF_PROG_TYPE_EXT)
_WITH_PROGRAM = (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_EXT)
_MAX_BTF_ID = 0x000FFFFF
_TRUE_SIZE = 140
_LICENSE_SIZE = 127
# Source: include/linux/slab.h:KMALLOC_MAX_CACHE_SIZE; include/linux/verification.h:system_keyring_id_check (v6.18)
_SIGNATURE_SIZE = 8192
_INT_MAX = (1 << 31) - 1
_KEYRINGS = (0, 1, 2)
# Source: include/linux/license.h:license_is_gpl_compatible (v6.12)
_GPL = (b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL")


def load(kernel: Kernel, attr: Attr) -> int:
    """PROG_LOAD: return a descriptor of the program, which is held as it is."""
    attr.check(kernel.release.end(PROG_LOAD))
    kind = attr.number(PROG_LOAD, "prog_type")
    flags = attr.number(PROG_LOAD, "prog_flags")
    if flags & ~sum(flag for flag, first in _FLAGS if kernel.release.reached(first)):
        raise Refused(EINVAL)
    if flags & c.BPF_F_TOKEN_FD:
        check_token(kernel, attr.number(PROG_LOAD, "prog_token_fd"))
    if not kernel.release.reached("6.5"):
        # The license was read first.
        kernel.memory.string(attr.number(PROG_LOAD, "license"), _LICENSE_SIZE)
    count = attr.number(PROG_LOAD, "insn_cnt")
    if not 0 < count <= c.BPF_COMPLEXITY_LIMIT_INSNS:
        raise Refused(E2BIG)
    attach_type = attach.expected(kind, attr.number(PROG_LOAD, "expected_attach_type"))
    target, target_program, target_btf = _target(kernel, attr, kind)
    if not attach.may_expect(kernel.release, kind, attach_type):
        raise Refused(EINVAL)
    image = kernel.memory.read(attr.number(PROG_LOAD, "insns"), count * SIZE)
    license_text = kernel.memory.string(attr.number(PROG_LOAD, "license"), _LICENSE_SIZE)
    _check_signature(kernel, attr)
    _check_device(attr, kind, flags)
    if not _is_known(kernel, kind):
        raise Refused(EINVAL)
    program = SimProgram(kind, attach_type, object_name(attr.image[48:64]), license_text in _GPL)
    program.is_sleepable = bool(flags & c.BPF_F_SLEEPABLE)
    program.has_frags = bool(flags & c.BPF_F_XDP_HAS_FRAGS)
    program.target, program.target_program = target, target_program
    if target_btf is not None:
        program.btfs.append(target_btf)
    _examine(kernel, attr, program, image)
    kernel.programs.add(program)
    return kernel.files.open(program)


def _check_signature(kernel: Kernel, attr: Attr) -> None:
    # This kernel has no means to verify one, and no keys but the kernel's own.
    # Source: kernel/bpf/syscall.c:bpf_prog_verify_signature (v6.18).
    address, size = attr.number(PROG_LOAD, "signature"), attr.number(PROG_LOAD, "signature_size")
    if not address:
        return
    if size > _SIGNATURE_SIZE or attr.number(PROG_LOAD, "keyring_id") not in _KEYRINGS:
        raise Refused(EINVAL)
    try:
        kernel.memory.read(address, size)
    except Refused:
        raise Refused(ENOMEM) from None
    raise Refused(EOPNOTSUPP)


def _is_known(kernel: Kernel, kind: int) -> bool:
    # A number without a name is none of a program type.
    return prog_type_name(kind).isidentifier() and kind > 0 and kernel.release.has_prog_type(kind)


def _target(kernel: Kernel, attr: Attr, kind: int) -> tuple[tuple[int, int], SimProgram | None, KernelBtf | None]:
    # The BTF id and the object that the program is for; the program, or BTF, that this object is.
    # Source: bpf_prog_load, bpf_prog_load_check_attach.
    number = attr.number(PROG_LOAD, "attach_btf_id")
    fd = attr.number(PROG_LOAD, "attach_prog_fd")
    program: SimProgram | None = None
    btf: KernelBtf | None = None
    if fd:
        try:
            content = kernel.files.get(fd, (SimProgram, LoadedBtf, KernelBtf)).content
        except Refused:
            raise Refused(EINVAL) from None
        if isinstance(content, LoadedBtf):
            raise Refused(ENOTSUPP)
        program = content if isinstance(content, SimProgram) else None
        btf = content if isinstance(content, KernelBtf) else None
    elif number and kernel.host.types() is None:
        raise Refused(EINVAL)
    if number and (number > _MAX_BTF_ID or kind not in _WITH_BTF_ID):
        raise Refused(EINVAL)
    if (btf is not None and not number) or (program is not None and kind not in _WITH_PROGRAM):
        raise Refused(EINVAL)
    return (number, program.id if program is not None else 0), program, btf


def _check_device(attr: Attr, kind: int, flags: int) -> None:
    # Programs for one device: no device here takes them. Source: kernel/bpf/offload.c:bpf_prog_dev_bound_init.
    index = attr.number(PROG_LOAD, "prog_ifindex")
    if not index:
        return
    if kind not in (c.BPF_PROG_TYPE_XDP, c.BPF_PROG_TYPE_SCHED_CLS):
        raise Refused(EINVAL)
    if flags & ~(c.BPF_F_XDP_DEV_BOUND_ONLY | c.BPF_F_XDP_HAS_FRAGS):
        raise Refused(EINVAL)
    try:
        socket.if_indextoname(index)
    except (OSError, OverflowError):
        raise Refused(EINVAL) from None
    raise Refused(EOPNOTSUPP)


def _examine(kernel: Kernel, attr: Attr, program: SimProgram, image: bytes) -> None:
    # What bpf_check does beside verifying; the log is handed out in any case.
    level, address, size = (attr.number(PROG_LOAD, f"log_{field}") for field in ("level", "buf", "size"))
    log = Log(level, address, size)
    refused = 0
    processed = 0
    code = Code(kernel, program, image, log)
    debug = DebugInfo(kernel, attr, program, log)
    fd_array = attr.number(PROG_LOAD, "fd_array")
    try:
        code.use_array(fd_array, attr.number(PROG_LOAD, "fd_array_cnt"))
        debug.open()
        code.find_functions()
        code.check_jumps()
        debug.check(code)
        code.resolve(fd_array)
        if attr.number(PROG_LOAD, "core_relo_cnt"):
            # The kernel's own CO-RE, which only its built-in objects use.
            raise Refused(EOPNOTSUPP)
        check_target(kernel, program, log)
        processed = 1
        code.check_helpers()
        processed = len(code.slots)
    except Refused as error:
        refused = error.errno
    if level & c.BPF_LOG_STATS:
        log.write("verification time 0 usec")
        log.write("stack depth 0")
    limit = f"(limit {c.BPF_COMPLEXITY_LIMIT_INSNS})"
    log.write(f"processed {processed} insns {limit} max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0")
    needed, undelivered = log.deliver(kernel.memory)
    if kernel.release.reached("6.4") and attr.reaches(_TRUE_SIZE + 4):
        attr.store(_TRUE_SIZE, "=I", needed)
    if undelivered or refused:
        raise Refused(undelivered or refused)
    # Source: kernel/bpf/core.c:bpf_check_tail_call.
    for each in program.maps:
        if isinstance(each, SimProgArray | SimDevMap | SimCpuMap) and not each.owner.admits(program):
            raise Refused(EINVAL)


def bind_map(kernel: Kernel, attr: Attr) -> int:
    """PROG_BIND_MAP: let a program keep a map alive. Source: bpf_prog_bind_map."""
    attr.check(PROG_BIND_MAP.size)
    prog_fd, map_fd, flags = attr.take("=III")
    if flags:
        raise Refused(EINVAL)
    program = program_of(kernel, prog_fd)
    _, target = opened(kernel, map_fd)
    if not any(each is target for each in program.maps):
        program.maps.append(target)
    return 0


def read_stream(kernel: Kernel, attr: Attr) -> int:
    """PROG_STREAM_READ_BY_FD: what `Simulator.print` left there. Source: prog_stream_read."""
    attr.check(PROG_STREAM_READ_BY_FD.size)
    streams = program_of(kernel, attr.number(PROG_STREAM_READ_BY_FD, "prog_fd")).streams
    stream = attr.number(PROG_STREAM_READ_BY_FD, "stream_id")
    if stream not in streams:
        raise Refused(ENOENT)
    size = attr.number(PROG_STREAM_READ_BY_FD, "stream_buf_len")
    if size > _INT_MAX:
        raise Refused(EINVAL)
    text = streams.read(stream, size)
    if text:
        kernel.memory.write(attr.number(PROG_STREAM_READ_BY_FD, "stream_buf"), text)
    return len(text)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_PROG_LOAD: load,
    c.BPF_PROG_BIND_MAP: bind_map,
    c.BPF_PROG_STREAM_READ_BY_FD: read_stream,
}
