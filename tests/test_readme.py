"""The README's commands and samples are what works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON", "module:elftools")
@pytest.mark.parametrize(
    ("sample", "output"),
    [
        pytest.param(SAMPLES[0], r"(?m)^\d+ [1-9]\d*$", id="main job"),
        pytest.param(SAMPLES[1], r"^gateway False 1$", id="map"),
    ],
)
def test_the_samples_run(sample: str, output: str) -> None:
    command = [sys.executable, "-c", sample.replace("Enter: ", "Enter:\\n")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if "input(" in sample:
            assert "Enter:" in process.stdout.readline()
            subprocess.run(["/bin/true"], check=True)
        printed, _ = process.communicate("\n")
    assert process.returncode == 0
    assert re.search(output, printed)


def test_there_are_two_commands_and_the_second_is_what_ci_runs() -> None:
    assert len(COMMANDS) == 2
    assert COMMANDS[1] == "bash .ci/run"
    assert os.access(ROOT / ".ci/run", os.R_OK)


@pytest.mark.needs("tool:git", "file:.git")
def test_what_the_first_command_installs_is_no_part_of_the_project() -> None:
    (directory,) = re.findall(r"--target (\S+)", COMMANDS[0])
    assert f"PYTHONPATH={directory} " in COMMANDS[0]
    # The checkout may be somebody else's.
    git = ["git", "-c", "safe.directory=*", "check-ignore", "-q", f"{directory}/rich/table.py"]
    ignored = subprocess.run(git, cwd=ROOT, check=False)
    assert ignored.returncode == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert directory in project["tool"]["ruff"]["extend-exclude"]


@pytest.mark.real_kernel("the command line is used on the running kernel")
@pytest.mark.needs("kernel", "capability:CAP_PERFMON", "module:elftools")
def test_the_first_command_ends_in_the_main_job() -> None:
    # What comes before is pip's: this interpreter has the project already.
    command = COMMANDS[0].partition("PYTHONPATH=.deps python3 ")[2]
    run = subprocess.run(
        [sys.executable, *command.split(), "--duration", "1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "attached to tracepoint syscalls/sys_enter_execve" in run.stderr


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (ROOT / target).exists(), target
