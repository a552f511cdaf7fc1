"""Loading a program: what is kept of it, and what a refusal raises."""

from __future__ import annotations

import errno
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from support import tracers
from support.bpffs import bpffs

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm.instruction import Line
from rawbpf.errors import BpfError, Closed, NotSupported, PermissionDenied, SpecError, VerifierError
from rawbpf.link.base import Link
from rawbpf.program import load
from rawbpf.program.info import programs
from rawbpf.program.program import Program
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

# r0 = r2, which was never written, after 50 calls that make the log long.
LONG = [b.mov_imm(b.R0, 0), *[b.call(5)] * 50, b.mov_reg(b.R0, b.R2), b.exit_()]


def test_a_program_tells_what_it_is(backend: Backend) -> None:
    with Program.load("tracepoint", tracers.returning(0), name="a_name_of_more_than_15") as program:
        info = program.info
        assert program.name == "a_name_of_more_than_15"
        assert (info.name, info.type_number, info.id) == ("a_name_of_more_", c.BPF_PROG_TYPE_TRACEPOINT, program.id)
        assert info.type == program.type == c.BPF_PROG_TYPE_TRACEPOINT
        assert "TRACEPOINT" in repr(program.type)
        assert info.gpl_compatible
        assert info.tag == program.tag
        assert len(info.tag) == 16
        assert info.xlated_size == 16
        assert info.map_ids == ()
        assert program.log == ""
        assert "a_name_of_more_than_15" in repr(program)
        assert program.id in {each.id for each in programs("a_name_of_more_", "tracepoint")}
        assert program.id not in {each.id for each in programs(type="xdp")}
    assert program.closed
    assert "closed" in repr(program)
    with pytest.raises(Closed):
        program.fileno()


def test_a_program_tells_its_maps(backend: Backend) -> None:
    with (
        rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as one,
        rawbpf.Map.create("hash", key="u32", value="u64", max_entries=1) as two,
        Program.load(
            "xdp", [b.ld_map_fd(b.R1, one.fileno()), b.ld_map_fd(b.R1, two.fileno()), *tracers.returning(2)]
        ) as program,
    ):
        assert sorted(program.info.map_ids) == sorted([one.id, two.id])


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_the_hint_of_a_refusal_is_one_line_and_its_text_three(backend: Backend) -> None:
    with pytest.raises(VerifierError) as caught:
        Program.load("tracepoint", LONG)
    error = caught.value
    assert error.hint == error.summary
    first, *below = str(error).splitlines()
    assert first.endswith(error.hint)
    assert [line[:3] for line in below] == ["  a", "  ("]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_program_of_no_instructions_is_refused_before_any_call(backend: Backend) -> None:
    watched = FaultBackend(backend, {})
    with pytest.raises(ValueError, match="program 'none': a program has at least one instruction"):
        Program.load("xdp", [], name="none", backend=watched)
    assert not watched.calls


@pytest.mark.real_kernel("a simulated kernel verifies no program")
@pytest.mark.parametrize("license_text", ["GPL", "Dual BSD/GPL", "Proprietary"])
def test_the_license_decides_over_helpers(backend: Backend, license_text: str) -> None:
    instructions = [
        b.mov_reg(b.R1, b.R10),
        b.alu_imm(b.R1, "+=", -8),
        b.mov_imm(b.R2, 8),
        b.mov_imm(b.R3, 0),
        b.call(113),  # probe_read_kernel, for the GPL only
        *tracers.returning(0),
    ]
    if license_text != "Proprietary":
        with Program.load("tracepoint", instructions, license=license_text) as program:
            assert program.info.gpl_compatible
        return
    with pytest.raises(VerifierError, match="cannot call GPL"):
        Program.load("tracepoint", instructions, license=license_text)


