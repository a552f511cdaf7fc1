"""The commands of bpf(2): one file per noun, each with a table `COMMANDS` of number to function.

A command takes the kernel and its attr, returns what bpf(2) returns, and raises Refused.
"""

from __future__ import annotations

from rawbpf.sim.command import batch, btf, info, link, map, obj, prog, token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.attr import Attr
    from rawbpf.sim.kernel import Kernel

COMMANDS: dict[int, Callable[[Kernel, Attr], int]] = {
    number: function
    for noun in (map, batch, obj, info, btf, prog, link, token)
    for number, function in noun.COMMANDS.items()
}
"""The function of each command, by its number."""
