"""The one way for a test to skip: it names what it needs, and the machine is probed for that.

As a marker, `@pytest.mark.needs("map_type:ringbuf", "tool:clang")`, also on a `pytest.param`; inside
a test or fixture, `require("helper:xdp:xdp_adjust_head")`. A probe that cannot tell does not skip:
the test runs and shows. Any other skip is turned into a failure by conftest. A test on the simulator
asks the simulator.

    kernel                      bpf(2) may be called (CAP_BPF or CAP_SYS_ADMIN)
    capability:CAP_NET_ADMIN    the process has the capability
    map_type:ringbuf            rawbpf.features says so; likewise prog_type:xdp and helper:xdp:redirect
    btf_name:BPF_LINK_TYPE_SOCKMAP
                                the kernel's own BTF has the name: of a function, a struct, a constant of an enum
    tracepoint:sched/sched_switch
    file:/sys/kernel/btf/vmlinux
    streams:memory              the kernel has memory for what programs print
    tool:clang                  an executable on PATH
    module:capstone             an importable Python module
    kernel_module:nf_nat        a module of the kernel that can be inserted
    archive:debian              others' object files, which were fetched or can be
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from _pytest.outcomes import Skipped

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

NO_PERMISSION = "no permission"
_UNSUPPORTED = " is not supported"
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
skips: Counter[str] = Counter()
"""How often each reason was given in this run."""


class Unmet(Skipped):
    """A need that this machine does not meet; the only skip that conftest lets pass."""


def require(*needs: str, simulated: bool | None = None) -> None:
    """Return if every one of `needs` is met, else skip the calling test and say why.

    `simulated`: whether the test runs on the simulator; None: what the current backend is.
    Raises: ValueError for a need of an unknown kind.
    """
    backend = _backend(_is_simulated() if simulated is None else simulated)
    for need in needs:
        kind, _, what = need.partition(":")
        if kind not in _PROBES or bool(what) == (kind == "kernel"):
            raise ValueError(f"unknown need {need!r}; the kinds are {', '.join(_PROBES)}")
        reason = _PROBES[kind](what, backend)
        if reason is not None:
            _skip(reason)


def capabilities() -> int:
    """Return the mask of the effective capabilities of this process."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)


def may_use_bpf() -> bool:
    """Return whether this process may call bpf(2) for more than a socket filter."""
    return bool(capabilities() & (1 << _BITS["CAP_BPF"] | 1 << _BITS["CAP_SYS_ADMIN"]))


def unlisted(counts: Mapping[str, int], listed: str) -> list[str]:
    """Return a complaint for each reason that was given more often than `listed` allows.

    `listed` has lines of a highest count, or `*`, and a reason; empty lines and `#` comments are ignored.
    """
    allowed: dict[str, float] = {}
    for line in listed.splitlines():
        if line.strip() and not line.startswith("#"):
            count, _, reason = line.strip().partition(" ")
            allowed[reason] = math.inf if count == "*" else int(count)
    return [
        f"skipped {count} times because {reason}; expected-skips.txt allows {allowed.get(reason, 0)}"
        for reason, count in counts.items()
        if count > allowed.get(reason, 0)
    ]


def contradicted(counts: Iterable[str]) -> list[str]:
    """Return a complaint for each reason that names a feature which this kernel has after all.

    rawbpf's own probes made the tests skip, so another judge is asked: bpftool, where there is one.
    """
    features = [reason.split()[0].split(":") for reason in counts if reason.endswith(_UNSUPPORTED)]
    bpftool = shutil.which("bpftool", path=PATH)
    if not features or not bpftool or not may_use_bpf():
        return []
    probe = subprocess.run([bpftool, "-j", "feature", "probe", "kernel"], capture_output=True, check=True)
    return [
        f"skipped because {':'.join(row)}{_UNSUPPORTED}, but it is"
        for row in features
        if _bpftool_has(json.loads(probe.stdout), row)
    ]


def _bpftool_has(probed: dict[str, dict[str, object]], feature: Sequence[str]) -> bool:
    kind, name = feature[:2]
    if kind == "helper":
        helpers = probed["helpers"].get(f"{name}_available_helpers", [])
        return isinstance(helpers, list) and f"bpf_{feature[2].removeprefix('bpf_')}" in helpers
    section = "map_types" if kind == "map_type" else "program_types"
    return probed[section].get(f"have_{name}_{kind}") is True


