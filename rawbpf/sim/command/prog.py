"""PROG_LOAD and what concerns programs. Source: kernel/bpf/syscall.c:bpf_prog_load (v6.12)."""

from __future__ import annotations

from errno import E2BIG, EINVAL

from rawbpf.sim.command.map import object_name
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.program import SimProgram
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import PROG_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

_LD_IMM64 = 0x18
_INSTRUCTION = 8


def load(kernel: Kernel, attr: Attr) -> int:
    """PROG_LOAD: take the program over as it is, with a reference to each map that it names."""
    attr.check(PROG_LOAD.size)
    count = attr.number(PROG_LOAD, "insn_cnt")
    if not 0 < count <= 1_000_000:
        raise Refused(E2BIG)
    if not kernel.release.has_prog_type(attr.number(PROG_LOAD, "prog_type")):
        raise Refused(EINVAL)
    license_text = kernel.memory.string(attr.number(PROG_LOAD, "license"), 128)
    code = kernel.memory.read(attr.number(PROG_LOAD, "insns"), count * _INSTRUCTION)
    program = SimProgram(
        attr.number(PROG_LOAD, "prog_type"),
        attr.number(PROG_LOAD, "expected_attach_type"),
        code,
        object_name(attr.image[48:64]),
        license_text in _GPL,
    )
    kernel.programs.add(program)
    return kernel.files.open(program)


def refuse(kernel: Kernel, attr: Attr) -> int:
    """Refuse what would attach or run a program: a simulator never pretends to. Raises: Refused (ENOTSUPP)."""
    raise Refused(ENOTSUPP)


# Source: include/linux/license.h:license_is_gpl_compatible (v6.12)
_GPL = (b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL")

COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_PROG_LOAD: load,
    c.BPF_LINK_CREATE: refuse,
    c.BPF_PROG_ATTACH: refuse,
    c.BPF_RAW_TRACEPOINT_OPEN: refuse,
    c.BPF_PROG_TEST_RUN: refuse,
}
