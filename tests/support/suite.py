"""Runs a small suite of its own under this project's conftest, to test the rules that conftest keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


def run_suite(pytester: pytest.Pytester, body: str, *options: str) -> pytest.RunResult:
    """Write `body` as a test file, run it in a process of its own, and return what happened."""
    (pytester.path / "conftest.py").symlink_to(TESTS / "conftest.py")
    pytester.makeini(f"[pytest]\npythonpath = {TESTS}\nfilterwarnings = error\nmarkers = needs\n    real_kernel\n")
    pytester.makepyfile(body)
    return pytester.runpytest_subprocess("--import-mode=importlib", "-p", "no:cacheprovider", *options)
