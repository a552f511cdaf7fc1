"""What the kernel and its modules have by name: where programs attach, such as `tp_btf/NAME`, what they call and read.

Source: kernel/bpf/verifier.c:bpf_check_attach_target, add_kfunc_call, check_pseudo_btf_id (v6.12).
"""

from __future__ import annotations

from rawbpf.btf import indexed
from rawbpf.btf.types import Func, Typedef, Var
from rawbpf.errors import BpfError, NotFound, SpecError
from rawbpf.map.btf import KERNEL
from rawbpf.map.module import find
from rawbpf.spec.section import BPF_TRACE_FSESSION
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import attach_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.types import Type
    from rawbpf.map.module import Modules
    from rawbpf.syscall.protocol import Backend

_ENOENT = 2

# By expected_attach_type: what the kernel puts before the name, and what users call it.
_TARGETS = {
    c.BPF_TRACE_RAW_TP: ("btf_trace_", "tracepoint"),
    c.BPF_TRACE_FENTRY: ("", "function"),
    c.BPF_TRACE_FEXIT: ("", "function"),
    BPF_TRACE_FSESSION: ("", "function"),
    c.BPF_MODIFY_RETURN: ("", "function"),
    c.BPF_LSM_MAC: ("bpf_lsm_", "LSM hook"),
    c.BPF_LSM_CGROUP: ("bpf_lsm_", "LSM hook"),
    c.BPF_TRACE_ITER: ("bpf_iter_", "iterator"),
}


def attach_target(backend: Backend, attach_type: int, name: str, modules: Modules) -> tuple[int, int]:
    """Return the id of what a program of this `attach_type` attaches to under `name`, and whose BTF that is of.

    That is a descriptor, which is that of `modules`; 0 is the kernel's own BTF, which is searched first. With a module
    in front of `name`, as in `nf_conntrack:nf_conntrack_in`, only that one is.

    Raises: BpfError (ENOENT: no such target, the text has close names); SpecError for an attach type
    without targets in the kernel's BTF, or without a name; NotSupported where the kernel has no BTF.
    Source: tools/lib/bpf/libbpf.c:find_kernel_btf_id (v6.12)
    """
    word = attach_type_name(attach_type)
    if not attach_type:
        raise SpecError(
            "a program that takes another's place (freplace) is loaded for a function of that: give Program.load its "
            "attach_prog_fd, and as attach_btf_id the function's id in its BTF"
        )
    if attach_type not in _TARGETS:
        raise SpecError(f"programs of attach type {word} have no target in the kernel's BTF: give attach_btf_id")
    prefix, noun = _TARGETS[attach_type]
    if not name:
        raise SpecError(f"a program of attach type {word} is loaded for one {noun}: name it, as in tp_btf/sched_switch")
    kind = Typedef if attach_type == c.BPF_TRACE_RAW_TP else Func
    holder, _, plain = name.rpartition(":")
    if holder in ("", KERNEL):
        found: Type | None = indexed(backend.host.btf()).find(prefix + plain, kind)
        if found is not None:
            return found.id, 0
    for module in modules:
        if holder in ("", module.name):
            found = module.own(prefix + plain, kind)
            if found is not None:
                return found.id, modules.fd(module)
    if holder not in ("", KERNEL, *(module.name for module in modules)):
        hint = f"no module {holder!r} is loaded that has BTF{modules.unseen}"
    else:
        whose = {"": "this kernel's BTF", KERNEL: "this kernel's own BTF"}.get(holder, f"the BTF of module {holder!r}")
        hint = f"{whose} has no {noun} {plain!r}{modules.unseen}{close_names(backend, prefix, plain, modules)}"
    raise BpfError(_ENOENT, call="find", subject=f"{noun} {name}", hint=hint, backend=backend.name)


def with_symbol(backend: Backend, instruction: Instruction, name: str, modules: Modules) -> Instruction:
    """Return `instruction`, which calls the kernel's function `name` or loads its variable's address, with its id.

    Raises: NotFound (ENOENT, the text has close names); NotSupported where the kernel has no BTF; BpfError.
    """
    kind, noun = (Func, "function") if instruction.is_call else (Var, "variable")
    found, module = find(name, kind, indexed(backend.host.btf()), modules)
    if found is None:
        raise no_symbol(backend, name, noun, modules)
    if instruction.is_call:
        offset = 0 if module is None else modules.index(module)
        return instruction.replace(imm=found.id, offset=offset, reference=False)
    fd = 0 if module is None else modules.fd(module)
    return instruction.replace(imm=fd << 32 | found.id, reference=False)


def no_symbol(backend: Backend, name: str, noun: str, modules: Modules) -> NotFound:
    """Return the error for a function or variable, as `noun` says, that neither the kernel nor a module has."""
    hint = f"neither the kernel's BTF nor that of a module has a {noun} {name!r}{modules.unseen}"
    hint += close_names(backend, "", name, modules)
    return NotFound(_ENOENT, call="find", subject=f"{noun} {name}", hint=hint, backend=backend.name)


def close_names(backend: Backend, prefix: str, name: str, modules: Modules) -> str:
    """Return a half-sentence on names in BTF of the kernel that are close to `prefix` and `name`; empty for none.

    Raises: NotSupported where the kernel has no BTF.
    """
    import re

    from rawbpf.link.names import did_you_mean

    # All functions are too many to compare: those that begin alike will do.
    start = prefix or name[: max(3, len(name) * 2 // 3)]
    pattern = rb"\0" + re.escape(start.encode("utf-8", "surrogateescape")) + rb"\w*(?=\0)"
    # Of a module the strings begin with its first name.
    texts: list[memoryview | bytes] = [backend.host.btf(), *(b"\0" + module.types.strings for module in modules)]
    names = {found[1:].decode("ascii", "replace") for text in texts for found in re.findall(pattern, text)}
    return did_you_mean(name, {found.removeprefix(prefix) for found in names})
