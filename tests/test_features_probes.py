"""The probes say what this kernel can do, agree with bpftool, and tell "no" from "may not ask"."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import needs
from support.needs import require

from rawbpf import features
from rawbpf.features import Answer
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi import names
from rawbpf.uapi.helper import HELPERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# Where bpftool's probe is known to fail for its own reasons, and what is right: without a target a tracing
# program is refused on every kernel.
_BPFTOOL_CANNOT_TELL = {"tracing", "ext", "lsm"}

_SINCE_6_0 = ["bpf_ktime_get_tai_ns", "bpf_user_ringbuf_drain", "bpf_cgrp_storage_get", "bpf_cgrp_storage_delete"]

MAP_TYPES = [names.map_type_name(n) for n in range(1, c.BPF_MAP_TYPE_ARENA + 1)]
PROG_TYPES = [names.prog_type_name(n) for n in range(1, c.BPF_PROG_TYPE_NETFILTER + 1)]


@pytest.fixture(scope="module")
def bpftool() -> dict[str, dict[str, object]]:
    # A fixture of the module comes before the marks of its tests are looked at.
    needs.require("kernel", "tool:bpftool")
    tool = shutil.which("bpftool", path=_PATH)
    assert tool is not None
    probed = subprocess.run([tool, "-j", "feature", "probe", "kernel", "full"], capture_output=True, check=True)
    answer: dict[str, dict[str, object]] = json.loads(probed.stdout)
    return answer


@pytest.mark.real_kernel("another tool is asked about the same objects")
@pytest.mark.needs("kernel", "tool:bpftool")
class TestAgainstBpftool:
    def test_map_types_agree(self, backend: Backend, bpftool: dict[str, dict[str, object]]) -> None:
        compared = 0
        for word in MAP_TYPES:
            theirs = bpftool["map_types"].get(f"have_{word}_map_type")
            if theirs is not None:
                compared += 1
                assert bool(features.map_type(word)) == theirs, features.map_type(word)
        assert compared > 20

    def test_program_types_agree(self, backend: Backend, bpftool: dict[str, dict[str, object]]) -> None:
        compared = 0
        for word in PROG_TYPES:
            theirs = bpftool["program_types"].get(f"have_{word}_prog_type")
            if theirs is not None and word not in _BPFTOOL_CANNOT_TELL:
                compared += 1
                assert bool(features.prog_type(word)) == theirs, features.prog_type(word)
        assert compared > 20

    @pytest.mark.parametrize("word", ["xdp", "tracepoint", "cgroup_skb", "socket_filter"])
    def test_helpers_agree(self, backend: Backend, bpftool: dict[str, dict[str, object]], word: str) -> None:
        theirs = bpftool["helpers"][f"{word}_available_helpers"]
        assert isinstance(theirs, list)
        probed = {f"bpf_{name}": features.helper(word, name).answer for name in HELPERS[1:]}
        ours = {name for name, answer in probed.items() if answer is Answer.SUPPORTED}
        # Its "yes" says little: release 7.1 takes the words in which newer kernels say no for a yes. What it does
        # not list it found missing, or does not know yet.
        assert ours <= set(theirs) | set(_SINCE_6_0)
        assert Answer.UNKNOWN not in probed.values()
        assert len(ours) > 30


@pytest.mark.needs("kernel")
class TestOnThisKernel:
    @pytest.mark.parametrize("word", MAP_TYPES)
    def test_every_map_type_is_supported_or_not(self, backend: Backend, word: str) -> None:
        assert features.map_type(word).answer in (Answer.SUPPORTED, Answer.UNSUPPORTED)

    @pytest.mark.parametrize("word", PROG_TYPES)
    def test_every_program_type_is_supported_or_not(self, backend: Backend, word: str) -> None:
        assert features.prog_type(word).answer in (Answer.SUPPORTED, Answer.UNSUPPORTED)

    def test_what_every_kernel_has_is_there(self, backend: Backend) -> None:
        assert features.map_type("hash")
        assert features.prog_type("socket_filter")
        assert features.helper("socket_filter", "map_lookup_elem")
        assert features.helper("socket_filter", "bpf_map_lookup_elem") == features.helper(1, 1)

    def test_what_no_kernel_has_is_not_there(self, backend: Backend) -> None:
        for support in (features.map_type(999), features.prog_type(999), features.helper("xdp", 9999)):
            assert support == Answer.UNSUPPORTED
            assert not support
            assert support.reason
            assert "UNSUPPORTED" in repr(support)

    @pytest.mark.parametrize(
        ("word", "name", "there"),
        [
            # Source: net/core/filter.c, kernel/trace/bpf_trace.c, kernel/bpf/syscall.c: *_func_proto (v6.12)
            ("xdp", "xdp_adjust_head", True),
            ("xdp", "redirect_map", True),
            ("xdp", "skb_store_bytes", False),
            ("xdp", "get_stackid", False),
            ("sched_cls", "skb_store_bytes", True),
            ("sched_cls", "xdp_adjust_head", False),
            ("tracepoint", "perf_event_output", True),
            ("tracepoint", "get_stackid", True),
            ("tracepoint", "get_attach_cookie", True),
            ("tracepoint", "redirect", False),
            ("tracepoint", "bind", False),
            ("cgroup_sock_addr", "bind", True),
            ("socket_filter", "redirect", False),
            ("syscall", "sys_bpf", True),
            ("xdp", "sys_bpf", False),
        ],
    )
    def test_a_helper_is_for_some_types_only(self, backend: Backend, word: str, name: str, there: bool) -> None:
        if there:
            require(f"prog_type:{word}", f"btf_name:BPF_FUNC_{name}")
        assert bool(features.helper(word, name)) == there, features.helper(word, name)

    def test_a_helper_for_a_type_that_is_not_there_is_not_there(self, backend: Backend) -> None:
        assert features.helper(999, "map_lookup_elem") == Answer.UNSUPPORTED

    def test_nothing_is_left_open(self, backend: Backend) -> None:
        before = os.listdir("/proc/self/fd")
        for word in MAP_TYPES:
            features.map_type(word)
        for word in PROG_TYPES:
            features.prog_type(word)
        assert os.listdir("/proc/self/fd") == before


def test_an_answer_is_remembered_for_its_backend(backend: Backend) -> None:
    one, other = FaultBackend(backend, {}), FaultBackend(backend, {})
    for _ in range(3):
        assert features.map_type("hash", backend=one)
    assert one.calls[c.BPF_MAP_CREATE] == 1
    assert features.map_type("hash", backend=other)
    assert other.calls[c.BPF_MAP_CREATE] == 1


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        pytest.param(errno.EINVAL, Answer.UNSUPPORTED, id="unknown type"),
        pytest.param(errno.EPERM, Answer.NO_PERMISSION, id="forbidden"),
        pytest.param(errno.ENOMEM, Answer.UNKNOWN, id="no memory"),
    ],
)
def test_each_refusal_of_a_map_has_its_answer(backend: Backend, number: int, answer: Answer) -> None:
    faulty = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, number), (2, number)]})
    assert features.map_type("hash", backend=faulty) == answer


def test_an_answer_that_may_change_is_asked_for_again(backend: Backend) -> None:
    faulty = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, errno.EPERM), (2, errno.EPERM)]})
    assert features.map_type("hash", backend=faulty) == Answer.NO_PERMISSION
    answers = [features.map_type("hash", backend=faulty).answer for _ in range(2)]
    assert answers[-1] is Answer.SUPPORTED


@pytest.mark.parametrize(
    ("number", "times", "answer"),
    [
        pytest.param(errno.EPERM, 9, Answer.NO_PERMISSION, id="nothing may be loaded"),
        pytest.param(errno.EPERM, 1, Answer.UNSUPPORTED, id="this type alone may not"),
        pytest.param(errno.EINVAL, 1, Answer.UNSUPPORTED, id="unknown type"),
        pytest.param(errno.ENOMEM, 9, Answer.UNKNOWN, id="no memory"),
    ],
)
def test_each_refusal_of_a_program_has_its_answer(backend: Backend, number: int, times: int, answer: Answer) -> None:
    # Else the first EPERM would be tried once more with the limit raised.
    backend.host.raise_memlock()
    due = [(nth, number) for nth in range(1, times + 1)]
    assert features.prog_type("perf_event", backend=FaultBackend(backend, {c.BPF_PROG_LOAD: due})) == answer


@pytest.mark.real_kernel("it is about what this process may do")
def test_an_unprivileged_process_is_told_that_it_may_not_ask(backend: Backend) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            answers = [
                features.map_type("lru_hash"),
                features.map_type(999),
                features.prog_type("xdp"),
                features.prog_type("tracing"),
                features.helper("tracepoint", "ktime_get_ns"),
            ]
            os.write(write, " ".join(support.answer.name for support in answers).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text == " ".join(["NO_PERMISSION"] * 5)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: features.map_type("hsh"), id="map type"),
        pytest.param(lambda: features.prog_type("xpd"), id="program type"),
        pytest.param(lambda: features.helper("xdp", "map_lokup_elem"), id="helper"),
    ],
)
def test_an_unknown_word_gives_the_closest(backend: Backend, ask: Callable[[], features.Support]) -> None:
    with pytest.raises(ValueError, match=r"did you mean .*(hash|xdp|bpf_map_lookup_elem)"):
        ask()
