"""The section table says of every SEC() name what program it makes and how that attaches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rawbpf.errors import SpecError
from rawbpf.spec.program import ProgramSpec
from rawbpf.spec.section import Section, find_section, register_section, sections, unregister_section
from rawbpf.uapi import constants as c

CASES = [
    ("socket", c.BPF_PROG_TYPE_SOCKET_FILTER, 0, "socket", ""),
    ("kprobe/do_unlinkat", c.BPF_PROG_TYPE_KPROBE, 0, "kprobe", "do_unlinkat"),
    ("kprobe", c.BPF_PROG_TYPE_KPROBE, 0, "kprobe", ""),
    ("kprobe.multi/tcp_*", c.BPF_PROG_TYPE_KPROBE, c.BPF_TRACE_KPROBE_MULTI, "kprobe_multi", "tcp_*"),
    ("uprobe.s//bin/sh:main", c.BPF_PROG_TYPE_KPROBE, 0, "uprobe", "/bin/sh:main"),
    ("tp/syscalls/sys_enter_execve", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "syscalls/sys_enter_execve"),
    ("?tracepoint/sched/sched_switch", c.BPF_PROG_TYPE_TRACEPOINT, 0, "tracepoint", "sched/sched_switch"),
    ("raw_tp/sys_enter", c.BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "raw_tracepoint", "sys_enter"),
    ("raw_tracepoint.w/x", c.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, "raw_tracepoint", "x"),
    ("tp_btf/sched_switch", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_RAW_TP, "tracing", "sched_switch"),
    ("fexit.s/do_open", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FEXIT, "tracing", "do_open"),
    ("fsession/do_open", c.BPF_PROG_TYPE_TRACING, 58, "tracing", "do_open"),
    ("fentry.multi/tcp_*", c.BPF_PROG_TYPE_TRACING, 59, "tracing_multi", "tcp_*"),
    ("fexit.multi.s/tcp_*", c.BPF_PROG_TYPE_TRACING, 60, "tracing_multi", "tcp_*"),
    ("fsession.multi/x", c.BPF_PROG_TYPE_TRACING, 61, "tracing_multi", "x"),
    ("lsm_cgroup/socket_bind", c.BPF_PROG_TYPE_LSM, c.BPF_LSM_CGROUP, "cgroup", "socket_bind"),
    ("xdp", c.BPF_PROG_TYPE_XDP, c.BPF_XDP, "xdp", ""),
    ("xdp.frags/cpumap", c.BPF_PROG_TYPE_XDP, c.BPF_XDP_CPUMAP, "map_value", ""),
    ("tc", c.BPF_PROG_TYPE_SCHED_CLS, 0, "tc", ""),
    ("tc/egress", c.BPF_PROG_TYPE_SCHED_CLS, c.BPF_TCX_EGRESS, "tcx", ""),
    ("cgroup/connect4", c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, c.BPF_CGROUP_INET4_CONNECT, "cgroup", ""),
    ("cgroup/sock", c.BPF_PROG_TYPE_CGROUP_SOCK, c.BPF_CGROUP_INET_SOCK_CREATE, "cgroup", ""),
    ("sk_skb/verdict", c.BPF_PROG_TYPE_SK_SKB, c.BPF_SK_SKB_VERDICT, "sockmap", ""),
    ("struct_ops.s/init", c.BPF_PROG_TYPE_STRUCT_OPS, 0, "struct_ops", "init"),
    ("iter/bpf_map_elem", c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_ITER, "iter", "bpf_map_elem"),
    ("syscall", c.BPF_PROG_TYPE_SYSCALL, 0, "run", ""),
    ("netfilter", c.BPF_PROG_TYPE_NETFILTER, c.BPF_NETFILTER, "netfilter", ""),
]


@pytest.mark.parametrize(("name", "prog_type", "attach_type", "attach", "target"), CASES, ids=[row[0] for row in CASES])
def test_a_section_name_says_type_and_way_of_attaching(
    name: str, prog_type: int, attach_type: int, attach: str, target: str
) -> None:
    section = find_section(name)
    assert section is not None
    assert (section.prog_type, section.expected_attach_type) == (prog_type, attach_type)
    assert (section.attach, section.target(name)) == (attach, target)


@pytest.mark.parametrize("name", ["", "xdpx", "xdp/eth0", "tpx/a", "kprobes/x", ".text", "?", "cgroup/nothing", "tc/x"])
def test_an_unknown_name_has_no_definition(name: str) -> None:
    assert find_section(name) is None


def test_every_definition_is_found_by_its_own_name_and_no_other_comes_before_it() -> None:
    for section in sections():
        assert find_section(section.pattern.removesuffix("+")) is section
        if section.pattern.endswith("+"):
            assert find_section(section.pattern[:-1] + "/some/target") is section


def test_all_names_that_libbpf_has_are_there() -> None:
    assert len({section.pattern for section in sections()}) == len(sections()) == 116


def test_only_programs_that_may_sleep_are_loaded_as_sleepable() -> None:
    sleepable = {s.pattern for s in sections() if s.sleepable}
    assert sleepable == {s.pattern for s in sections() if s.pattern.rstrip("+").endswith(".s")} | {"syscall"}
    assert all(bool(s.prog_flags & c.BPF_F_SLEEPABLE) == s.sleepable for s in sections())
    assert {s.pattern for s in sections() if s.frags} == {s.pattern for s in sections() if "frags" in s.pattern}


def test_every_program_type_of_the_kernel_has_a_section() -> None:
    types = {value for name, value in vars(c).items() if name.startswith("BPF_PROG_TYPE_")} - {c.BPF_PROG_TYPE_UNSPEC}
    assert {section.prog_type for section in sections()} == types


@pytest.fixture
def own() -> Iterator[Section]:
    section = Section("tp/mine+", c.BPF_PROG_TYPE_KPROBE, 0, "kprobe")
    register_section(section)
    yield section
    unregister_section(section)


def test_a_registered_section_goes_before_the_built_in_ones(own: Section) -> None:
    assert find_section("tp/mine/x") is own
    other = find_section("tp/x")
    assert other is not None
    assert other.pattern == "tp+"


def test_a_section_is_registered_once(own: Section) -> None:
    with pytest.raises(SpecError, match="registered already"):
        register_section(Section("tp/mine+", c.BPF_PROG_TYPE_XDP))
    with pytest.raises(SpecError, match="not registered"):
        unregister_section(Section("other", 1))


def test_a_program_takes_everything_from_its_section() -> None:
    program = ProgramSpec.from_section("f", "?fentry.s/vfs_read", [])
    assert (program.prog_type, program.expected_attach_type) == (c.BPF_PROG_TYPE_TRACING, c.BPF_TRACE_FENTRY)
    assert (program.prog_flags, program.attach_target, program.autoload) == (c.BPF_F_SLEEPABLE, "vfs_read", False)
    assert program.definition is find_section("fentry.s")


def test_a_copied_program_has_its_own_list_of_instructions() -> None:
    program = ProgramSpec.from_section("f", "xdp", [])
    twin = program.copy()
    twin.instructions.extend(program.instructions)
    assert twin.instructions is not program.instructions
    assert repr(twin) == "ProgramSpec('f': xdp, section 'xdp', 0 instructions)"
