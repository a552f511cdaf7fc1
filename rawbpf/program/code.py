"""The code of a loaded program, read from the kernel: instructions after verification, and machine code.

What the kernel put into instructions for its own use (distances to its functions, ids of maps) is turned
back into names. It shows code to privileged processes only, and then says so by leaving the pointers out.
Kernel side: kernel/bpf/syscall.c:bpf_prog_get_info_by_fd, bpf_insn_prepare_dump (v6.12).
"""

from __future__ import annotations

import ctypes
from struct import iter_unpack

from rawbpf.asm.instruction import KernelReference, Line, MapReference, decode
from rawbpf.errors import FormatError, NotSupported, PermissionDenied
from rawbpf.syscall import obj
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import PROG_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf import Btf
    from rawbpf.errors import BpfError
    from rawbpf.syscall.protocol import Backend

_EPERM, _EOPNOTSUPP = 1, 95
_CALL, _LOAD = 0x85, 0x18
_CALL_BASE = "__bpf_call_base"
# What is asked for: the count, the pointer, bytes of an element, and the field for that.
_ARRAYS = (
    ("xlated_prog_len", "xlated_prog_insns", 1, ""),
    ("jited_prog_len", "jited_prog_insns", 1, ""),
    ("nr_jited_ksyms", "jited_ksyms", 8, ""),
    ("nr_jited_func_lens", "jited_func_lens", 4, ""),
    ("nr_func_info", "func_info", 8, "func_info_rec_size"),
    ("nr_line_info", "line_info", 16, "line_info_rec_size"),
    ("nr_jited_line_info", "jited_line_info", 8, "jited_line_info_rec_size"),
)


class JitedFunction:
    """The machine code of one function of a program: `name`, the `address` at which it lies, and `code`.

    `lines` has the source lines by the address at which what became of each begins; none without BTF. `str()` of it is
    its listing, which takes capstone.
    """

    __slots__ = ("address", "code", "lines", "name")

    def __init__(self, name: str, address: int, code: bytes, lines: Mapping[int, Line]) -> None:
        self.name = name
        self.address = address
        self.code = code
        self.lines = lines

    def __repr__(self) -> str:
        return f"<JitedFunction {self.name!r}: {len(self.code)} bytes at {self.address:#x}>"

    def __str__(self) -> str:
        return self.listing()

    def listing(self, *, source: bool = True) -> str:
        """Return the code as text, with `source` below its source lines. Raises: ImportError without capstone."""
        from rawbpf.asm.disassembler import disassemble_jited

        lines = self.lines if source else {}
        return f"{self.name}:\n{disassemble_jited(self.code, address=self.address, lines=lines)}"


class Xlated:
    """The instructions of a program, and the names of its functions by the slot at which each begins."""

    __slots__ = ("functions", "instructions")

    def __init__(self, instructions: list[Instruction], functions: dict[int, str]) -> None:
        self.instructions = instructions
        self.functions = functions


