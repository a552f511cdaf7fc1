"""Every compiler for BPF that Debian has builds bpf/, and what each builds is read, loaded and run alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peer import libbpf
from peer.compare import differing, differing_code
from support.execs import execute_as
from support.needs import require
from support.objects import BPF, SUFFIX

import rawbpf
from rawbpf import ObjectSpec, relocate
from rawbpf.codec import codec_for

if TYPE_CHECKING:
    from rawbpf.btf import Type
    from rawbpf.syscall.protocol import Backend

GCC = "bpf-gcc"
COMPILERS = [*(f"clang-{major}" for major in (13, 14, 15, 16, 19)), GCC]
OBJECTS = sorted(path.name for path in BPF.glob("*.o"))
HEADERS = "file:/usr/include/bpf/bpf_helpers.h"
UID = 43020

pytestmark = [
    pytest.mark.real_kernel("it is about the compilers of this machine"),
    pytest.mark.needs("module:elftools"),
]

# Several of each, so that their places differ; the sum of what `run` returns tells whether each was its own.
SOURCE = """\
#define SEC(name) __attribute__((section(name), used))
long counted, started = 5, stepped = 6;
static long hidden = 7, fresh;
const volatile int first = 1, second = 2;

static __attribute__((noinline)) long apart(long x)
{
	return x * hidden + fresh;
}

__attribute__((noinline)) long shared(long x)
{
	return 3 * x;
}

SEC("socket") int run(void *ctx)
{
	counted++;
	started++;
	stepped++;
	hidden++;
	fresh++;
	return apart(started) + shared(stepped) + 100 * first + 1000 * second;
}

char LICENSE[] SEC("license") = "GPL";
"""
BEFORE = {"counted": 0, "started": 5, "stepped": 6, "hidden": 7, "fresh": 0, "first": 1, "second": 2}
AFTER = {"counted": 1, "started": 6, "stepped": 7, "hidden": 8, "fresh": 1, "first": 1, "second": 2}


@pytest.fixture(scope="module", params=COMPILERS)
def compiler(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(f"tool:{name}")
    return name


@pytest.fixture(scope="module")
def built(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with what `compiler` builds of every source in bpf/."""
    require(HEADERS, *([] if compiler == GCC else ["tool:llvm-strip"]))
    folder = tmp_path_factory.mktemp("built") / "bpf"
    shutil.copytree(BPF, folder, ignore=shutil.ignore_patterns("*.o", "__pycache__"))
    command = [sys.executable, str(folder / "build.py")]
    done = subprocess.run(command, env={**os.environ, "CLANG": compiler}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> libbpf.Libbpf:
    require(*libbpf.NEEDS)
    return libbpf.Libbpf(tmp_path_factory.mktemp("libbpf"))


def layout(type: Type | None) -> str:
    return "" if type is None else codec_for(type).explain()


def contents(spec: ObjectSpec) -> dict[str, object]:
    """Return what the object has, as values that compare; a data section is there by its variables only."""
    return {
        "license": spec.license,
        "maps": {
            name: (
                *(each.map_type, each.key_size, each.value_size, each.max_entries, each.map_flags, each.pinning),
                *(str(each.key), layout(each.key), str(each.value), layout(each.value)),
            )
            for name, each in spec.maps.items()
            if not each.is_data
        },
        "programs": {
            name: (each.section, each.prog_type, each.expected_attach_type) for name, each in spec.programs.items()
        },
        "variables": {name: (each.size, each.value, layout(each.type)) for name, each in spec.variables.items()},
    }


def test_every_source_becomes_an_object_for_each_byte_order(built: Path) -> None:
    assert sorted(path.name for path in built.glob("*.o")) == OBJECTS


def test_maps_programs_and_variables_are_those_of_the_objects_here(built: Path, compiler: str) -> None:
    for name in OBJECTS:
        made, ours = ObjectSpec.from_file(built / name), ObjectSpec.from_file(BPF / name)
        assert made.byteorder == ours.byteorder
        assert contents(made) == contents(ours), name
        if compiler != GCC:  # whose data sections have names of their own
            assert [*made.maps] == [*ours.maps]


def test_libbpf_makes_the_same_of_them(built: Path, peer: libbpf.Libbpf) -> None:
    for path in built.glob(f"*{SUFFIX}"):
        spec, answer = ObjectSpec.from_file(path), peer.relocated(path)
        assert [*differing(spec, answer), *differing_code(relocate(spec), answer)] == [], path.name


def test_the_check_compares_what_clangs_build(compiler: str, tmp_path: Path) -> None:
    for name in (
        "build.py",
        "compiler.txt",
        "count.h",
        "names.h",
        *(f"execcount.bpf{end}" for end in (".c", ".o", "eb.o")),
    ):
        shutil.copy(BPF / name, tmp_path)
    command = [sys.executable, str(tmp_path / "build.py"), "--check"]
    done = subprocess.run(command, env={**os.environ, "CLANG": compiler}, capture_output=True, text=True, check=False)
    if compiler == GCC:
        assert done.returncode == 1
        assert done.stderr.endswith(" cannot build what clang has built: --check needs a clang\n")
    else:
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 objects, 0 differences")


def test_all_of_them_load_and_their_maps_have_types(built: Path, backend: Backend) -> None:
    for path in built.glob(f"*{SUFFIX}"):
        with rawbpf.load(path) as obj:
            assert [*obj.programs] == [*ObjectSpec.from_file(BPF / path.name).programs]
            # Rings and arrays of events hold nothing that has a type.
            assert {name for name, each in obj.maps.items() if not each.info.btf_id} <= {"exec_events"}, path.name


@pytest.mark.needs("capability:CAP_SETUID", "map_type:ringbuf", "tracepoint:sched/sched_process_exec")
def test_what_they_count_and_tell_is_exact(built: Path) -> None:
    spec = ObjectSpec.from_file(built / f"execcount{SUFFIX}")
    spec.variables["min_uid"].value = UID
    with (
        spec.load() as counting,
        rawbpf.load(built / f"exec_events{SUFFIX}") as telling,
        counting.attach(),
        telling.attach(),
        telling.maps["exec_events"].reader("exec_event") as events,
    ):
        execute_as(UID - 1, 2)
        execute_as(UID, 3)
        counts = counting.maps["exec_count"].snapshot()
        told = [event for event in events.drain() if event.uid == UID]
    assert (counts.get(UID), counts.get(UID - 1)) == (3, None)
    assert [(each.ppid, each.comm, each.filename) for each in told] == [(os.getpid(), "true", "/bin/true")] * 3


def test_variables_and_functions_keep_their_places(compiler: str, tmp_path: Path) -> None:
    source = tmp_path / "places.bpf.c"
    source.write_text(SOURCE)
    made = tmp_path / "places.bpf.o"
    command = [sys.executable, "-m", "rawbpf", "cc", str(source), "-o", str(made), "--compiler", compiler]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    spec = ObjectSpec.from_file(made)
    assert {name: each.value for name, each in spec.variables.items()} == BEFORE
    with spec.load() as obj:
        assert obj.programs["run"].run(data=bytes(64)).retval == 6 * 8 + 1 + 3 * 7 + 2100
        assert {name: each.value for name, each in obj.variables.items()} == AFTER
