"""From a program as users write it to the instructions that the kernel takes: all that stands by name is resolved.

Text is assembled, labels and functions become distances, maps their descriptors, and the kernel's functions
and variables their ids in its BTF or that of its modules. Objects of files are the loader's, which uses what concerns
maps.
Kernel side: kernel/bpf/verifier.c:resolve_pseudo_ldimm64, check_pseudo_btf_id, add_kfunc_call (v6.12).
"""

from __future__ import annotations

from rawbpf.asm.instruction import KernelReference, MapReference
from rawbpf.asm.label import resolve
from rawbpf.errors import SpecError
from rawbpf.syscall.descriptor import descriptor_number
from rawbpf.uapi.constants import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from rawbpf.asm.instruction import Instruction
    from rawbpf.asm.label import Label, Resolved
    from rawbpf.map.module import Modules
    from rawbpf.syscall.protocol import Backend

    class HasFileno(Protocol):
        """What has a descriptor, such as a map."""

        def fileno(self) -> int:
            """Return the descriptor."""


def complete(
    backend: Backend,
    code: Sequence[Instruction | Label] | str,
    maps: Mapping[str, HasFileno | int],
    modules: Modules,
    *,
    name: str = "",
) -> Resolved:
    """Return the program of `code` with nothing in it by name. `name`: the program's, for messages.

    `modules` keep descriptors of the BTF that instructions refer to, and have the `fd_array` to load it with.

    Raises: FormatError for text that is none; SpecError for labels, functions and maps that there are not; NotFound
    (ENOENT) for names that the BTF of the kernel and its modules lacks; NotSupported where it has none.
    """
    if isinstance(code, str):
        from rawbpf.asm.assembler import assemble

        code = assemble(code, file_name=name or "text")
    resolved = resolve(code)
    resolved.instructions = [_completed(backend, each, maps, modules, name) for each in resolved.instructions]
    return resolved


def _completed(
    backend: Backend,
    instruction: Instruction,
    maps: Mapping[str, HasFileno | int],
    modules: Modules,
    program: str,
) -> Instruction:
    reference = instruction.reference
    if isinstance(reference, MapReference):
        if reference.name not in maps:
            raise SpecError(
                f"program {program!r} refers to map {reference.name!r} ({instruction}), and "
                + (f"maps= has {', '.join(maps)}" if maps else "there is no maps=")
            )
        fd = descriptor_number(maps[reference.name], f"maps[{reference.name!r}]")
        return with_map(instruction, reference, fd)
    if isinstance(reference, KernelReference):
        from rawbpf.program.target import with_symbol

        return with_symbol(backend, instruction, reference.name, modules)
    return instruction


def with_map(instruction: Instruction, reference: MapReference, fd: int) -> Instruction:
    """Return `instruction`, which loads what `reference` says, with the map's descriptor."""
    if reference.offset is None:
        return instruction.replace(src=BPF_PSEUDO_MAP_FD, imm=fd, reference=False)
    # The second slot's immediate says which byte of the value is meant.
    value = (reference.offset & 0xFFFFFFFF) << 32 | fd
    return instruction.replace(src=BPF_PSEUDO_MAP_VALUE, imm=value, reference=False)
