"""Fixtures and rules of every test: the backends, the leak check, and the accounting of skips."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import backends, kernel_ids, needs
from support.leaks import Snapshot, left_since

if TYPE_CHECKING:
    from support.rings import Producer

    from rawbpf.event.ring import RingBufMap
    from rawbpf.syscall.protocol import Backend

_first_seen: dict[tuple[str, int], str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--expected-skips", metavar="FILE", help="fail on a skip that FILE does not list")
    parser.addoption(
        "--kernel-only", metavar="FILE", help="fail if FILE has other numbers of tests for the kernel only"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "guest: the test also runs under other kernels; see tests/kernels/")
    config.addinivalue_line("markers", "guest_module: the test inserts modules; some guests run these alone")
    config.addinivalue_line("markers", "guest_byte_order: the test also runs where the other byte order is native")
    # A run in the background (nohup, &) ignores these, and children inherit that: Ctrl-C would end nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    # Where bpftool is, and an ordinary user's PATH is not: what `tool:` finds must run by its name.
    os.environ["PATH"] = needs.PATH


@pytest.fixture(params=backends.PARAMETERS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The kernel to test against, real and simulated, which is also the one that new objects are made with."""
    from rawbpf.syscall.current import using

    if request.param == "kernel":
        needs.require("kernel")
        from rawbpf.syscall.kernel import KernelBackend

        with using(KernelBackend()) as chosen:
            yield chosen
        return
    from rawbpf.sim.simulator import Simulator

    with Simulator() as simulator:
        with using(simulator):
            yield simulator
        left = backends.left_in(simulator)
        assert not left, "left behind by this test: " + "; ".join(left)


def pytest_collection_finish() -> None:
    """Keep what is there by now, ten thousand tests among it, from being gone through by every `gc.collect()`."""
    with suppress(ImportError):
        import hypothesis  # noqa: F401  # else pytest does later: what libraries register with it is not to be frozen
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = backends.select(items)


@pytest.fixture
def ring(backend: Backend) -> Iterator[RingBufMap]:
    """A ring buffer of two pages."""
    from rawbpf.event.ring import RingBufMap

    with RingBufMap.create(max_entries=2 * backend.host.page_size, name="events") as made:
        yield made


@pytest.fixture
def producer(ring: RingBufMap) -> Iterator[Producer]:
    """What writes to the ring buffer `ring`, as programs do."""
    from support.rings import Producer

    with Producer(ring) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_session(request: pytest.FixtureRequest) -> Iterator[None]:
    walkable = kernel_ids.readable()
    before = Snapshot()
    had = kernel_ids.ids() if walkable else set()
    _first_seen.update(dict.fromkeys(had, ""))
    yield
    problems = left_since(before)
    if walkable:
        left = kernel_ids.left_over(kernel_ids.ids() - had)
        problems += [
            f"{kernel_ids.describe(*key)}, first seen after {_first_seen.get(key, '?')}" for key in sorted(left)
        ]
    assert not problems, "left behind by the session: " + "; ".join(problems)


@pytest.fixture(scope="session", autouse=True)
def _skips_are_accounted_for(request: pytest.FixtureRequest, _nothing_outlives_the_session: None) -> Iterator[None]:
    yield
    problems = needs.contradicted(needs.skips)
    path = request.config.getoption("--expected-skips")
    if path is not None:
        problems += needs.unlisted(needs.skips, Path(path).read_text(encoding="utf-8"))
    path = request.config.getoption("--kernel-only")
    if path is not None:
        problems += backends.unlisted(backends.kernel_only, Path(path).read_text(encoding="utf-8"))
    assert not problems, "; ".join(problems)


@pytest.fixture(autouse=True)
def _nothing_outlives_the_test(request: pytest.FixtureRequest, _nothing_outlives_the_session: None) -> Iterator[None]:
    if request.node.get_closest_marker("real_kernel") is not None:
        needs.require("kernel", simulated=False)
    for marker in request.node.iter_markers("needs"):
        needs.require(*marker.args, simulated=backends.chosen(request.node) == "sim")
    before = Snapshot()
    yield
    left = left_since(before)
    for key in kernel_ids.ids():
        _first_seen.setdefault(key, request.node.nodeid)
    assert not left, "left behind by this test: " + "; ".join(left)


@pytest.fixture
def settled(_nothing_outlives_the_session: None) -> None:
    """No map of an earlier test is still being freed, for tests that list maps, which opens each of them.

    A program array that is opened by its id while the kernel empties it is never freed (seen on 6.18).
    """
    if kernel_ids.readable():
        kernel_ids.left_over({key for key in kernel_ids.ids() if key[0] == "map" and _first_seen.get(key) != ""})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    lawful = call.excinfo is not None and isinstance(call.excinfo.value, needs.Unmet)
    if report.outcome == "skipped" and not lawful and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped by itself; say what it needs: see tests/support/needs.py"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = (
            f"{collector.nodeid} skipped as a whole; mark its tests with what they need: see tests/support/needs.py"
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if needs.skips:
        terminalreporter.section("skips by reason")
        for reason, count in sorted(needs.skips.items()):
            terminalreporter.write_line(f"{count:5} {reason}")
    if backends.kernel_only:
        terminalreporter.section("tests for the real kernel only")
        for reason, tests in sorted(backends.kernel_only.items()):
            terminalreporter.write_line(f"{len(tests):5} {reason}")
