"""What this kernel can do: probes for map types, program types and helpers.

Each probe makes the smallest object of its kind and closes it at once; versions are never compared.
"No" and "I may not ask" are different answers, and so is "I cannot tell". Yes and no are remembered
per backend; permissions may change, so the other two are not.

Source: kernel/bpf/syscall.c:map_create, bpf_prog_load, kernel/bpf/verifier.c:check_helper_call (v6.12).
"""

from __future__ import annotations

import ctypes
import enum
import errno as _errno
import weakref

from rawbpf.asm import build
from rawbpf.asm.instruction import encode
from rawbpf.errors import BpfError, NotSupported
from rawbpf.syscall import group
from rawbpf.syscall.current import current
from rawbpf.syscall.map import map_create
from rawbpf.syscall.prog import prog_load
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name, map_type_number, prog_type_name, prog_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

__all__ = ["Answer", "Support", "btf_feature", "helper", "map_type", "prog_type"]


class Answer(enum.Enum):
    """What a probe came to."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    NO_PERMISSION = "no permission"
    UNKNOWN = "unknown"


class Support:
    """A probe's answer and, in `reason`, what the kernel said. True only for SUPPORTED."""

    __slots__ = ("answer", "reason")

    def __init__(self, answer: Answer, reason: str) -> None:
        self.answer = answer
        self.reason = reason

    def __bool__(self) -> bool:
        return self.answer is Answer.SUPPORTED

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Answer):
            return self.answer is other
        return self.answer is other.answer if isinstance(other, Support) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.answer)

    def __repr__(self) -> str:
        return f"<Support {self.answer.name}: {self.reason}>"


_answers: weakref.WeakKeyDictionary[Backend, dict[tuple[int, ...], Support]] = weakref.WeakKeyDictionary()


def map_type(kind: int | str, *, backend: Backend | None = None) -> Support:
    """Return whether maps of this type can be made. `kind`: the kernel's number or a name such as "ringbuf".

    Raises: ValueError for an unknown name.
    """
    number = map_type_number(kind) if isinstance(kind, str) else int(kind)
    return _remembered(backend, (0, number), lambda kernel: _probe_map(kernel, number))


def prog_type(kind: int | str, *, backend: Backend | None = None) -> Support:
    """Return whether programs of this type can be loaded. `kind`: the kernel's number or a name such as "xdp".

    Types with several ways to attach are supported if the kernel knows the type: it may refuse some ways.
    Raises: ValueError for an unknown name.
    """
    number = prog_type_number(kind) if isinstance(kind, str) else int(kind)
    return _remembered(backend, (1, number), lambda kernel: _probe_prog(kernel, number))


def helper(kind: int | str, name: int | str, *, backend: Backend | None = None) -> Support:
    """Return whether programs of type `kind` may call the helper `name`.

    `name`: the kernel's number, or a name with or without `bpf_`. Some helpers are for programs that
    attach in a certain way, or need CAP_PERFMON: the answer is for the plainest program.
    Raises: ValueError for an unknown name.
    """
    from rawbpf.uapi.helper import helper_number

    number = prog_type_number(kind) if isinstance(kind, str) else int(kind)
    called = helper_number(name) if isinstance(name, str) else int(name)
    return _remembered(backend, (2, number, called), lambda kernel: _probe_helper(kernel, number, called))


def btf_feature(feature: str, *, backend: Backend | None = None) -> Support:
    """Return whether the BTF of objects may have `feature`, one of `rawbpf.btf.sanitize.FEATURES`.

    Raises: ValueError for an unknown one.
    """
    from rawbpf.btf.sanitize import FEATURES, probe

    def ask(kernel: Backend) -> Support:
        from rawbpf.syscall.btf import btf_load

        try:
            kernel.close(btf_load(kernel, probe(feature, kernel.host.byteorder)))
        except BpfError as error:
            if error.errno == _errno.EINVAL:
                return Support(Answer.UNSUPPORTED, f"{_said(error)} for the smallest BTF with {feature}")
            denied = error.errno == _errno.EPERM
            return Support(Answer.NO_PERMISSION if denied else Answer.UNKNOWN, error.hint or str(error))
        return Support(Answer.SUPPORTED, f"a BTF with {feature} was loaded")

    if feature not in FEATURES:
        raise ValueError(f"{feature!r} is none of what BTF may have: {', '.join(FEATURES)}")
    return _remembered(backend, (3, FEATURES.index(feature)), ask)


