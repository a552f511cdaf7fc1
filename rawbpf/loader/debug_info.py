"""The types of an object, loaded as far as the kernel knows their kinds.

Kernel side: kernel/bpf/btf.c:btf_new_fd (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.syscall.btf import btf_load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.spec.object import ObjectData
    from rawbpf.syscall.protocol import Backend

_REFUSED = (22, 524)  # EINVAL; ENOTSUPP for what an integer is


def load_types(backend: Backend, content: ObjectData, token: int | None) -> tuple[int, bool]:
    """Load the BTF of `content`; return its descriptor, and whether it describes functions and lines as well.

    A kernel that lacks kinds of it gets others in their place. Where it refuses even those, or there is none, the
    descriptor is 0: no program needs types to run.

    Raises: BpfError for what concerns the load as a whole, such as EPERM.
    """
    if not content.btf_bytes:
        return 0, False
    try:
        return btf_load(backend, content.btf_bytes, token_fd=token or 0, subject=content.name), True
    except BpfError as error:
        if error.errno not in _REFUSED:
            raise
    from rawbpf import features  # these two are for old kernels alone
    from rawbpf.btf.sanitize import FEATURES, sanitize

    lacking = [name for name in FEATURES if features.btf_feature(name, backend=backend) == features.Answer.UNSUPPORTED]
    if not lacking:
        return 0, False
    try:
        fd = btf_load(backend, sanitize(content.btf_bytes, lacking), token_fd=token or 0, subject=content.name)
    except BpfError as error:
        if error.errno not in _REFUSED:
            raise
        return 0, False
    return fd, "func" not in lacking
