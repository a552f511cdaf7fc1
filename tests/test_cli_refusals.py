"""What `rawbpf run` cannot do: exit status 1 and one clear line on stderr, 2 for wrong usage."""

from __future__ import annotations

import io
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.child import run_as_nobody
from support.command import BPF, ROOT, run
from support.elf_writer import ElfWriter

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import encode
from rawbpf.cli.failure import why
from rawbpf.errors import FormatError

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction

EXECCOUNT = BPF / "execcount.bpf.o"
LEFT = {"little": "bpfeb", "big": "bpf"}[sys.byteorder]

pytestmark = pytest.mark.needs("module:elftools")


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def program(section: str, *instructions: Instruction) -> bytes:
    writer = ElfWriter()
    body = encode(list(instructions), "little")
    writer.symbol("main_prog", writer.code(section, body), size=len(body))
    writer.section("license", b"GPL\0")
    return writer.build()


def refused(*arguments: object, code: str = "") -> str:
    """Return the one line on stderr."""
    status, out, err = run(*arguments, code=code)
    assert (status, out) == (1, ""), err
    assert err.count("\n") == 1
    assert err.startswith("rawbpf: ")
    return err.removeprefix("rawbpf: ").rstrip("\n")


def test_a_missing_file() -> None:
    assert refused("/nowhere/x.bpf.o") == "/nowhere/x.bpf.o: No such file or directory"


def test_a_directory() -> None:
    assert refused(BPF) == f"{BPF}: Is a directory"


