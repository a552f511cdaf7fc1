"""Attaching an object of several programs: all of them or none, and each link knows its program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.bpffs import bpffs
from support.objects import CALLBACKS

import rawbpf
from rawbpf.link.base import Link
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

OBJECTS = Path(__file__).parent / "objects"

pytestmark = [
    pytest.mark.real_kernel("nothing can be attached to a simulated kernel"),
    pytest.mark.guest,
    pytest.mark.needs("module:elftools", *CALLBACKS),
]


@pytest.fixture
def failing(backend: Backend) -> FaultBackend:
    """The second LINK_CREATE fails for want of memory."""
    return FaultBackend(backend, {c.BPF_LINK_CREATE: [(2, 12)]})


@pytest.fixture
def obj(backend: Backend, failing: FaultBackend) -> Iterator[rawbpf.Object]:
    suffix = "bpf" if failing.host.byteorder == "little" else "bpfeb"
    spec = rawbpf.ObjectSpec.from_file(OBJECTS / f"shapes.{suffix}.o")
    with bpffs(backend) as pins, spec.load(pin_dir=pins, backend=failing) as loaded:
        yield loaded


def _attached(obj: rawbpf.Object) -> list[int]:
    ours = {program.id for program in obj.programs.values()}
    return sorted(link.prog_id for link in rawbpf.links() if link.prog_id in ours)


def test_when_one_program_cannot_be_attached_none_is(obj: rawbpf.Object, failing: FaultBackend) -> None:
    assert sorted(obj.programs) == ["count_execve", "sum_up"]
    with pytest.raises(rawbpf.BpfError) as caught:
        obj.attach()
    assert caught.value.errno == 12
    assert failing.calls[c.BPF_LINK_CREATE] == 2
    assert _attached(obj) == []


def test_all_are_attached_and_each_link_names_its_program(obj: rawbpf.Object, failing: FaultBackend) -> None:
    failing.calls[c.BPF_LINK_CREATE] = 2
    with obj.attach() as links:
        assert [link.program_name for link in links] == list(obj.programs)
        assert [link.info.prog_id for link in links] == [program.id for program in obj.programs.values()]
        assert f"of {list(obj.programs)[1]!r}" in repr(links[1])
        assert _attached(obj) == sorted(program.id for program in obj.programs.values())
        with Link.from_id(links[0].id) as opened:
            assert opened.program_name == ""
            assert " of " not in repr(opened)
    assert _attached(obj) == []