class _Dump:
    # What the kernel gives of the program behind `fd`: fields, and the arrays that are there, by their pointer's name.

    def __init__(self, backend: Backend, fd: int) -> None:
        self.backend = backend
        first = PROG_INFO.unpack(obj.obj_get_info_by_fd(backend, fd, PROG_INFO.size))
        request = ctypes.create_string_buffer(PROG_INFO.size)
        buffers = {}
        for count, pointer, size, record in _ARRAYS:
            if first[count]:
                buffers[pointer] = buffer = ctypes.create_string_buffer(first[count] * size)
                PROG_INFO.set(request, count, first[count])
                PROG_INFO.set(request, pointer, ctypes.addressof(buffer))
                if record:
                    PROG_INFO.set(request, record, size)
        obj.obj_fill_info_by_fd(backend, fd, request)
        self.field = PROG_INFO.unpack(request.raw)
        # A pointer that comes back as 0 was not followed.
        self.arrays = {name: buffer.raw for name, buffer in buffers.items() if self.field[name]}
        self.name: str = self.field["name"].rstrip(b"\0").decode("ascii", "backslashreplace")
        self._btf: Btf | None = None
        self._order = "<" if backend.host.byteorder == "little" else ">"

    @property
    def btf(self) -> Btf | None:
        # The types that it was loaded with; None without, and where they may not be read.
        if self._btf is None and self.field["btf_id"]:
            from rawbpf.map.btf import read_btf

            self._btf = read_btf(self.backend, self.field["btf_id"])
        return self._btf

    def records(self, name: str, form: str) -> list[tuple[int, ...]]:
        return list(iter_unpack(self._order + form, self.arrays.get(name, b"")))

    def functions(self) -> dict[int, tuple[int, str]]:
        # BTF id and name of each function by the slot at which it begins. Raises: FormatError.
        btf = self.btf
        return {} if btf is None else {slot: (kind, btf[kind].name) for slot, kind in self.records("func_info", "2I")}

    def lines(self) -> list[tuple[int, Line]]:
        # The slot at which each source line begins. Raises: FormatError.
        btf = self.btf
        if btf is None:
            return []
        return [
            (
                slot,
                Line(
                    btf.string(file, cut=True),
                    btf.string(text, cut=True),
                    number >> 10,
                    number & 1023,
                    file_name_offset=file,
                    text_offset=text,
                ),
            )
            for slot, file, text, number in self.records("line_info", "4I")
        ]

    def names(self) -> tuple[dict[int, tuple[int, str]], list[tuple[int, Line]]]:
        # Functions and lines; none where the types are not what the records say, since there is code without them.
        try:
            return self.functions(), self.lines()
        except (FormatError, IndexError):
            return {}, []

    def refused(self, hint: str) -> BpfError:
        return PermissionDenied(
            _EPERM, call="obj_get_info_by_fd", subject=self._subject, hint=hint, backend=self.backend.name
        )

    def lacking(self, hint: str) -> BpfError:
        return NotSupported(
            _EOPNOTSUPP, call="obj_get_info_by_fd", subject=self._subject, hint=hint, backend=self.backend.name
        )

    @property
    def _subject(self) -> str:
        return f"program {self.field['id']} {self.name!r}"

    def must_show_code(self) -> None:
        if not self.field["xlated_prog_len"]:
            raise self.refused("the kernel shows code of programs to CAP_BPF only")


def read_xlated(backend: Backend, fd: int) -> Xlated:
    """Return the instructions of the program behind `fd`. Raises: as `Program.xlated`."""
    dump = _Dump(backend, fd)
    dump.must_show_code()
    code = dump.arrays.get("xlated_prog_insns")
    if code is None:
        raise dump.refused(
            "its constants are blinded (net.core.bpf_jit_harden), which the kernel shows only where it shows "
            "addresses: kernel.kptr_restrict below 2, and CAP_SYSLOG"
        )
    instructions = decode(code, backend.host.byteorder)
    functions, lines = dump.names()
    starts = dict(lines)
    called = _Called(backend, instructions)
    out = []
    at = 0
    for instruction in instructions:
        named = called.named(instruction)
        named.line = starts.get(at)
        named.function = functions[at][0] if at in functions else None
        out.append(named)
        at += instruction.slots
    names = {slot: name for slot, (_, name) in functions.items()} or {0: dump.name}
    return Xlated(out, names)


def read_jited(backend: Backend, fd: int) -> list[JitedFunction]:
    """Return the machine code of the program behind `fd`. Raises: as `Program.jited`."""
    dump = _Dump(backend, fd)
    dump.must_show_code()
    if not dump.field["jited_prog_len"]:
        raise dump.lacking("it has no machine code: the interpreter runs it (net.core.bpf_jit_enable is 0)")
    code = dump.arrays.get("jited_prog_insns")
    if code is None:
        raise dump.refused(
            "the kernel shows machine code where it shows addresses: kernel.kptr_restrict below 2, and CAP_SYSLOG"
        )
    functions, lines = dump.names()
    names = [name for _, name in functions.values()]
    # The places of lines stand in the same order as the lines.
    places = [address for (address,) in dump.records("jited_line_info", "Q")]
    sources = {address: line for address, (_, line) in zip(places, lines, strict=False)}
    lengths = [length for (length,) in dump.records("jited_func_lens", "I")] or [len(code)]
    addresses = [address for (address,) in dump.records("jited_ksyms", "Q")]
    found = []
    at = 0
    for index, length in enumerate(lengths):
        name = names[index] if index < len(names) else f"F{index}" if index else dump.name
        address = addresses[index] if index < len(addresses) else 0
        inside = {place: line for place, line in sources.items() if address <= place < address + length}
        found.append(JitedFunction(name, address, code[at : at + length], inside))
        at += length
    return found


