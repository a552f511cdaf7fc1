"""Where the kernel takes no program, or none for the moment, system calls do the same; a mistake of ours is loud."""

from __future__ import annotations

import ctypes
import warnings
from collections import Counter
from collections.abc import Callable
from errno import EAGAIN, EINVAL, EMFILE, ENFILE, ENOMEM, EPERM
from typing import TYPE_CHECKING, Any

import pytest
from support.many import ways

import rawbpf
from rawbpf.asm.build import R0, R1, call, exit_, jump_imm, load_mem, mov_imm
from rawbpf.map import many
from rawbpf.map.many import DELETE, GET, POP, PUT, VERBS
from rawbpf.map.runner import Refused
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import PROG_LOAD

if TYPE_CHECKING:
    from rawbpf.map.many_code import Layout
    from rawbpf.map.runner import Code
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.real_kernel("programs run there only")

TOTAL = 300
ENOTSUPP = 524


def _table(backend: Any, **more: Any) -> Any:
    options: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": TOTAL, "backend": backend}
    return rawbpf.HashMap.create(**(options | more))


def _use(m: Any) -> None:
    """Do with every verb what is known to be right."""
    content = {i: i * i for i in range(TOTAL)}
    m.put_many(content)
    assert m.get_many(range(TOTAL + 5), -1) == [*content.values(), *[-1] * 5]
    assert m.pop_many(range(0, TOTAL, 3)) == [content[i] for i in range(0, TOTAL, 3)]
    assert m.get_many(range(TOTAL), -1) == [content[i] if i % 3 else -1 for i in range(TOTAL)]
    assert m.delete_many(range(TOTAL)) == TOTAL - TOTAL // 3
    with pytest.raises(rawbpf.MapFull) as caught:
        m.put_many({i: i for i in range(2 * TOTAL)})
    assert caught.value.applied == TOTAL == len(m)
    m.clear()


# For the moment ------------------------------------------------------------------


@pytest.mark.parametrize("cmd", [c.BPF_MAP_CREATE, c.BPF_BTF_LOAD, c.BPF_PROG_LOAD, c.BPF_PROG_TEST_RUN])
@pytest.mark.parametrize("errno", [ENOMEM, EMFILE, ENFILE])
def test_what_is_short_for_the_moment_is_asked_for_again_the_next_time(backend: Backend, cmd: int, errno: int) -> None:
    short = FaultBackend(backend, {})
    with _table(short) as m:
        m.update({1: 1, 2: 4})
        # PROG_LOAD is asked once more for its log, and so is what cannot be run; ENOMEM may be of the locked memory.
        short.fail(cmd, [(short.calls[cmd] + nth, errno) for nth in range(1, 5)])
        assert m.get_many(range(TOTAL), 0) == [0, 1, 4, *[0] * (TOTAL - 3)]
        assert short.unused.keys() != set()
        while short.unused:
            assert m.get_many(range(TOTAL), 0) == [0, 1, 4, *[0] * (TOTAL - 3)]
        before = short.calls[c.BPF_PROG_TEST_RUN]
        _use(m)
        assert short.calls[c.BPF_PROG_TEST_RUN] > before
        assert m.many_path == "program"


def test_a_load_that_signals_interrupted_too_often_is_tried_again_later(backend: Backend) -> None:
    busy = FaultBackend(backend, {})
    with _table(busy) as m:
        busy.fail_always(c.BPF_PROG_LOAD, EAGAIN)
        assert m.get_many(range(TOTAL)) == [None] * TOTAL
        way = m.many_path
        assert way.startswith("system calls: ")
        assert "signals kept interrupting the verifier" in way
        busy._always.clear()
        assert m.many_path == "program"


@pytest.mark.parametrize("errno", [ENOMEM, EMFILE])
def test_the_path_says_what_is_short_and_not_that_it_is_a_program(backend: Backend, errno: int) -> None:
    short = FaultBackend(backend, {})
    with _table(short) as m:
        short.fail_always(c.BPF_MAP_CREATE, errno)
        assert set(ways(m)) == set(VERBS)
        assert all(way.startswith("system calls: ") for way in ways(m).values())


class _NoPages(Wrapper):
    def mmap_at(self, fd: int, length: int, address: int = 0) -> ctypes.Array[ctypes.c_char]:
        raise OSError(ENOMEM, "no pages")


def test_without_memory_to_share_system_calls_do_it(backend: Backend) -> None:
    with _table(_NoPages(backend)) as m:
        _use(m)
        assert m.many_path == "system calls: [Errno 12] no pages"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("errno", [ENOMEM, EPERM, EINVAL])
