"""bpf/: every source has its two objects, which say what the source says and nothing of the machine that built them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

BPF = Path(__file__).resolve().parents[1] / "bpf"
NAMES = sorted(path.name.removesuffix(".bpf.c") for path in BPF.glob("*.bpf.c"))
OBJECTS = [BPF / f"{name}{suffix}" for name in NAMES for suffix in (".bpf.o", ".bpfeb.o")]
SPDX = "// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause\n"

compiler = pytest.mark.needs("tool:clang", "tool:llvm-strip", "file:/usr/include/bpf/bpf_helpers.h")


def build(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(directory / "build.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BPF, tmp_path / "bpf", ignore=shutil.ignore_patterns("__pycache__")))


def keep_only(directory: Path, name: str) -> None:
    # compiling one source and not all keeps these tests short
    for path in directory.glob("*.bpf*"):
        if path.name.split(".")[0] != name:
            path.unlink()


def code_sections(data: bytes) -> dict[str, bytes]:
    order = ">" if data[5] == 2 else "<"
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    count, names = struct.unpack_from(f"{order}HH", data, 60)
    headers = [struct.unpack_from(f"{order}IIQQQQ", data, table + 64 * i) for i in range(count)]
    found = {}
    for name, _, flags, _, offset, size in headers:
        if flags & 4 and size:  # SHF_EXECINSTR
            start = headers[names][4] + name
            found[data[start : data.index(b"\0", start)].decode()] = data[offset : offset + size]
    return found


def test_the_twelve_sources_are_there() -> None:
    assert NAMES == [
        "exec_details",
        "exec_events",
        "exec_events_perf",
        "execcount",
        "global_counter",
        "last_seen",
        "lru_cache",
        "percpu_stats",
        "process_count",
        "queue_latency",
        "signal_stats",
        "uid_filter",
    ]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_every_source_has_an_object_for_each_byte_order(path: Path) -> None:
    data = path.read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    assert data[5] == (2 if path.name.endswith(".bpfeb.o") else 1)
    assert struct.unpack_from(">H" if data[5] == 2 else "<H", data, 18) == (247,)  # EM_BPF


@pytest.mark.parametrize("path", sorted([*BPF.glob("*.c"), *BPF.glob("*.h")]), ids=lambda path: path.name)
def test_every_source_names_its_license_and_opens_with_what_it_does(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert text.startswith(SPDX + "/*\n")
    if path.suffix == ".c":
        assert f"rawbpf run bpf/{path.name.removesuffix('.c')}.o" in text
        assert 'SEC("license") = "Dual BSD/GPL"' in text


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_hold_no_path_of_the_machine_that_built_them(path: Path) -> None:
    texts = re.findall(rb"[ -~]{4,}", path.read_bytes())
    assert any(text.endswith(b"./" + path.name.split(".")[0].encode() + b".bpf.c") for text in texts)
    assert not [text for text in texts if re.search(rb"(?<![\w.])/\w", text)]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_objects_have_btf_and_no_dwarf(path: Path) -> None:
    data = path.read_bytes()
    assert b"\0.BTF\0" in data or b".rel.BTF\0" in data
    assert b".BTF.ext\0" in data
    assert b".debug_" not in data


@pytest.mark.parametrize("name", NAMES)
def test_both_byte_orders_hold_the_same_instructions(name: str) -> None:
    little, big = (code_sections((BPF / f"{name}{suffix}").read_bytes()) for suffix in (".bpf.o", ".bpfeb.o"))
    # the registers are two bit-fields of one byte, whose order follows the byte order
    assert {
        section: [
            (op, (regs & 15) << 4 | regs >> 4, off, imm) for op, regs, off, imm in struct.iter_unpack("<BBhi", code)
        ]
        for section, code in little.items()
    } == {section: list(struct.iter_unpack(">BBhi", code)) for section, code in big.items()}


def test_the_readme_names_the_compiler_that_built_the_objects() -> None:
    assert (BPF / "compiler.txt").read_text().strip() in (BPF / "README.md").read_text()


@compiler
def test_check_passes() -> None:
    done = build(BPF, "--check")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "24 objects, 0 differences"), (
        done.stdout + done.stderr
    )


@compiler
def test_a_rebuild_in_another_directory_gives_the_same_bytes(copy: Path) -> None:
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    for path in copy.glob("*.o"):
        path.unlink()
    done = build(copy)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in copy.glob("*.o")) == sorted(path.name for path in OBJECTS)
    if version == (BPF / "compiler.txt").read_text().strip():
        assert [path.name for path in OBJECTS if (copy / path.name).read_bytes() != path.read_bytes()] == []


@compiler
@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        pytest.param("execcount", "uid < min_uid", "uid <= min_uid", "execcount.bpf.o: instructions: tra", id="code"),
        pytest.param("execcount", "10240", "4096", "execcount.bpfeb.o: definitions: exec_count: ", id="map-size"),
        pytest.param("lru_cache", "LRU_HASH", "HASH", "lru_cache.bpf.o: definitions: recent_execs: ", id="map-type"),
        pytest.param("last_seen", "typedef ktime_ns last", "typedef __u32 last", "definitions: last_seen: ", id="type"),
        pytest.param("execcount", "min_uid = 0", "min_uid = 5", "execcount.bpf.o: data: .rodata: ", id="variable"),
        pytest.param("uid_filter", "&exec_count, &uid", "&counted_uids, &uid", "relocations: ", id="relocation"),
        pytest.param("last_seen", "Dual BSD/GPL", "GPL", "last_seen.bpf.o: data: license: ", id="license"),
        pytest.param("last_seen", "record_time", "record", "programs: record is only rebuilt", id="program"),
        pytest.param("global_counter", "sched_process_fork", "sched_process_exit", "sched_process_exit is", id="hook"),
    ],
)
def test_check_names_what_differs_from_the_source(copy: Path, name: str, old: str, new: str, told: str) -> None:
    keep_only(copy, name)
    assert build(copy).returncode == 0  # by the compiler that is here: only then are instructions compared
    source = copy / f"{name}.bpf.c"
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))
    done = build(copy, "--check")
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout


@compiler
def test_check_names_missing_and_stray_objects(copy: Path) -> None:
    keep_only(copy, "execcount")
    (copy / "execcount.bpf.o").rename(copy / "stray.bpf.o")
    done = build(copy, "--check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["execcount.bpf.o: missing", "stray.bpf.o: has no source"]


@compiler
def test_another_compiler_compares_all_but_the_instructions(copy: Path) -> None:
    keep_only(copy, "execcount")
    (copy / "compiler.txt").write_text("clang version 99.0.0\n")
    source = copy / "execcount.bpf.c"
    source.write_text(source.read_text().replace("uid < min_uid", "uid <= min_uid"))
    done = build(copy, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "instructions are not compared" in done.stdout
    source.write_text(source.read_text().replace("10240", "4096"))
    assert build(copy, "--check").returncode == 1


@compiler
def test_a_source_that_does_not_compile_is_told_with_the_compilers_words(copy: Path) -> None:
    keep_only(copy, "execcount")
    (copy / "execcount.bpf.c").write_text("int broken(void) { return missing; }\n")
    done = build(copy, "--check")
    assert done.returncode == 1
    assert "execcount.bpf.c:1:" in done.stderr
    assert "'missing'" in done.stderr


def test_a_missing_compiler_names_the_package() -> None:
    done = build(BPF, "--check", CLANG="no-such-clang")
    assert done.returncode == 1
    assert "no-such-clang" in done.stderr
    assert "apt-get install clang" in done.stderr


@compiler
@pytest.mark.parametrize(
    ("present", "package"),
    [
        pytest.param([], "libbpf-dev", id="libbpf"),
        pytest.param(["bpf/bpf_helpers.h"], "linux-libc-dev", id="kernel"),
        pytest.param(["bpf/bpf_helpers.h", "linux/bpf.h"], "linux-libc-dev", id="architecture"),
    ],
)
def test_missing_headers_name_the_package(tmp_path: Path, present: list[str], package: str) -> None:
    for header in present:
        (tmp_path / header).parent.mkdir()
        (tmp_path / header).touch()
    done = build(BPF, "--check", "--include", str(tmp_path))
    assert done.returncode == 1
    assert f"apt-get install {package}" in done.stderr
