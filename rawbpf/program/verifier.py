"""What a verifier's log says, in at most three lines: the telling line, its place, how much is left out.

Pure text: knows the kernel's ways of writing logs and no system call. The log is read from its end,
because only the end is about the refusal, and it may be 50 MB long.

Source: kernel/bpf/verifier.c, kernel/bpf/log.c (v6.12); lines of older releases are known as well.
"""

from __future__ import annotations

import errno as _errno
import re

from rawbpf.errors import VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rawbpf.asm.instruction import Instruction, Line

_INSTRUCTION = re.compile(r"(\d+): \([0-9a-f]{2}\) (.*)")
# The register state that follows an instruction: after a semicolon, or as the next state's line.
_STATE = re.compile(r"\s*(?:;.*|\d+: (?:R\d|frame|refs=|\(|safe).*)?$")
_SOURCE_LINE = re.compile(r"; (.*?)(?: @ (\S+):(\d+))?$")
# A log without BTF has no source lines, and a long one shall not be searched for them in vain.
_FAR = 2000
_PLACE = re.compile(r"\binsn (\d+)")
# Jumps are printed without a line feed until the branch is known, so that a message may follow on the same line.
_AFTER_JUMP = re.compile(r"goto pc[+-]\d+ (.+)$")

# Of an array of instructions the log says no more than that it would not do.
# Source: kernel/bpf/bpf_insn_array.c:bpf_insn_array_init (v6.19)
_BAD_INSN_ARRAY = "Failed to properly initialize insn array"
_WHY_BAD_INSN_ARRAY = {
    _errno.EBUSY: "an insn_array map serves one program, ever: create another one, also to load the same program again",
    _errno.EINVAL: "freeze() an insn_array map before the program is loaded; and what it holds are numbers of "
    "instructions, an LD_IMM64 counting twice, of which the second is none",
}

# What a log has beside messages: instructions, source, states, the analyses' diary and statistics.
_NOISE = re.compile(
    r"""
      $ | ;
    | \d+:\s | (?:\d+\s+)?\d+:\ [.\dr]{10}            # an instruction, a state, live registers
    | from\ \d+\ to\ \d+ | (?:speculative\ )?safe$
    | (?:frame\d+:?\s*)?(?:R\d+|fp-?\d+|refs)(?:_\w+)?=  # a state
    | (?:cur|old)\ state: | (?:caller|callee): | (?:returning\ )?from\ callee | to\ caller\ at
    | (?:mark_precise|last_idx|first_idx|regs=|parent\ (?:didn't|already)|propagating|live\ regs|SCC)
    | Live\ regs\ before\ insn
    | [Ff]unc\#\d+\ (?:@|\(.*\)\ is\ safe) | Validating\b
    | processed\ \d+\ insns | verification\ time | stack\ depth | insns\ processed | peak_states | total_states
    """,
    re.VERBOSE,
)


class Telling:
    """What `explain` found: `summary` (empty: the log says nothing), the place, how much was left out.

    `instruction` is the kernel's number: an LD_IMM64 counts twice. `code` is the instruction as the
    log spells it, `source_line` is `file:line: text`.
    """

    __slots__ = ("code", "instruction", "left_out", "source_line", "summary")

    def __init__(
        self,
        summary: str = "",
        instruction: int | None = None,
        code: str = "",
        source_line: str | None = None,
        left_out: int = 0,
    ) -> None:
        self.summary = summary
        self.instruction = instruction
        self.code = code
        self.source_line = source_line
        self.left_out = left_out

    def lines(self) -> list[str]:
        """Return the text of an error: one to three lines."""
        text = [self.summary]
        where = (
            []
            if self.instruction is None
            else [f"instruction {self.instruction}" + (f": {self.code}" if self.code else "")]
        )
        if self.source_line:
            where.insert(0, self.source_line)
        if where:
            text.append(f"  at {where[0]}" + (f"  ({where[1]})" if len(where) > 1 else ""))
        if self.left_out > 0:
            text.append(f"  ({self.left_out} more {'line' if self.left_out == 1 else 'lines'} in the verifier's log)")
        return text


def explain(log: str, instructions: Sequence[Instruction] = ()) -> Telling:
    """Return the telling part of `log`, a refused program's; `instructions` give the C source."""
    backwards = _backwards(log)
    block: list[str] = []
    rest: Iterator[str] = backwards
    for line in backwards:
        message = _message(line)
        if message:
            block.insert(0, message)
        if block and message != line.strip():
            # The line that ended the block belongs to what stands above it as well.
            rest = _chain(line, backwards)
            break
    if not block:
        return Telling()
    shown = block[-2:]
    number, code, comment = _above(rest)
    place = next((int(found[1]) for line in shown if (found := _PLACE.search(line))), number)
    if place != number:
        number, code = place, ""
    source = None
    if number is not None:
        spelled, source = _at(instructions, number)
        code = code or spelled
    left_out = log.count("\n") + (not log.endswith("\n")) - len(shown)
    return Telling("; ".join(shown), number, code, source or comment, left_out)


def verifier_error(
    log: str,
    errno: int,
    instructions: Sequence[Instruction] = (),
    *,
    cmd: int,
    subject: str = "",
    backend: str = "kernel",
) -> VerifierError | None:
    """Return the exception for a refusal with this `log`; None if the log tells nothing.

    `log`: complete. `errno`: what the first load failed with. `instructions`: those that were loaded, for the C source.
    """
    telling = explain(log, instructions)
    if not telling.summary:
        return None
    first, *below = telling.lines()
    if telling.summary == _BAD_INSN_ARRAY and errno in _WHY_BAD_INSN_ARRAY:
        first = f"{first}: {_WHY_BAD_INSN_ARRAY[errno]}"
    error = VerifierError(errno, call="prog_load", cmd=cmd, subject=subject, hint=first, backend=backend)
    error._where = "".join(f"\n{line}" for line in below)
    error.log = log
    error.summary = telling.summary
    error.instruction = telling.instruction
    error.source_line = telling.source_line
    return error


def _message(line: str) -> str:
    # The part of a line that is addressed to a reader, or an empty string.
    line = line.strip()
    if found := _INSTRUCTION.match(line):
        after = _AFTER_JUMP.search(found[2])
        return after[1].strip() if after and not _STATE.match(after[1]) else ""
    return "" if _NOISE.match(line) else line


def _backwards(log: str) -> Iterator[str]:
    end = len(log)
    while end > 0:
        start = log.rfind("\n", 0, end) + 1
        yield log[start:end]
        end = start - 1


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _above(lines: Iterator[str]) -> tuple[int | None, str, str | None]:
    # The last instruction before the message, and the source comment over it.
    number, code = None, ""
    for count, line in enumerate(lines):
        text = line.strip()
        if count > _FAR:
            break
        if number is None and (found := _INSTRUCTION.match(text)):
            number = int(found[1])
            code = _AFTER_JUMP.sub(lambda jump: jump[0].removesuffix(jump[1]), found[2].split("  ;")[0]).strip()
        elif number is not None and (comment := _SOURCE_LINE.match(text)):
            where = f"{comment[2]}:{comment[3]}: " if comment[2] else ""
            return number, code, where + comment[1].strip()
    return number, code, None


def _at(instructions: Sequence[Instruction], number: int) -> tuple[str, str | None]:
    # The instruction in slot `number`, and the source line that covers it; one function's says nothing about the next.
    slot = 0
    line: Line | None = None
    for instruction in instructions:
        if instruction.function is not None:
            line = None
        line = instruction.line or line
        slot += instruction.slots
        if slot > number:
            return str(instruction), None if line is None else str(line)
    return "", None
