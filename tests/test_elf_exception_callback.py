"""The function that a program names for when it throws is found by the program's tag, and loaded behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clang import compiled

import rawbpf

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("tool:clang", "module:elftools")]

SOURCE = """
#define __exception_cb(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

int thrown(unsigned long long cookie) { return cookie; }
SEC("tc") __exception_cb(thrown) int throwing(void *skb) { return 3; }
SEC("tc") int plain(void *skb) { return 4; }
"""


def spec_of(directory: Path) -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(
        compiled(directory, SOURCE, target={"little": "bpfel", "big": "bpfeb"}[sys.byteorder])
    )


def test_the_tag_of_a_program_names_its_callback(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert [program.exception_callback for program in spec.programs.values()] == ["thrown", ""]
    assert spec.copy().programs["throwing"].exception_callback == "thrown"
    found = {name: [str(i) for i in code] for name, code in rawbpf.relocate(spec).items()}
    assert found == {"throwing": ["r0 = 3", "exit", "r0 = r1", "exit"], "plain": ["r0 = 4", "exit"]}


@pytest.mark.real_kernel("a simulated kernel verifies no program")
@pytest.mark.needs("btf_name:bpf_throw")
def test_the_kernel_finds_it_there(backend: Backend, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    with spec.load() as obj:
        assert list(obj.programs) == ["throwing", "plain"]
    spec.programs["throwing"].exception_callback = ""
    with pytest.raises(rawbpf.VerifierError, match="exception"):
        spec.load()
