"""TOKEN_CREATE, and what a token's descriptor is wanted for.

A token is for a user namespace of its own; the simulated process is in the first one, where a kernel makes none.
Source: kernel/bpf/token.c:bpf_token_create, bpf_token_get_from_fd (v6.12).
"""

from __future__ import annotations

import os
from errno import EINVAL, EOPNOTSUPP

from rawbpf.sim.error import Refused
from rawbpf.sim.file import usable
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import TOKEN_CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel


def create(kernel: Kernel, attr: Attr) -> int:
    """TOKEN_CREATE: refuse. Raises: Refused (EBADF; EINVAL: no root of a bpf file system; EOPNOTSUPP)."""
    attr.check(TOKEN_CREATE.size)
    flags, fd = attr.take("=II")
    if flags:
        raise Refused(EINVAL)
    directory = usable(fd)
    raise Refused(EOPNOTSUPP if os.path.samestat(directory, os.stat(kernel.pins.root)) else EINVAL)


def check_token(kernel: Kernel, fd: int) -> None:
    """Refuse a descriptor that shall be a token: there is none. Raises: Refused (EBADF, EINVAL)."""
    kernel.files.find(fd)
    raise Refused(EINVAL)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {c.BPF_TOKEN_CREATE: create}
