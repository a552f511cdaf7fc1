"""Close names for a tracepoint that does not exist, from the kernel's BTF. Asked only after a mistake."""

from __future__ import annotations

from rawbpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


def close_tracepoints(backend: Backend, name: str) -> str:
    """Return `; did you mean a or b?`, or nothing where nothing is close."""
    import re

    try:
        types = backend.host.btf()
    except NotSupported:
        return ""
    # Each tracepoint with a prototype has a typedef btf_trace_NAME; the names lie NUL separated in the string table.
    names = {found.decode("ascii", "replace") for found in re.findall(rb"\0btf_trace_(\w+)(?=\0)", types)}
    return did_you_mean(name, names)


def did_you_mean(name: str, names: set[str]) -> str:
    """Return `; did you mean a or b?`, or nothing where nothing is close."""
    import difflib

    close = difflib.get_close_matches(name, sorted(names))
    return f"; did you mean {' or '.join(close)}?" if close else ""
