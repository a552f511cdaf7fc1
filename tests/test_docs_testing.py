"""docs/examples/testing: the tutorial's tests pass on both kernels, and fail when the code under test is wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs/examples/testing"

pytestmark = pytest.mark.needs("module:hypothesis")

# pytest finds the plug-in of an installed rawbpf by itself.
INSTALLED = any(point.value == "rawbpf.testing.plugin" for point in entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "rawbpf.testing.plugin")

# What the code has, and a mistake in its place.
MISTAKES = {
    "counted before it fits": ("if used >= self.limit:", "if used > self.limit:"),
    "a full map is taken for a success": ("return False\n        return True", "return True\n        return True"),
    "reset does nothing": ("self.used.clear()", "pass"),
}


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Not the project's own configuration: a user has none.
    command = [sys.executable, "-m", "pytest", "-q", *PLUGIN, "-p", "no:cacheprovider", "-c", os.devnull]
    environment = {name: value for name, value in os.environ.items() if name != "RAWBPF_BACKEND"}
    return subprocess.run(
        [*command, "--rootdir", str(directory), *options, str(directory)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kernel", ["sim", pytest.param("kernel", marks=pytest.mark.needs("kernel"))])
def test_the_tests_pass(kernel: str, tmp_path: Path) -> None:
    directory = shutil.copytree(EXAMPLE, tmp_path / "testing")
    done = run(directory, f"--bpf-backend={kernel}", "--deselect", "test_pins.py", "-Werror")
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_the_tests_that_pin_pass_on_the_simulator(tmp_path: Path) -> None:
    directory = shutil.copytree(EXAMPLE, tmp_path / "testing")
    done = run(directory, "-k", "found_again")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_lesson_shows_its_test_file_from_the_first_line_to_the_last() -> None:
    page = (ROOT / "docs/tutorial/test-map-code.md").read_text(encoding="utf-8")
    shown = re.findall(r"test_quota.py#\w+ -->\n```python\n(.*?)```", page, re.DOTALL)
    lines = (EXAMPLE / "test_quota.py").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines[1:] if line and not line.startswith(("# [start:", "# [end:"))]
    assert [line for line in "".join(shown).splitlines() if line] == code


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_state_machine_finds_a_mistake(mistake: str, tmp_path: Path) -> None:
    directory = shutil.copytree(EXAMPLE, tmp_path / "testing")
    before, after = MISTAKES[mistake]
    code = directory / "quota.py"
    text = code.read_text(encoding="utf-8")
    assert before in text
    code.write_text(text.replace(before, after, 1), encoding="utf-8")
    done = run(directory, "-k", "dict")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
