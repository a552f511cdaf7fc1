"""A test runs on the kernel and on the simulator, but for those that say why not; those are counted and listed."""

from __future__ import annotations

import pytest
from support import backends
from support.suite import run_suite

SUITE = """
import pytest
import rawbpf

def test_both(backend):
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as m:
        assert backend.name in ("kernel", "sim")
        assert ("[sim]" in repr(m)) == (backend.name == "sim")

@pytest.mark.real_kernel("programs run there only")
def test_kernel(backend):
    assert backend.name == "kernel"

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.real_kernel("2 is too much"))])
def test_case(backend, n):
    assert n == 1 or backend.name == "kernel"

@pytest.mark.real_kernel("programs run there only")
def test_without_the_fixture():
    pass

def test_pure():
    pass
"""

LEFT = """
import os
import rawbpf

kept = []

def test_pin(backend):
    if backend.name == "sim":
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, name="kept", pin=backend.bpffs + "/m").close()

def test_nothing(backend):
    rawbpf.HashMap.create(key="u32", value="u32", max_entries=1).close()
"""


@pytest.mark.real_kernel("the parameter of the running kernel is looked at")
def test_a_test_for_the_kernel_only_is_not_there_on_the_simulator(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAWBPF_BACKEND", raising=False)
    result = run_suite(pytester, SUITE)
    # Twice: test_both, and test_case with 1.
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["*1 2 is too much", "*2 programs run there only"])


def test_with_the_simulator_alone_nothing_asks_for_the_kernel(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "sim")
    result = run_suite(pytester, SUITE)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*1 2 is too much", "*2 programs run there only"])


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        pytest.param("# why\n\n2 programs run there only\n1 2 is too much\n", "", id="exact"),
        pytest.param(
            "1 programs run there only\n1 2 is too much\n", "2 tests are for the real kernel*says 1", id="more"
        ),
        pytest.param(
            "3 programs run there only\n1 2 is too much\n", "2 tests are for the real kernel*says 3", id="fewer"
        ),
        pytest.param("2 programs run there only\n", "1 tests are for the real kernel*2 is too much*says 0", id="new"),
        pytest.param(
            "2 programs run there only\n1 2 is too much\n1 gone\n", "0 tests are for the real kernel*gone*", id="gone"
        ),
    ],
)
def test_the_list_has_each_reason_with_its_number(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, listed: str, complaint: str
) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "sim")
    (pytester.path / "listed.txt").write_text(listed)
    result = run_suite(pytester, SUITE, "--kernel-only=listed.txt")
    assert result.ret == bool(complaint)
    if complaint:
        result.stdout.fnmatch_lines([f"*{complaint}*"])


def test_what_a_test_leaves_in_its_simulator_fails_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAWBPF_BACKEND", "sim")
    result = run_suite(pytester, LEFT)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left behind by this test: *map * 'kept' (simulated)*"])


def test_an_error_says_the_same_of_both() -> None:
    assert backends.said(ValueError("map_create [sim]: EINVAL")) == "map_create: EINVAL"
