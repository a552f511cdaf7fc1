"""The programs of an object: linked with their subprograms, maps patched in, and loaded one after the other."""

from __future__ import annotations

from rawbpf.asm.instruction import MapReference
from rawbpf.btf.ext import pack_func_info, pack_line_info
from rawbpf.errors import SpecError, VerifierError
from rawbpf.link.deferral import DeferredSignals
from rawbpf.loader.externs import Externs
from rawbpf.loader.link import function_starts, line_starts, link
from rawbpf.loader.patch import is_poisoned
from rawbpf.loader.struct_ops import table_types
from rawbpf.program.completion import with_map
from rawbpf.program.load import kernel_name
from rawbpf.program.loading import load_program
from rawbpf.spec.number import check_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf.core import Core
    from rawbpf.loader.object import Object
    from rawbpf.map.base import Map
    from rawbpf.map.module import Modules
    from rawbpf.program.loading import LoadOptions
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec

_NUMBERS = {"prog_type": 32, "expected_attach_type": 32, "prog_flags": 32, "attach_btf_id": 32}


def load_programs(
    obj: Object,
    content: ObjectData,
    chosen: list[ProgramSpec],
    *,
    core: Core | None,
    modules: Modules,
    btf_fd: int,
    log_level: int,
    log_size: int | None,
    token: int | None,
) -> None:
    """Give `obj` the programs `chosen` of `content`, whose types `core` has relocated. Raises: as `ObjectSpec.load`."""
    linked = [link(spec, content.functions) for spec in chosen]
    externs = Externs(obj.backend, content.ksyms, modules)
    with DeferredSignals():
        externs.resolve(linked)
        tables = table_types(content, modules)
    for spec, instructions in zip(chosen, linked, strict=True):
        check_numbers(f"program {spec.name!r}", spec, _NUMBERS)
        if not spec.prog_type:
            raise SpecError(
                f"program {spec.name!r} is in section {spec.section!r}, which names no program type: "
                f"set spec.programs[{spec.name!r}].prog_type, or leave it out with only="
            )
        try:
            kernel_name(spec.name)
        except ValueError as error:
            raise SpecError(str(error)) from None
        options: LoadOptions = {
            "prog_flags": spec.prog_flags,
            "kern_version": content.kernel_version,
            "token_fd": token or 0,
            "fd_array": modules.fd_array,
        }
        if spec.attach_btf_id:
            options["attach_btf_id"] = spec.attach_btf_id
            options["attach_btf_obj_fd"] = tables.get(spec.name, 0)
        if btf_fd:
            options |= _types(instructions, btf_fd)
        try:
            program = load_program(
                obj.backend,
                prog_type=spec.prog_type,
                instructions=[_patched(each, obj.maps, externs, spec.name) for each in instructions],
                name=spec.name,
                license=content.license,
                expected_attach_type=spec.expected_attach_type,
                section=spec.definition,
                target=spec.attach_target,
                modules=modules,
                log_level=log_level,
                log_size=log_size,
                **options,
            )
        except VerifierError as error:
            externs.explain(error)
            if core is not None:
                _explain(error, instructions, core)
            raise
        obj.add_program(program)


def _types(instructions: list[Instruction], btf_fd: int) -> LoadOptions:
    lines = (
        (slot, line.file_name_offset, line.text_offset, line.number, line.column)
        for slot, line in line_starts(instructions)
    )
    return {
        "btf_fd": btf_fd,
        "func_info": pack_func_info(function_starts(instructions)),
        "line_info": pack_line_info(lines),
    }


def _explain(error: VerifierError, instructions: list[Instruction], core: Core) -> None:
    # Where the verifier met a call that stands for what the kernel lacks, it knows no more than that call's number.
    slot = 0
    for instruction in instructions:
        if slot == error.instruction and is_poisoned(instruction) and instruction.core is not None:
            error.summary = error.hint = core.explain(instruction.core)
            return
        slot += instruction.slots


def _patched(
    instruction: Instruction, maps: Mapping[str, Map[Any, Any]], externs: Externs, program: str
) -> Instruction:
    reference = instruction.reference
    if not isinstance(reference, MapReference):
        return externs.patched(instruction)
    if reference.name not in maps:
        raise SpecError(
            f"program {program!r} refers to map {reference.name!r}, which the specification lacks or does not make"
        )
    return with_map(instruction, reference, maps[reference.name].fileno())
