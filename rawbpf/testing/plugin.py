"""The pytest plug-in: map-handling code under test without root, and on the real kernel with one option.

    --bpf-backend=sim       a simulated kernel, new for each test: no root, no Linux privileges (the default)
    --bpf-backend=kernel    the running kernel
    --bpf-backend=auto      the running kernel where it lets this process make maps, else a simulated one
    --bpf-strict            what the backend lacks (`bpf_requires`) fails instead of being skipped

Without the option RAWBPF_BACKEND decides, and without that it is `sim`. Only tests that use a fixture or a
mark of this module are concerned. pytest loads it wherever rawbpf is installed: what it needs it
imports when a test asks for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn, Unpack

    from rawbpf.features import Support
    from rawbpf.loader.object import Object
    from rawbpf.loader.spec import LoadOptions
    from rawbpf.syscall.protocol import Backend

__all__ = ["bpf_backend", "bpf_load", "bpf_object", "bpf_pins"]

_BACKENDS = ("sim", "kernel", "auto")
_MARKS = (
    "bpf_requires(*features): what the test needs of the kernel, simulated or not: 'map_type:ringbuf', "
    "'prog_type:xdp', 'helper:xdp:redirect'; 'kernel' is the real one and 'sim' a simulated one. Skips where it is "
    "missing; brings bpf_backend.\n"
    "bpf_object(path, **options): the object file that the fixture bpf_object loads, beside the test's own file.\n"
    "bpf_simulator(**options): what the simulated kernel of this test is made with, such as cpus=4 or release='5.10'; "
    "brings bpf_backend. The running kernel is as it is: a test of the simulated one has bpf_requires('sim')."
)
_chosen = pytest.StashKey[str]()
_failed = pytest.StashKey[bool]()
# The descriptors that a test may leave as they are, while bpf_backend looks after the others.
_others = pytest.StashKey[set[int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("rawbpf", "BPF maps and programs")
    group.addoption(
        "--bpf-backend",
        choices=_BACKENDS,
        help="which kernel the fixture bpf_backend is: sim, kernel, or auto (default: RAWBPF_BACKEND, else sim)",
    )
    group.addoption(
        "--bpf-strict", action="store_true", help="fail tests whose bpf_requires are not met, instead of skipping them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks. Raises: UsageError for an unknown RAWBPF_BACKEND."""
    for line in _MARKS.splitlines():
        config.addinivalue_line("markers", line)
    chosen: str = config.getoption("--bpf-backend") or os.environ.get("RAWBPF_BACKEND") or "sim"
    if chosen not in _BACKENDS:
        raise pytest.UsageError(f"RAWBPF_BACKEND={chosen!r}: expected one of {', '.join(_BACKENDS)}")
    config.stash[_chosen] = chosen


def pytest_collection_finish() -> None:
    """Import ahead what tests need that have imported Simulator or a class of maps, and make kernels themselves."""
    if not sys.modules.keys().isdisjoint(("rawbpf.sim.simulator", "rawbpf.map.base")):
        _import_ahead()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Leave what a fixture of a wider scope opens to it, also where it is set up in the middle of a test."""
    others = request.config.stash.get(_others, None)
    if others is None or fixturedef.scope == "function":
        return (yield)
    from rawbpf.testing.leak import descriptors

    before = descriptors()
    try:
        return (yield)
    finally:
        others |= descriptors() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test has failed: then what it left open is a consequence."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def _import_ahead() -> None:
    from rawbpf.testing.ahead import import_ahead

    import_ahead()


def _kernel_lets_us() -> bool:
    from rawbpf import features
    from rawbpf.errors import NotSupported
    from rawbpf.syscall.kernel import KernelBackend

    try:
        return bool(features.map_type("array", backend=KernelBackend()))
    except NotSupported:  # this is not Linux
        return False


@pytest.fixture
def bpf_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The kernel that new maps and programs of this test are made with: see `--bpf-backend`.

    A simulated one is new for each test and is the Simulator itself. What the test left open in this
    process is closed after it and fails it. All that maps need is imported by then.
    """
    from rawbpf.syscall.current import using
    from rawbpf.testing.leak import close_left_open, descriptors

    _import_ahead()
    with ExitStack() as stack:
        backend = _made(request, stack)
        stack.enter_context(using(backend))
        _require(request, backend)
        request.config.stash[_others] = others = descriptors()
        try:
            yield backend
        finally:
            del request.config.stash[_others]
        left = close_left_open(backend, others)
    if left and not request.node.stash.get(_failed, False):
        pytest.fail("left open by this test: " + ", ".join(left), pytrace=False)