@pytest.mark.parametrize("kind", ["xdp", c.BPF_PROG_TYPE_XDP, "xdp/devmap"])
def test_the_type_is_a_name_a_number_or_a_section(backend: Backend, kind: str | int) -> None:
    with Program.load(kind, tracers.returning(2)) as program:
        assert program.info.type_number == c.BPF_PROG_TYPE_XDP
        assert program.section == (kind if isinstance(kind, str) else "")


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        pytest.param("xpd", "", "xdp", id="unknown type"),
        pytest.param("xdp", "not a name", "only A-Z a-z 0-9 _ and . are allowed", id="bad name"),
    ],
)
def test_wrong_words_are_refused_before_the_kernel_sees_them(backend: Backend, kind: str, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Program.load(kind, tracers.returning(0), name=name)


def test_instructions_that_refer_by_name_are_refused_before_the_kernel_sees_them(backend: Backend) -> None:
    with pytest.raises(SpecError, match=r"refers to map 'events' \(r1 = map\[events\]\)"):
        Program.load("xdp", [b.ld_map_fd(b.R1, "events"), *tracers.returning(0)])


@pytest.mark.real_kernel("a simulated kernel verifies no program")
class TestRefusals:
    def test_the_verifiers_refusal_is_three_lines_and_a_complete_log(self, backend: Backend) -> None:
        with pytest.raises(VerifierError) as caught:
            Program.load("tracepoint", LONG, name="long")
        error = caught.value
        assert str(error).splitlines()[:2] == [
            "prog_load 'long' (tracepoint): EACCES: R2 !read_ok",
            "  at instruction 51: r0 = r2",
        ]
        assert len(str(error).splitlines()) == 3
        assert (error.summary, error.instruction, error.source_line) == ("R2 !read_ok", 51, None)
        assert error.log.count("call bpf_ktime_get_ns#5") == 50
        assert error.log.splitlines()[-1].startswith("processed 52 insns")

    def test_the_source_line_comes_from_the_instructions(self, backend: Backend) -> None:
        instructions = LONG.copy()
        instructions[50] = instructions[50].replace(line=Line("long.bpf.c", "  return r2;", 7))
        with pytest.raises(
            VerifierError, match=r"at long\.bpf\.c:7: return r2;  \(instruction 51: r0 = r2\)"
        ) as caught:
            Program.load("tracepoint", instructions)
        assert caught.value.source_line == "long.bpf.c:7: return r2;"

    def test_the_log_is_complete_however_small_the_first_buffer(self, backend: Backend) -> None:
        logs = set()
        for size in (16, 200, 2807, 2808, 2809, 1 << 16):
            with pytest.raises(VerifierError) as caught:
                Program.load("tracepoint", LONG, log_size=size)
            assert caught.value.errno == errno.EACCES
            logs.add(caught.value.log)
        assert len(logs) == 1

    def test_a_log_beyond_the_first_buffer_takes_one_more_load(self, backend: Backend) -> None:
        counting = FaultBackend(backend, {})
        with pytest.raises(VerifierError):
            Program.load("tracepoint", LONG, log_size=200, backend=counting)
        assert counting.calls[c.BPF_PROG_LOAD] == 3

    def test_a_program_that_loads_pays_for_no_log(self, backend: Backend) -> None:
        counting = FaultBackend(backend, {})
        with Program.load("tracepoint", tracers.returning(0), backend=counting):
            assert counting.calls[c.BPF_PROG_LOAD] == 1

    def test_a_failure_that_passes_is_no_failure(self, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, errno.EACCES)]})
        with Program.load("tracepoint", tracers.returning(0), backend=faulty) as program:
            assert program.log == ""

    @pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE])
    def test_a_failure_that_is_not_about_the_program_is_not_repeated(self, backend: Backend, number: int) -> None:
        backend.host.raise_memlock()  # else ENOMEM is worth one more call, with the limit raised
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, number)]})
        with pytest.raises(BpfError) as caught:
            Program.load("tracepoint", tracers.returning(0), backend=faulty)
        assert caught.value.errno == number
        assert not isinstance(caught.value, VerifierError)
        assert faulty.calls[c.BPF_PROG_LOAD] == 1

    def test_the_first_refusal_counts_and_not_what_comes_of_asking_for_a_log(self, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, errno.EACCES), (2, errno.EINVAL)]})
        with pytest.raises(BpfError, match="as security modules do") as caught:
            Program.load("tracepoint", tracers.returning(0), backend=faulty)
        assert caught.value.errno == errno.EACCES

    @pytest.mark.needs("btf_name:log_true_size")  # before Linux 6.4 what fitted is the beginning, not the end
    def test_a_kernel_that_takes_no_greater_buffer_has_told_what_fitted(self, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(3, errno.EINVAL)]})
        with pytest.raises(VerifierError) as caught:
            Program.load("tracepoint", LONG, log_size=400, backend=faulty)
        assert (caught.value.errno, caught.value.summary) == (errno.EACCES, "R2 !read_ok")
        assert len(caught.value.log) < 400

    @pytest.mark.parametrize(
        ("size", "needed", "grown"),
        [
            pytest.param(1 << 16, 31397 * 5, 31397 * 5 + 4096, id="as the kernel says"),
            pytest.param(1 << 16, 0, 1 << 20, id="before 6.4"),
            pytest.param(1 << 20, 0, (1 << 24) - 1, id="no more than kernels before 5.2 take"),
            pytest.param((1 << 24) - 1, 0, (1 << 28) - 16, id="beyond"),
            pytest.param(1 << 29, 0, (1 << 30) - 1, id="no more than any kernel takes"),
            pytest.param(1 << 29, 1 << 31, (1 << 30) - 1, id="more than any kernel takes"),
        ],
    )
    def test_the_buffer_grows_to_what_is_needed(self, size: int, needed: int, grown: int) -> None:
        assert load._grown(size, needed) == grown

    @pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
    def test_a_kind_that_this_kernel_refuses_without_a_word_is_not_supported(self, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, errno.EPERM), (2, errno.EPERM)]})
        text = r"refuses programs of type tracing \(trace_fentry\) without a word, although the capabilities suffice"
        with pytest.raises(NotSupported, match=text) as caught:
            Program.load("fentry/tcp_sendmsg", tracers.returning(0), backend=faulty)
        assert caught.value.errno == errno.EPERM

    def test_a_type_that_this_kernel_lacks_is_not_supported(self, backend: Backend) -> None:
        with pytest.raises(NotSupported, match="this kernel has no programs of type type 999"):
            Program.load(999, tracers.returning(0))

    def test_wrong_options_of_a_type_that_the_kernel_has_say_so(self, backend: Backend) -> None:
        with pytest.raises(BpfError, match="do not suit a program of type xdp") as caught:
            Program.load("xdp", tracers.returning(2), prog_flags=1 << 30)
        assert not isinstance(caught.value, NotSupported)

    def test_a_kernel_that_never_heard_of_attach_types_gets_none(self, backend: Backend) -> None:
        faulty = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, errno.EINVAL), (2, errno.EINVAL)]})
        with Program.load("xdp", tracers.returning(2), backend=faulty) as program:
            assert program.info.type_number == c.BPF_PROG_TYPE_XDP
            assert faulty.calls[c.BPF_PROG_LOAD] == 3


