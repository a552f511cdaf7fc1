"""What a program is to be: its type, flags, where it attaches, and its symbolic instructions.

Plain data, editable until it is loaded. Subprograms that it calls are the object's, by name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.asm.instruction import Instruction
    from rawbpf.spec.section import Section


class ProgramSpec:
    """A program to load.

    `section` is the name as written, `definition` its row of the section table (None: unknown, then
    `prog_type` has to be set before loading), `attach_target` the text after the slash. `autoload`
    False (a section that begins with `?`): loaded only when asked for by name. `exception_callback`: the
    function of the object that runs when the program throws, which nothing calls; empty for none.
    """

    __slots__ = (
        "attach_target",
        "autoload",
        "definition",
        "exception_callback",
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
        autoload: bool = True,
        exception_callback: str = "",
    ) -> None:
        self.name = name
        self.instructions = instructions
        self.section = section
        self.definition = definition
        self.prog_type = prog_type
        self.expected_attach_type = expected_attach_type
        self.prog_flags = prog_flags
        self.attach_target = attach_target
        self.autoload = autoload
        self.exception_callback = exception_callback

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

    def disassemble(self, functions: Mapping[str, list[Instruction]] | None = None, *, source: bool = True) -> str:
        """Return the program's instructions as text, each C line above what the compiler made of it.

        Maps, functions and variables' sections go by their names. `functions`: the object's subprograms
        (`spec.functions`); those that the program reaches follow it. Slots count from 0 in each function,
        since only loading puts them in a row. `source`: whether to show the C lines, which need `-g`.
        """
        from rawbpf.spec.summary import listing, reached

        known = functions or {}
        bodies = [(self.name, self.instructions)]
        bodies += [(name, known[name]) for name in reached(self.instructions, known) if name in known]
        return "\n".join(listing(name, body, source=source) for name, body in bodies)

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