def _skip(reason: str) -> NoReturn:
    skips[reason] += 1
    raise Unmet(reason)


def _kernel(_: str, backend: Backend) -> str | None:
    return None if backend.name == "sim" or may_use_bpf() else NO_PERMISSION


def _capability(name: str, backend: Backend) -> str | None:
    # What bpf(2) asks for, every simulated process has.
    simulated = backend.name == "sim" and name in backend.host.capabilities()
    return None if simulated or capabilities() >> _BITS[name] & 1 else NO_PERMISSION


def _feature(kind: str, what: str, backend: Backend) -> str | None:
    from rawbpf import features

    if kind == "helper":
        program, _, helper = what.partition(":")
        support = features.helper(program, helper, backend=backend)
    elif kind == "map_type":
        support = features.map_type(what, backend=backend)
    else:
        support = features.prog_type(what, backend=backend)
    if support == features.Answer.UNSUPPORTED:
        return f"{kind}:{what}{_UNSUPPORTED}"
    if support == features.Answer.NO_PERMISSION and not may_use_bpf():
        return NO_PERMISSION
    # Also where the probe cannot tell, or speaks of permissions to a process that has them: let the test show it.
    return None


def _is_simulated() -> bool:
    from rawbpf.syscall.current import current

    return current().name == "sim"


@functools.cache
def _backend(simulated: bool) -> Backend:
    if simulated:
        from rawbpf.sim.simulator import Simulator

        return Simulator()
    from rawbpf.syscall.kernel import KernelBackend

    return KernelBackend()


def _tracepoint(what: str, backend: Backend) -> str | None:
    from rawbpf.errors import BpfError, PermissionDenied

    category, _, name = what.partition("/")
    try:
        backend.host.tracepoint(category, name)
    except PermissionDenied:
        return None if may_use_bpf() else NO_PERMISSION
    except BpfError:
        return f"tracepoint:{what} does not exist"
    return None


def _file(path: str, _: Backend) -> str | None:
    return None if os.path.exists(path) else f"file:{path} does not exist"


def _btf_name(name: str, _: Backend) -> str | None:
    if not _vmlinux() or f"\0{name}\0".encode() in _vmlinux():
        return None
    return f"btf_name:{name} is not in the kernel's BTF"


# All of it, because its strings come last; empty where there is none, and nobody can tell.
@functools.cache
def _vmlinux() -> bytes:
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _streams(_: str, backend: Backend) -> str | None:
    if backend.name == "sim":
        return None
    if not may_use_bpf():
        return NO_PERMISSION
    from support.printers import has_stream_memory

    return None if has_stream_memory() else "streams:memory for what programs print is refused (ENOMEM)"


def _tool(name: str, _: Backend) -> str | None:
    return None if shutil.which(name, path=PATH) else f"tool:{name} is not installed"


def _module(name: str, _: Backend) -> str | None:
    return None if importlib.util.find_spec(name) else f"module:{name} is not installed"


def _kernel_module(name: str, backend: Backend) -> str | None:
    from support.kernel_modules import at_hand

    return None if at_hand(name) else f"kernel_module:{name} is not at hand"


def _archive(_: str, __: Backend) -> str | None:
    from kernels.debian import Unavailable
    from peer.corpus import objects

    try:
        objects()
    except Unavailable as error:
        return f"archive:debian cannot be reached ({error})"
    return None


# Source: include/uapi/linux/capability.h (v6.12)
_BITS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_PROBES: dict[str, Callable[[str, Backend], str | None]] = {
    "kernel": _kernel,
    "capability": _capability,
    "map_type": functools.partial(_feature, "map_type"),
    "prog_type": functools.partial(_feature, "prog_type"),
    "helper": functools.partial(_feature, "helper"),
    "tracepoint": _tracepoint,
    "btf_name": _btf_name,
    "file": _file,
    "streams": _streams,
    "tool": _tool,
    "module": _module,
    "kernel_module": _kernel_module,
    "archive": _archive,
}
