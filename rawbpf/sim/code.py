"""The instructions of a program that is loaded: what is wrong with them, and the maps that they refer to.

Only what the kernel looks at before and beside verifying: where functions start, jumps and opcodes, references to
maps, helpers. What is not reached, and what is done with values, is not looked at. Texts are the kernel's.
Source: kernel/bpf/verifier.c:add_subprog_and_kfunc, check_subprogs, resolve_pseudo_ldimm64, check_helper_call
(v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EFAULT, EINVAL, EPROTO
from hashlib import sha1, sha256
from struct import Struct, iter_unpack

from rawbpf.asm.instruction import LD_IMM64
from rawbpf.sim import helper
from rawbpf.sim.error import ENOTSUPP, Refused
from rawbpf.sim.map.array import SimArray
from rawbpf.sim.map.base import SimMap
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.kernel import Kernel
    from rawbpf.sim.program import SimProgram
    from rawbpf.sim.types.log import Log

SIZE = 8
_CALL, _EXIT, _JUMP, _LONG_JUMP = 0x85, 0x95, 0x05, 0x06
_JMP, _JMP32, _LDX = 0x05, 0x06, 0x01
_MEM, _MEMSX = 0x60, 0x80
_MAX_USED_MAPS = 64
_MAX_FUNCTIONS = 256
_MAX_OFFSET = 1 << 29
_BY_FD = (c.BPF_PSEUDO_MAP_FD, c.BPF_PSEUDO_MAP_VALUE)
_BY_INDEX = (c.BPF_PSEUDO_MAP_IDX, c.BPF_PSEUDO_MAP_IDX_VALUE)
_OF_VALUE = (c.BPF_PSEUDO_MAP_VALUE, c.BPF_PSEUDO_MAP_IDX_VALUE)
_FD = Struct("=i")

_ARITHMETIC = (0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xA0, 0xB0, 0xC0)
_COMPARE = (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0)
# Source: kernel/bpf/core.c:public_insntable. What came later is listed with its release.
_OPCODES = {
    *(operation | source | kind for operation in _ARITHMETIC for source in (0x00, 0x08) for kind in (0x04, 0x07)),
    *(operation | source | kind for operation in _COMPARE for source in (0x00, 0x08) for kind in (0x05, 0x06)),
    *(0x84, 0x87, 0xD4, 0xDC, _CALL, _EXIT, _JUMP, LD_IMM64),
    *(kind | size for kind in (0x61, 0x62, 0x63) for size in (0x00, 0x08, 0x10, 0x18)),
    *(0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xC3, 0xDB),
}
_LATER_OPCODES = {
    "6.6": (0xD7, _LONG_JUMP, 0x81, 0x89, 0x91),  # bswap, a jump of 32 bits, loads that extend the sign
    "6.10": (0xE5,),  # may_goto
    "6.15": (0xCB, 0xD3),  # load_acquire and store_release of bytes and halves
}


class Slot:
    """One instruction, or one half of a 64-bit load."""

    __slots__ = ("dst", "imm", "offset", "opcode", "src")

    def __init__(self, opcode: int, dst: int, src: int, offset: int, imm: int) -> None:
        self.opcode = opcode
        self.dst = dst
        self.src = src
        self.offset = offset
        self.imm = imm


class Code:
    """The instructions in `image`, of a program that is being loaded; `log` is told what is wrong."""

    def __init__(self, kernel: Kernel, program: SimProgram, image: bytes, log: Log) -> None:
        self._kernel = kernel
        self._program = program
        self._log = log
        self._big = kernel.host.byteorder == "big"
        self._image = bytearray(image)
        form = ">BBhi" if self._big else "<BBhi"
        self.slots = [self._slot(*fields) for fields in iter_unpack(form, image)]
        self.functions = [0]
        """Where the functions start."""

    def _slot(self, opcode: int, registers: int, offset: int, imm: int) -> Slot:
        high, low = registers >> 4, registers & 15
        return Slot(opcode, *((high, low) if self._big else (low, high)), offset, imm)

    def find_functions(self) -> None:
        """Find where functions start. Raises: Refused (EINVAL, E2BIG). Source: add_subprog_and_kfunc."""
        starts = {0}
        for at, slot in enumerate(self.slots):
            is_call = slot.opcode == _CALL and slot.src == c.BPF_PSEUDO_CALL
            if not is_call and not (slot.opcode == LD_IMM64 and slot.src == c.BPF_PSEUDO_FUNC):
                continue
            target = at + slot.imm + 1
            if not 0 <= target < len(self.slots):
                raise self._log.refused(EINVAL, "call to invalid destination")
            starts.add(target)
            if len(starts) > _MAX_FUNCTIONS:
                raise self._log.refused(E2BIG, "too many subprograms")
        self.functions = sorted(starts)

    def check_jumps(self) -> None:
        """Check that functions end, and that no jump leaves one. Raises: Refused (EINVAL). Source: check_subprogs."""
        for start, end in zip(self.functions, [*self.functions[1:], len(self.slots)], strict=True):
            for at in range(start, end):
                slot = self.slots[at]
                if slot.opcode & 7 in (_JMP, _JMP32) and slot.opcode not in (_CALL, _EXIT):
                    target = at + 1 + (slot.imm if slot.opcode == _LONG_JUMP else slot.offset)
                    if not start <= target < end:
                        raise self._log.refused(EINVAL, f"jump out of range from insn {at} to {target}")
            if self.slots[end - 1].opcode not in (_EXIT, _JUMP, _LONG_JUMP):
                raise self._log.refused(EINVAL, "last insn is not an exit or jmp")

    def resolve(self, fd_array: int) -> None:
        """Check opcodes, and give the program the maps that are referred to; `fd_array` is an address.

        Raises: Refused (EINVAL, EBADF, EPROTO, EFAULT, E2BIG, ENOTSUPP). Source: resolve_pseudo_ldimm64.
        """
        self._give_tags()
        known = _OPCODES.union(*(more for first, more in _LATER_OPCODES.items() if self._kernel.release.reached(first)))
        at = 0
        while at < len(self.slots):
            slot = self.slots[at]
            if slot.opcode & 7 == _LDX and (slot.opcode & 0xE0 not in (_MEM, _MEMSX) or slot.imm):
                raise self._log.refused(EINVAL, "BPF_LDX uses reserved fields")
            if slot.opcode == LD_IMM64:
                self._resolve_load(at, fd_array)
                at += 1
            elif slot.opcode == _CALL and slot.src == c.BPF_PSEUDO_CALL:
                # As info shows it: how far it is in the place of the offset. Source: verifier.c:jit_subprogs.
                order = self._kernel.host.byteorder
                self._image[at * SIZE + 2 : at * SIZE + 4] = (slot.imm & 0xFFFF).to_bytes(2, order)
                self._image[at * SIZE + 4 : at * SIZE + 8] = bytes(4)
            elif slot.opcode not in known:
                raise self._log.refused(EINVAL, f"unknown opcode {slot.opcode:02x}")
            at += 1
        self._program.instructions = bytes(self._image)

    def check_helpers(self) -> None:
        """Check that every helper that is called is there for the program. Raises: Refused (EINVAL).

        Source: check_helper_call, kernel/bpf/log.c:verbose_insn.
        """
        release = self._kernel.release
        for at, slot in enumerate(self.slots):
            if slot.opcode != _CALL or slot.src:
                continue
            number = slot.imm
            name = helper_name(number) if 0 < number <= helper.LAST else "unknown" if number else "bpf_unspec"
            word = f"{name}#{number}"
            complaint = ""
            if number and not (number > 0 and helper.is_known(release, number)):
                complaint = f"invalid func {word}"
            elif not helper.may_call(self._program.resolved_type, number):
                complaint = f"program of this type cannot use helper {word}"
                complaint = complaint if release.reached("6.2") else f"unknown func {word}"
            elif not self._program.gpl and helper.is_for_gpl(number):
                complaint = "cannot call GPL-restricted function from non-GPL compatible program"
            if complaint:
                self._log.write(f"{at}: (85) call {word}")
                raise self._log.refused(EINVAL, complaint)

    def _give_tags(self) -> None:
        # Source: bpf_prog_calc_tag, which leaves out what differs from one load to the next.
        image = bytearray(self._image)
        for at, slot in enumerate(self.slots[:-1]):
            if slot.opcode == LD_IMM64 and slot.src in _BY_FD and not self.slots[at + 1].opcode:
                image[at * SIZE + 4 : at * SIZE + 8] = image[at * SIZE + 12 : at * SIZE + 16] = bytes(4)
        digest = sha256 if self._kernel.release.reached("6.18") else sha1
        ends = [*self.functions[1:], len(self.slots)]
        self._program.tag = digest(image, usedforsecurity=False).digest()[:8]
        self._program.function_tags = [
            digest(image[start * SIZE : end * SIZE], usedforsecurity=False).digest()[:8]
            for start, end in zip(self.functions, ends, strict=True)
        ]

    def _resolve_load(self, at: int, fd_array: int) -> None:
        slot = self.slots[at]
        second = self.slots[at + 1] if at + 1 < len(self.slots) else None
        if second is None or second.opcode or second.dst or second.src or second.offset:
            raise self._log.refused(EINVAL, "invalid bpf_ld_imm64 insn")
        if slot.src in (0, c.BPF_PSEUDO_FUNC):
            return
        if slot.src == c.BPF_PSEUDO_BTF_ID:
            self._check_btf_id(slot.imm, second.imm)
            return
        of_value = slot.src in _OF_VALUE
        if slot.src not in (*_BY_FD, *_BY_INDEX) or (second.imm and not of_value):
            raise self._log.refused(EINVAL, "unrecognized bpf_ld_imm64 insn")
        fd = slot.imm if slot.src in _BY_FD else self._fd_at(fd_array, slot.imm)
        target = self._map(fd, "bpf_map")
        self.use(target)
        if of_value:
            self._check_value(target, second.imm & 0xFFFFFFFF)
        # As info shows it: a map by its id. Source: kernel/bpf/syscall.c:bpf_insn_prepare_dump.
        source = c.BPF_PSEUDO_MAP_VALUE if of_value else c.BPF_PSEUDO_MAP_FD
        first = at * SIZE
        self._image[first + 1] = slot.dst << 4 | source if self._big else source << 4 | slot.dst
        self._image[first + 4 : first + 8] = target.id.to_bytes(4, self._kernel.host.byteorder)

    def _fd_at(self, fd_array: int, index: int) -> int:
        if not fd_array:
            raise self._log.refused(EPROTO, "fd_idx without fd_array is invalid")
        fd: int = _FD.unpack(self._kernel.memory.read(fd_array + index * _FD.size & (1 << 64) - 1, _FD.size))[0]
        return fd

    def use_array(self, fd_array: int, count: int) -> None:
        """Give the program all maps and BTF that `fd_array` has. Raises: Refused. Source: process_fd_array."""
        from rawbpf.sim.btf import KernelBtf, LoadedBtf

        if count >= 0xFFFFFFFF // _FD.size:
            raise self._log.refused(EINVAL, f"fd_array_cnt is too big ({count})")
        for index in range(count):
            if not fd_array:
                raise Refused(EFAULT)
            fd = self._fd_at(fd_array, index)
            try:
                file = self._kernel.files.find(fd)
            except Refused:
                file = None
            if file is not None and isinstance(file.content, LoadedBtf | KernelBtf):
                self._program.btfs.append(file.content)
            else:
                self.use(self._map(fd, "bpf_map or btf"))

    def _map(self, fd: int, word: str) -> SimMap:
        try:
            content = self._kernel.files.get(fd, SimMap).content
        except Refused as refused:
            raise self._log.refused(refused.errno, f"fd {fd} is not pointing to valid {word}") from None
        assert isinstance(content, SimMap)
        return content

    def use(self, target: SimMap) -> None:
        """Give the program a map. Raises: Refused (E2BIG: it has too many). Source: __add_used_map."""
        maps = self._program.maps
        if any(target is each for each in maps):
            return
        if len(maps) >= _MAX_USED_MAPS:
            text = f"The total number of maps per program has reached the limit of {_MAX_USED_MAPS}"
            raise self._log.refused(E2BIG, text)
        maps.append(target)

    def _check_value(self, target: SimMap, offset: int) -> None:
        # Source: resolve_pseudo_ldimm64, kernel/bpf/arraymap.c:array_map_direct_value_addr.
        if offset >= _MAX_OFFSET:
            raise self._log.refused(EINVAL, f"direct value offset of {offset} is not allowed")
        if target.type == c.BPF_MAP_TYPE_ARENA:
            if offset < target.max_entries * self._kernel.host.page_size:
                return
            errno = EINVAL
        elif not isinstance(target, SimArray) or target.type != c.BPF_MAP_TYPE_ARRAY:
            raise self._log.refused(EINVAL, "no direct value access support for this map type")
        elif target.max_entries != 1:
            errno = ENOTSUPP
        elif offset >= target.value_size:
            errno = EINVAL
        else:
            return
        text = f"invalid access to map value pointer, value_size={target.value_size} off={offset}"
        raise self._log.refused(errno, text)

    def _check_btf_id(self, number: int, fd: int) -> None:
        # Source: check_pseudo_btf_id, of which the kind of symbol is left out.
        from rawbpf.sim.btf import KernelBtf

        if fd:
            try:
                self._kernel.files.get(fd, KernelBtf)
            except Refused:
                raise self._log.refused(EINVAL, "invalid module BTF object FD specified.") from None
        types = self._kernel.host.types()
        if types is None:
            text = "kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig."
            raise self._log.refused(EINVAL, text)
        if not 0 < number < len(types):
            raise self._log.refused(EINVAL, f"ldimm64 insn specifies invalid btf_id {number}.")
