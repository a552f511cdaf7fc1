"""Relocation: the instructions of an object as a kernel of certain types takes them, all but descriptors.

CO-RE records are resolved first, function by function and each only once, in the order of the file; then
programs get the functions that they reach. Kernel's side: none, since the kernel never sees the records. It
would resolve them itself since Linux 5.17, but against its own types alone, and it refuses those of
instructions that were changed already.

Source: tools/lib/bpf/libbpf.c:bpf_object__relocate_core, bpf_object__relocate_calls (v6.12).
"""

from __future__ import annotations

from rawbpf.btf import Btf, indexed
from rawbpf.btf.core import Core
from rawbpf.codec.base import refuse
from rawbpf.errors import FormatError, SpecError
from rawbpf.loader.link import link, reached
from rawbpf.loader.patch import patched
from rawbpf.map.module import Modules
from rawbpf.syscall.current import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rawbpf.asm.instruction import Instruction
    from rawbpf.loader.spec import ObjectSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.syscall.protocol import Backend


def relocate(spec: ObjectSpec, target_btf: Btf | Iterable[Btf] | None = None) -> dict[str, list[Instruction]]:
    """Return what `load()` would load: for each program by name its instructions and those of functions it reaches.

    CO-RE is resolved and calls are distances; references to maps and to symbols of the kernel still are
    by name. `target_btf`: the types of the kernel that is meant, or of a kernel and then of its modules; by default
    those of the running kernel, which are looked at only if something depends on them. Programs with
    `autoload` False are left out. Works for both byte orders and changes nothing in `spec`.

    Raises: SpecError for an object that contradicts itself or the kernel's types; FormatError for damaged types;
    NotSupported (ENOENT) where the running kernel has no BTF.
    """
    content = spec._content.copy()
    chosen = [program for program in content.programs.values() if program.autoload]
    backend = current()
    relocate_types(content, chosen, targets(backend, Modules(backend), target_btf))
    return {program.name: link(program, content.functions) for program in chosen}


def targets(backend: Backend, modules: Modules, given: Btf | Iterable[Btf] | None) -> Iterator[Btf]:
    """Yield the types that `target_btf=` means, each when it is needed: by default those of `backend`'s kernel.

    Raises: TypeError for what is none.
    """
    if given is None:
        yield indexed(backend.host.btf())
        yield from (module.types for module in modules)
    elif isinstance(given, Btf):
        yield given
    else:
        for each in given if hasattr(given, "__iter__") else [given]:
            if not isinstance(each, Btf):
                raise refuse("target_btf=", "a Btf, as Btf.from_bytes() returns, or several", given)
            yield each


def relocate_types(content: ObjectData, chosen: list[ProgramSpec], targets: Iterable[Btf]) -> Core | None:
    """Change the instructions of the `chosen` programs, and of all that they reach, to suit the types of `targets`.

    Return what found the answers, None where there was nothing to ask. Raises: as `relocate`.
    """
    # The instructions of a program are there twice if it is called like a function, too.
    bodies: dict[str, dict[int, list[Instruction]]] = {}
    for program in chosen:
        for name, body in reached(program, content.functions).items():
            bodies.setdefault(name or program.name, {})[id(body)] = body
    bodies = {
        name: found
        for name, found in bodies.items()
        if any(instruction.core for body in found.values() for instruction in body)
    }
    if not bodies:
        return None
    if content.btf is None:
        raise SpecError(f"{content.name} has CO-RE relocations and no types that they could be of")
    core = Core(content.btf, targets)
    for name in dict.fromkeys((*content.core_order, *bodies)):
        for body in bodies.get(name, {}).values():
            body[:] = _relocated(core, name, body)
    return core


def _relocated(core: Core, name: str, body: list[Instruction]) -> Iterator[Instruction]:
    for instruction in body:
        if instruction.core is None:
            yield instruction
            continue
        try:
            yield from patched(instruction, core.fixup(instruction.core))
        except (FormatError, SpecError) as error:
            raise type(error)(f"{name!r}: {error}") from error