def _remembered(backend: Backend | None, key: tuple[int, ...], probe: Callable[[Backend], Support]) -> Support:
    if backend is None:
        backend = current()
    answers = _answers.setdefault(backend, {})
    found = answers.get(key)
    if found is None:
        found = probe(backend)
        if found.answer in (Answer.SUPPORTED, Answer.UNSUPPORTED):
            answers[key] = found
    return found


def _may(backend: Backend, *wanted: str) -> bool:
    has = backend.host.capabilities()
    return "CAP_SYS_ADMIN" in has or has.issuperset(wanted)


def _said(error: BpfError) -> str:
    from rawbpf.errors import errno_name

    return f"{error.call}: {errno_name(error.errno or 0)}"


# Maps -----------------------------------------------------------------------------

# key_size, value_size, max_entries, map_flags of the smallest map of each type that is not (4, 4, 1, 0).
_PAGE = -1
_MAPS: dict[int, tuple[int, int, int, int]] = {
    c.BPF_MAP_TYPE_STACK_TRACE: (4, 8, 1, 0),
    c.BPF_MAP_TYPE_LPM_TRIE: (5, 1, 1, c.BPF_F_NO_PREALLOC),
    c.BPF_MAP_TYPE_CGROUP_STORAGE: (16, 4, 0, 0),
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: (16, 4, 0, 0),
    c.BPF_MAP_TYPE_QUEUE: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_STACK: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_BLOOM_FILTER: (0, 4, 1, 0),
    c.BPF_MAP_TYPE_RINGBUF: (0, 0, _PAGE, 0),
    c.BPF_MAP_TYPE_USER_RINGBUF: (0, 0, _PAGE, 0),
    c.BPF_MAP_TYPE_ARENA: (0, 0, 1, c.BPF_F_MMAPABLE),
    c.BPF_MAP_TYPE_INSN_ARRAY: (4, 16, 1, 0),
    **dict.fromkeys(group.LOCAL_STORAGES, (4, 4, 0, c.BPF_F_NO_PREALLOC)),
}


def _probe_map(backend: Backend, number: int) -> Support:
    word = map_type_name(number)
    if number == c.BPF_MAP_TYPE_STRUCT_OPS:
        return _probe_struct_ops_map(backend)
    inner = btf = 0
    try:
        if number in group.NESTED:
            inner = map_create(backend, map_type=c.BPF_MAP_TYPE_ARRAY, key_size=4, value_size=4, max_entries=1)
        if number in group.LOCAL_STORAGES:
            btf = _load_btf(backend)
        key_size, value_size, max_entries, flags = _MAPS.get(number, (4, 4, 1, 0))
        fd = map_create(
            backend,
            map_type=number,
            key_size=key_size,
            value_size=value_size,
            max_entries=backend.host.page_size if max_entries == _PAGE else max_entries,
            map_flags=flags,
            inner_map_fd=inner,
            btf_fd=btf,
            btf_key_type_id=1 if btf else 0,
            btf_value_type_id=1 if btf else 0,
        )
    except BpfError as error:
        return _map_refused(backend, error, word)
    else:
        backend.close(fd)
        return Support(Answer.SUPPORTED, f"a map of type {word} was made")
    finally:
        for made in (inner, btf):
            if made:
                backend.close(made)


def _map_refused(backend: Backend, error: BpfError, word: str) -> Support:
    if error.errno == _errno.EPERM:
        return Support(Answer.NO_PERMISSION, error.hint)
    if error.errno in (_errno.EINVAL, _errno.E2BIG) or isinstance(error, NotSupported):
        # Unprivileged processes get EINVAL for some types that the kernel has.
        if error.errno == _errno.EINVAL and not _may(backend, "CAP_BPF"):
            return Support(Answer.NO_PERMISSION, f"{_said(error)}, without CAP_BPF")
        return Support(Answer.UNSUPPORTED, f"{_said(error)} for the smallest map of type {word}")
    return Support(Answer.UNKNOWN, str(error))


