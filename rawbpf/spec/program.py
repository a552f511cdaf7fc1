"""What a program is to be: its type, flags, where it attaches, and its symbolic instructions.

Plain data, editable until it is loaded. Subprograms that it calls are the object's, by name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.spec.section import Section


class ProgramSpec:
    """A program to load.

    `section` is the name as written, `definition` its row of the section table (None: unknown, then
    `prog_type` has to be set before loading), `attach_target` the text after the slash. `attach_btf_id` is
    what it attaches to in the kernel's BTF (0: the section, or the table that it is a member of, says it). `autoload`
    False (a section that begins with `?`): loaded only when asked for by name.
    """

    __slots__ = (
        "attach_btf_id",
        "attach_target",
        "autoload",
        "definition",
        "expected_attach_type",
        "instructions",
        "name",
        "prog_flags",
        "prog_type",
        "section",
    )

    def __init__(
        self,
        name: str,
        instructions: list[Instruction],
        *,
        section: str = "",
        definition: Section | None = None,
        prog_type: int = 0,
        expected_attach_type: int = 0,
        prog_flags: int = 0,
        attach_target: str = "",
        attach_btf_id: int = 0,
        autoload: bool = True,
    ) -> None:
        self.name = name
        self.instructions = instructions
        self.section = section
        self.definition = definition
        self.prog_type = prog_type
        self.expected_attach_type = expected_attach_type
        self.prog_flags = prog_flags
        self.attach_target = attach_target
        self.attach_btf_id = attach_btf_id
        self.autoload = autoload

    @classmethod
    def from_section(cls, name: str, section: str, instructions: list[Instruction]) -> ProgramSpec:
        """Return the program that the section table makes of a function in `section`."""
        from rawbpf.spec.section import find_section

        definition = find_section(section)
        autoload = not section.startswith("?")
        if definition is None:
            return cls(name, instructions, section=section, autoload=autoload)
        return cls(
            name,
            instructions,
            section=section,
            definition=definition,
            prog_type=definition.prog_type,
            expected_attach_type=definition.expected_attach_type,
            prog_flags=definition.prog_flags,
            attach_target=definition.target(section),
            autoload=autoload,
        )

    def copy(self) -> ProgramSpec:
        """Return a copy with its own list of the same instructions, which are immutable."""
        new = ProgramSpec.__new__(ProgramSpec)
        for slot in ProgramSpec.__slots__:
            setattr(new, slot, getattr(self, slot))
        new.instructions = list(self.instructions)
        return new

    def __repr__(self) -> str:
        from rawbpf.uapi.names import prog_type_name

        state = "" if self.autoload else ", not loaded unless asked"
        return (
            f"ProgramSpec({self.name!r}: {prog_type_name(self.prog_type)}, "
            f"section {self.section!r}, {len(self.instructions)} instructions{state})"
        )
