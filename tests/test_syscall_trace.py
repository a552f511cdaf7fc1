"""The trace wrapper tells every call, decoded; the environment turns it on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def test_calls_are_decoded(backend: Backend) -> None:
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=3, name="traced", backend=traced) as m:
        m[1] = 2
        with pytest.raises(rawbpf.KeyNotFound):
            m[7]
        fd = m.fileno()
    create, update, lookup = calls[-3:]
    assert create.cmd == c.BPF_MAP_CREATE
    assert (create.fields["map_type"], create.fields["max_entries"], create.result) == (1, 3, fd)
    assert re.fullmatch(r"bpf\(map_create, \{map_type=1, .*max_entries=3, map_name=traced, .*\}\) = \d+", str(create))
    assert (update.cmd, update.fields["map_fd"], update.result, update.errno) == (c.BPF_MAP_UPDATE_ELEM, fd, 0, 0)
    assert "flags" not in update.fields
    assert str(lookup).endswith("= -1 ENOENT")


def test_rawbpf_trace_prints_each_call_to_standard_error(backend: Backend) -> None:
    code = "import rawbpf\nwith rawbpf.HashMap.create(key=4, value=4, max_entries=1) as m: m.get(b'1234')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "RAWBPF_TRACE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert any(line.startswith("bpf(map_create, ") for line in lines)
    assert lines[-1].startswith("bpf(map_lookup_elem, ")
    assert lines[-1].endswith("= -1 ENOENT")