def _probe_struct_ops_map(backend: Backend) -> Support:
    # A struct_ops map needs a struct that the kernel registered. One that it did not register is
    # ENOTSUPP to a kernel with struct_ops, where one without says EINVAL.
    btf = 0
    try:
        btf = _load_btf(backend)
        fd = map_create(
            backend,
            map_type=c.BPF_MAP_TYPE_STRUCT_OPS,
            key_size=4,
            value_size=4,
            max_entries=1,
            btf_fd=btf,
            btf_vmlinux_value_type_id=1,
        )
    except BpfError as error:
        if isinstance(error, NotSupported):
            return Support(Answer.SUPPORTED, f"{_said(error)} for a struct that is no struct_ops type")
        return _map_refused(backend, error, "struct_ops")
    else:
        backend.close(fd)
        return Support(Answer.SUPPORTED, "a map of type struct_ops was made")
    finally:
        if btf:
            backend.close(btf)


def _load_btf(backend: Backend) -> int:
    from rawbpf.btf.build import Builder
    from rawbpf.syscall.btf import btf_load

    builder = Builder()
    builder.int("int", 4, signed=True)
    return btf_load(backend, builder.to_bytes())


# Programs -------------------------------------------------------------------------

# expected_attach_type and prog_flags of the plainest program, where they are not 0.
_PROGRAMS: dict[int, tuple[int, int]] = {
    c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR: (c.BPF_CGROUP_INET4_CONNECT, 0),
    c.BPF_PROG_TYPE_CGROUP_SOCKOPT: (c.BPF_CGROUP_GETSOCKOPT, 0),
    c.BPF_PROG_TYPE_SK_LOOKUP: (c.BPF_SK_LOOKUP, 0),
    c.BPF_PROG_TYPE_NETFILTER: (c.BPF_NETFILTER, 0),
    c.BPF_PROG_TYPE_SYSCALL: (0, c.BPF_F_SLEEPABLE),
}
# Known to every kernel with BTF: a tracepoint and an LSM hook that programs are probed on.
_TRACEPOINT, _LSM_HOOK = "btf_trace_sys_enter", "bpf_lsm_file_open"


class _Refused(Exception):
    # A probe's program was refused: what the kernel and its verifier said.

    def __init__(self, error: BpfError, log: str) -> None:
        self.error = error
        self.log = log


def _probe_prog(backend: Backend, number: int) -> Support:
    word = prog_type_name(number)
    try:
        backend.close(_load(backend, number, _RETURN))
    except _Refused as refused:
        return _prog_refused(backend, refused, number, word)
    return Support(Answer.SUPPORTED, f"a program of type {word} was loaded")


_RETURN = [build.mov_imm(build.R0, 0), build.exit_()]


def _prog_refused(backend: Backend, refused: _Refused, number: int, word: str) -> Support:
    error = refused.error
    if refused.log.strip() and not refused.log.startswith("processed 0 insns"):
        # Whoever gets as far as the verifier's opinion is of a type that there is.
        return Support(Answer.SUPPORTED, f"the verifier judged a program of type {word}: {refused.log.splitlines()[0]}")
    if error.errno == _errno.EPERM:
        if not _may(backend, *_wanted(number)) or number == c.BPF_PROG_TYPE_SOCKET_FILTER:
            return Support(Answer.NO_PERMISSION, error.hint)
        # Capabilities may count only inside a user namespace, where nothing can be loaded at all.
        if not prog_type(_kin(number), backend=backend):
            return Support(Answer.NO_PERMISSION, error.hint)
        return Support(Answer.UNSUPPORTED, f"{_said(error)} without a word, although the capabilities suffice")
    if number == c.BPF_PROG_TYPE_STRUCT_OPS and isinstance(error, NotSupported):
        return Support(Answer.SUPPORTED, f"{_said(error)} for a program without its struct")
    if error.errno == _errno.EINVAL or isinstance(error, NotSupported):
        return Support(Answer.UNSUPPORTED, f"{_said(error)} for the plainest program of type {word}")
    return Support(Answer.UNKNOWN, str(error))


