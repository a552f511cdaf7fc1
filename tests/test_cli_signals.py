"""Signals at any moment of `rawbpf run`: status 0 and not a word, from its first import to its end; others fail."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.command import BPF, FOREVER, on_terminal, run

if TYPE_CHECKING:
    from pathlib import Path

EXECCOUNT = BPF / "execcount.bpf.o"
CLI = "from rawbpf.cli import main\nsys.exit(main())"
MODULE = "import runpy\nrunpy.run_module('rawbpf', run_name='__main__', alter_sys=True)"

# A signal comes when the import of a module begins, as if somebody had been that quick.
AT_IMPORT = """\
import os, sys
class Quick:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.modules.pop({module!r}, None)
sys.meta_path.insert(0, Quick())
"""

READING = """\
import os, signal, sys, time
from rawbpf.loader.spec import ObjectSpec
class Odd:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            pass
def read(path):
    {body}
    time.sleep(60)
    raise AssertionError('it went on')
ObjectSpec.from_file = read
"""

needs_kernel = pytest.mark.needs("kernel", "capability:CAP_PERFMON", "module:elftools")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["argparse", "rawbpf.cli.parser", "rawbpf.cli.run", "rawbpf.cli.output"])
def test_a_signal_while_modules_are_imported_ends_it_without_a_word(module: str, number: signal.Signals) -> None:
    code = AT_IMPORT.format(module=module, number=int(number)) + CLI
    assert run(EXECCOUNT, "--duration", 60, code=code) == (0, "", "")


@pytest.mark.parametrize("module", ["rawbpf.cli.failure", "rawbpf.cli.stop", "signal"])
def test_ctrl_c_before_handlers_stand_ends_it_without_a_word(module: str) -> None:
    code = AT_IMPORT.format(module=module, number=int(signal.SIGINT)) + CLI
    assert run(EXECCOUNT, "--duration", 60, code=code) == (0, "", "")


@pytest.mark.parametrize("module", ["rawbpf.cli", "rawbpf.cli.stop"])
def test_ctrl_c_while_python_m_begins_ends_it_without_a_word(module: str) -> None:
    code = AT_IMPORT.format(module=module, number=int(signal.SIGINT)) + MODULE
    assert run(EXECCOUNT, "--duration", 60, code=code) == (0, "", "")


def test_ctrl_c_in_a_class_body_ends_it_without_a_word() -> None:
    code = READING.format(body="type('Body', (), {'odd': Odd()})") + CLI
    assert run(EXECCOUNT, code=code) == (0, "", "")


def test_ctrl_c_waits_for_an_import_and_then_ends_it(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(100):\n    pass\nwhole = True\n",
        encoding="ascii",
    )
    body = f"sys.path.insert(0, {str(tmp_path)!r}); import interrupted; sys.stdout.write(str(interrupted.whole))"
    status, out, err = run(EXECCOUNT, code=READING.format(body=body) + CLI)
    assert (status, out, err) == (0, "True", "")


MADE = [("gen", ["skeleton", EXECCOUNT, "-o", "OUT"]), ("btf", ["dump", EXECCOUNT]), ("object", ["show", EXECCOUNT])]


@pytest.mark.parametrize(("command", "arguments"), MADE, ids=[command for command, _ in MADE])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["argparse", "rawbpf.cli.parser"])
def test_what_was_not_made_because_of_a_signal_is_not_taken_for_made(
    module: str, number: signal.Signals, command: str, arguments: list[object], tmp_path: Path
) -> None:
    words = [tmp_path / "out.py" if word == "OUT" else word for word in arguments]
    code = AT_IMPORT.format(module=module, number=int(number)) + CLI
    told = run(*words, code=code, command=command)
    assert told == (128 + number, "", "rawbpf: interrupted: nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "start"), [("rawbpf.cli.failure", CLI), ("rawbpf.cli", MODULE)])
def test_ctrl_c_before_handlers_stand_is_not_taken_for_made(module: str, start: str) -> None:
    code = AT_IMPORT.format(module=module, number=int(signal.SIGINT)) + start
    assert run("dump", EXECCOUNT, code=code, command="btf") == (130, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_its_end_does_not_change_its_status(number: signal.Signals) -> None:
    code = f"import os, sys\nfrom rawbpf.cli import main\nstatus = main()\nos.kill(os.getpid(), {int(number)})\n"
    status, _, err = run("/nowhere/x.o", code=code + "sys.exit(status)")
    assert (status, err) == (1, "rawbpf: /nowhere/x.o: No such file or directory\n")


@pytest.mark.real_kernel("the command line is used on the running kernel")
@needs_kernel
@pytest.mark.parametrize("hangup", ["SIG_DFL", "SIG_IGN"])
@pytest.mark.parametrize("interval", ["0.02", FOREVER])
def test_a_window_that_is_closed_ends_it_without_a_word(hangup: str, interval: str) -> None:
    code = f"import signal, sys\nsignal.signal(signal.SIGHUP, signal.{hangup})\n{CLI}"
    with on_terminal(EXECCOUNT, "--interval", interval, code=code, stderr=subprocess.PIPE) as command:
        command.wait_for("exec_count")
        command.close()
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        told = command.process.stderr.read().decode()
    assert [line for line in told.splitlines() if not line.startswith("rawbpf: attached")] == []
