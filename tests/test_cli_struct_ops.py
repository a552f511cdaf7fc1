"""`rawbpf run` of an object with tables of functions: registered while it runs, or while their links are pinned."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.bpffs import detached_bpffs
from support.clang import LIBBPF, compiled
from support.command import FOREVER, run, running
from support.congestion import PROGRAMS, STRUCT, available, table, vanishes

NAME = f"cli{os.getpid()}"

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs(
        "tool:clang", "module:elftools", "capability:CAP_SYS_ADMIN", "btf_name:bpf_struct_ops_link_create"
    ),
]


def made(directory: Path, section: str) -> Path:
    path = directory / "congestion.bpf.o"
    tables = table("ops", section) + table("other", "?.struct_ops.link")
    path.write_bytes(
        compiled(directory, STRUCT + PROGRAMS + tables.replace("unnamed", NAME), prelude=LIBBPF).read_bytes()
    )
    return path


@pytest.mark.parametrize("section", [".struct_ops", ".struct_ops.link"])
def test_a_table_is_registered_while_it_runs(tmp_path: Path, section: str) -> None:
    with running(made(tmp_path, section), "--interval", FOREVER) as command:
        assert "rawbpf: attached to struct_ops 'ops'; Ctrl-C ends" in "\n".join(command.told)
        assert NAME in available()
        assert command.end()[0] == 0
    assert NAME not in available()


def test_a_table_stays_registered_as_long_as_its_link_is_pinned(tmp_path: Path) -> None:
    path = made(tmp_path, ".struct_ops.link")
    with detached_bpffs() as root:
        status, _, err = run(path, "--pin", root, "--duration", 0.01)
        assert (status, "Traceback" in err) == (0, False)
        assert NAME in available()
        assert {each.name for each in root.iterdir()} >= {"ops", "ops_link"}
        (root / "ops_link").unlink()
        assert vanishes(NAME)


def test_a_table_without_a_link_is_not_registered_any_longer(tmp_path: Path) -> None:
    with detached_bpffs() as root:
        status, _, err = run(made(tmp_path, ".struct_ops"), "--pin", root, "--duration", 0.01)
        assert status == 0
        assert "rawbpf: not pinned: ops_link: the table was made without BPF_F_LINK" in err
        assert not (root / "ops_link").exists()
        assert NAME not in available()


def test_a_table_that_is_not_made_is_not_shown(tmp_path: Path) -> None:
    status, _, err = run(made(tmp_path, ".struct_ops"), "--map", "other", "--duration", 0.01)
    assert status == 1
    assert "--map other: the object has no such map" in err
