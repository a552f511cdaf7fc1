"""What is read from an object is what a kernel takes: BTF, maps, data and linked programs with their records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ctypes import create_string_buffer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.objects import CALLBACKS

from rawbpf.asm import Instruction, MapReference, encode
from rawbpf.btf.ext import pack_func_info, pack_line_info
from rawbpf.elf import parse
from rawbpf.loader.link import function_starts, line_starts, link
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.map import map_create, map_freeze, map_update_elem
from rawbpf.syscall.prog import prog_load

if TYPE_CHECKING:
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

HERE = Path(__file__).parent
NATIVE = ".bpf.o" if sys.byteorder == "little" else ".bpfeb.o"
OBJECTS = [
    pytest.param(HERE / "objects" / f"shapes{NATIVE}", marks=pytest.mark.needs(*CALLBACKS)),
    *sorted((HERE.parent / "bpf").glob(f"*{NATIVE}")),
]


class Loaded:
    """The least that loads an object: no sharing, no fallbacks, everything closed at the end."""

    def __init__(self, backend: Backend, data: ObjectData, stack: ExitStack) -> None:
        self.backend = backend
        self.data = data
        self.stack = stack
        self.btf = self.own(btf_load(backend, data.btf_bytes))
        self.maps = {name: self.create(spec) for name, spec in data.maps.items()}

    def own(self, fd: int) -> int:
        self.stack.callback(self.backend.close, fd)
        return fd

    def create(self, spec: MapSpec) -> int:
        typed = bool(spec.key_type_id or spec.is_data) and spec.inner is None
        fd = self.own(
            map_create(
                self.backend,
                map_type=spec.map_type,
                key_size=spec.key_size,
                value_size=spec.value_size,
                max_entries=spec.max_entries or 1,  # a perf event array has one for each CPU
                map_flags=spec.map_flags,
                inner_map_fd=self.create(spec.inner) if spec.inner is not None else 0,
                btf_fd=self.btf if typed and spec.value_type_id else 0,
                btf_key_type_id=spec.key_type_id if typed else 0,
                btf_value_type_id=spec.value_type_id if typed else 0,
            )
        )
        if spec.contents is not None:
            map_update_elem(self.backend, fd, create_string_buffer(4), create_string_buffer(bytes(spec.contents)))
        if spec.frozen:
            map_freeze(self.backend, fd)
        return fd

    def patched(self, instruction: Instruction) -> Instruction:
        reference = instruction.reference
        if not isinstance(reference, MapReference):
            return instruction
        return instruction.replace(imm=self.maps[reference.name] | (reference.offset or 0) << 32, reference=False)

    def load(self, program: ProgramSpec) -> int:
        code = [self.patched(instruction) for instruction in link(program, self.data.functions)]
        lines = [
            (slot, line.file_name_offset, line.text_offset, line.number, line.column)
            for slot, line in line_starts(code)
        ]
        return self.own(
            prog_load(
                self.backend,
                prog_type=program.prog_type,
                insns=encode(code, self.data.byteorder),
                license=self.data.license.encode(),
                name=program.name.encode()[:15],
                prog_flags=program.prog_flags,
                btf_fd=self.btf,
                func_info=pack_func_info(function_starts(code)),
                func_info_rec_size=8,
                line_info=pack_line_info(lines),
                line_info_rec_size=16,
            )
        )


@pytest.fixture(params=OBJECTS, ids=lambda path: path.name)
def loaded(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Loaded]:
    path: Path = request.param
    with ExitStack() as stack:
        yield Loaded(backend, parse(path.read_bytes(), path.name), stack)


def test_the_kernel_takes_every_map_and_program_of_an_object_with_its_types(loaded: Loaded) -> None:
    for program in loaded.data.programs.values():
        assert loaded.load(program) >= 0
