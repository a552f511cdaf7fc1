"""The values of `.kconfig`: what the kernel's configuration says, and a few facts that libbpf tells beside it.

Written into the specification that is about to be loaded; a value that its user set stays.
Source: tools/lib/bpf/libbpf.c:bpf_object__process_kconfig_line, bpf_object__resolve_externs (v6.12).
"""

from __future__ import annotations

import re

from rawbpf import features
from rawbpf.btf import indexed
from rawbpf.btf.layout import strip
from rawbpf.btf.types import Func, Int
from rawbpf.errors import NotSupported, SpecError
from rawbpf.spec.config import ConfigSpec, config_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.spec.object import ObjectData
    from rawbpf.syscall.protocol import Backend

_TRISTATE = {"n": 0, "y": 1, "m": 2}
# What the kernel calls bpf(2) where functions of system calls take their arguments in a struct of registers.
_WRAPPED = (
    "__x64_sys_bpf",
    "__arm64_sys_bpf",
    "__s390x_sys_bpf",
    "__riscv_sys_bpf",
    "__powerpc_sys_bpf",
    "__ia32_sys_bpf",
)
# There with CONFIG_KPROBE_EVENTS. Source: kernel/trace/trace_kprobe.c (v6.12)
_KPROBES = "create_local_trace_kprobe"


def fill_config(backend: Backend, content: ObjectData) -> None:
    """Give the variables of `.kconfig` in `content` their values.

    Raises: SpecError for an option that is not set, unless its variable is weak, and for a value that does not fit;
    NotSupported where the configuration cannot be read.
    """
    for name, variable in content.variables.items():
        if not isinstance(variable, ConfigSpec) or variable.given:
            continue
        try:
            value = _value(backend, variable)
        except NotSupported as error:
            error.hint += f"; set spec.variables[{name!r}].value instead"
            raise
        if value is not None:
            variable.map.write(variable.offset, _packed(variable, value))
        elif not variable.weak:
            raise SpecError(
                f"variable {name!r}: {_unknown(variable)}; declare it __weak, to be 0 then, "
                f"or set spec.variables[{name!r}].value"
            )


def _value(backend: Backend, variable: ConfigSpec) -> str | int | None:
    # As the configuration writes it; None for what it does not say.
    if variable.name.startswith("CONFIG_"):
        return backend.host.kconfig().get(variable.name)
    fact = _FACTS.get(variable.name)
    return None if fact is None else fact(backend)


def _unknown(variable: ConfigSpec) -> str:
    if variable.name.startswith("CONFIG_"):
        return "the kernel's configuration does not set this option"
    return f"it is no CONFIG_ option, and none of {', '.join(_FACTS)}"


def _packed(variable: ConfigSpec, value: str | int) -> bytes:
    kind = "" if variable.type is None else config_kind(variable.type)
    if kind == "string" and isinstance(value, str):
        # Cut to what there is room for, and always with a NUL.
        return value.encode("utf-8", "surrogateescape")[: variable.size - 1].ljust(variable.size, b"\0")
    number: int | None = None
    if isinstance(value, str) and value in _TRISTATE:
        if kind == "char":
            number = ord(value)
        elif kind == "tristate" or (kind == "bool" and value != "m"):
            number = _TRISTATE[value]
    elif kind in ("int", "char", "bool"):
        number = _number(variable, value, limit=1 if kind == "bool" else None)
    if number is None:
        says = value if isinstance(value, int) else f"{value!r}"
        wanted = {"bool": "y or n, ", "tristate": "y, m or n, ", "string": "text, "}.get(kind or "", "")
        raise SpecError(
            f"variable {variable.name!r} takes {wanted}{variable.size} bytes, and the kernel's configuration says "
            f"{says}: declare it of another type, or set spec.variables[{variable.name!r}].value"
        )
    return (number & (1 << 8 * variable.size) - 1).to_bytes(variable.size, variable.byteorder)


def _number(variable: ConfigSpec, value: str | int, *, limit: int | None) -> int | None:
    # None for what is no number or does not fit. Of 64 bits the sign does not matter.
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        return None
    bits = 8 * variable.size
    type = None if variable.type is None else strip(variable.type)
    signed = isinstance(type, Int) and type.signed
    lowest = -(1 << bits - 1) if signed or bits == 64 else 0
    highest = (1 << bits) - 1 if not signed or bits == 64 else (1 << bits - 1) - 1
    return number if lowest <= number <= (highest if limit is None else limit) else None


def _kernel_version(backend: Backend) -> int:
    return version_code(backend.host.release, backend.host.version)


def version_code(release: str, version: str) -> int:
    """Return LINUX_VERSION_CODE of the kernel that calls itself so (`uname -r` and `-v`); 0 where it does not tell.

    Ubuntu and Debian count their own releases, and name the one that theirs is made from in the other text.
    Source: tools/lib/bpf/libbpf_probes.c:get_kernel_version (v6.12)
    """
    found = (
        re.match(r"Ubuntu \S+ (\d+)\.(\d+)\.(\d+)", version)
        or re.search(r"Debian (\d+)\.(\d+)\.(\d+)", version)
        or re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    )
    if found is None:
        return 0
    major, minor, patch = (int(number or 0) for number in found.groups())
    return major << 16 | minor << 8 | min(patch, 255)


def _has_bpf_cookie(backend: Backend) -> int:
    return int(bool(features.helper("tracepoint", "get_attach_cookie", backend=backend)))


def _has_syscall_wrapper(backend: Backend) -> int:
    # libbpf tries to attach a kprobe to such a function; nothing else can tell the difference.
    have = _functions(backend, (_KPROBES, *_WRAPPED))
    return int(_KPROBES in have and len(have) > 1)


def _functions(backend: Backend, names: tuple[str, ...]) -> set[str]:
    # Which of `names` the kernel has. Its types are faster to search than its symbols.
    try:
        types = indexed(backend.host.btf())
    except NotSupported:
        pass
    else:
        return {name for name in names if types.find(name, Func) is not None}
    try:
        return {name for _, name in backend.host.kallsyms()}.intersection(names)
    except FileNotFoundError:  # CONFIG_KALLSYMS is off, and kprobes need it
        return set()


_FACTS = {
    "LINUX_KERNEL_VERSION": _kernel_version,
    "LINUX_HAS_BPF_COOKIE": _has_bpf_cookie,
    "LINUX_HAS_SYSCALL_WRAPPER": _has_syscall_wrapper,
}
