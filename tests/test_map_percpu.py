"""Per-CPU maps hold a value for every possible CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import rawbpf

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest


@pytest.mark.parametrize("kind", ["percpu_hash", "lru_percpu_hash", "percpu_array"])
def test_a_value_has_a_slot_per_possible_cpu(backend: Backend, kind: str) -> None:
    cpus = backend.host.possible_cpus
    with rawbpf.Map.create(kind, key="u32", value="u32", max_entries=4) as created:
        m: Any = created
        m[1] = list(range(10, 10 + cpus))
        assert list(m[1]) == list(range(10, 10 + cpus))
        assert m[1].sum() == sum(range(10, 10 + cpus))
        m[2] = rawbpf.PerCpu.filled(7)
        assert m[2].sum() == 7 * cpus
        assert dict(m.items())[1] == m[1]
        with pytest.raises((TypeError, ValueError)):
            m[1] = list(range(cpus + 1))
        with pytest.raises((TypeError, ValueError)):
            m[1] = 5
        assert m.sum() == m[1].sum() + m[2].sum()


def test_structs_are_summed_per_field(backend: Backend) -> None:
    cpus = backend.host.possible_cpus
    with rawbpf.PerCpuHashMap.create(key="u32", value={"calls": "u32", "bytes": "u64"}, max_entries=4) as m:
        m.put(1, rawbpf.PerCpu.filled({"calls": 1, "bytes": 2**40}))
        total = m[1].sum()
        assert (total.calls, total.bytes) == (cpus, cpus * 2**40)
        assert m.sum("calls") == cpus
