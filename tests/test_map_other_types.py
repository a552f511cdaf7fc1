"""What maps of several types have in common, and no file of one type has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest


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
        assert counted.calls == {"map_delete_elem": 64}
        assert len(m) == 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("stack_trace", {"max_entries": 4}, id="stack_trace"),
        pytest.param("cgroup_storage", {"value": "u64"}, id="cgroup_storage"),
        pytest.param("percpu_cgroup_storage", {"value": "u64"}, id="percpu_cgroup_storage"),
        pytest.param("lpm_trie", {"key": "ipv4", "value": "u64", "max_entries": 4}, id="lpm_trie"),
        pytest.param("devmap", {"max_entries": 4}, id="devmap"),
    ],
)
def test_what_has_no_order_cannot_be_reversed(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    m: Any
    with rawbpf.Map.create(kind, **options) as m, pytest.raises(TypeError, match="not reversible"):
        reversed(m)
