"""BTF_LOAD. Source: kernel/bpf/syscall.c:bpf_btf_load, kernel/bpf/btf.c:btf_new_fd, btf_parse (v6.12)."""

from __future__ import annotations

from errno import E2BIG, EINVAL

from rawbpf.sim.btf import LoadedBtf
from rawbpf.sim.command.token import check_token
from rawbpf.sim.error import Refused
from rawbpf.sim.types.log import Log
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import BTF_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

_LIMIT = 16 << 20
_TRUE_SIZE = 28


def load(kernel: Kernel, attr: Attr) -> int:
    """BTF_LOAD: return a descriptor of the types; a log tells what was wrong with them."""
    attr.check(kernel.release.end(BTF_LOAD))
    flags = attr.number(BTF_LOAD, "btf_flags")
    if flags & ~c.BPF_F_TOKEN_FD:
        raise Refused(EINVAL)
    if flags:
        check_token(kernel, attr.number(BTF_LOAD, "btf_token_fd"))
    size = attr.number(BTF_LOAD, "btf_size")
    if size > _LIMIT:
        raise Refused(E2BIG)
    level, address, room = (attr.number(BTF_LOAD, f"btf_log_{field}") for field in ("level", "buf", "size"))
    log = Log(level, address, room)
    loaded, refused = None, 0
    try:
        loaded = LoadedBtf(kernel, kernel.memory.read(attr.number(BTF_LOAD, "btf"), size), log)
    except Refused as error:
        refused = error.errno
    needed, undelivered = log.deliver(kernel.memory)
    if attr.reaches(_TRUE_SIZE + 4):
        attr.store(_TRUE_SIZE, "=I", needed)
    if undelivered or loaded is None:
        raise Refused(undelivered or refused)
    kernel.btfs.add(loaded)
    return kernel.files.open(loaded)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {c.BPF_BTF_LOAD: load}
