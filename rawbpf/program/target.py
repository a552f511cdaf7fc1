"""What is by name in the kernel's BTF: where programs attach, such as `tp_btf/NAME`, what they call and read.

Source: kernel/bpf/verifier.c:bpf_check_attach_target, add_kfunc_call, check_pseudo_btf_id (v6.12).
"""

from __future__ import annotations

from rawbpf.btf import indexed
from rawbpf.btf.types import Func, Typedef, Var
from rawbpf.errors import BpfError, NotFound, SpecError
from rawbpf.spec.section import BPF_TRACE_FSESSION
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import attach_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Type
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


def attach_btf_id(backend: Backend, attach_type: int, name: str) -> int:
    """Return the id, in the kernel's BTF, of what a program of this `attach_type` attaches to under `name`.

    Raises: BpfError (ENOENT: no such target, the text has close names); SpecError for an attach type
    without targets in the kernel's BTF, or without a name; NotSupported where the kernel has no BTF.
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
    found = indexed(backend.host.btf()).find(prefix + name, kind)
    if found is not None:
        return found.id
    hint = f"this kernel's BTF has no {noun} {name!r}{close_names(backend, prefix, name)}"
    raise BpfError(_ENOENT, call="find", subject=f"{noun} {name}", hint=hint, backend=backend.name)


def function_id(backend: Backend, name: str) -> int:
    """Return the id of the kernel's function `name`, for a program to call.

    Raises: NotFound (ENOENT, the text has close names); NotSupported where the kernel has no BTF.
    """
    return _id(backend, name, Func, "function")


def variable_id(backend: Backend, name: str) -> int:
    """Return the id of the kernel's variable `name`, whose address a program takes. Raises: as `function_id`."""
    return _id(backend, name, Var, "variable")


def _id(backend: Backend, name: str, kind: type[Type], noun: str) -> int:
    found = indexed(backend.host.btf()).find(name, kind)
    if found is not None:
        return found.id
    close = close_names(backend, "", name)
    hint = f"this kernel's own BTF has no {noun} {name!r}{close}; those of its modules are not looked at"
    raise NotFound(_ENOENT, call="find", subject=f"{noun} {name}", hint=hint, backend=backend.name)


def close_names(backend: Backend, prefix: str, name: str) -> str:
    """Return a half-sentence on names in the kernel's BTF that are close to `prefix` and `name`; empty for none.

    Raises: NotSupported where the kernel has no BTF.
    """
    import re

    from rawbpf.link.names import did_you_mean

    # All functions are too many to compare: those that begin alike will do.
    start = prefix or name[: max(3, len(name) * 2 // 3)]
    pattern = rb"\0" + re.escape(start.encode("utf-8", "surrogateescape")) + rb"\w*(?=\0)"
    names = {found[1:].decode("ascii", "replace") for found in re.findall(pattern, backend.host.btf())}
    return did_you_mean(name, {found.removeprefix(prefix) for found in names})
