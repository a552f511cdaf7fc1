"""One bpf(2) call with the repetitions that the kernel expects of its callers.

EINTR is repeated; PROG_LOAD is repeated on EAGAIN (the verifier was interrupted by a signal:
commit c3494801cd17 ("bpf: check pending signals while verifying programs") (in v4.20)), at most five
times; where RLIMIT_MEMLOCK may be the reason, it is raised and the call made once more.
"""

from __future__ import annotations

import ctypes
from itertools import starmap
from operator import call as apply

from rawbpf.uapi.constants import BPF_BTF_LOAD, BPF_MAP_CREATE, BPF_PROG_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_EPERM, _EINTR, _EIO, _EAGAIN, _ENOMEM = 1, 4, 5, 11, 12
_CHARGED = (BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_BTF_LOAD)
LOAD_REPEATS = 5


def invoke(backend: Backend, cmd: int, attr: ctypes.Array[ctypes.c_char], size: int, *, blocking: bool = False) -> int:
    """Make the call and return its result, or the negated errno, as the kernel itself does.

    `attr` is at least `size` bytes, and 256 to be safe: the kernel writes back into it. The errno is
    then 0 for who was interrupted by a signal handler that made this call.
    """
    call = backend.bpf_blocking if blocking else backend.bpf
    # Call and errno in one step of the interpreter: a signal handler that ran between them could make
    # calls of its own, whose errno would be taken for this one's.
    steps = ((call, cmd, ctypes.byref(attr), size), (ctypes.get_errno,))
    again = LOAD_REPEATS
    may_raise = cmd in _CHARGED
    while True:
        result: int
        number: int
        result, number = starmap(apply, steps)
        if result >= 0:
            return result
        ctypes.set_errno(0)
        if number == _EINTR:
            continue
        if number == _EAGAIN and cmd == BPF_PROG_LOAD and again:
            again -= 1
            continue
        if number in (_EPERM, _ENOMEM) and may_raise:
            may_raise = False
            # Asked only after a refusal: newer kernels charge no memory to the limit.
            if backend.host.capabilities() & {"CAP_BPF", "CAP_SYS_ADMIN"} and backend.host.raise_memlock():
                continue
        # 0: a backend that is written in Python was interrupted before it set the errno.
        return -(number or _EIO)
