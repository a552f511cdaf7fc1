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

import gc
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fcntl import F_GETFL, fcntl
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, Unpack

    from rawbpf.features import Support
    from rawbpf.loader.object import Object
    from rawbpf.loader.spec import LoadOptions
    from rawbpf.map.base import Map
    from rawbpf.syscall.descriptor import Descriptor
    from rawbpf.syscall.protocol import Backend

__all__ = ["bpf_backend", "bpf_load", "bpf_object", "bpf_pins"]

_BACKENDS = ("sim", "kernel", "auto")
_MARKS = (
    "bpf_requires(*features): what the test needs of the kernel, simulated or not: 'map_type:ringbuf', "
    "'prog_type:xdp', 'helper:xdp:redirect'; 'kernel' is the real one, 'sim' a simulated one. Skips where it is "
    "missing; brings bpf_backend.\n"
    "bpf_object(path, **options): the object file that the fixture bpf_object loads, beside the test's own file.\n"
    "bpf_simulator(**options): what the simulated kernel of this test is made with, such as cpus=4 or release='5.10'; "
    "brings bpf_backend, which --bpf-backend=kernel chooses all the same."
)
# The line of an object's fdinfo that has its number. A link's tells its program as well.
_KINDS = {"link": "link_id:", "map": "map_id:", "program": "prog_id:", "BTF": "btf_id:"}


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
    """Declare the marks. Raises: pytest.UsageError for an unknown RAWBPF_BACKEND."""
    _wanted(config)
    for line in _MARKS.splitlines():
        config.addinivalue_line("markers", line)


def _wanted(config: pytest.Config) -> str:
    wanted: str = config.getoption("--bpf-backend") or os.environ.get("RAWBPF_BACKEND") or "sim"
    if wanted not in _BACKENDS:
        raise pytest.UsageError(f"RAWBPF_BACKEND={wanted!r}: expected one of {', '.join(_BACKENDS)}")
    return wanted


