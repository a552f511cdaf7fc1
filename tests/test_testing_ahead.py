"""With the plug-in a test imports nothing of rawbpf in its first example, which Hypothesis would take for slow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_testing_plugin import run

pytestmark = pytest.mark.needs("module:hypothesis")

_CHECK = """
import sys
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

def use(m, full):
    m[1] = 1
    m.update({2: 2})
    assert m[1] == 1 and dict(m.items()) == m.snapshot() == {1: 1, 2: 2} and 3 not in m and m.get(3) is None
    with pytest.raises(full):
        m[3] = 3
    with pytest.raises(KeyError):
        m[3]
    m.clear()

def imported_since(before):
    return {name for name in set(sys.modules) - before if name.startswith("rawbpf")}
"""

OWN = """
from rawbpf import HashMap, MapFull
from rawbpf.sim import Simulator

@settings(deadline=None, max_examples=2)
@given(st.integers(0, 5))
def test_it(n):
    before = set(sys.modules)
    with Simulator() as s, HashMap.create(key="u32", value="u64", max_entries=2, backend=s) as m:
        use(m, MapFull)
    assert not imported_since(before)
"""

FIXTURE = """
import rawbpf

@settings(deadline=None, max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5))
def test_it(bpf_backend, n):
    before = set(sys.modules)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=2) as m:
        use(m, rawbpf.MapFull)
    assert not imported_since(before)
"""

MACHINE = """
from hypothesis.stateful import run_state_machine_as_test
from rawbpf.testing import MapMachine

class Hashes(MapMachine):
    def teardown(self):
        super().teardown()
        assert not imported_since(before)

def test_it(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "before", set(sys.modules), raising=False)
    run_state_machine_as_test(Hashes, settings=settings(max_examples=2, deadline=None))
"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(OWN, id="a simulator in the test"),
        pytest.param(FIXTURE, id="the fixture"),
        pytest.param(MACHINE, id="a machine on the running kernel", marks=pytest.mark.needs("kernel")),
    ],
)
def test_the_first_example_imports_nothing(
    body: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAWBPF_BACKEND", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    run(pytester, _CHECK + body, "-p", "no:hypothesispytest").assert_outcomes(passed=1)


_WITHOUT = """
import sys
sys.modules["hypothesis"] = None
import rawbpf.testing
try:
    print(getattr(rawbpf.testing, sys.argv[1]))
except ModuleNotFoundError as error:
    assert error.name == "hypothesis"
    print(error)
"""


@pytest.mark.parametrize("name", ["FAMILIES", "MapMachine", "map_specs", "keys", "values", "operations", "btf_types"])
def test_who_has_no_hypothesis_is_told_what_to_install(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT, name], capture_output=True, text=True, check=True)
    assert done.stdout == f"rawbpf.testing.{name} needs Hypothesis: pip install 'rawbpf[testing]'\n"


def test_all_else_is_there_without_hypothesis() -> None:
    import rawbpf.testing

    needing = {"FAMILIES", "MapMachine", "map_specs", "keys", "values", "operations", "btf_types"}
    for name in sorted(set(rawbpf.testing._HOMES) - needing):
        done = subprocess.run([sys.executable, "-c", _WITHOUT, name], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("<"), done.stdout
