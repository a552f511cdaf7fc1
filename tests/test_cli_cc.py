"""`rawbpf cc`: the tools of this machine make an object, whole or not at all; what is missing is named."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import BPF
from support.objects import native

from rawbpf.elf import parse

pytestmark = [
    pytest.mark.needs("module:elftools"),
]
with_clang = pytest.mark.needs("tool:clang", "file:/usr/include/bpf/bpf_helpers.h")

OTHER = {"little": "bpfeb", "big": "bpfel"}[sys.byteorder]
OWN = {"little": "bpfel", "big": "bpfeb"}[sys.byteorder]
SOURCE = 'int seen;\n__attribute__((section("xdp"), used)) int pass(void *ctx)\n{\n\tseen++;\n\treturn 2;\n}\n'
CORE = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
SEC("kprobe/do_nanosleep")
int pid_of(struct task_struct *task)
{
	return __builtin_preserve_access_index(&task->pid) != 0;
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with a source that needs no header, in which commands run."""
    (tmp_path / "pass.bpf.c").write_text(SOURCE)
    return tmp_path


def cc(folder: Path, *arguments: object, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rawbpf", "cc", *map(str, arguments)],
        cwd=folder, env=_environment(environment), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def compiled_by(done: tuple[int, str, str]) -> str:
    """Return the compiler that the last line names, of a command that has succeeded."""
    status, out, err = done
    assert (status, err) == (0, "")
    return out.splitlines()[-1].removeprefix("compiled by ")


def _environment(changed: dict[str, str]) -> dict[str, str]:
    # The package may come from the checkout, by a relative path.
    path = os.pathsep.join(map(os.path.abspath, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    plain = {name: value for name, value in os.environ.items() if name != "CLANG"}
    return {**plain, "PYTHONPATH": path, "LC_ALL": "C.UTF-8", **changed}


def compiler(folder: Path, name: str, *, version: str, answer: str = "", body: str = "exit 1") -> Path:
    """Write a compiler that says what it is, notes how it is called, and then does what `body` says."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!/bin/sh\ncase $1 in\n--version) echo '{version}';;\n--print-targets|-dumpmachine) echo '{answer}';;\n"
        f'*) echo "$@" >> {shlex.quote(str(folder / "called"))}\n{body}\nesac\n'
    )
    path.chmod(0o755)
    return path


NO_ELF = "not an ELF file (it begins with b'text'): compile with clang -O2 -g -target bpf -c (at byte 0)"
COPIES = f'for last; do :; done; cp {shlex.quote(str(native("execcount")))} "$last"'
"""What a compiler does that makes always the same object; its last argument names it."""


@with_clang
def test_a_source_becomes_an_object_in_this_directory_that_is_shown(folder: Path) -> None:
    status, out, err = cc(folder, "pass.bpf.c")
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert last.startswith("compiled by /")
    assert lines[1:] == [
        "programs",
        "  pass  xdp  xdp  6 instructions",
        "maps",
        "  .bss  array  4 bytes  data",
        "variables",
        "  int seen  .bss  = 0",
    ]
    spec = parse((folder / "pass.bpf.o").read_bytes(), "pass.bpf.o")
    assert spec.byteorder == sys.byteorder
    assert [i.line.number for i in spec.programs["pass"].instructions if i.line] == [4, 5]
    assert sorted(os.listdir(folder)) == ["pass.bpf.c", "pass.bpf.o"]


@with_clang
def test_output_target_and_options_are_the_callers(folder: Path) -> None:
    (folder / "include").mkdir()
    (folder / "include" / "own.h").write_text("#define KEY 7\n")
    (folder / "keyed.c").write_text("#include <own.h>\nint key = KEY, level = LEVEL;\n" + SOURCE)
    status, _, err = cc(folder, "keyed.c", "-o", "made", "--target", OTHER, "--", "-I", "include", "-DLEVEL=3")
    assert status == 0, err
    spec = parse((folder / "made").read_bytes(), "made")
    assert spec.byteorder != sys.byteorder
    assert {name: variable.value for name, variable in spec.variables.items()} == {"key": 7, "level": 3, "seen": 0}


@with_clang
@pytest.mark.parametrize("name", ["execcount", "queue_latency"])
def test_objects_of_this_project_come_out_as_they_are(folder: Path, name: str) -> None:
    status, _, err = cc(folder, BPF / f"{name}.bpf.c", "-o", "own.o", "--target", "bpf")
    assert status == 0, err
    made, ours = parse((folder / "own.o").read_bytes(), ""), parse(native(name).read_bytes(), "")
    assert [*made.maps] == [*ours.maps]
    assert [*made.programs] == [*ours.programs]


@with_clang
def test_what_the_compiler_says_is_passed_on(folder: Path) -> None:
    (folder / "warns.bpf.c").write_text("static int unused;\n" + SOURCE)
    status, _, err = cc(folder, "warns.bpf.c")
    assert status == 0
    assert "warns.bpf.c:1:12: warning: unused variable 'unused'" in err
    (folder / "wrong.bpf.c").write_text("int x = y;\n")
    status, out, err = cc(folder, "wrong.bpf.c")
    assert (status, out) == (1, "")
    assert "wrong.bpf.c:1:9: error: use of undeclared identifier 'y'" in err
    assert err.splitlines()[-1] == "rawbpf: wrong.bpf.c: does not compile"


@with_clang
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.real_kernel("it asks about the running kernel")
def test_a_missing_vmlinux_h_is_made_of_the_running_kernel(folder: Path) -> None:
    (folder / "core.bpf.c").write_text(CORE)
    status, _, err = cc(folder, "core.bpf.c")
    assert status == 0, err
    assert err.startswith("rawbpf: vmlinux.h: the types of the running kernel, for this time\n")
    program = parse((folder / "core.bpf.o").read_bytes(), "").programs["pid_of"]
    assert [i.core is not None for i in program.instructions].count(True) == 1
    assert sorted(os.listdir(folder)) == ["core.bpf.c", "core.bpf.o", "pass.bpf.c"]


@with_clang
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.real_kernel("it asks about the running kernel")
def test_where_vmlinux_h_finds_no_room_the_directory_is_named(folder: Path) -> None:
    (folder / "core.bpf.c").write_text(CORE)
    limited = (
        "import resource, signal, sys\nfrom rawbpf.cli import main\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\nsys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "cc", "core.bpf.c"],
        cwd=folder, env=_environment({"TMPDIR": str(folder)}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith(f"vmlinux.h cannot be made in {folder}: File too large; TMPDIR names another\n")
    assert sorted(os.listdir(folder)) == ["core.bpf.c", "pass.bpf.c"]


@with_clang
def test_a_vmlinux_h_beside_the_source_is_taken(folder: Path) -> None:
    (folder / "core.bpf.c").write_text(CORE)
    (folder / "vmlinux.h").write_text(
        "typedef unsigned int __u32, __be32, __wsum; typedef unsigned long long __u64; typedef long long __s64;\n"
        "typedef unsigned short __u16, __be16; typedef unsigned char __u8; typedef int __s32;\n"
        "struct task_struct { int first, pid; };\n"
    )
    status, _, err = cc(folder, "core.bpf.c")
    assert status == 0, err
    assert "vmlinux.h" not in err


@with_clang
@pytest.mark.parametrize(
    ("header", "packages"),
    [
        ("bpf/no_such.h", "libbpf-dev (Debian), dnf install libbpf-devel (Fedora)"),
        ("linux/no_such.h", "linux-libc-dev (Debian), dnf install kernel-headers (Fedora)"),
        ("asm/no_such.h", "linux-libc-dev (Debian), dnf install kernel-headers (Fedora)"),
    ],
)
def test_a_missing_header_is_told_with_its_package(folder: Path, header: str, packages: str) -> None:
    (folder / "lacks.bpf.c").write_text(f"#include <{header}>\n")
    status, _, err = cc(folder, "lacks.bpf.c")
    assert status == 1
    assert f"fatal error: '{header}' file not found" in err
    assert err.splitlines()[-1].endswith(f"headers are missing: apt-get install {packages}")


def test_without_a_compiler_the_package_is_named(folder: Path) -> None:
    status, out, err = cc(folder, "pass.bpf.c", PATH=str(folder))
    assert (status, out) == (1, "")
    assert err == (
        "rawbpf: no clang with the target bpf is on PATH: apt-get install clang (Debian), dnf install clang (Fedora)\n"
    )


def test_the_newest_clang_that_knows_bpf_compiles(folder: Path) -> None:
    tools = folder / "tools"
    for number, knows in (("15", "bpf - BPF"), ("19", "bpf - BPF"), ("21", "x86 only")):
        compiler(tools, f"clang-{number}", version=f"clang version {number}.1.0", answer=knows, body=COPIES)
    compiler(tools, "clang", version="Debian clang version 9.0.1", answer="bpf - BPF", body=COPIES)
    path = f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin"
    (tools / "cp").symlink_to("/bin/cp")
    assert compiled_by(cc(folder, "pass.bpf.c", PATH=str(tools))) == f"{tools}/clang-19"
    assert compiled_by(cc(folder, "pass.bpf.c", PATH=path, CLANG=str(tools / "clang-15"))) == f"{tools}/clang-15"
    assert (
        compiled_by(cc(folder, "pass.bpf.c", "--compiler", "clang", PATH=str(tools), CLANG=str(tools / "clang-15")))
        == f"{tools}/clang"
    )


def test_the_compilers_options_name_machine_and_byte_order(folder: Path) -> None:
    clang = compiler(folder, "clang", version="clang version 19.1.0", answer="bpf - BPF", body=COPIES)
    assert cc(folder, "pass.bpf.c", "--compiler", clang, "--", "-DLAST")[0] == 0
    words = (folder / "called").read_text().split()
    assert words[:6] == ["-O2", "-g", "-mcpu=v2", "-Wall", "-target", OWN]
    assert words[6].startswith("-D__TARGET_ARCH_")
    assert words[-5:-1] == ["-DLAST", "-c", "pass.bpf.c", "-o"]


def test_gccs_compiler_for_bpf_is_called_in_its_way(folder: Path) -> None:
    note = "echo 'cc1: note: disable pass rtl-cse1 for functions in the range of [0, 4294967295]' >&2"
    gcc = compiler(folder, "bpf-gcc", version="bpf-gcc (12.2.0) 12.2.0", answer="bpf", body=f"{note}; {COPIES}")
    status, out, err = cc(folder, "pass.bpf.c", "--compiler", gcc, "--target", "bpfeb")
    assert (status, err) == (0, "")
    assert out.endswith(f"compiled by {gcc}\n")
    assert "count_execve" in out
    words = (folder / "called").read_text().split()
    assert words[:4] == ["-O2", "-gbtf", "-mcpu=v2", "-Wall"]
    assert {"-mco-re", "-fdata-sections", "-fdisable-rtl-cse1", "-mbig-endian"} < set(words)
    status, _, err = cc(folder, "pass.bpf.c", PATH=str(folder))
    assert status == 1
    assert err.endswith(f"; there is {gcc}, which --compiler takes\n")


@pytest.mark.parametrize(("name", "package"), [("clang-13", "clang-13"), ("clang", "clang"), ("bpf-gcc", "gcc-bpf")])
def test_a_compiler_that_is_not_installed_is_told_with_its_package(folder: Path, name: str, package: str) -> None:
    status, _, err = cc(folder, "pass.bpf.c", "--compiler", name, PATH=str(folder))
    assert (status, err) == (1, f"rawbpf: no compiler {name} is on PATH: apt-get install {package} (Debian)\n")


def test_a_compiler_for_other_machines_is_refused(folder: Path) -> None:
    other = compiler(folder, "gcc", version="gcc (Debian) 14.2.0", answer="x86_64-linux-gnu")
    status, _, err = cc(folder, "pass.bpf.c", "--compiler", other)
    assert (status, err) == (
        1,
        f"rawbpf: {other} is no compiler for BPF: neither a clang with the target bpf nor bpf-gcc\n",
    )
    status, _, err = cc(folder, "pass.bpf.c", "--compiler", "no-such-clang")
    assert (status, err) == (1, "rawbpf: no compiler no-such-clang is on PATH\n")


@pytest.mark.parametrize(
    ("body", "last"),
    [
        ("exit 3", "pass.bpf.c: does not compile"),
        ('for last; do :; done; echo half > "$last"; exit 1', "pass.bpf.c: does not compile"),
        ('for last; do :; done; echo text > "$last"', f"OUT: {NO_ELF}"),
        ("exit 0", "pass.bpf.c: COMPILER made no object; -o goes before --, not behind"),
        (
            "echo 'fatal error: No space left on device' >&2; echo 'Stack dump:' >&2; exit 70",
            "pass.bpf.c: No space left on device: the object was not written",
        ),
    ],
)  # fmt: skip
def test_an_output_that_is_there_stays_when_it_fails(folder: Path, body: str, last: str) -> None:
    clang = compiler(folder, "clang", version="clang version 19.1.0", answer="bpf - BPF", body=body)
    (folder / "pass.bpf.o").write_text("older")
    status, out, err = cc(folder, "pass.bpf.c", "--compiler", clang)
    assert (status, out) == (1, "")
    last = last.replace("OUT", str(folder / "pass.bpf.o")).replace("COMPILER", str(clang))
    assert err.splitlines()[-1] == f"rawbpf: {last}"
    assert (folder / "pass.bpf.o").read_text() == "older"
    assert sorted(os.listdir(folder)) == ["called", "clang", "pass.bpf.c", "pass.bpf.o"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compilation_has_failed(folder: Path, number: signal.Signals) -> None:
    clang = compiler(
        folder, "clang", version="clang version 19.1.0", answer="bpf - BPF", body="echo started >&2; exec sleep 1000"
    )
    (folder / "called").write_text("")
    process = subprocess.Popen(
        [sys.executable, "-m", "rawbpf", "cc", "pass.bpf.c", "--compiler", str(clang)],
        cwd=folder, env=_environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    with process:
        while not (folder / "called").read_text():
            os.sched_yield()
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", "rawbpf: interrupted: nothing was written\n")
    assert sorted(os.listdir(folder)) == ["called", "clang", "pass.bpf.c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.bpf.c"], "no.bpf.c: No such file or directory"),
        (["pass.bpf.c", "-o", "/dev/null"], "/dev/null is no regular file; -o names the object"),
        (["pass.bpf.c", "-o", "/nowhere/x.o"], "/nowhere: No such file or directory"),
        (["pass.bpf.c", "-o", "./pass.bpf.c"], "./pass.bpf.c is what the object is made of; -o names another file"),
        (["pass.bpf.c", "-o", "nowhere/"], "nowhere/ is no regular file; -o names the object"),
        (["pass.bpf.c", "-o", ""], " is no regular file; -o names the object"),
        (["."], ".: Is a directory"),
    ],
)
def test_what_cannot_be_read_or_written_is_told(folder: Path, arguments: list[str], message: str) -> None:
    clang = compiler(folder, "clang", version="clang version 19.1.0", answer="bpf - BPF", body=COPIES)
    status, out, err = cc(folder, *arguments, CLANG=str(clang))
    assert (status, out, err) == (1, "", f"rawbpf: {message}\n")


def test_a_source_that_is_no_c_needs_a_name_for_its_object(folder: Path) -> None:
    (folder / "pass.txt").write_text(SOURCE)
    assert cc(folder, "pass.txt")[::2] == (1, "rawbpf: pass.txt: is no .c file; give the object a name by -o\n")


@with_clang
def test_with_a_name_for_its_object_it_is_compiled_as_c(folder: Path) -> None:
    (folder / "pass.txt").write_text(SOURCE)
    status, out, err = cc(folder, "pass.txt", "-o", "named.o")
    assert (status, err) == (0, "")
    assert "  pass  xdp" in out


@pytest.mark.parametrize("arguments", [["-I.", "pass.bpf.c"], ["pass.bpf.c", "-DDEBUG"]])
def test_a_compilers_option_in_front_is_told_where_it_goes(folder: Path, arguments: list[str]) -> None:
    status, out, err = cc(folder, *arguments)
    assert (status, out) == (2, "")
    assert err.endswith("; options for the compiler go behind --\n")