def _made(request: pytest.FixtureRequest, stack: ExitStack) -> Backend:
    marker = request.node.get_closest_marker("bpf_simulator")
    if marker is not None and marker.args:
        given = ", ".join(map(repr, marker.args))
        raise pytest.UsageError(f"bpf_simulator({given}): expected named options, such as cpus=4 or release='5.10'")
    chosen = request.config.stash[_chosen]
    if chosen == "kernel" or (chosen == "auto" and _kernel_lets_us()):
        from rawbpf.syscall.kernel import KernelBackend

        return KernelBackend()
    from rawbpf.sim import Simulator

    return stack.enter_context(Simulator(**(marker.kwargs if marker else {})))


@pytest.fixture(autouse=True)
def _bpf_marks(request: pytest.FixtureRequest) -> None:
    # Whoever says what he needs of a kernel means the one that the options say.
    if any(request.node.get_closest_marker(name) is not None for name in ("bpf_requires", "bpf_simulator")):
        request.getfixturevalue("bpf_backend")


def _require(request: pytest.FixtureRequest, backend: Backend) -> None:
    for marker in request.node.iter_markers("bpf_requires"):
        for need in marker.args:
            reason = _missing(need, backend)
            if reason:
                _refuse(request, f"bpf_requires {need}: {reason}")


def _refuse(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    if request.config.getoption("--bpf-strict"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _missing(need: str, backend: Backend) -> str:
    # Why `backend` has not what is needed; empty where it has, and where that cannot be told: the test will show.
    from rawbpf import features

    kind, _, what = need.partition(":")
    if need == "kernel":
        return "" if backend.name == "kernel" else "this is a simulated kernel (--bpf-backend=kernel is the real one)"
    if need == "sim":
        return "" if backend.name == "sim" else "this is the running kernel (--bpf-backend=sim is a simulated one)"
    probes: dict[str, Callable[[], Support]] = {
        "map_type": lambda: features.map_type(what, backend=backend),
        "prog_type": lambda: features.prog_type(what, backend=backend),
        "helper": lambda: features.helper(*what.split(":", 1), backend=backend),
    }
    if kind not in probes or not what or (kind == "helper" and ":" not in what):
        raise pytest.UsageError(
            f"bpf_requires({need!r}): expected 'kernel', 'sim', 'map_type:ringbuf', 'prog_type:xdp' or "
            "'helper:xdp:redirect'"
        )
    support = probes[kind]()
    if support or support == features.Answer.UNKNOWN:
        return ""
    return f"{support.answer.value}: {support.reason}"


@pytest.fixture
def bpf_pins(request: pytest.FixtureRequest, bpf_backend: Backend) -> Iterator[Path]:
    """An empty directory to pin in: a pathlib.Path, which is removed after the test with all that is in it.

    On a simulated kernel its `bpffs`, on the running one a new directory below a bpf file system that is mounted.
    Where this process may write to none, the test is skipped with the reason, or fails with `--bpf-strict`.
    """
    from pathlib import Path

    from rawbpf.testing.bpffs import empty, new_directory

    own: str | None = getattr(bpf_backend, "bpffs", None)
    found = own or new_directory()
    if found is None:
        _refuse(request, "bpf_pins: no bpf file system is mounted that this process may write to: mount -t bpf bpf DIR")
    try:
        yield Path(found)
    finally:
        empty(found)
        if own is None:
            os.rmdir(found)


@pytest.fixture
def bpf_load(request: pytest.FixtureRequest, bpf_backend: Backend) -> Iterator[Callable[..., Object]]:
    """`rawbpf.load` for object files beside the test's own; what it loads is closed after the test.

    Takes a path, which may start at the directory of the test's file or at pytest's root, and the options of
    `rawbpf.load`.
    """
    from rawbpf.loader.spec import load

    own: LoadOptions = {"backend": bpf_backend}
    with ExitStack() as stack:

        def load_beside(path: str | os.PathLike[str], **options: Unpack[LoadOptions]) -> Object:
            starts = [request.path.parent / path, request.config.rootpath / path]
            found = next((start for start in starts if start.exists()), starts[0])
            return stack.enter_context(load(found, **(own | options)))

        yield load_beside


@pytest.fixture
def bpf_object(request: pytest.FixtureRequest, bpf_load: Callable[..., Object]) -> Object:
    """The loaded object file that the mark `@pytest.mark.bpf_object("file.bpf.o")` names; closed after the test."""
    marker = request.node.get_closest_marker("bpf_object")
    if marker is None or not marker.args:
        raise pytest.UsageError(
            'the fixture bpf_object loads what @pytest.mark.bpf_object("file.bpf.o") names; bpf_load takes a path'
        )
    return bpf_load(*marker.args, **marker.kwargs)
