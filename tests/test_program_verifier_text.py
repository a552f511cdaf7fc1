"""A verifier's log comes down to at most three lines: what is wrong, where, and how much is left out."""

from __future__ import annotations

import pytest

from rawbpf.asm import build as b
from rawbpf.asm.instruction import Instruction, Line
from rawbpf.program import verifier
from rawbpf.program.verifier import explain, verifier_error

STATS = "processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n"
OLD_STATS = "processed 12 insns (limit 131072), stack depth 0\n"
START = "0: R1=ctx() R10=fp0\n0: (b7) r0 = 0                        ; R0=0\n"
OLD_START = "0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n0: (b7) r0 = 0\n1: R0_w=inv0 R1=ctx(id=0,off=0,imm=0) R10=fp0\n"

# id: log, summary, instruction
LOGS: dict[str, tuple[str, str, int | None]] = {
    "register never written": (
        START + "1: (79) r1 = *(u64 *)(r2 +0)\nR2 !read_ok\n" + STATS,
        "R2 !read_ok",
        1,
    ),
    "before 5.8": (
        OLD_START + "; x = *p;\n1: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'inv'\n" + OLD_STATS,
        "R0 invalid mem access 'inv'",
        1,
    ),
    "no instruction was looked at": ("unreachable insn 3\n" + STATS, "unreachable insn 3", 3),
    "two instructions named": ("jump out of range from insn 1 to 7\n" + STATS, "jump out of range from insn 1 to 7", 1),
    "no place at all": (
        "fd 999 is not pointing to valid bpf_map\n" + STATS,
        "fd 999 is not pointing to valid bpf_map",
        None,
    ),
    "message behind an unfinished jump": (
        START + "2: (55) if r0 != 0x5 goto pc-2 infinite loop detected at insn 1\n"
        "cur state: R0=scalar() R10=fp0\nold state: R0=scalar() R10=fp0\n" + STATS,
        "infinite loop detected at insn 1",
        1,
    ),
    "state behind an unfinished jump": (
        START + "2: (55) if r0 != 0x5 goto pc-2 1: R0=scalar() R10=fp0\n3: (95) exit\nR0 !read_ok\n" + STATS,
        "R0 !read_ok",
        3,
    ),
    "two lines that belong together": (
        START + "5: (61) r1 = *(u32 *)(r0 +8)\ninvalid access to map value, value_size=4 off=8 size=4\n"
        "R0 min value is outside of the allowed memory range\n" + STATS,
        "invalid access to map value, value_size=4 off=8 size=4; R0 min value is outside of the allowed memory range",
        5,
    ),
    "many lines that belong together": (
        START + "9: (95) exit\nUnreleased reference id=2 alloc_insn=3\nUnreleased reference id=4 alloc_insn=5\n"
        "BPF_EXIT instruction in main prog would lead to reference leak\n" + STATS,
        "Unreleased reference id=4 alloc_insn=5; BPF_EXIT instruction in main prog would lead to reference leak",
        9,
    ),
    "subprograms validated before": (
        "Validating helper() func#1...\n12: R1=ctx() R10=fp0\nFunc#1 ('helper') is safe for any args that match "
        "its prototype\n" + START + "2: (85) call bpf_trace_printk#6\nR1 type=ctx expected=fp, mem\n" + STATS,
        "R1 type=ctx expected=fp, mem",
        2,
    ),
    "diary of precision and liveness": (
        "func#0 @0\nLive regs before insn:\n      0: .......... (b7) r0 = 0\n  1   1: 0......... (95) exit\n"
        + START
        + "1: (95) exit\nmark_precise: frame0: last_idx 1 first_idx 0 subseq_idx -1\n"
        "mark_precise: frame0: regs=r0 stack= before 0: (b7) r0 = 0\n"
        "At program exit the register R0 has smin=2 smax=2 should have been in [0, 1]\n" + STATS,
        "At program exit the register R0 has smin=2 smax=2 should have been in [0, 1]",
        1,
    ),
    "too long a program": (
        "4: (a5) if r6 < 0x1e8480 goto pc-3    ; R6=0x51614\n2: (07) r6 += 1                       ; R6=0x51615\n"
        "3: (85) call bpf_ktime_get_ns#5\nBPF program is too large. Processed 1000001 insn\n" + STATS,
        "BPF program is too large. Processed 1000001 insn",
        3,
    ),
    "no line feed at the end": ("back-edge from insn 4 to 1", "back-edge from insn 4 to 1", 4),
    "carriage of empty lines": ("\n\nlast insn is not an exit or jmp\n\n", "last insn is not an exit or jmp", None),
}


