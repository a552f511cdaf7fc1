"""`rawbpf run --pin DIR`: what stays, what is removed again, and the bpffs that only the command line mounts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.bpffs import detached_bpffs
from support.command import BPF, FOREVER, ROOT, run, running
from support.execs import execute_as

import rawbpf

EXECCOUNT = BPF / "execcount.bpf.o"
SHAPES = Path(__file__).parent / "objects/shapes.bpf.o"
UID = 43410
# A kernel's own files of a bpffs that it mounted first.
_OWN = {"maps.debug", "progs.debug"}

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs("capability:CAP_SYS_ADMIN", "module:elftools"),
]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - _OWN


def test_maps_and_links_stay_and_it_goes_on_counting() -> None:
    with detached_bpffs() as root:
        with running(EXECCOUNT, "--pin", root / "a/b", "--interval", FOREVER) as command:
            execute_as(UID, 3)
            status, out, err = command.end(signal.SIGTERM)
        assert status == 0
        assert f"uid={UID} count=3\n" in out
        files = f"{root}/a/b/exec_count {root}/a/b/count_execve_link"
        assert err == (
            f"rawbpf: pinned in {root}/a/b, and still attached; to detach: rm {files} && rmdir {root}/a/b {root}/a\n"
        )
        assert names(root) == {"a", "a/b", "a/b/exec_count", "a/b/count_execve_link"}
        execute_as(UID, 2)
        with rawbpf.Map.from_pin(root / "a/b/exec_count") as pinned:
            assert pinned.snapshot()[UID] == 5
            (root / "a/b/count_execve_link").unlink()
            execute_as(UID, 4)
            assert pinned.snapshot()[UID] == 5


def test_the_end_names_only_its_own_files() -> None:
    with detached_bpffs() as root:
        with rawbpf.Map.create("hash", key="u32", value="u32", max_entries=1, pin=root / "of_others"):
            status, _, err = run(EXECCOUNT, "--pin", root, "--duration", 0.01)
        assert status == 0
        files = f"{root}/exec_count {root}/count_execve_link"
        assert err.splitlines()[1:] == [f"rawbpf: pinned in {root}, and still attached; to detach: rm {files}"]


def test_the_end_says_what_others_removed_meanwhile() -> None:
    with detached_bpffs() as root:
        with running(EXECCOUNT, "--pin", root / "a", "--interval", "0.01") as command:
            next(command.lines)
            next(command.lines)
            (root / "a/count_execve_link").unlink()
            told = command.end(signal.SIGTERM)[2]
        assert told == (
            f"rawbpf: pinned in {root}/a (others removed count_execve_link); "
            f"to remove: rm {root}/a/exec_count && rmdir {root}/a\n"
        )
        (root / "a/exec_count").unlink()
        with running(EXECCOUNT, "--pin", root / "a", "--interval", "0.01") as command:
            next(command.lines)
            next(command.lines)
            for name in names(root / "a"):
                (root / "a" / name).unlink()
            (root / "a").rmdir()
            told = command.end(signal.SIGTERM)[2]
        assert told == f"rawbpf: nothing is pinned in {root}/a: others removed what was\n"


def test_a_reader_that_goes_away_leaves_word_of_what_stays() -> None:
    with detached_bpffs() as root, running(EXECCOUNT, "--pin", root, "--interval", "0.01") as command:
        next(command.lines)
        assert command.process.stdout is not None
        command.process.stdout.close()
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        assert "still attached" in command.process.stderr.read()


def test_a_directory_that_was_removed_under_it_is_one_line() -> None:
    code = (
        "import os, sys, tempfile\nfrom rawbpf.cli import main\n"
        "with tempfile.TemporaryDirectory() as path:\n    os.chdir(path)\nsys.exit(main())"
    )
    assert run(EXECCOUNT, "--pin", "x", code=code) == (
        1,
        "",
        "rawbpf: --pin x: the current directory was removed\n",
    )


def test_pins_that_are_there_already_are_named_and_left() -> None:
    with detached_bpffs() as root:
        with rawbpf.Map.create("hash", key="u32", value="u32", max_entries=1, pin=root / "exec_count"):
            status, out, err = run(EXECCOUNT, "--pin", root, "--duration", 0.01)
        assert (status, out) == (1, "")
        assert err == (
            f"rawbpf: --pin {root}: exec_count is there already; remove what is there, or choose another directory\n"
        )
        assert names(root) == {"exec_count"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([EXECCOUNT, "--interval", "0.01"], id="full-disk"),
        pytest.param([SHAPES, "--interval", "0.01"], id="full-disk-and-maps-pinned-by-name"),
    ],
)
def test_nothing_stays_pinned_when_it_cannot_start(arguments: list[object]) -> None:
    with detached_bpffs() as root, open("/dev/full", "w", encoding="ascii") as full:
        status, _, _ = run(*arguments, "--pin", root / "a/b", stdout=full)
        assert status == 1
        assert names(root) == set()


def test_maps_that_are_pinned_by_name_are_found_there_again() -> None:
    with detached_bpffs() as root:
        for _ in range(2):
            status, _, err = run(SHAPES, "--pin", root, "--duration", 0.01)
            assert status == 0, err
            assert "shared" in names(root)
            for name in names(root) - {"shared"}:
                (root / name).unlink()


def test_a_directory_that_is_on_no_bpffs_is_refused(tmp_path: Path) -> None:
    status, out, err = run(EXECCOUNT, "--pin", tmp_path / "new")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"rawbpf: --pin {tmp_path}/new: not on a bpf file system")
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_a_dot_is_explained() -> None:
    with detached_bpffs() as root:
        status, _, err = run(EXECCOUNT, "--pin", root / "a/b.c")
        assert (status, err.count("\n")) == (1, 1)
        assert "takes no dots in names" in err
        assert names(root) == set()


# In a mount namespace of its own: nobody else sees what is mounted.
_ALONE = """\
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(0x20000), os.strerror(ctypes.get_errno())  # CLONE_NEWNS
assert not libc.mount(b"none", b"/", None, ctypes.c_ulong(1 << 18 | 1 << 14), None)  # MS_PRIVATE | MS_REC
while not libc.umount2(b"/sys/fs/bpf", 2):
    pass
