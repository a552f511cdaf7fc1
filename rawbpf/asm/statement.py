"""One statement of assembler text: a form for each kind of instruction, the reverse of `spelling`.

A form is a pattern and a function that makes the instruction of what the pattern found. In a pattern a
space stands for any space or none, `~` for some, and braces for a field of `FIELDS`.

Source: kernel/bpf/disasm.c:print_bpf_insn (v6.12).
"""

from __future__ import annotations

import re

from rawbpf.asm import build
from rawbpf.asm.instruction import LD_IMM64, FunctionReference, Instruction, LabelReference, MapReference
from rawbpf.asm.operand import FIELDS, Wrong, immediate, is_wide, number, offset, register, whole
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import HELPERS, helper_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    Match = re.Match[str]
    Make = Callable[[Match], Instruction]

_SIZES = {"8": 0x10, "16": 0x08, "32": 0x00, "64": 0x18}
_FETCHES = {"add": 0x01, "or": 0x41, "and": 0x51, "xor": 0xA1}
_LOCKS = {"+=": 0x00, "|=": 0x40, "&=": 0x50, "^=": 0xA0}
_ORDERS = {"bswap": 0xD7, "be": 0xDC, "le": 0xD4}
_GOTOS = {"goto": 0x05, "gotol": 0x06, "may_goto": 0xE5}

# By the word that a statement begins with: what is expected there. Each list of forms has such a word, too.
_EXPECTED = {
    "r": "r1 = 5, r1 += r2, r1 = *(u32 *)(r2 +4), r1 = map[name] or their like",
    "*": "*(u32 *)(r10 -4) = r1 or = 5",
    "lock": "lock *(u64 *)(r1 +0) += r2, or |=, &=, ^=",
    "store_release": "store_release((u64 *)(r1 +0), r2)",
    "if": "if r1 == 5 goto label, or w1 s> w2 and the like",
    "goto": "goto label or goto pc+2, and so for gotol and may_goto; gotox r1",
    "call": "call helper, call function, call kernel[function] or call pc+2; callx r1",
    "exit": "exit",
    "nospec": "nospec",
    ".insn": ".insn opcode dst src offset imm",
}
_WORDS = {"gotol": "goto", "may_goto": "goto", "gotox": "goto", "callx": "call"}
_FIRST = re.compile(r"\*|\.?\w+")
_forms: dict[str, list[tuple[re.Pattern[str], Make]]] = {word: [] for word in _EXPECTED}


def statement(text: str, functions: Container[str] = ()) -> Instruction:
    """Return the instruction that `text` means; `functions` are called by names that helpers may have, too.

    Raises: Wrong.
    """
    first = _FIRST.match(text)
    word = first[0] if first else ""
    word = "r" if re.fullmatch(r"[rw]\d+", word) else _WORDS.get(word, word)
    if word not in _forms:
        raise Wrong(
            "no instruction begins like this: expected a register, *(, if, goto, call, lock, exit, a label: or a "
            "function():"
        )
    for pattern, make in _forms[word]:
        if found := pattern.fullmatch(text):
            instruction = make(found)
            break
    else:
        raise Wrong(f"expected {_EXPECTED[word]}")
    reference = instruction.reference
    if isinstance(reference, FunctionReference) and instruction.is_call and reference.name not in functions:
        name = reference.name
        if name.startswith("bpf_") and name[4:] in HELPERS[1:]:
            return build.call(name)
    return instruction


