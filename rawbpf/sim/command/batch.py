"""The batch commands. What they do with elements is the map types' own: see `map/batch.py`.

Source: kernel/bpf/syscall.c:bpf_map_do_batch (v6.12).
"""

from __future__ import annotations

from errno import EPERM
from operator import methodcaller

from rawbpf.sim.command.map import may_write, opened
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.batch import Batch
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

_END = 56


def _command(method: str, *, reads: bool, writes: bool) -> Callable[[Kernel, Attr], int]:
    def run(kernel: Kernel, attr: Attr) -> int:
        attr.check(_END)
        file, target = opened(kernel, attr.take("=36xI")[0])
        if (reads and not file.may_read) or (writes and not may_write(file, target)):
            raise Refused(EPERM)
        if not kernel.release.has_batch(target.type):
            raise Refused(ENOTSUPP)
        methodcaller(method, Batch(kernel.memory, attr, target))(target)
        return 0

    return run


COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    c.BPF_MAP_LOOKUP_BATCH: _command("lookup_batch", reads=True, writes=False),
    c.BPF_MAP_LOOKUP_AND_DELETE_BATCH: _command("lookup_and_delete_batch", reads=True, writes=True),
    c.BPF_MAP_UPDATE_BATCH: _command("update_batch", reads=False, writes=True),
    c.BPF_MAP_DELETE_BATCH: _command("delete_batch", reads=False, writes=True),
}
