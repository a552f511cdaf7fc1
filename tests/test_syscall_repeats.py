"""Which refusals are tried again, and how often."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import rawbpf
from rawbpf.asm.build import exit_, mov_imm
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

RETURN_0 = [mov_imm(0, 0), exit_()]


def _fails(backend: Backend, cmd: int, number: int, times: int) -> FaultBackend:
    return FaultBackend(backend, {cmd: [(nth, number) for nth in range(1, times + 1)]})


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("times", [1, 5])
def test_prog_load_is_repeated_on_eagain(backend: Backend, times: int) -> None:
    faulty = _fails(backend, c.BPF_PROG_LOAD, errno.EAGAIN, times)
    with rawbpf.Program.load("socket_filter", RETURN_0, backend=faulty) as program:
        assert program.run(data=bytes(64)).retval == 0
    assert faulty.calls[c.BPF_PROG_LOAD] == times + 1


def test_prog_load_gives_up_after_five_repetitions(backend: Backend) -> None:
    faulty = _fails(backend, c.BPF_PROG_LOAD, errno.EAGAIN, 100)
    with pytest.raises(rawbpf.BpfError) as caught:
        rawbpf.Program.load("socket_filter", RETURN_0, backend=faulty)
    assert caught.value.errno == errno.EAGAIN
    assert faulty.calls[c.BPF_PROG_LOAD] == 6


def test_eagain_of_other_commands_is_not_repeated(backend: Backend) -> None:
    faulty = _fails(backend, c.BPF_MAP_CREATE, errno.EAGAIN, 1)
    with pytest.raises(rawbpf.BpfError):
        rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=faulty)
    assert faulty.calls[c.BPF_MAP_CREATE] == 1


@pytest.mark.parametrize("cmd", [c.BPF_MAP_CREATE, c.BPF_BTF_LOAD, c.BPF_MAP_UPDATE_BATCH, c.BPF_OBJ_GET_INFO_BY_FD])
def test_an_interrupted_command_is_repeated_until_it_is_done(backend: Backend, cmd: int) -> None:
    faulty = _fails(backend, cmd, errno.EINTR, 20)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, backend=faulty) as m:
        m.update({1: 1})
        assert m.info.max_entries == 4
    assert faulty.calls[cmd] == 21


@pytest.mark.parametrize(
    ("cmd", "operation", "result"),
    [
        pytest.param(c.BPF_MAP_LOOKUP_ELEM, lambda m: m[1], 10, id="read"),
        pytest.param(c.BPF_MAP_LOOKUP_ELEM, lambda m: m.get(1), 10, id="get"),
        pytest.param(c.BPF_MAP_LOOKUP_ELEM, lambda m: 1 in m, True, id="in"),
        pytest.param(c.BPF_MAP_LOOKUP_ELEM, lambda m: m.get(2), None, id="miss"),
        pytest.param(c.BPF_MAP_UPDATE_ELEM, lambda m: m.__setitem__(3, 30), None, id="write"),
        pytest.param(c.BPF_MAP_UPDATE_ELEM, lambda m: m.put(3, 30, 1), None, id="put"),
        pytest.param(c.BPF_MAP_DELETE_ELEM, lambda m: m.__delitem__(1), None, id="delete"),
    ],
)
def test_an_interrupted_point_operation_is_repeated(
    backend: Backend, cmd: int, operation: Callable[[rawbpf.HashMap[int, int]], object], result: object
) -> None:
    faulty = FaultBackend(backend, {})
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, backend=faulty) as m:
        m[1] = 10
        calls = faulty.calls[cmd]
        faulty.fail(cmd, [(calls + n, errno.EINTR) for n in range(1, 4)])
        assert operation(m) == result
        assert faulty.calls[cmd] == calls + 4


# In a process of its own: a raised limit stays raised.
RAISE_MEMLOCK = """
import json, resource, sys
import rawbpf
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import constants as c

hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
low = 65536
resource.setrlimit(resource.RLIMIT_MEMLOCK, (low, hard))
number, failures = map(int, sys.argv[1:])
backend = FaultBackend(KernelBackend(), {c.BPF_MAP_CREATE: [(n, number) for n in range(1, failures + 1)]})
try:
    rawbpf.HashMap.create(key="u32", value="u32", max_entries=1, backend=backend).close()
    outcome = "created"
except rawbpf.BpfError as error:
    outcome = type(error).__name__
soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
print(json.dumps([outcome, backend.calls[c.BPF_MAP_CREATE], soft == hard, soft == low]))
"""


@pytest.mark.real_kernel("it is about what this process may do")
@pytest.mark.parametrize(
    ("number", "failures", "outcome"),
    [
        pytest.param(errno.EPERM, 1, ["created", 2, True, False], id="EPERM once"),
        pytest.param(errno.ENOMEM, 1, ["created", 2, True, False], id="ENOMEM once"),
        pytest.param(errno.EPERM, 9, ["PermissionDenied", 2, True, False], id="EPERM for good"),
        pytest.param(errno.EINVAL, 1, ["BpfError", 1, False, True], id="EINVAL has nothing to do with it"),
        pytest.param(errno.EINVAL, 0, ["created", 1, False, True], id="no failure"),
    ],
)
def test_the_memlock_limit_is_raised_once_and_only_after_a_refusal(
    backend: Backend, number: int, failures: int, outcome: list[object]
) -> None:
    command = [sys.executable, "-c", RAISE_MEMLOCK, str(number), str(failures)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == outcome
