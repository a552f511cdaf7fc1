"""BTF_LOAD. Source: kernel/bpf/syscall.c:bpf_btf_load, kernel/bpf/btf.c:btf_new_fd (v6.12)."""

from __future__ import annotations

from errno import E2BIG

from rawbpf.sim.btf import LoadedBtf
from rawbpf.sim.error import Refused
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import BTF_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

_LIMIT = 16 << 20


def load(kernel: Kernel, attr: Attr) -> int:
    """BTF_LOAD: return a descriptor of the types."""
    attr.check(BTF_LOAD.size)
    size = attr.number(BTF_LOAD, "btf_size")
    if size > _LIMIT:
        raise Refused(E2BIG)
    loaded = LoadedBtf(kernel.memory.read(attr.number(BTF_LOAD, "btf"), size))
    kernel.btfs.add(loaded)
    return kernel.files.open(loaded)


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {c.BPF_BTF_LOAD: load}
