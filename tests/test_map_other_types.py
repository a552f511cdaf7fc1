"""Maps of types without a class of their own: what the kernel does for them, and errors that say what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


@pytest.mark.parametrize(("kind", "first"), [("queue", 5), ("stack", 6)])
def test_types_without_keys_take_empty_ones(backend: Backend, kind: str, first: int) -> None:
    with rawbpf.Map.create(kind, value="u32", max_entries=2) as m:
        m.put(b"", 5)
        m.put(b"", 6)
        assert (m[b""], m.lookup(b""), m.pop(b""), m.pop(b"")) == (first, first, first, 11 - first)
        with pytest.raises(rawbpf.Empty):
            m.pop(b"")


def test_clearing_an_array_of_programs_passes_its_empty_slots_once(backend: Backend) -> None:
    counted = FaultBackend(backend, {})
    with (
        rawbpf.Program.load("socket_filter", [mov_imm(0, 0), exit_()], license="GPL") as program,
        rawbpf.Map.create("prog_array", max_entries=64, backend=counted) as m,
    ):
        for index in range(0, 64, 3):
            m[index] = program.fileno()
        assert len(m) == 22
        counted.calls.clear()
        m.clear()
        assert counted.calls[c.BPF_MAP_GET_NEXT_KEY] == 65
        assert len(m) == 0


def test_clearing_a_trie_never_asks_for_what_follows_a_deleted_key(backend: Backend) -> None:
    # Linux 5.10 skips keys where it is asked.
    calls: list[Call] = []
    key = {"bits": "u32", "address": "ipv4"}
    with rawbpf.Map.create(
        "lpm_trie", key=key, value="u32", max_entries=16, backend=TraceBackend(backend, calls.append)
    ) as m:
        m.update({(32, f"10.0.0.{i}"): i for i in range(8)})
        m.clear()
        assert len(m) == 0
    walked = [call.fields for call in calls if str(call).startswith("bpf(map_get_next_key")]
    assert len(walked) == 9
    assert not any("key" in fields for fields in walked)