kind, *command = sys.argv[1:]
if kind != "nothing":
    assert not libc.mount(kind.encode(), b"/sys/fs/bpf", kind.encode(), ctypes.c_ulong(0), None)
done = subprocess.run(command, capture_output=True, text=True)
print(done.stderr, end="")
print(done.returncode)
print("still mounted" if os.path.ismount("/sys/fs/bpf") else "not mounted")
print(*sorted(os.listdir("/sys/fs/bpf")))
"""


def alone(mounted: str, *arguments: str, path: Path = EXECCOUNT) -> list[str]:
    command = [sys.executable, "-m", "rawbpf", "run", str(path), "--duration", "0.01", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, mounted, *command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.needs("file:/sys/fs/bpf")
def test_a_bpffs_is_mounted_where_it_belongs_if_there_is_none() -> None:
    *told, status, _, listed = alone("nothing", "--pin", "/sys/fs/bpf/x")
    assert told[0] == "rawbpf: mounted a bpf file system at /sys/fs/bpf, where there was none"
    assert (status, set(listed.split()) - _OWN) == ("0", {"x"})


@pytest.mark.needs("file:/sys/fs/bpf")
def test_an_object_that_pins_by_name_says_what_stays() -> None:
    *told, status, mounted, listed = alone("nothing", path=SHAPES)
    assert (status, mounted, set(listed.split()) - _OWN) == ("0", "still mounted", {"shared"})
    assert told[-1] == (
        "rawbpf: the object pins shared by name, in /sys/fs/bpf, and it stays; to remove: rm /sys/fs/bpf/shared; "
        "the bpf file system at /sys/fs/bpf stays mounted, too: umount /sys/fs/bpf"
    )


@pytest.mark.needs("file:/sys/fs/bpf")
def test_no_second_bpffs_is_mounted() -> None:
    *told, status, _, listed = alone("bpf", "--pin", "/sys/fs/bpf/x")
    assert not [line for line in told if "mounted" in line]
    assert (status, set(listed.split()) - _OWN) == ("0", {"x"})


@pytest.mark.needs("file:/sys/fs/bpf")
def test_what_else_is_mounted_there_is_left_alone() -> None:
    *told, status, _, listed = alone("tmpfs", "--pin", "/sys/fs/bpf/x")
    assert len(told) == 1
    assert re.search("/sys/fs/bpf holds a tmpfs and no bpf file system", told[0])
    assert (status, listed) == ("1", "")


def test_this_file_system_was_not_touched() -> None:
    assert not os.path.exists("/sys/fs/bpf/x")
