"""The bpf command that loads BTF. What BTF says is for `rawbpf.btf`, not known here.

Source: kernel/bpf/btf.c:btf_new_fd (v6.12).
"""

from __future__ import annotations

from ctypes import sizeof

from rawbpf.syscall.command import pack
from rawbpf.syscall.error import bpf_error
from rawbpf.syscall.invoke import invoke
from rawbpf.syscall.pointer import pointer_to
from rawbpf.uapi import attr
from rawbpf.uapi.constants import BPF_F_TOKEN_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.pointer import CData
    from rawbpf.syscall.prog import LoadReport
    from rawbpf.syscall.protocol import Backend


def btf_load(
    backend: Backend,
    btf: bytes,
    *,
    log_level: int = 0,
    log_buffer: CData | None = None,
    token_fd: int = 0,
    report: LoadReport | None = None,
    subject: str = "",
) -> int:
    """Load `btf` (header, types, strings) and return its descriptor.

    With `log_level` above 0 the kernel writes into `log_buffer` why it refused. `report` receives how
    much it had to say.
    Raises: PermissionDenied (EPERM); BpfError (EINVAL; ENOSPC if the log did not fit; E2BIG above 16 MiB).
    Since: Linux 4.18. Source: kernel/bpf/btf.c:btf_new_fd
    """
    layout = attr.BTF_LOAD
    values: dict[str, int | bytes] = {
        "btf": pointer_to(btf),
        "btf_size": len(btf),
        "btf_log_buf": pointer_to(log_buffer),
        "btf_log_size": 0 if log_buffer is None else sizeof(log_buffer),
        "btf_log_level": log_level,
        "btf_flags": BPF_F_TOKEN_FD if token_fd else 0,
        "btf_token_fd": token_fd,
    }
    attr_buffer = pack(layout, values)
    result = invoke(backend, layout.cmd, attr_buffer, layout.size, blocking=True)
    if report is not None:
        report.log_true_size = layout.integer(attr_buffer, "btf_log_true_size")
    if result < 0:
        subject = subject or f"({len(btf)} bytes)"
        raise bpf_error(backend, -result, cmd=layout.cmd, subject=subject, values=values)
    return result