@pytest.mark.real_kernel("a simulated kernel verifies no program")
class TestLogOfSuccess:
    def test_it_is_kept_when_asked_for(self, backend: Backend) -> None:
        with Program.load("tracepoint", tracers.returning(0), log_level=2) as program:
            assert "(95) exit" in program.log

    def test_it_grows_as_needed(self, backend: Backend) -> None:
        with (
            Program.load("tracepoint", tracers.returning(0), log_level=2, log_size=20) as short,
            Program.load("tracepoint", tracers.returning(0), log_level=2) as long,
        ):
            assert short.log.splitlines()[:-1] == long.log.splitlines()[:-1]
            assert short.log.endswith("\n")


@pytest.mark.real_kernel("it is about what this process may do")
def test_without_capabilities_the_error_says_which(backend: Backend) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            Program.load("tracepoint", tracers.returning(0))
        except PermissionDenied as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text.startswith("prog_load (tracepoint): EPERM: needs CAP_BPF and CAP_PERFMON")


class TestLifeTime:
    def test_a_dropped_program_warns_where_it_was_loaded(self, backend: Backend) -> None:
        with pytest.warns(ResourceWarning, match=r"unclosed <Program 'drop' .*test_program_load\.py:\d+"):
            Program.load("xdp", tracers.returning(2), name="drop")

    def test_it_opens_again_by_id_and_descriptor(self, backend: Backend) -> None:
        with Program.load("xdp", tracers.returning(2), name="again") as program:
            with Program.from_id(program.id) as same, Program.from_fd(program.fileno()) as dup:
                assert same.id == dup.id == program.id
                assert same.name == "again"
                assert dup.fileno() != program.fileno()
            fd = program.release()
            with Program.from_fd(fd, own=True) as owner:
                assert owner.fileno() == fd

    def test_what_is_no_program_is_refused_and_not_closed(self, backend: Backend) -> None:
        with rawbpf.Map.create("array", key="u32", value="u64", max_entries=1) as array:
            with pytest.raises(BpfError):
                Program.from_fd(array.fileno(), own=True)
            assert array[0] == 0

    def test_the_descriptor_of_no_program_is_closed_when_it_was_opened_here(self, backend: Backend) -> None:
        with pytest.raises(BpfError) as caught:
            Program.from_id(2**31 - 2)
        assert caught.value.errno == errno.ENOENT

    def test_a_pinned_program_opens_again(self, backend: Backend) -> None:
        with bpffs(backend) as root:
            with Program.load("xdp", tracers.returning(2), name="pinned") as program:
                program.pin(root / "it")
                with pytest.raises(BpfError, match="something is pinned there already"):
                    program.pin(root / "it")
                tag = program.tag
            with Program.from_pin(root / "it") as again:
                assert (again.name, again.tag) == ("pinned", tag)
                with pytest.raises(BpfError, match="it is a program, not a link"):
                    Link.from_pin(root / "it")

    def test_it_cannot_be_copied(self, backend: Backend) -> None:
        import copy
        import pickle

        with Program.load("xdp", tracers.returning(2)) as program:
            for use in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=r"pin it and use from_pin\(\)"):
                    use(program)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        pytest.param("xdp/devmap", "it is not attached but stored in a devmap", id="map value"),
        pytest.param("syscall", r"run\(\) runs them", marks=pytest.mark.needs("prog_type:syscall"), id="run only"),
        pytest.param(
            "tc",
            "section 'tc' does not say to what, and attaching by tc is not supported yet",
            id="by hand",
        ),
        pytest.param("xdp", r"""'xdp' does not say to what: attach_xdp\("eth0"\)""", id="xdp"),
        pytest.param("cgroup/connect4", r"""'cgroup/connect4' does not say to what: attach_cgroup\(""", id="cgroup"),
        pytest.param("kprobe/tcp_sendmsg", "attaching by kprobe is not supported yet", id="not yet"),
        pytest.param("tp", r'does not say to what: SEC\("tp/sched/sched_switch"\)', id="no target"),
        pytest.param("tp/sched", "a tracepoint is a category and a name", id="no name"),
        pytest.param("raw_tp", r'SEC\("raw_tp/sched_switch"\)', id="no raw tracepoint"),
        pytest.param("cgroup_skb", "it has no section", id="a type only"),
    ],
)
def test_attach_says_what_is_in_the_way(backend: Backend, section: str, text: str) -> None:
    with Program.load(section, tracers.returning(0), name="stay") as program:
        assert program.attach_obstacle
        with pytest.raises(SpecError, match=text):
            program.attach()
