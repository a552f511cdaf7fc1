"""Instructions that are complete become a `Program`: the last step of `Program.load` and of the loader."""

from __future__ import annotations

from rawbpf.errors import SpecError
from rawbpf.link.deferral import owned
from rawbpf.program.load import CORE_RELO_SIZE, FUNC_INFO_SIZE, LINE_INFO_SIZE, load
from rawbpf.program.program import Program
from rawbpf.syscall.prog import LoadReport
from rawbpf.uapi.names import prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict, Unpack

    from rawbpf.asm.instruction import Instruction
    from rawbpf.map.module import Modules
    from rawbpf.program.load import LoadFields
    from rawbpf.spec.section import Section
    from rawbpf.syscall.protocol import Backend

    class LoadOptions(TypedDict, total=False):
        """The keyword arguments of `Program.load` and `load_program` that are fields of PROG_LOAD."""

        prog_flags: int
        kern_version: int
        ifindex: int
        btf_fd: int
        func_info: bytes
        line_info: bytes
        core_relos: bytes
        attach_btf_id: int
        attach_prog_fd: int
        attach_btf_obj_fd: int
        fd_array: Sequence[int]
        fd_array_cnt: int
        token_fd: int


def load_program(
    backend: Backend,
    *,
    prog_type: int,
    instructions: Sequence[Instruction],
    name: str = "",
    license: str = "GPL",  # noqa: A002  (the kernel's word)
    expected_attach_type: int | None = None,
    section: Section | None = None,
    target: str = "",
    modules: Modules,
    log_level: int = 0,
    log_size: int | None = None,
    **options: Unpack[LoadOptions],
) -> Program:
    """Load a program whose instructions are complete: what `Program.load` and the loader do.

    `section` and `target` are a row of the section table and the text after the slash: they give
    flags, the expected attach type where none is given, and the attach_btf_id of `tp_btf` and its
    like, in the kernel's BTF or in that of one of the `modules`. Instructions refer to maps and functions by number.
    Raises: as `Program.load`.
    """
    if not instructions:
        raise ValueError(f"program {name!r}: a program has at least one instruction")
    named = next((i for i in instructions if i.reference is not None), None)
    if named is not None:
        raise SpecError(
            f"program {name!r} still refers to {named.reference!r} by name: the loader or Program.load resolves that"
        )
    fields: LoadFields = {
        **options,
        "func_info_rec_size": FUNC_INFO_SIZE if options.get("func_info") else 0,
        "line_info_rec_size": LINE_INFO_SIZE if options.get("line_info") else 0,
        "core_relo_rec_size": CORE_RELO_SIZE if options.get("core_relos") else 0,
    }
    if section is not None:
        if expected_attach_type is None:
            expected_attach_type = section.expected_attach_type
        fields["prog_flags"] = options.get("prog_flags", 0) | section.prog_flags
        if section.btf and not options.get("attach_btf_id"):
            from rawbpf.program.target import attach_target

            found = attach_target(backend, expected_attach_type, target, modules)
            fields["attach_btf_id"], fields["attach_btf_obj_fd"] = found
    report = LoadReport()
    try:
        loaded = load(
            backend,
            instructions,
            prog_type=prog_type,
            name=name,
            license=license,
            expected_attach_type=expected_attach_type or 0,
            optional_type=section is not None and section.optional_type,
            log_level=log_level,
            log_size=log_size,
            subject=f"{name!r} ({prog_type_name(prog_type)})" if name else f"({prog_type_name(prog_type)})",
            fields=fields,
            report=report,
        )

        def make() -> Program:
            made = Program(
                backend,
                loaded.fd,
                name=name,
                prog_type=prog_type,
                expected_attach_type=loaded.expected_attach_type,
                section=section,
                target=target,
                log=loaded.log,
            )
            report.fd = -1
            return made

        # Not around the verifier, which may take a minute with its log.
        return owned(make)
    except BaseException:
        if report.fd >= 0:
            backend.close(report.fd)
        raise