def listing(backend: Backend, fd: int, *, jited: bool, source: bool) -> str:
    """Return the code of the program behind `fd` as text. Raises: as `Program.disassemble`."""
    if jited:
        return "\n".join(function.listing(source=source) for function in read_jited(backend, fd))
    from rawbpf.asm.disassembler import disassemble

    xlated = read_xlated(backend, fd)
    return disassemble(xlated.instructions, functions=xlated.functions, source=source)


class _Called:
    # What calls and loads refer to, by name. The kernel's symbols are read only for a program that calls helpers.

    def __init__(self, backend: Backend, instructions: list[Instruction]) -> None:
        self._backend = backend
        self._names: dict[int, str] = {}
        wanted = {i.imm for i in instructions if i.opcode == _CALL and i.src in (0, c.BPF_PSEUDO_KFUNC_CALL)}
        if wanted:
            self._names = _symbols(backend, wanted)

    def named(self, i: Instruction) -> Instruction:
        if i.opcode == _LOAD:
            low, high = i.imm & 0xFFFFFFFF, i.imm >> 32
            if i.src == c.BPF_PSEUDO_MAP_FD:
                return i.replace(imm=0, reference=MapReference(f"id:{low}"))
            if i.src == c.BPF_PSEUDO_MAP_VALUE:
                return i.replace(imm=0, reference=MapReference(f"id:{low}", high))
            # Beside the distance stands the number of the function. Source: verifier.c:jit_subprogs
            return i.replace(imm=low) if i.src == c.BPF_PSEUDO_FUNC else i
        if i.opcode != _CALL:
            return i
        if i.src == c.BPF_PSEUDO_CALL:
            return i.replace(imm=i.offset, offset=0)  # as above: the distance stands in the offset
        if i.src == c.BPF_PSEUDO_KFUNC_CALL:
            return self._kernel_function(i)
        return self._helper(i)

    def _helper(self, i: Instruction) -> Instruction:
        from rawbpf.uapi.helper import HELPERS

        name = self._names.get(i.imm)
        if name is None:
            return i
        if name.startswith("bpf_") and name[4:] in HELPERS[1:]:
            return i.replace(imm=HELPERS.index(name[4:]))
        # What a map's type has in the place of a helper.
        return i.replace(src=c.BPF_PSEUDO_KFUNC_CALL, imm=0, reference=KernelReference(name))

    def _kernel_function(self, i: Instruction) -> Instruction:
        from rawbpf.btf import indexed
        from rawbpf.btf.types import Func

        if i.imm in self._names:
            return i.replace(imm=0, offset=0, reference=KernelReference(self._names[i.imm]))
        if i.offset:  # in the BTF of a module
            return i
        # Where distances are too great for an immediate, the id stays there.
        try:
            types = indexed(self._backend.host.btf())
            function = types[i.imm] if 0 < i.imm < len(types) else None
        except (NotSupported, FormatError):
            return i
        return i.replace(imm=0, reference=KernelReference(function.name)) if isinstance(function, Func) else i


def _symbols(backend: Backend, distances: set[int]) -> dict[int, str]:
    # The kernel's names by their distance from where helpers are counted from; none where it hides addresses.
    found: dict[int, str] = {}
    try:
        base = next((address for address, name in backend.host.kallsyms() if name == _CALL_BASE), 0)
        for address, name in backend.host.kallsyms() if base else ():
            distance = address - base
            # Of several names for a function a helper's is the one that is meant.
            if distance in distances and (distance not in found or name.startswith("bpf_")):
                found[distance] = name
    except OSError:  # no /proc
        pass
    return found
