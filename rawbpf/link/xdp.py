"""XDP programs on a network interface, which see each packet that arrives before the network stack does.

One program runs per interface and mode, and with a link nobody else can take its place: `update`
exchanges it. Source: net/core/dev.c:bpf_xdp_link_attach, dev_xdp_attach (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError, NotSupported
from rawbpf.link.base import Link
from rawbpf.link.deferral import owned
from rawbpf.syscall import link
from rawbpf.syscall.current import current
from rawbpf.syscall.interface import absence, interface_index
from rawbpf.uapi.constants import BPF_LINK_CREATE, BPF_PROG_TYPE_XDP, BPF_XDP, BPF_XDP_CPUMAP, BPF_XDP_DEVMAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.syscall.protocol import Backend

    Mode = Literal["skb", "driver", "offload"]

_EBUSY, _EEXIST, _EINVAL, _ERANGE, _EOPNOTSUPP = 16, 17, 22, 34, 95

# XDP_FLAGS_SKB_MODE, _DRV_MODE and _HW_MODE. Source: include/uapi/linux/if_link.h (v6.12).
_MODES = {"skb": 1 << 1, "driver": 1 << 2, "offload": 1 << 3}
_IN_MAPS = {BPF_XDP_DEVMAP: "devmap", BPF_XDP_CPUMAP: "cpumap"}


def attach_xdp(
    program: HasFileno,
    interface: str | int,
    *,
    mode: Mode | None = None,
    attach_type: int = BPF_XDP,
    backend: Backend | None = None,
) -> Link:
    """Attach `program` to the network interface and return the link.

    `program`: of type xdp, and made with `backend` (None: the current one). `interface`: a name or an
    index of this thread's network namespace. `mode`: `"skb"` runs it in the network stack, with any
    driver; `"driver"` in the driver, before a socket buffer is made; `"offload"` on the card; None lets the
    kernel choose the driver's where it has one. `attach_type`: what the program was loaded for.
    Raises: BpfError (ENODEV: no such interface, the text has close names; EBUSY, EEXIST: another program is
    there, which the text names; EINVAL: a program of another type); NotSupported (EOPNOTSUPP: the driver
    has no such mode; EINVAL: the kernel has no such links); ValueError for another mode.
    Since: Linux 5.9. Source: net/core/dev.c:bpf_xdp_link_attach
    """
    if backend is None:
        backend = current()
    kernel = backend
    if mode is not None and mode not in _MODES:
        raise ValueError(
            f"mode={mode!r}: expected {', '.join(map(repr, _MODES))} or None, which lets the kernel choose"
        )
    target = f"xdp interface {interface}" if isinstance(interface, int) else f"xdp {interface}"
    index = interface_index(interface, target)

    def attach() -> Link:
        fd = link.link_create(
            kernel,
            prog_fd=program.fileno(),
            target_ifindex=index,
            attach_type=BPF_XDP,
            flags=_MODES[mode] if mode else 0,
            subject=target,
        )
        return Link(kernel, fd, target)

    try:
        return owned(attach)
    except BpfError as error:
        raise _explained(kernel, program.fileno(), index, mode, attach_type, error) from None


def _explained(
    backend: Backend, prog_fd: int, index: int, mode: str | None, attach_type: int, error: BpfError
) -> BpfError:
    errno = error.errno or 0
    kind: type[BpfError] = type(error)
    if errno == _EINVAL:
        kind, hint = _invalid(backend, prog_fd, index, mode, attach_type)
    elif errno in (_EBUSY, _EEXIST):
        hint = _occupied(backend, index)
    elif errno == _EOPNOTSUPP and mode:
        hint = f'the driver has no XDP in mode "{mode}"; mode="skb" works with any driver'
    elif errno == _ERANGE:
        hint = "the packets of this interface are too large for the driver's XDP: lower its MTU (of a veth, its peer's)"
    else:
        return error
    return kind(
        errno,
        call="link_create",
        cmd=BPF_LINK_CREATE,
        subject=error.subject,
        hint=hint or error.hint,
        backend=backend.name,
    )


def _invalid(
    backend: Backend, prog_fd: int, index: int, mode: str | None, attach_type: int
) -> tuple[type[BpfError], str]:
    from rawbpf.syscall.program_words import wrong_type

    if hint := wrong_type(backend, prog_fd, (BPF_PROG_TYPE_XDP,)) or absence(index):
        return BpfError, hint
    if attach_type in _IN_MAPS:
        word = _IN_MAPS[attach_type]
        return BpfError, f"the program was loaded for a {word} (xdp/{word}): it is stored in one, not attached"
    if mode == "offload":
        return NotSupported, "the card runs no programs, or this one was not loaded for it (ifindex=)"
    why = "this kernel has no links for XDP (since Linux 5.9), or the program is for another interface"
    if mode != "driver":
        why += '; or it uses a devmap or cpumap with programs, which mode="skb" runs since Linux 5.15 only'
    return NotSupported, why


def _occupied(backend: Backend, index: int) -> str:
    from rawbpf.link.rtnetlink import xdp_programs
    from rawbpf.syscall.program_words import named_program

    try:
        there = xdp_programs(index)
    except OSError:
        return ""
    programs = [f"{named_program(backend, prog_id)} in mode {mode}" for mode, prog_id in there.items()]
    if not programs:
        return "an interface above this one (a bond, a team) has a program"
    one = "; it is exchanged by update() of its link, or goes when that closes" if len(programs) == 1 else ""
    return f"the interface has {' and '.join(programs)}{one}"