def _wanted(number: int) -> tuple[str, ...]:
    from rawbpf.syscall.permission import needed

    return needed(c.BPF_PROG_LOAD, {"prog_type": number})


def _kin(number: int) -> int:
    # A type that every kernel has and that asks for the same capabilities.
    wanted = _wanted(number)
    if "CAP_PERFMON" in wanted and number != c.BPF_PROG_TYPE_TRACEPOINT:
        return c.BPF_PROG_TYPE_TRACEPOINT
    if "CAP_NET_ADMIN" in wanted and number != c.BPF_PROG_TYPE_SCHED_CLS:
        return c.BPF_PROG_TYPE_SCHED_CLS
    return c.BPF_PROG_TYPE_SOCKET_FILTER


def _load(backend: Backend, number: int, instructions: list[Instruction]) -> int:
    # Raises _Refused, with the log.
    attach_type, flags = _PROGRAMS.get(number, (0, 0))
    attach_btf_id = 0
    if number in (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_LSM):
        attach_type, attach_btf_id = _btf_target(backend, number)
    log = ctypes.create_string_buffer(1 << 16)
    try:
        return prog_load(
            backend,
            prog_type=number,
            insns=encode(instructions, backend.host.byteorder),
            license=b"GPL",
            expected_attach_type=attach_type,
            prog_flags=flags,
            attach_btf_id=attach_btf_id,
            log_level=1,
            log_buffer=log,
        )
    except BpfError as error:
        raise _Refused(error, log.value.decode("utf-8", "replace")) from None


def _btf_target(backend: Backend, number: int) -> tuple[int, int]:
    # Without BTF there is nothing to load these for, which the kernel's answer then tells.
    from rawbpf.btf import indexed
    from rawbpf.btf.types import Func, Typedef

    attach_type = c.BPF_LSM_MAC if number == c.BPF_PROG_TYPE_LSM else c.BPF_TRACE_RAW_TP
    try:
        types = indexed(backend.host.btf())
    except NotSupported:
        return attach_type, 0
    found = types.find(_LSM_HOOK, Func) if number == c.BPF_PROG_TYPE_LSM else types.find(_TRACEPOINT, Typedef)
    return attach_type, found.id if found else 0


# Helpers --------------------------------------------------------------------------


def _probe_helper(backend: Backend, number: int, called: int) -> Support:
    # The verifier looks whether the helper is there before it looks at the arguments, which are wrong.
    word = prog_type_name(number)
    type_support = prog_type(number, backend=backend)
    if not type_support:
        return type_support
    from rawbpf.uapi.helper import helper_name

    name = helper_name(called)
    try:
        backend.close(_load(backend, number, [build.call(called), *_RETURN]))
    except _Refused as refused:
        return _helper_refused(backend, refused, name)
    return Support(Answer.SUPPORTED, f"a program of type {word} called {name}")


def _helper_refused(backend: Backend, refused: _Refused, name: str) -> Support:
    lines = [line for line in refused.log.splitlines() if line.strip()]
    for line in lines:
        # "invalid func" is a number beyond the kernel's list; "unknown func" (before 6.2) and "program of this
        # type cannot use helper" are one that this type has not.
        if line.startswith(("invalid func ", "unknown func ", "program of this type cannot use helper")):
            if not _may(backend, "CAP_PERFMON", "CAP_BPF"):
                return Support(Answer.NO_PERMISSION, f"{line}; without CAP_PERFMON and CAP_BPF some helpers are hidden")
            return Support(Answer.UNSUPPORTED, line)
    if refused.error.errno == _errno.EPERM:
        return Support(Answer.NO_PERMISSION, refused.error.hint)
    verdict = next((line for line in reversed(lines) if not line.startswith("processed ")), "")
    if verdict and any(f" {name}#" in line for line in lines):
        return Support(Answer.SUPPORTED, f"the verifier came to {name}'s arguments: {verdict}")
    return Support(Answer.UNKNOWN, f"{_said(refused.error)}: {verdict or 'the verifier said nothing'}")
