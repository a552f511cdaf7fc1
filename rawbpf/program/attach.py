"""From a program's section to the function in `link` that attaches it.

The section table says in one word how a program attaches; the words that have a way are here. What
else stands in the way is told before anything is tried, so that attaching everything can skip it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.link.base import Link
    from rawbpf.program.attaching import Attachable
    from rawbpf.spec.section import Section


def obstacle(section: Section | None, target: str) -> str:
    """Return why the section alone does not say how to attach; empty where it does."""
    if section is None:
        return "it has no section that says where to attach it"
    name = section.pattern.removesuffix("+")
    if not section.auto:
        unsaid = f"section {name!r} does not say to what"
        if method := _METHODS.get(section.attach):
            return f"{unsaid}: {method}"
        return _BY_HAND.get(section.attach) or f"{unsaid}, and attaching by {section.attach} is not supported yet"
    if section.attach not in _WAYS:
        return f"attaching by {section.attach} is not supported yet"
    if not target:
        return f'section {name!r} does not say to what: SEC("{name}/{_EXAMPLES.get(section.attach, "NAME")}")'
    if section.attach == "tracepoint" and not all(target.partition("/")):
        return f"a tracepoint is a category and a name, as in {name}/{_EXAMPLES['tracepoint']}; got {target!r}"
    return ""


def attach_by_section(program: Attachable, section: Section, target: str) -> Link:
    """Attach `program` as `section` and its `target` say, which have no obstacle."""
    return _WAYS[section.attach](program, target)


def _tracepoint(program: Attachable, target: str) -> Link:
    category, _, name = target.partition("/")
    return program.attach_tracepoint(category, name)


def _raw_tracepoint(program: Attachable, target: str) -> Link:
    return program.attach_raw_tracepoint(target)


def _tracing(program: Attachable, target: str) -> Link:
    del target  # it was said when the program was loaded
    return program.attach_tracing()


_WAYS: dict[str, Callable[[Attachable, str], Link]] = {
    "tracepoint": _tracepoint,
    "raw_tracepoint": _raw_tracepoint,
    "tracing": _tracing,
    "lsm": _tracing,
}
_EXAMPLES = {"tracepoint": "sched/sched_switch", "raw_tracepoint": "sched_switch", "tracing": "sched_switch"}
# What takes what the section cannot say.
_METHODS = {
    "sockmap": "attach_sockmap(map)",
    "socket": "attach_socket(socket)",
    "sk_reuseport": "attach_reuseport(socket)",
    "xdp": 'attach_xdp("eth0")',
    "cgroup": 'attach_cgroup("/sys/fs/cgroup/...")',
}
_BY_HAND = {
    "run": "programs of type syscall do not attach: run() runs them",
    "struct_ops": "it is attached with the table that it is a member of: the map's attach()",
    "map_value": "it is not attached but stored in a devmap or cpumap",
}