@pytest.mark.parametrize(("log", "summary", "instruction"), LOGS.values(), ids=LOGS.keys())
def test_the_telling_line_is_found(log: str, summary: str, instruction: int | None) -> None:
    telling = explain(log)
    assert (telling.summary, telling.instruction) == (summary, instruction)
    assert len(telling.lines()) <= 3


@pytest.mark.parametrize(
    "log", ["", "\n", STATS, OLD_STATS, START + STATS], ids=["empty", "blank", "stats", "old", "no message"]
)
def test_a_log_without_a_message_tells_nothing(log: str) -> None:
    assert explain(log).summary == ""
    assert verifier_error(log, 22, cmd=5) is None


@pytest.mark.parametrize("log", [log for log, _, _ in LOGS.values()], ids=LOGS.keys())
def test_a_log_cut_anywhere_is_explained_without_complaint(log: str) -> None:
    for end in range(len(log)):
        assert len(explain(log[:end]).lines()) <= 3
        assert len(explain(log[end:]).lines()) <= 3


def _program() -> list[Instruction]:
    # main (slots 0 to 3, the second instruction takes two) and a function without lines (slot 4)
    line = Line("execcount.bpf.c", "\treturn *counter;\n", 23, 9)
    return [
        b.mov_imm(b.R0, 0).replace(function=1, line=Line("execcount.bpf.c", "{", 20)),
        b.ld_imm64(b.R1, 5).replace(line=line),
        b.load_mem(b.R0, b.R2, 0),
        b.exit_().replace(function=2),
    ]


def test_the_text_names_the_source_line_and_what_is_left_out() -> None:
    error = verifier_error(
        START + "3: (79) r0 = *(u64 *)(r2 +0)\nR2 !read_ok\n" + STATS,
        13,
        _program(),
        cmd=5,
        subject="'count' (tracepoint)",
    )
    assert error is not None
    assert str(error).splitlines() == [
        "prog_load 'count' (tracepoint): EACCES: R2 !read_ok",
        "  at execcount.bpf.c:23: return *counter;  (instruction 3: r0 = *(u64 *)(r2 +0))",
        "  (4 more lines in the verifier's log)",
    ]
    assert (error.errno, error.summary, error.instruction) == (13, "R2 !read_ok", 3)
    assert error.source_line == "execcount.bpf.c:23: return *counter;"
    assert error.log.endswith(STATS)


@pytest.mark.parametrize(
    ("slot", "line"),
    [
        pytest.param(0, "execcount.bpf.c:20: {", id="first"),
        pytest.param(1, "execcount.bpf.c:23: return *counter;", id="begins a line"),
        pytest.param(2, "execcount.bpf.c:23: return *counter;", id="second slot of a 64-bit load"),
        pytest.param(3, "execcount.bpf.c:23: return *counter;", id="within a line"),
        pytest.param(4, None, id="another function, without lines"),
        pytest.param(9, None, id="beyond the program"),
    ],
)
def test_a_slot_has_the_line_that_covers_it(slot: int, line: str | None) -> None:
    assert explain(f"unreachable insn {slot}\n", _program()).source_line == line


@pytest.mark.parametrize(
    ("comment", "line"),
    [
        pytest.param("; return *counter; @ execcount.bpf.c:23", "execcount.bpf.c:23: return *counter;", id="since 6.8"),
        pytest.param("; return *counter;", "return *counter;", id="before"),
    ],
)
def test_without_instructions_the_log_itself_has_the_source_line(comment: str, line: str) -> None:
    log = START + comment + "\n1: (79) r0 = *(u64 *)(r2 +0)\nR2 !read_ok\n" + STATS
    assert explain(log).source_line == line


def test_a_log_of_many_lines_is_read_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    message = verifier._message

    def noting(line: str) -> str:
        looked_at.append(line)
        return message(line)

    monkeypatch.setattr(verifier, "_message", noting)
    telling = explain("2: (07) r6 += 1                       ; R6=0x51615\n" * 10_000 + "R2 !read_ok\n" + STATS)
    assert telling.left_out == 10_001
    assert len(looked_at) == 4
