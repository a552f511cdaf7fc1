"""Global variables of an object that lie in its arena: at its end, so that the first page can stay empty.

How the file's section becomes memory of the arena, and references to it references into that.
Source: tools/lib/bpf/libbpf.c:init_arena_map_data, bpf_object__create_maps (v6.12), where they still are at the start;
"libbpf: Move arena globals to the end of the arena" (in v7.0).
"""

from __future__ import annotations

from rawbpf.asm.instruction import MapReference
from rawbpf.errors import SpecError
from rawbpf.loader.variable import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.map.arena import ArenaMap
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData

# What of a map's value an instruction reaches on any kernel.
# Source: include/linux/bpf_verifier.h:BPF_MAX_VAR_OFF (v6.12)
_REACH = 1 << 29


class ArenaSection(Section):
    """The memory of an arena, in the place of a data section's."""

    __slots__ = ("_arena",)

    def __init__(self, arena: ArenaMap) -> None:
        super().__init__(arena)
        self._arena = arena

    def view(self, *, writable: bool) -> memoryview:
        """Return the whole arena. Raises: as `ArenaMap.memory`."""
        del writable
        return self._arena.memory()

    def live(self, *, writable: bool) -> memoryview:
        """Return the whole arena. Raises: as `ArenaMap.memory`."""
        return self.view(writable=writable)


def prepare_arena(arena: ArenaMap, content: ObjectData, name: str, *, new: bool) -> ArenaSection:
    """Map the `arena` that `content` calls `name`, which settles its address; return it as a section.

    All that refers to its variables, code of `content` too, then says where in the arena they are. One that is
    `new` gets the values that they start with.
    Raises: SpecError for an arena that is too small for them; as `ArenaMap.memory`.
    """
    memory, spec = arena.memory(), content.maps[name]
    if spec.contents is not None:
        start = _start(spec, len(memory), arena._handle.backend.host.page_size)
        for variable in content.variables.values():
            if variable.map is spec:
                variable.offset += start
        for program in content.programs.values():
            program.instructions = _moved(program.instructions, name, start)
        for function, code in content.functions.items():
            content.functions[function] = _moved(code, name, start)
        if new:
            memory[start : start + len(spec.contents)] = spec.contents
    return ArenaSection(arena)


def _start(spec: MapSpec, whole: int, page: int) -> int:
    size = len(spec.contents or b"")
    start = min(whole, _REACH) - -(-size // page) * page
    if start < 0:
        raise SpecError(
            f"map {spec.name!r}: {spec.max_entries} pages of {page} bytes are too few for {size} bytes of variables"
        )
    return start


def _moved(code: list[Instruction], name: str, start: int) -> list[Instruction]:
    moved = []
    for instruction in code:
        reference = instruction.reference
        if isinstance(reference, MapReference) and reference.name == name and reference.offset is not None:
            moved.append(instruction.replace(reference=MapReference(name, reference.offset + start)))
        else:
            moved.append(instruction)
    return moved
