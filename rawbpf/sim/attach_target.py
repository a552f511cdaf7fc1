"""What a program is loaded for: a function, tracepoint or struct of the kernel, by the id of its BTF type.

Source: kernel/bpf/verifier.c:check_attach_btf_id, bpf_check_attach_target, check_struct_ops_btf_id (v6.12).
"""

from __future__ import annotations

from errno import EINVAL

from rawbpf.btf.types import Func, Struct, Typedef
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.base import Type
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.program import SimProgram
    from rawbpf.sim.types.log import Log

_TAKE_TARGETS = (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_LSM, c.BPF_PROG_TYPE_EXT)
_SLEEPABLE_TRACING = (c.BPF_TRACE_FENTRY, c.BPF_TRACE_FEXIT, c.BPF_MODIFY_RETURN, c.BPF_TRACE_ITER)
_OF_FUNCTIONS = (*_SLEEPABLE_TRACING, c.BPF_LSM_MAC, c.BPF_LSM_CGROUP)


def check_target(kernel: Kernel, program: SimProgram, log: Log) -> None:
    """Check what the program is for, and whether it may sleep. Raises: Refused (EINVAL, ENOTSUPP)."""
    if program.type == c.BPF_PROG_TYPE_SYSCALL:
        if not program.is_sleepable:
            raise log.refused(EINVAL, "Syscall programs can only be sleepable")
        return
    if program.is_sleepable and not _may_sleep(program):
        kinds = "fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops"
        raise log.refused(EINVAL, f"Only {kinds} programs can be sleepable")
    if program.type == c.BPF_PROG_TYPE_STRUCT_OPS:
        _check_struct(kernel, program, log)
    elif program.type in _TAKE_TARGETS:
        _check_kernel_target(kernel, program, log)


def _may_sleep(program: SimProgram) -> bool:
    if program.type == c.BPF_PROG_TYPE_TRACING:
        return program.expected_attach_type in _SLEEPABLE_TRACING
    return program.type in (c.BPF_PROG_TYPE_LSM, c.BPF_PROG_TYPE_KPROBE, c.BPF_PROG_TYPE_STRUCT_OPS)


def _check_struct(kernel: Kernel, program: SimProgram, log: Log) -> None:
    number = program.target[0]
    types = kernel.host.types()
    if not number or types is None:
        raise Refused(ENOTSUPP)
    found = _find(kernel, number)
    if not isinstance(found, Struct) or types.find(f"bpf_struct_ops_{found.name}", Struct) is None:
        raise log.refused(ENOTSUPP, f"attach_btf_id {number} is not a supported struct")
    if program.expected_attach_type >= len(found.members):
        text = f"attach to invalid member idx {program.expected_attach_type} of struct {found.name}"
        raise log.refused(EINVAL, text)
    if not program.gpl:
        raise log.refused(EINVAL, "struct ops programs must have a GPL compatible license")


def _check_kernel_target(kernel: Kernel, program: SimProgram, log: Log) -> None:
    number = program.target[0]
    if not number:
        raise log.refused(EINVAL, "Tracing programs must provide btf_id")
    if program.target_program is not None:
        _check_program_target(program.target_program, number, log)
        return
    found = _find(kernel, number)
    if found is None:
        raise log.refused(EINVAL, f"attach_btf_id {number} is invalid")
    if not found.name:
        raise log.refused(EINVAL, f"attach_btf_id {number} doesn't have a name")
    if program.expected_attach_type == c.BPF_TRACE_RAW_TP:
        if not isinstance(found, Typedef):
            raise log.refused(EINVAL, f"attach_btf_id {number} is not a typedef")
        if not found.name.startswith("btf_trace_"):
            raise log.refused(EINVAL, f"attach_btf_id {number} points to wrong type name {found.name}")
    elif program.type == c.BPF_PROG_TYPE_EXT or program.expected_attach_type not in _OF_FUNCTIONS:
        raise Refused(EINVAL)
    elif not isinstance(found, Func):
        raise log.refused(EINVAL, f"attach_btf_id {number} is not a function")
    elif program.type == c.BPF_PROG_TYPE_LSM:
        if not program.gpl:
            raise log.refused(EINVAL, "LSM programs must have a GPL compatible license")
        if not found.name.startswith("bpf_lsm_"):
            text = f"attach_btf_id {number} points to wrong type name {found.name}"
            raise log.refused(EINVAL, text)


def _check_program_target(target: SimProgram, number: int, log: Log) -> None:
    from rawbpf.sim.btf import LoadedBtf
    from rawbpf.sim.types import record as r

    if not isinstance(target.btf, LoadedBtf):
        text = "FENTRY/FEXIT program can only be attached to another program annotated with BTF"
        raise log.refused(EINVAL, text)
    found = target.btf.records.get(number)
    if found is None:
        raise log.refused(EINVAL, f"attach_btf_id {number} is invalid")
    if found.kind != r.FUNC:
        raise log.refused(EINVAL, f"attach_btf_id {number} is not a function")


def _find(kernel: Kernel, number: int) -> Type | None:
    types = kernel.host.types()
    return types[number] if types is not None and 0 < number < len(types) else None