def test_a_program_that_cannot_be_run_in_the_middle_loses_and_repeats_nothing(
    backend: Backend, verb: str, nth: int, errno: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST_KEYS", 100)
    failing = FaultBackend(backend, {})
    calls: dict[str, tuple[Callable[[Any], object], object]] = {
        GET: (lambda m: m.get_many(range(TOTAL)), list(range(TOTAL))),
        PUT: (lambda m: m.put_many([(i, i) for i in range(TOTAL)], c.BPF_EXIST), None),
        DELETE: (lambda m: m.delete_many(range(TOTAL)), TOTAL),
        POP: (lambda m: m.pop_many(range(TOTAL)), list(range(TOTAL))),
    }
    call, expected = calls[verb]
    with _table(failing) as m:
        m.update([(i, i) for i in range(TOTAL)])
        assert m.many_path == "program"
        at = failing.calls[c.BPF_PROG_TEST_RUN] + nth
        failing.fail(c.BPF_PROG_TEST_RUN, [(at, errno), (at + 1, errno)])
        assert call(m) == expected
        assert failing.unused == {}
        assert len(m) == (TOTAL if verb in (GET, PUT) else 0)
        assert m.many_path == "program"
        failing.fail_always(c.BPF_PROG_TEST_RUN, errno)
        m.update([(i, i) for i in range(TOTAL)])
        assert call(m) == expected
        assert len(m) == (TOTAL if verb in (GET, PUT) else 0)


# For good ------------------------------------------------------------------------


class _Refusing(Wrapper):
    """Refuses to load programs, of all types or of those in `types`, with this errno and this in the log."""

    def __init__(self, inner: Backend, errno: int, log: str, types: tuple[int, ...] = ()) -> None:
        super().__init__(inner)
        self.errno = errno
        self.log = log
        self.types = types
        self.loads = Counter[int]()

    def intercept(self, call: Callable[[int, Any, int], int], cmd: int, attr: Any, size: int) -> int:
        image = ctypes.string_at(attr, size)
        if cmd != c.BPF_PROG_LOAD:
            return call(cmd, attr, size)
        kind = PROG_LOAD.integer(image, "prog_type")
        self.loads[kind] += 1
        if self.types and kind not in self.types:
            return call(cmd, attr, size)
        if address := PROG_LOAD.integer(image, "log_buf"):
            ctypes.memmove(address, self.log.encode() + b"\0", len(self.log) + 1)
        ctypes.set_errno(self.errno)
        return -1


TOO_OLD = "system calls: this kernel lacks a helper that it needs (Linux 5.14)"
REFUSALS: dict[str, tuple[int, str, str, bool]] = {
    # errno, log, what many_path says, whether it is so of every map
    "no JIT": (
        EINVAL,
        "callbacks are not allowed in non-JITed programs\nprocessed 0 insns (limit 1000000)\n",
        "system calls: the kernel runs programs without a JIT",
        True,
    ),
    "no such type": (EINVAL, "", "system calls: this kernel has no programs of type syscall (Linux 5.14)", True),
    "no callbacks, 5.12": (EINVAL, "invalid func unknown#164\nprocessed 9 insns\n", TOO_OLD, True),
    "no callbacks, 6.x": (
        EINVAL,
        "0: (85) call bpf_for_each_map_elem#164\nunknown func bpf_for_each_map_elem#164\n",
        TOO_OLD,
        True,
    ),
    "no callbacks here": (EINVAL, "program of this type cannot use helper bpf_for_each_map_elem#164\n", TOO_OLD, True),
    "no values of other CPUs": (
        EINVAL,
        "9: (85) call bpf_for_each_map_elem#164\ninvalid func unknown#195\n",
        "system calls: this kernel lacks the helper for values of other CPUs (Linux 5.19)",
        False,
    ),
}


@pytest.mark.parametrize(("errno", "log", "way", "everywhere"), REFUSALS.values(), ids=REFUSALS)
def test_a_kernel_that_cannot_is_known_by_its_words_and_not_asked_for_every_map(
    backend: Backend, errno: int, log: str, way: str, everywhere: bool
) -> None:
    old = _Refusing(backend, errno, log)
    with _table(old) as m:
        _use(m)
        assert m.many_path == way
        loads = old.loads.total()
        assert loads == 2 * (1 if everywhere else len(VERBS))
    with _table(old) as m:
        _use(m)
        assert m.many_path == way
    assert old.loads.total() == (loads if everywhere else 2 * loads)
    # It is said of that kernel, and of no other.
    with _table(backend) as m:
        assert m.many_path == "program"


def test_what_a_sleepable_program_may_not_use_another_may(backend: Backend) -> None:
    log = "Sleepable programs can only use array, hash, ringbuf and local storage maps\n"
    choosy = _Refusing(backend, EINVAL, log, (c.BPF_PROG_TYPE_SYSCALL,))
    with _table(choosy) as m:
        _use(m)
        assert m.many_path == "program"
        assert choosy.loads[c.BPF_PROG_TYPE_XDP] == len(VERBS)
    neither = _Refusing(backend, EINVAL, log)
    with _table(neither) as m:
        _use(m)
        assert m.many_path == "system calls: Sleepable programs can only use"


def test_a_kernel_that_runs_no_programs_on_demand_is_asked_once(backend: Backend) -> None:
    old = FaultBackend(backend, {})
    old.fail_always(c.BPF_PROG_TEST_RUN, ENOTSUPP)
    for _ in range(3):
        with _table(old) as m:
            _use(m)
            assert m.many_path == "system calls: this kernel does not run programs on demand"
    assert old.calls[c.BPF_PROG_LOAD] == 1


@pytest.mark.parametrize("cmd", [c.BPF_MAP_CREATE, c.BPF_BTF_LOAD, c.BPF_PROG_LOAD])
def test_what_may_not_be_loaded_is_not_tried_at_every_call(backend: Backend, cmd: int) -> None:
    denied = FaultBackend(backend, {})
    with _table(denied) as m:
        denied.fail_always(cmd, EPERM)
        _use(m)
        _use(m)  # few keys ask at the second call
        calls = denied.calls[cmd]
        for _ in range(5):
            _use(m)
        assert denied.calls[cmd] == calls
        assert all(way.startswith("system calls: ") for way in ways(m).values())


# Mistakes of our own -------------------------------------------------------------


def _wild(layout: Layout, map_fd: int, scratch: int, steps: int, **_: object) -> Code:
    # What no verifier lets pass: a read from a number.
    return [mov_imm(R1, 5), load_mem(R0, R1, 0), exit_()]


def _unbounded(layout: Layout, map_fd: int, scratch: int, steps: int, **_: object) -> Code:
    return [mov_imm(R0, 0), call(99999), jump_imm(R0, "==", 0, 0), exit_()]


@pytest.mark.parametrize("sabotaged", [_wild, _unbounded])
@pytest.mark.parametrize(
    ("generator", "verbs"),
    [("get_code", [GET, POP]), ("put_code", [PUT]), ("delete_code", [DELETE])],
)
def test_a_program_of_ours_that_is_refused_raises_in_tests_and_elsewhere_warns_once(
    backend: Backend,
    generator: str,
    verbs: list[str],
    sabotaged: Callable[..., Code],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many, generator, sabotaged)
    log = _Refusing(backend, EINVAL, "R1 invalid mem access 'scalar'\nprocessed 2 insns\n")
    under: Any = backend if sabotaged is _wild else log
    with _table(under) as m:
        calls: dict[str, Callable[[], object]] = {
            GET: lambda: m.get_many(range(TOTAL)),
            PUT: lambda: m.put_many({i: i for i in range(TOTAL)}),
            DELETE: lambda: m.delete_many(range(TOTAL)),
            POP: lambda: m.pop_many(range(TOTAL)),
        }
        for verb in verbs:
            with pytest.raises(Refused, match="R1 invalid mem access"):
                calls[verb]()
            with pytest.raises(Refused):
                calls[verb]()
        with pytest.raises(Refused):
            assert m.many_path
    if under is not backend:
        return
    with _table(under) as m, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            _use(m)
        assert [each.category for each in told] == [Refused] * len(verbs)
        assert "R1 invalid mem access 'scalar'" in str(told[0].message)
        found = ways(m)
        for verb in VERBS:
            refused = "system calls: the verifier refused the program: R1 invalid mem access 'scalar'"
            assert found[verb] == (refused if verb in verbs else "program")


def test_the_filter_of_the_suite_makes_the_warning_an_error() -> None:
    with pytest.raises(Refused):
        warnings.warn("a program", Refused, stacklevel=1)
    assert issubclass(Refused, RuntimeWarning)


@pytest.mark.real_kernel("programs run there only")
def test_what_an_earlier_call_missed_is_not_counted_where_a_run_fails(backend: Backend) -> None:
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1000) as m:
        m.put_many({key: key for key in range(500)})
        assert m.delete_many(range(400, 900)) == 100
        failing = FaultBackend(backend, {c.BPF_PROG_TEST_RUN: ((n, ENOMEM) for n in range(1, 50))})
        m._handle.many._free["delete_many"][0]._backend = failing  # type: ignore[union-attr]
        assert m.delete_many(range(300, 900)) == 100