def _form(word: str, *patterns: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        for pattern in patterns:
            _forms[word].append((_compiled(pattern), make))
        return make

    return add


def _compiled(pattern: str) -> re.Pattern[str]:
    out = ""
    for literal, field in re.findall(r"([^{]*)(?:\{(\w+)\})?", pattern):
        out += re.escape(literal).replace(r"\ ", r"\s*").replace(r"\~", r"\s+")
        if field:
            out += f"(?P<{field}>{FIELDS[field]})"
    return re.compile(out)


def _size(m: Match) -> int:
    if m["sign"] != "u":
        raise Wrong(f"expected u{m['size']}: signs are extended only by loads")
    return _SIZES[m["size"]]


def _aimed(opcode: int, to: str, dst: int = 0, src: int = 0, imm: int = 0) -> Instruction:
    if not to.startswith(("pc+", "pc-")):
        return Instruction(opcode, dst, src, imm=imm, reference=LabelReference(to))
    distance = int(to[2:])
    if opcode == _GOTOS["gotol"]:
        return Instruction(opcode, imm=immediate(to[2:], wide=True))
    if not -(1 << 15) <= distance < 1 << 15:
        raise Wrong(f"{to} is too far: a jump reaches pc-32768 to pc+32767, and gotol further")
    return Instruction(opcode, dst, src, distance, imm)


# Arithmetic.


@_form("r", "{dst} {alu} {src}")
def _alu_register(m: Match) -> Instruction:
    wide = is_wide(m["dst"], m["src"])
    return build.alu_reg(register(m["dst"]), m["alu"], register(m["src"]), bits=64 if wide else 32)


@_form("r", "{dst} {alu} {imm}")
def _alu_number(m: Match) -> Instruction:
    wide = is_wide(m["dst"])
    dst = register(m["dst"])
    # The kernel's spelling: a 64-bit load is hexadecimal, a move is decimal.
    if wide and m["alu"] == "=" and ("0x" in m["imm"] or not -(1 << 31) <= number(m["imm"]) < 1 << 31):
        return _load_number(m)
    return build.alu_imm(dst, m["alu"], immediate(m["imm"], wide=wide), bits=64 if wide else 32)


@_form("r", "{dst} = {imm} ll")
def _load_number(m: Match) -> Instruction:
    value = number(m["imm"])
    if not -(1 << 63) <= value < 1 << 64:
        raise Wrong(f"{m['imm']} does not fit 64 bits")
    return build.ld_imm64(whole(m["dst"]), value)


@_form("r", "{dst} = ( s{from} ) {src}")
def _move_signed(m: Match) -> Instruction:
    wide = is_wide(m["dst"], m["src"])
    return Instruction(0xBF if wide else 0xBC, register(m["dst"]), register(m["src"]), int(m["from"]))


@_form("r", "{dst} = - {src}")
def _negated(m: Match) -> Instruction:
    if m["dst"] != m["src"]:
        raise Wrong(f"expected {m['dst']} = -{m['dst']}")
    return build.neg(register(m["dst"]), bits=64 if is_wide(m["dst"]) else 32)


@_form("r", "{dst} = {order}{bits}~{src}")
def _swapped(m: Match) -> Instruction:
    if m["dst"] != m["src"]:
        raise Wrong(f"expected {m['dst']} = {m['order']}{m['bits']} {m['dst']}")
    return Instruction(_ORDERS[m["order"]], whole(m["dst"]), imm=int(m["bits"]))


@_form("r", "{dst} = addr_space_cast ( {src} , {imm} , {imm2} )")
def _address_space(m: Match) -> Instruction:
    to, source = number(m["imm"]), number(m["imm2"])
    if not (-(1 << 15) <= to < 1 << 15 and 0 <= source < 1 << 16):
        raise Wrong("address spaces are 0 and 1: r1 = addr_space_cast(r2, 0, 1)")
    return Instruction(0xBF, whole(m["dst"]), whole(m["src"]), 1, to << 16 | source)


@_form("r", "{dst} = & ( void~__percpu * ) ( {src} )")
def _percpu(m: Match) -> Instruction:
    return Instruction(0xBF, whole(m["dst"]), whole(m["src"]), -1)


# Memory.


@_form("r", "{dst} = * ( {sign}{size} * ) ( {src} {Offset} )")
def _load(m: Match) -> Instruction:
    mode = 0x61 if m["sign"] == "u" else 0x81
    return Instruction(mode | _SIZES[m["size"]], whole(m["dst"]), whole(m["src"]), offset(m["Offset"]))


@_form("r", "{dst} = * ( {sign}{size} * ) skb [ {imm} ]", "{dst} = * ( {sign}{size} * ) skb [ {src} + {imm} ]")
def _packet(m: Match) -> Instruction:
    if m["dst"] != "r0":
        raise Wrong("expected r0: what is read of a packet comes there")
    src = m.groupdict().get("src")
    mode = 0x40 if src else 0x20
    return Instruction(mode | _size(m), 0, whole(src) if src else 0, imm=immediate(m["imm"], wide=False))


@_form("*", "* ( {sign}{size} * ) ( {dst} {Offset} ) = {src}")
def _store_register(m: Match) -> Instruction:
    return Instruction(0x63 | _size(m), whole(m["dst"]), whole(m["src"]), offset(m["Offset"]))


@_form("*", "* ( {sign}{size} * ) ( {dst} {Offset} ) = {imm}")
def _store_number(m: Match) -> Instruction:
    imm = immediate(m["imm"], wide=m["size"] == "64")
    return Instruction(0x62 | _size(m), whole(m["dst"]), 0, offset(m["Offset"]), imm)


@_form("lock", "lock~* ( {sign}{size} * ) ( {dst} {Offset} ) {lock} {src}")
def _locked(m: Match) -> Instruction:
    return _atomic(m, _LOCKS[m["lock"]])


@_form("r", "{src} = atomic{Wide}_fetch_{fetch} ( ( {sign}{size} * ) ( {dst} {Offset} ) , {again} )")
def _fetched(m: Match) -> Instruction:
    return _atomic(m, _FETCHES[m["fetch"]], target=m["again"])


@_form("r", "{src} = atomic{Wide}_xchg ( ( {sign}{size} * ) ( {dst} {Offset} ) , {again} )")
def _exchanged(m: Match) -> Instruction:
    return _atomic(m, 0xE1, target=m["again"])


@_form("r", "r0 = atomic{Wide}_cmpxchg ( ( {sign}{size} * ) ( {dst} {Offset} ) , r0 , {src} )")
def _compared(m: Match) -> Instruction:
    return _atomic(m, 0xF1)


@_form("r", "{dst} = load_acquire ( ( {sign}{size} * ) ( {src} {Offset} ) )")
def _acquired(m: Match) -> Instruction:
    return _atomic(m, 0x100)


@_form("store_release", "store_release ( ( {sign}{size} * ) ( {dst} {Offset} ) , {src} )")
def _released(m: Match) -> Instruction:
    return _atomic(m, 0x110)


def _atomic(m: Match, operation: int, target: str | None = None) -> Instruction:
    if target is not None and target != m["src"]:
        raise Wrong(f"expected {target} on both sides: it takes what was there before")
    if "Wide" in m.groupdict() and (m["Wide"] == "64") != (m["size"] == "64"):
        raise Wrong("atomic64_ goes with u64 and atomic_ with u32")
    return Instruction(0xC3 | _size(m), whole(m["dst"]), whole(m["src"]), offset(m["Offset"]), operation)


@_form("nospec", "nospec")
def _no_speculation(_: Match) -> Instruction:
    return Instruction(0xC2)


# What has a name or stands for something.


@_form("r", "{dst} = map [ {by} : {number} ] {Behind}")
def _map_number(m: Match) -> Instruction:
    which, behind = int(m["number"]), int(m["Behind"] or 0)
    if not (0 <= which < 1 << 32 and -(1 << 31) <= behind < 1 << 32):
        raise Wrong("a number of a map, and an offset behind it, have 32 bits")
    kinds = (c.BPF_PSEUDO_MAP_FD, c.BPF_PSEUDO_MAP_VALUE)
    if m["by"] == "index":
        kinds = (c.BPF_PSEUDO_MAP_IDX, c.BPF_PSEUDO_MAP_IDX_VALUE)
    imm = which | (behind & 0xFFFFFFFF) << 32
    return Instruction(LD_IMM64, whole(m["dst"]), kinds[bool(m["Behind"])], imm=imm)


@_form("r", "{dst} = map [ {inner} ] {Behind}")
def _map(m: Match) -> Instruction:
    dst = whole(m["dst"])
    if not m["Behind"]:
        return build.ld_map_fd(dst, m["inner"].strip())
    return Instruction(
        LD_IMM64, dst, c.BPF_PSEUDO_MAP_VALUE, reference=MapReference(m["inner"].strip(), int(m["Behind"]))
    )


@_form("r", "{dst} = & kernel[ {inner} ]")
def _kernel_variable(m: Match) -> Instruction:
    return build.ld_kernel_variable(whole(m["dst"]), m["inner"].strip())


@_form("r", "{dst} = & kernel-variable#{number}{In}")
def _kernel_variable_number(m: Match) -> Instruction:
    btf_id, fd = int(m["number"]), int(m["In"][1:] or 0)
    if not (0 <= btf_id < 1 << 32 and fd < 1 << 32):
        raise Wrong("a BTF id, and the descriptor behind @, have 32 bits")
    return Instruction(LD_IMM64, whole(m["dst"]), c.BPF_PSEUDO_BTF_ID, imm=btf_id | fd << 32)


@_form("r", "{dst} = & pc{distance}")
def _function_at(m: Match) -> Instruction:
    distance = immediate(m["distance"], wide=True)
    return Instruction(LD_IMM64, whole(m["dst"]), c.BPF_PSEUDO_FUNC, imm=distance & 0xFFFFFFFF)


@_form("r", "{dst} = & {name}")
def _function(m: Match) -> Instruction:
    return build.ld_function(whole(m["dst"]), m["name"])


# Where it goes on.


@_form("if", "if~{dst} {if} {src}~goto~{to}")
def _if_register(m: Match) -> Instruction:
    opcode = build.jump_reg(0, m["if"], 0, 0, bits=64 if is_wide(m["dst"], m["src"]) else 32).opcode
    return _aimed(opcode, m["to"], register(m["dst"]), register(m["src"]))


@_form("if", "if~{dst} {if} {imm}~goto~{to}")
def _if_number(m: Match) -> Instruction:
    wide = is_wide(m["dst"])
    opcode = build.jump_imm(0, m["if"], 0, 0, bits=64 if wide else 32).opcode
    return _aimed(opcode, m["to"], register(m["dst"]), imm=immediate(m["imm"], wide=wide, bits=True))


@_form("goto", "{go}~{to}")
def _goto(m: Match) -> Instruction:
    return _aimed(_GOTOS[m["go"]], m["to"])


@_form("goto", "gotox~{dst}")
def _goto_register(m: Match) -> Instruction:
    return build.jump_indirect(whole(m["dst"]))


@_form("exit", "exit")
def _exit(_: Match) -> Instruction:
    return build.exit_()


@_form("call", "call~pc{distance}")
def _call_distance(m: Match) -> Instruction:
    return build.call_slot(immediate(m["distance"], wide=True))


@_form("call", "call~{name}")
def _call_name(m: Match) -> Instruction:
    return build.call_function(m["name"])


@_form("call", "call~{name}#{number}")
def _call_helper(m: Match) -> Instruction:
    helper = immediate(m["number"], wide=True)
    name = helper_name(helper) if 0 < helper < len(HELPERS) else "unknown"
    if m["name"] not in (name, "unknown"):
        raise Wrong(f"helper {helper} is {name}: expected call {name}#{helper}, or call {m['name']}")
    return build.call(helper)


@_form("call", "call~{number}")
def _call_number(m: Match) -> Instruction:
    return build.call(immediate(m["number"], wide=True))


@_form("call", "call~kernel[ {inner} ]")
def _call_kernel(m: Match) -> Instruction:
    return build.call_kernel(m["inner"].strip())


@_form("call", "call~kernel-function#{number}{In}")
def _call_kernel_number(m: Match) -> Instruction:
    return build.call_kfunc(immediate(m["number"], wide=True), offset(m["In"][1:]))


@_form("call", "callx~{dst}")
def _call_register(m: Match) -> Instruction:
    return Instruction(0x8D, whole(m["dst"]))


# What has no spelling, field by field.


@_form(".insn", ".insn~{opcode}{numbers}")
def _fields(m: Match) -> Instruction:
    opcode = int(m["opcode"], 16)
    dst, src, distance, imm = m["numbers"].split()
    if not (0 <= number(dst) < 16 and 0 <= number(src) < 16):
        raise Wrong("dst and src have 4 bits")
    value = number(imm) if opcode == LD_IMM64 else immediate(imm, wide=True)
    if not -(1 << 63) <= value < 1 << 64:
        raise Wrong(f"{imm} does not fit 64 bits")
    return Instruction(opcode, number(dst), number(src), offset(distance), value)