def test_a_device() -> None:
    assert refused("/dev/zero") == "/dev/zero: a device is no object file"


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == f"{tmp_path}/pipe: a FIFO is no object file"


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="missing"), b"", b"text", program("xdp", b.mov_imm(b.R0, 0), b.exit_())]
)
def test_no_file_name_moves_the_cursor(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "\x1b[2J\n.o"
    if content is not None:
        path.write_bytes(content)
    line = refused(path)
    assert line.isprintable()
    assert line.startswith(f"{tmp_path}/\\x1b[2J\\x0a.o: ")


def test_an_object_with_nothing_in_it(tmp_path: Path) -> None:
    writer = ElfWriter()
    writer.section("license", b"GPL\0")
    path = written(tmp_path, "none.o", writer.build())
    assert refused(path) == f"{path}: nothing to do: the object has no programs and no maps"


def test_a_place_is_said_once(tmp_path: Path) -> None:
    path = written(tmp_path, "odd.o", b"")
    inner = FormatError("half an instruction", 4)
    assert why(FormatError(f"section 'x': {inner}", 104), str(path)) == (
        f"{path}: section 'x': half an instruction (at byte 104)"
    )


def test_a_name_with_a_nul() -> None:
    # Only Python can ask for it: execve(2) takes no NUL.
    code = "import sys; from rawbpf.cli import main; sys.exit(main(['run', 'a\\0b']))"
    status, _, err = run(code=code)
    assert (status, err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("name", "content", "because"),
    [
        pytest.param("empty.o", b"", "is empty", id="empty"),
        pytest.param("text.o", b"#!/bin/sh\n", "not an ELF file", id="text"),
        pytest.param("host.o", ElfWriter(machine=62).build(), "not a BPF object: machine is", id="other-machine"),
        pytest.param("cut.o", EXECCOUNT.read_bytes()[:700], "lie outside the file", id="truncated"),
    ],
)
def test_a_file_that_is_no_bpf_object(tmp_path: Path, name: str, content: bytes, because: str) -> None:
    path = written(tmp_path, name, content)
    line = refused(path)
    assert line.startswith(f"{path}: ")
    assert line.count(name) == 1
    assert because in line


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel")
def test_an_object_of_the_other_byte_order() -> None:
    path = BPF / f"execcount.{LEFT}.o"
    line = refused(path)
    assert line.startswith(str(path))
    assert "-endian" in line
    assert "-target bpf" in line


def test_an_unknown_map_lists_those_there_are() -> None:
    assert refused(BPF / "uid_filter.bpf.o", "--map", "nope") == (
        "--map nope: the object has no such map; its maps are counted_uids, exec_count"
    )


def test_an_unknown_variable_lists_those_there_are() -> None:
    assert refused(EXECCOUNT, "--set", "nope=1") == (
        "--set nope: the object has no such variable; its variables are dropped, min_uid"
    )


@pytest.mark.parametrize(
    ("value", "because"),
    [
        pytest.param("abc", "expected a number (u32)", id="no-number"),
        pytest.param("", "expected a number (u32)", id="empty"),
        pytest.param("4294967296", "expected an int in 0..4294967295, got 4294967296", id="too-great"),
        pytest.param("-1", "expected an int in 0..4294967295, got -1", id="negative"),
    ],
)
def test_a_value_that_does_not_fit_its_variable(value: str, because: str) -> None:
    line = refused(EXECCOUNT, "--set", f"min_uid={value}")
    assert line.startswith(f"--set min_uid={value}: ")
    assert because in line


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no-object"),
        pytest.param([EXECCOUNT, "--interval", "0"], id="interval-zero"),
        pytest.param([EXECCOUNT, "--interval", "nan"], id="interval-nan"),
        pytest.param([EXECCOUNT, "--interval", "0.009"], id="interval-too-short"),
        pytest.param([EXECCOUNT, "--pin", ""], id="pin-nowhere"),
        pytest.param([EXECCOUNT, "--duration", "-1"], id="duration-negative"),
        pytest.param([EXECCOUNT, "--set", "min_uid"], id="set-without-value"),
        pytest.param([EXECCOUNT, "--nope"], id="unknown-option"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[object]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: rawbpf run ")


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON")
def test_a_refusal_by_the_verifier_is_at_most_three_telling_lines(tmp_path: Path) -> None:
    bad = program("tp/syscalls/sys_enter_getpgid", b.load_mem(b.R0, b.R10, 8), b.exit_())
    status, out, err = run(written(tmp_path, "bad.o", bad))
    assert (status, out) == (1, "")
    assert err.startswith(f"rawbpf: {tmp_path}/bad.o: ")
    assert "main_prog" in err
    assert "invalid read from stack" in err
    assert "compile with -g" in err
    assert 1 <= err.count("\n") <= 3


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON")
def test_code_without_optimisation_is_told_how_to_compile(tmp_path: Path) -> None:
    # A call through a register, as clang -O0 calls helpers.
    body = encode([b.mov_imm(b.R2, 0)], "little") + b"\x8d\0\0\0\x02\0\0\0" + encode([b.exit_()], "little")
    writer = ElfWriter()
    writer.symbol("main_prog", writer.code("tp/syscalls/sys_enter_getpgid", body), size=len(body))
    writer.section("license", b"GPL\0")
    status, out, err = run(written(tmp_path, "slow.o", writer.build()))
    assert (status, out) == (1, "")
    assert "compile with -O2" in err
    assert 1 <= err.count("\n") <= 3


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON")
@pytest.mark.parametrize(
    ("section", "because"),
    [
        pytest.param("xdp", "nothing to attach: main_prog: ", id="attaches-by-hand"),
        pytest.param("tp/no/such_tracepoint", "no/such_tracepoint", id="no-such-tracepoint"),
        pytest.param("nonsense", "names no program type", id="unknown-section"),
    ],
)
def test_a_program_that_cannot_be_attached(tmp_path: Path, section: str, because: str) -> None:
    path = written(tmp_path, "odd.o", program(section, b.mov_imm(b.R0, 0), b.exit_()))
    line = refused(path)
    assert line.startswith(str(path))
    assert because in line
    assert "spec." not in line


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON")
def test_too_few_open_files_are_told_as_that() -> None:
    told = []
    for most in range(6, 30):
        code = (
            f"import resource, sys\nresource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))\n"
            "from rawbpf.cli import main\nsys.exit(main())"
        )
        status, _, err = run(EXECCOUNT, "--duration", 0.01, code=code)
        if status == 0:
            break
        told.append(err)
    assert len(told) >= 3
    for err in told:
        line = err.splitlines()[-1]
        assert line.startswith("rawbpf: ")
        assert "too many open files" in line
        assert "ulimit -n" in line
        assert ".py" not in line


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_SYS_ADMIN")
def test_the_library_does_not_take_too_many_open_files_for_a_missing_tracefs() -> None:
    code = (
        "import resource, sys\nfrom rawbpf.errors import BpfError\nfrom rawbpf.syscall.tracefs import tracepoint_id\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try:\n    tracepoint_id("
        "'sched', 'sched_switch')\nexcept BpfError as error:\n    sys.stderr.write(error.hint)\n"
    )
    assert run(code=code) == (0, "", "too many open files: ulimit -n tells how many this process may have")


def test_a_closed_standard_output() -> None:
    code = "import os, sys\nsys.stdout = None\nfrom rawbpf.cli import main\nsys.exit(main())"
    assert run(EXECCOUNT, code=code) == (1, "", "rawbpf: standard output is closed\n")


def test_without_pyelftools_it_says_what_to_install() -> None:
    code = "import sys\nsys.modules['elftools'] = None\nfrom rawbpf.cli import main\nsys.exit(main())"
    status, _, err = run(EXECCOUNT, code=code)
    assert (status, err.count("\n")) == (1, 1)
    assert err.count("pyelftools") == 2  # what is missing, and how to get it
    assert "pip install pyelftools" in err


@pytest.mark.needs("capability:CAP_SETUID")
@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [
        pytest.param((), "needs CAP_BPF and CAP_PERFMON, which this process lacks", id="none"),
        pytest.param(("CAP_BPF",), "needs CAP_PERFMON, which this process lacks", id="only-bpf"),
        pytest.param(
            ("CAP_BPF", "CAP_PERFMON"),
            "run it as root, or grant CAP_SYS_ADMIN with CAP_DAC_READ_SEARCH",
            id="no-tracefs",
        ),
    ],
)
def test_an_ordinary_user_gets_one_line_that_says_what_is_missing(capabilities: tuple[str, ...], missing: str) -> None:
    from rawbpf.cli import main
    from rawbpf.syscall.kernel import KernelBackend

    # The user may be unable to read this checkout: what is needed is imported and opened before.
    for module in pkgutil.walk_packages(rawbpf.__path__, "rawbpf."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    rawbpf.ObjectSpec.from_file(EXECCOUNT)
    fd = os.open(EXECCOUNT, os.O_RDONLY)
    path = f"/proc/self/fd/{fd}"

    def attempt() -> str:
        sys.stderr = io.StringIO()
        sys.argv = ["/venv/bin/rawbpf", "run", path]
        os.environ["PYTHONPATH"] = ".deps"
        # As in a process of its own: what this one's backend has learnt of tracepoints as root does not count.
        with rawbpf.using(KernelBackend()):
            status = main(["run", path, "--duration", "1"])
        return f"{status}|{sys.stderr.getvalue()}"

    try:
        status, _, err = run_as_nobody(attempt, *capabilities).partition("|")
    finally:
        os.close(fd)
    assert (status, err.count("\n")) == ("1", 1), err
    assert missing in err
    assert f"sudo env PYTHONPATH=.deps /venv/bin/rawbpf run {path}" in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_version_that_cannot_be_written_is_an_error(unbuffered: str) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rawbpf", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "rawbpf: cannot write to standard output: No space left on device\n",
    )


def test_version_and_help_are_no_errors() -> None:
    code = "import sys; from rawbpf.cli import main; sys.exit(main([sys.argv.pop()]))"
    assert run("--version", code=code) == (0, f"rawbpf {rawbpf.__version__}\n", "")
    status, out, err = run("--help", code=code)
    assert (status, err) == (0, "")
    assert "example" in out
    status, out, _ = run("--help")
    assert status == 0
    assert "examples:\n  sudo rawbpf run bpf/execcount.bpf.o" in out
    assert "MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT" in out
    assert (ROOT / "bpf/execcount.bpf.o").exists()
