"""Maps of types without a class of their own: what the kernel does for them, and errors that say what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def test_clearing_an_array_of_programs_passes_its_empty_slots_once(backend: Backend) -> None:
    counted = FaultBackend(backend, {})
    with (
        rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()], license="GPL") as program,
        rawbpf.Map.create("prog_array", max_entries=64, backend=counted) as m,
    ):
        for index in range(0, 64, 3):
            m[index] = program
        assert len(m) == 22
        counted.calls.clear()
        m.clear()
        assert counted.calls == {c.BPF_MAP_DELETE_ELEM: 64}
        assert len(m) == 0