def _chosen(config: pytest.Config) -> str:
    wanted = _wanted(config)
    if wanted == "auto":
        return "kernel" if _kernel_lets_us() else "sim"
    return wanted


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
    process is closed after it and fails it, if nothing else did.
    """
    from rawbpf.syscall.current import using

    _warm_up()
    failed = request.session.testsfailed
    with ExitStack() as stack:
        backend = _made(request, stack)
        stack.enter_context(using(backend))
        _require(request, backend)
        before = _descriptors()
        yield backend
        left = _left_open(backend, before)
    # One that failed had no chance to close what it opened; its own message is the one to read.
    if left and request.session.testsfailed == failed:
        pytest.fail("left open by this test: " + ", ".join(left), pytrace=False)


def _made(request: pytest.FixtureRequest, stack: ExitStack) -> Backend:
    if _chosen(request.config) == "kernel":
        from rawbpf.syscall.kernel import KernelBackend

        return KernelBackend()
    from rawbpf.sim import Simulator

    marker = request.node.get_closest_marker("bpf_simulator")
    if marker is not None and marker.args:
        raise pytest.UsageError(f"bpf_simulator{marker.args}: expected options by name, such as cpus=4, release='5.10'")
    return stack.enter_context(Simulator(**(marker.kwargs if marker else {})))


@cache
def _warm_up() -> None:
    # What is imported when it is first needed is imported now: an example of Hypothesis has 200 milliseconds.
    from rawbpf import HashMap
    from rawbpf.sim import Simulator

    with (
        Simulator() as simulator,
        HashMap.create(key="u32", value="u32", max_entries=1, backend=simulator) as m,
    ):
        m.update({0: m.get(0, 0)})
        m.snapshot()


@pytest.fixture(autouse=True)
def _bpf_requirements(request: pytest.FixtureRequest) -> None:
    # Whoever says what he needs of a kernel means the one that the options say.
    if any(request.node.get_closest_marker(name) for name in ("bpf_requires", "bpf_simulator")):
        request.getfixturevalue("bpf_backend")


def _require(request: pytest.FixtureRequest, backend: Backend) -> None:
    for marker in request.node.iter_markers("bpf_requires"):
        for need in marker.args:
            reason = _missing(need, backend)
            if reason and request.config.getoption("--bpf-strict"):
                pytest.fail(f"bpf_requires {need}: {reason}", pytrace=False)
            if reason:
                pytest.skip(f"bpf_requires {need}: {reason}")


def _missing(need: str, backend: Backend) -> str:
    # Why `backend` has not what is needed; empty where it has, and where that cannot be told: the test will show.
    from rawbpf import features

    kind, _, what = need.partition(":")
    if need == "sim":
        return "" if backend.name == "sim" else "this is the running kernel (--bpf-backend=sim is a simulated one)"
    if need == "kernel":
        return "" if backend.name == "kernel" else "this is a simulated kernel (--bpf-backend=kernel is the real one)"
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


@pytest.fixture
def bpf_pins(request: pytest.FixtureRequest, bpf_backend: Backend) -> Iterator[Path]:
    """A new directory to pin in, which is removed after the test with all that is in it.

    Skips on the running kernel where no bpf file system is mounted in which this process may write.
    """
    root = getattr(bpf_backend, "bpffs", None) or _mounted_bpffs()
    if root is None:
        reason = "no bpf file system is mounted where this process may write (mount -t bpf bpf /sys/fs/bpf)"
        if request.config.getoption("--bpf-strict"):
            pytest.fail(f"bpf_pins: {reason}", pytrace=False)
        pytest.skip(f"bpf_pins: {reason}")
    with TemporaryDirectory(prefix="pytest-", dir=root) as directory:
        yield Path(directory)


def _mounted_bpffs() -> str | None:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        fields = [line.split() for line in mounts]
    # Blanks and the like are written in octal; a bpf file system at such a path is passed over.
    places = [field[1] for field in fields if field[2] == "bpf"]
    return next((place for place in places if os.access(place, os.W_OK | os.X_OK)), None)


def _descriptors() -> set[int]:
    try:
        found = {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:  # no /proc: nothing can be told
        return set()
    return {fd for fd in found if os.path.lexists(f"/proc/self/fd/{fd}")}  # the listing's own is gone


def _left_open(backend: Backend, before: set[int]) -> list[str]:
    # Closes what is left, and returns what it was.
    if not _opened_since(backend, before):
        return []
    gc.collect()  # what was dropped closes itself, with a ResourceWarning
    left = _opened_since(backend, before)
    for owner in _owners(left):
        owner.close()
    for fd in _opened_since(backend, before):
        backend.close(fd)
    return list(left.values())


def _owners(fds: Container[int]) -> list[Map[Any, Any] | Descriptor]:
    # An object that goes on thinking that its descriptor is open would close whatever has the number by then.
    from rawbpf.map.base import Map
    from rawbpf.syscall.descriptor import Descriptor

    every = [each for each in gc.get_objects() if isinstance(each, (Map, Descriptor))]
    return [each for each in every if not each.closed and each.fileno() in fds]


def _opened_since(backend: Backend, before: set[int]) -> dict[int, str]:
    found = {}
    for fd in sorted(_descriptors() - before):
        try:
            # The other end of a descriptor of a simulator, which is the simulator's.
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                continue
            lines = [line.split() for line in backend.fdinfo(fd).splitlines()]
        except OSError:  # it is closed by now
            continue
        words = {line[0]: line[1] for line in lines if len(line) > 1}
        kind = next((kind for kind, key in _KINDS.items() if key in words), None)
        if kind is not None:
            found[fd] = f"{kind} {_described(backend, fd, kind, words[_KINDS[kind]])}"
    return found


def _described(backend: Backend, fd: int, kind: str, number: str) -> str:
    if kind == "map":
        from rawbpf.map.info import read_info
        from rawbpf.uapi.names import map_type_name

        info = read_info(backend, fd)
        return f"{info.name!r} ({map_type_name(info.type_number)}, id {number}, descriptor {fd})"
    return f"{number} (descriptor {fd})"
