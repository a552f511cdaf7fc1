"""What a program is loaded with for whoever reads it: which types its functions have, which lines its instructions.

Source: kernel/bpf/verifier.c:check_btf_info_early, check_btf_func, check_btf_line (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EACCES, EINVAL
from struct import Struct

from rawbpf.sim.btf import KernelBtf, LoadedBtf
from rawbpf.sim.error import Refused
from rawbpf.sim.types import record as r
from rawbpf.uapi.attr import PROG_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.attr import Attr
    from rawbpf.sim.code import Code
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.program import SimProgram
    from rawbpf.sim.types.log import Log

FUNC_INFO = Struct("=II")
LINE_INFO = Struct("=IIII")
_MAX_RECORD = 252


class DebugInfo:
    """The func_info and line_info of one PROG_LOAD; `log` is told what is wrong with them."""

    def __init__(self, kernel: Kernel, attr: Attr, program: SimProgram, log: Log) -> None:
        self._kernel = kernel
        self._attr = attr
        self._program = program
        self._log = log

    def open(self) -> None:
        """Get the BTF and the functions' records. Raises: Refused (EBADF, EINVAL, EACCES: the kernel's own, ...).

        Source: check_btf_info_early.
        """
        if not self._count("func") and not self._count("line"):
            return
        fd = self._attr.number(PROG_LOAD, "prog_btf_fd")
        content = self._kernel.files.get(fd, (LoadedBtf, KernelBtf)).content
        if not isinstance(content, LoadedBtf):
            raise Refused(EACCES)
        self._program.btf = self._btf = content
        if self._count("func"):
            self._program.func_info = self._functions()

    def check(self, code: Code) -> None:
        """Check that the records are about these instructions. Raises: Refused. Source: check_btf_info."""
        starts = [each[0] for each in FUNC_INFO.iter_unpack(self._program.func_info)]
        if starts and len(starts) != len(code.functions):
            raise self._log.refused(EINVAL, "number of funcs in func_info doesn't match number of subprogs")
        if starts and starts != code.functions:
            raise self._log.refused(EINVAL, "func_info BTF section doesn't match subprog layout in BPF program")
        if self._count("line"):
            self._program.line_info = self._lines(code)

    def _count(self, kind: str) -> int:
        return self._attr.number(PROG_LOAD, f"{kind}_info_cnt")

    def _records(self, kind: str, form: Struct, word: str) -> bytes:
        # The records, as long as this kernel knows them. Raises: Refused (EINVAL, E2BIG: the rest is not zero, EFAULT).
        size = self._attr.number(PROG_LOAD, f"{kind}_info_rec_size")
        count = self._count(kind)
        if not form.size <= size <= _MAX_RECORD or size % 4:
            raise self._log.refused(EINVAL, f"invalid {word} rec size {size}") if kind == "func" else Refused(EINVAL)
        if count > 0x7FFFFFFF // form.size:
            raise Refused(EINVAL)
        found = bytearray()
        for index in range(count):
            record = self._kernel.memory.read(self._attr.number(PROG_LOAD, f"{kind}_info") + index * size, size)
            if record[form.size :].strip(b"\0"):
                self._attr.store(PROG_LOAD.end(f"{kind}_info_rec_size") - 4, "=I", form.size)
                raise self._log.refused(E2BIG, f"nonzero tailing record in {word}")
            found += record[: form.size]
        return bytes(found)

    def _functions(self) -> bytes:
        # Source: check_btf_func_early.
        found = self._records("func", FUNC_INFO, "func info")
        previous = -1
        for start, number in FUNC_INFO.iter_unpack(found):
            if previous < 0 and start:
                raise self._log.refused(EINVAL, f"nonzero insn_off {start} for the first func info record")
            if start <= previous:
                text = f"same or smaller insn offset ({start}) than previous func info record ({previous})"
                raise self._log.refused(EINVAL, text)
            kind = self._btf.records.get(number)
            if kind is None or kind.kind != r.FUNC:
                raise self._log.refused(EINVAL, f"invalid type id {number} in func info")
            previous = start
        return found

    def _lines(self, code: Code) -> bytes:
        # Source: check_btf_line.
        found = self._records("line", LINE_INFO, "line_info")
        missing = list(code.functions)
        previous, length = 0, len(code.slots)
        for index, (start, file_name, text, _) in enumerate(LINE_INFO.iter_unpack(found)):
            if (index and start <= previous) or start >= length:
                place = f"insn_off:{start} (prev_offset:{previous} prog->len:{length})"
                raise self._log.refused(EINVAL, f"Invalid line_info[{index}].{place}")
            if not code.slots[start].opcode:
                raise self._log.refused(EINVAL, f"Invalid insn code at line_info[{index}].insn_off")
            if max(text, file_name) >= len(self._btf.records.strings):
                raise self._log.refused(EINVAL, f"Invalid line_info[{index}].line_off or .file_name_off")
            if missing and missing[0] == start:
                del missing[0]
            elif missing and missing[0] < start:
                number = len(code.functions) - len(missing)
                raise self._log.refused(EINVAL, f"missing bpf_line_info for func#{number}")
            previous = start
        if missing:
            number = len(code.functions) - len(missing)
            raise self._log.refused(
                EINVAL, f"missing bpf_line_info for {len(missing)} funcs starting from func#{number}"
            )
        return found
