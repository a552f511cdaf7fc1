"""Programs on raw tracepoints, which hand over the tracepoint's own arguments: `raw_tp/` sections.

A raw tracepoint goes by the event's name alone, without its category.
Source: kernel/bpf/syscall.c:bpf_raw_tracepoint_open (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.link.base import Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link
from rawbpf.syscall.current import current
from rawbpf.uapi.constants import BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

_ENOENT, _EINVAL = 2, 22


def attach_raw_tracepoint(program: HasFileno, name: str, cookie: int = 0, *, backend: Backend | None = None) -> Link:
    """Attach `program` to the raw tracepoint `name`, such as `sched_switch`, and return the link.

    `program`: of type raw_tracepoint or raw_tracepoint_writable, and made with `backend` (None: the
    current one). `cookie`: 64 bits that bpf_get_attach_cookie() gives the program.
    Raises: BpfError (ENOENT: no such tracepoint, the text has close names; EINVAL: a program of
    another type); PermissionDenied (EPERM).
    Since: Linux 4.17; `cookie` since 6.9. Source: kernel/bpf/syscall.c:bpf_raw_tp_link_attach
    """
    if backend is None:
        backend = current()
    kernel = backend
    target = f"raw tracepoint {name}"
    text = name.encode("utf-8", "surrogateescape")

    def attach() -> Link:
        fd = link.raw_tracepoint_open(kernel, program.fileno(), text, cookie, subject=target)
        return Link(kernel, fd, target)

    try:
        return owned(attach)
    except BpfError as error:
        error.hint = _hint(kernel, program, name, error.errno or 0) or error.hint
        raise


def _hint(backend: Backend, program: HasFileno, name: str, errno: int) -> str:
    from rawbpf.syscall.program_words import wrong_type

    if errno == _EINVAL:
        types = (BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE)
        return wrong_type(backend, program.fileno(), types)
    if errno != _ENOENT:
        return ""
    category, slash, event = name.rpartition("/")
    if slash:
        return f"raw tracepoints go by the event alone: {event!r}, without {category!r}"
    from rawbpf.link.names import close_tracepoints

    return f"this kernel has no tracepoint {name!r}{close_tracepoints(backend, name)}"
