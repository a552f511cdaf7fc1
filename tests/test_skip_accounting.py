"""A test can skip in one way only, which names a need that this machine does not meet."""

from __future__ import annotations

from collections import Counter

import pytest
from support import needs
from support.suite import run_suite

SUITE = """
import pytest
from support.needs import require

@pytest.mark.needs("tool:no-such-tool")
def test_marked():
    raise AssertionError("must not run")

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.needs("tool:no-such-tool"))])
def test_marked_case(n):
    assert n == 1

def test_inside():
    require("module:no_such_module")
    raise AssertionError("must not run")

@pytest.mark.needs("tool:sh", "module:json", "file:/proc/self/status")
def test_met():
    require("tool:sh")
"""

UNLAWFUL = """
import unittest
import pytest

def test_direct():
    pytest.skip("because")

@pytest.mark.skip
def test_mark():
    pass

@pytest.mark.skipif(True, reason="because")
def test_mark_if():
    pass

def test_unittest():
    raise unittest.SkipTest("because")

def test_import():
    pytest.importorskip("no_such_module")
"""


def test_skips_by_need_are_counted_per_reason(pytester: pytest.Pytester) -> None:
    result = run_suite(pytester, SUITE)
    result.assert_outcomes(passed=2, skipped=3)
    result.stdout.fnmatch_lines(["*1 module:no_such_module is not installed", "*2 tool:no-such-tool is not installed"])


def test_skips_in_other_ways_fail(pytester: pytest.Pytester) -> None:
    result = run_suite(pytester, UNLAWFUL)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 5
    assert not {"passed", "skipped"} & outcomes.keys()


def test_a_module_that_skips_as_a_whole_fails(pytester: pytest.Pytester) -> None:
    result = run_suite(pytester, "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped as a whole*"])


def test_a_skip_that_is_not_listed_fails_the_session(pytester: pytest.Pytester) -> None:
    (pytester.path / "expected.txt").write_text("2 tool:no-such-tool is not installed\n")
    result = run_suite(pytester, SUITE, "--expected-skips=expected.txt")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*skipped 1 times because module:no_such_module is not installed*"])


@pytest.mark.parametrize(
    ("listed", "complaints"),
    [
        pytest.param("# why\n\n2 no tool\n1 no module\n", 0, id="exact"),
        pytest.param("* no tool\n9 no module\n", 0, id="more are allowed"),
        pytest.param("1 no tool\n1 no module\n", 1, id="one too many"),
        pytest.param("2 no tool\n", 1, id="a new reason"),
        pytest.param("", 2, id="none allowed"),
    ],
)
def test_the_list_of_expected_skips_bounds_each_reason(listed: str, complaints: int) -> None:
    assert len(needs.unlisted({"no tool": 2, "no module": 1}, listed)) == complaints


@pytest.mark.real_kernel("another tool is asked about the same objects")
@pytest.mark.needs("kernel", "tool:bpftool")
@pytest.mark.parametrize("feature", ["map_type:hash", "prog_type:xdp", "helper:xdp:map_lookup_elem"])
def test_a_skip_for_a_feature_that_the_kernel_has_is_a_complaint(feature: str) -> None:
    assert needs.contradicted([f"{feature} is not supported"])
    assert not needs.contradicted([f"{feature}2 is not supported", "no permission"])


@pytest.mark.parametrize("need", ["magic:wand", "map_type", "kernel:6.1", ""])
def test_an_unknown_need_is_an_error_and_not_a_skip(need: str) -> None:
    with pytest.raises(ValueError, match="unknown need"):
        needs.require(need)


@pytest.mark.parametrize("need", ["map_type:hash", "prog_type:xdp", "helper:xdp:map_lookup_elem", "capability:CAP_BPF"])
def test_a_need_that_the_kernel_meets_does_not_skip(backend: object, need: str) -> None:
    needs.require(need)


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel", "file:/sys/kernel/btf/vmlinux")
@pytest.mark.parametrize(
    ("need", "reason"),
    [
        ("helper:socket_filter:override_return", "helper:socket_filter:override_return is not supported"),
        ("tracepoint:syscalls/no_such_call", "tracepoint:syscalls/no_such_call does not exist"),
        ("file:/no/such/file", "file:/no/such/file does not exist"),
    ],
)
def test_a_need_that_the_kernel_does_not_meet_skips(monkeypatch: pytest.MonkeyPatch, need: str, reason: str) -> None:
    monkeypatch.setattr(needs, "skips", Counter())
    with pytest.raises(needs.Unmet, match=reason):
        needs.require(need)
    assert needs.skips == {reason: 1}


def test_a_name_is_looked_for_in_the_btf_of_the_kernel(pytester: pytest.Pytester) -> None:
    body = """
import pytest

@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "btf_name:BPF_MAP_TYPE_HASH")
def test_there(): pass

@pytest.mark.needs("file:/sys/kernel/btf/vmlinux", "btf_name:BPF_MAP_TYPE_HAS")
def test_not_there(): raise AssertionError("must not run")
"""
    needs.require("file:/sys/kernel/btf/vmlinux")
    result = run_suite(pytester, body)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*1 btf_name:BPF_MAP_TYPE_HAS is not in the kernel's BTF"])
