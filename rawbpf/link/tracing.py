"""Programs that know their target by BTF since they were loaded: `tp_btf/` sections, and fentry and fexit.

Nothing is left to say when attaching but a cookie.
Source: kernel/bpf/syscall.c:bpf_tracing_prog_attach, bpf_raw_tp_link_attach (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.link.base import Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link
from rawbpf.syscall.current import current
from rawbpf.uapi.constants import BPF_PROG_TYPE_EXT, BPF_PROG_TYPE_LSM, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

_EINVAL = 22


def attach_tracing(
    program: HasFileno,
    cookie: int = 0,
    *,
    target: str = "",
    attach_type: int = BPF_TRACE_RAW_TP,
    backend: Backend | None = None,
) -> Link:
    """Attach `program` where it was loaded for, and return the link.

    `program`: of type tracing or lsm, and made with `backend` (None: the current one). `cookie`: 64
    bits that bpf_get_attach_cookie() gives the program; it needs `attach_type`, the one the program
    was loaded with. `target`: what messages call the place.
    Raises: BpfError (EBUSY: it is attached already; EINVAL: a program of another type);
    PermissionDenied (EPERM).
    Since: Linux 5.5; `cookie` since 5.19. Source: kernel/bpf/syscall.c:bpf_tracing_prog_attach
    """
    if backend is None:
        backend = current()
    kernel = backend
    target = target or "tracing program"

    def attach() -> Link:
        if cookie:
            fd = link.link_create(
                kernel, prog_fd=program.fileno(), attach_type=attach_type, tracing_cookie=cookie, subject=target
            )
        else:
            fd = link.raw_tracepoint_open(kernel, program.fileno(), subject=target)
        return Link(kernel, fd, target)

    try:
        return owned(attach)
    except BpfError as error:
        from rawbpf.syscall.program_words import wrong_type

        types = (BPF_PROG_TYPE_TRACING, BPF_PROG_TYPE_LSM, BPF_PROG_TYPE_EXT)
        if error.errno == _EINVAL:
            error.hint = wrong_type(kernel, program.fileno(), types) or error.hint
        raise
