"""Tables of functions of an object: fitted to the kernel's struct, registered by attaching, and called."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import network
from support.bpffs import bpffs
from support.clang import LIBBPF, compiled
from support.congestion import PROGRAMS, STRUCT, available, table, transfer

import rawbpf
from rawbpf.btf import vmlinux
from rawbpf.loader.struct_ops import fit_tables
from rawbpf.map.module import Modules
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.spec.variable import VariableSpec
    from rawbpf.syscall.protocol import Backend

NAME = f"so{os.getpid()}"
FUNCTIONS = ("ssthresh", "cong_avoid", "undo_cwnd")
LINK = pytest.mark.needs("btf_name:bpf_struct_ops_link_create")
Build = Callable[..., rawbpf.ObjectSpec]

pytestmark = [
    pytest.mark.real_kernel(
        "kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_update_elem registers with the running kernel's TCP"
    ),
    pytest.mark.needs("tool:clang", "module:elftools", "prog_type:struct_ops", "file:/sys/kernel/btf/vmlinux"),
]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compile the programs with tables; they are named `NAME`, with a letter of the variable's behind it."""

    def build(*tables: str, struct: str = STRUCT, more: str = "") -> rawbpf.ObjectSpec:
        source = struct + PROGRAMS + more + "".join(tables)
        spec = rawbpf.ObjectSpec.from_bytes(compiled(tmp_path, source, prelude=LIBBPF).read_bytes(), name="it.bpf.o")
        for name, variable in spec.variables.items():
            if variable.map.map_type == c.BPF_MAP_TYPE_STRUCT_OPS:
                replace(variable, name=NAME + name[0])
        return spec

    return build


def replace(variable: VariableSpec, **members: object) -> None:
    """Give some members of a table another value."""
    value: Any = variable.value
    variable.value = value._replace(**members)


SECTIONS = [pytest.param(".struct_ops", id="value"), pytest.param(".struct_ops.link", id="link", marks=LINK)]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.needs(*network.NEEDS)
def test_a_connection_runs_by_an_objects_programs(backend: Backend, build: Build, section: str) -> None:
    with build(table("x", section)).load() as obj:
        assert NAME + "x" not in available()
        with obj.attach() as links:
            assert (len(links), links.skipped) == (1, [])
            assert NAME + "x" in available()
            assert transfer(NAME + "x") == NAME + "x"
            assert obj.variables["calls"].value > 0
            assert "struct_ops 'x'" in repr(links[0])
        assert NAME + "x" not in available()
    with pytest.raises(FileNotFoundError):
        transfer(NAME + "x")


@pytest.mark.parametrize("section", SECTIONS)
def test_closing_the_object_ends_what_its_maps_registered(backend: Backend, build: Build, section: str) -> None:
    with build(table("x", section)).load() as obj:
        assert isinstance(obj.maps["x"], rawbpf.StructOpsMap)
        obj.maps["x"].attach()
        assert NAME + "x" in available()
        assert obj.maps["x"].info.type_number == c.BPF_MAP_TYPE_STRUCT_OPS
    assert NAME + "x" not in available()


@LINK
def test_a_link_is_one_like_others_and_may_be_made_again(backend: Backend, build: Build) -> None:
    with build(table("x")).load() as obj:
        for _ in range(2):
            with obj.maps["x"].attach() as link:
                assert link.info.fields["map_id"] == obj.maps["x"].id
                assert "of map" in repr(link.info)
                assert obj.maps["x"].state.name == "BPF_STRUCT_OPS_STATE_READY"
            assert NAME + "x" not in available()


def test_what_has_no_link_object_says_so(backend: Backend, build: Build, tmp_path: Path) -> None:
    with build(table("x", ".struct_ops")).load() as obj, obj.maps["x"].attach() as registration:
        with pytest.raises(rawbpf.NotSupported, match="made without BPF_F_LINK"):
            _ = registration.info
        with pytest.raises(rawbpf.NotSupported, match="made without BPF_F_LINK"):
            registration.pin(tmp_path / "x")
        with pytest.raises(rawbpf.BpfError, match="filled before"):
            obj.maps["x"].attach()
        # Others may have ended it meanwhile.
        del obj.maps["x"][0]
    assert NAME + "x" not in available()


@LINK
def test_a_table_that_was_made_in_python_is_attached_too(backend: Backend, build: Build) -> None:
    flags = c.BPF_F_LINK
    with (
        build(table("x")).load() as obj,
        rawbpf.Map.create("struct_ops", value="tcp_congestion_ops", flags=flags) as made,
    ):
        with pytest.raises(rawbpf.BpfError, match="EINVAL: the table was not filled"):
            made.attach()
        made[0] = {"name": NAME, **{name: obj.programs[f"the_{name}"] for name in FUNCTIONS}}
        with made.attach():
            assert NAME in available()
        assert NAME not in available()


def test_the_table_has_the_objects_members_where_the_kernel_has_them(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops", ".flags = 0"))
    replace(spec.variables["x"], flags=2)
    with spec.load() as obj, obj.attach():
        data = obj.maps["x"][0].data
        assert (data.name, data.flags, data.set_state) == (NAME + "x", 2, None)
        assert {m: getattr(data, m) for m in FUNCTIONS} == {m: obj.programs[f"the_{m}"].id for m in FUNCTIONS}


def test_a_flavor_of_the_structs_name_is_left_out(backend: Backend, build: Build) -> None:
    flavored = STRUCT.replace("tcp_congestion_ops", "tcp_congestion_ops___some")
    source = table("x", ".struct_ops").replace("tcp_congestion_ops", "tcp_congestion_ops___some")
    with build(source, struct=flavored).load() as obj, obj.attach():
        assert NAME + "x" in available()


# Which programs are loaded -------------------------------------------------------

OTHER = 'SEC("?struct_ops/ssthresh") u32 other(u64 *ctx) { return 5; }\n'


def test_a_program_is_exchanged_or_left_out_before_loading(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops", ".set_state = (void *)state"), struct=STRUCT.replace(
        "u32 flags", "void (*set_state)(struct sock *sk, u8 state); u32 flags"
    ), more=OTHER + 'SEC("struct_ops") void state(u64 *ctx) {}\n')  # fmt: skip
    spec.maps["x"].programs["ssthresh"] = "other"
    del spec.maps["x"].programs["set_state"]
    with spec.load() as obj, obj.attach():
        assert sorted(obj.programs) == ["other", "the_cong_avoid", "the_undo_cwnd"]
        assert obj.maps["x"][0].data.ssthresh == obj.programs["other"].id
        assert obj.maps["x"][0].data.set_state is None
    assert spec.maps["x"].programs["ssthresh"] == "other"


def test_a_table_with_a_question_mark_is_made_when_it_is_asked_for(backend: Backend, build: Build) -> None:
    spec = build(table("x", "?.struct_ops"))
    with spec.load() as obj:
        assert (list(obj.programs), list(obj.maps)) == ([], [".bss"])
        assert obj.attach() == []
    spec.maps["x"].autocreate = True
    with spec.load() as obj, obj.attach():
        assert NAME + "x" in available()


def test_a_program_that_a_table_needs_is_loaded_and_shared_by_its_like(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops"), table("y", ".struct_ops"), table("z", "?.struct_ops"))
    spec.programs["the_ssthresh"].autoload = False
    with spec.load() as obj, obj.attach() as links:
        assert len(links) == 2
        assert obj.maps["x"][0].data.ssthresh == obj.maps["y"][0].data.ssthresh == obj.programs["the_ssthresh"].id
        assert {NAME + "x", NAME + "y"} <= set(available())


def test_members_that_the_kernel_lacks_are_left_out_when_they_are_zero(backend: Backend, build: Build) -> None:
    struct = STRUCT.replace("u32 flags;", "u32 flags; u64 later; void (*never)(struct sock *sk);")
    never = 'SEC("struct_ops/never") void never(u64 *ctx) {}\n'
    spec = build(table("x", ".struct_ops", ".never = (void *)never"), struct=struct, more=never)
    with pytest.raises(rawbpf.SpecError, match=r"is a program, and this kernel has no such member: .*\['never'\]"):
        spec.load()
    del spec.maps["x"].programs["never"]
    with spec.load() as obj, obj.attach():
        assert "never" not in obj.programs
        assert NAME + "x" in available()
    replace(spec.variables["x"], later=1)
    with pytest.raises(rawbpf.SpecError, match="'later' is not zero, and this kernel has no such member"):
        spec.load()


def test_a_program_is_loaded_by_hand_for_a_table_of_python(backend: Backend, build: Build) -> None:
    spec = build(more=OTHER)
    with rawbpf.Map.create("struct_ops", value="tcp_congestion_ops") as made:
        target = made.target("ssthresh")
        spec.programs["other"].attach_btf_id = target["attach_btf_id"]
        spec.programs["other"].expected_attach_type = target["expected_attach_type"]
        with spec.load(only=["other"]) as obj:
            assert list(obj.programs) == ["other"]
            assert "attached with the table" in obj.attach().skipped[0][1]


# Refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("struct", "members", "message"),
    [
        pytest.param(("u32 flags", "u64 flags"), "", "'flags' has 8 bytes, and in this kernel 4", id="size"),
        pytest.param(("u32 flags", "struct {u32 x;} flags"), "", "is a struct, and in this kernel a int", id="kind"),
        pytest.param(("u32 flags", "u32 flags:3"), "", "'flags' is a bit-field", id="bits"),
        pytest.param(("void *owner", "u64 owner"), "", "'owner' is a int, and in this kernel a ptr", id="pointer"),
        pytest.param(
            ("void *owner", "u32 (*owner)(void)"), ".owner = (void *)the_ssthresh", "in this kernel no func", id="func"
        ),
        pytest.param(("void *owner", "void *owner"), ".owner = (void *)1", "'owner' is a pointer", id="data pointer"),
        pytest.param(
            ("void *owner", "void (*set_state)(void)"),
            ".set_state = (void *)the_ssthresh",
            "is program 'the_ssthresh', which is loaded for another table or member already",
            id="two members",
        ),
    ],
)
def test_what_the_kernel_has_otherwise_is_refused(
    backend: Backend, build: Build, struct: tuple[str, str], members: str, message: str
) -> None:
    with pytest.raises(rawbpf.SpecError, match=rf"table 'x' \(tcp_congestion_ops\): .*{message}"):
        build(table("x", members=members), struct=STRUCT.replace(*struct)).load()


def test_a_table_that_the_kernel_lacks_is_told_with_those_it_has(backend: Backend, build: Build) -> None:
    source = table("x").replace("tcp_congestion_ops", "tcp_congestion_op")
    with pytest.raises(rawbpf.BpfError, match=r"ENOENT: .* did you mean tcp_congestion_ops"):
        build(source, struct=STRUCT.replace("tcp_congestion_ops", "tcp_congestion_op")).load()


def _no_member(spec: rawbpf.ObjectSpec) -> None:
    spec.maps["x"].programs["nothing"] = "the_ssthresh"


def _no_program(spec: rawbpf.ObjectSpec) -> None:
    spec.maps["x"].programs["ssthresh"] = "nothing"


def _other_type(spec: rawbpf.ObjectSpec) -> None:
    spec.programs["the_ssthresh"].prog_type = c.BPF_PROG_TYPE_XDP


def _other_value(spec: rawbpf.ObjectSpec) -> None:
    spec.maps["x"].value = None


def _number(spec: rawbpf.ObjectSpec) -> None:
    replace(spec.variables["x"], ssthresh=1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_no_member, "table 'x' has no member 'nothing'; it has ssthresh, "),
        (_no_program, "'ssthresh' is 'nothing', which is no program of type struct_ops"),
        (_other_type, "'ssthresh' is 'the_ssthresh', which is no program of type struct_ops"),
        (_other_value, r"map 'x': a struct_ops map is a variable in SEC"),
        (_number, r"'ssthresh' is a pointer, and those are set by spec.maps\['x'\].programs only"),
    ],
    ids=["no member", "no program", "another type", "another value", "a number for a function"],
)
def test_an_edit_that_cannot_be_is_told(
    backend: Backend, build: Build, edit: Callable[[rawbpf.ObjectSpec], None], message: str
) -> None:
    spec = build(table("x"))
    edit(spec)
    with pytest.raises(rawbpf.SpecError, match=message):
        spec.load()


def test_only_programs_that_a_table_needs_are_missed(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops"), more=OTHER)
    with pytest.raises(rawbpf.SpecError, match="table 'x': 'ssthresh' is program 'the_ssthresh', which is not loaded"):
        spec.load(only=["the_cong_avoid", "the_undo_cwnd"])
    with pytest.raises(rawbpf.SpecError, match="program 'other' is loaded for a member of a table"):
        spec.load(only=["other"])


def test_when_a_table_cannot_be_registered_nothing_is(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops"), table("y", ".struct_ops"))
    replace(spec.variables["y"], name="reno")
    with spec.load() as obj:
        with pytest.raises(rawbpf.BpfError, match="EEXIST"):
            obj.attach()
        assert NAME + "x" not in available()


@LINK
def test_a_link_that_cannot_be_made_leaves_nothing(backend: Backend, build: Build) -> None:
    failing = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, errno.ENOMEM)]})
    with build(table("x")).load(backend=failing) as obj:
        with pytest.raises(rawbpf.BpfError, match="ENOMEM"):
            obj.attach()
        with obj.attach():
            assert NAME + "x" in available()


# Life time -----------------------------------------------------------------------


@LINK
def test_a_table_that_was_taken_is_the_takers_to_attach(backend: Backend, build: Build) -> None:
    with build(table("x")).load() as obj:
        with obj.take("x") as taken:
            link = taken.attach()
            assert obj.attach() == []
        obj.close()
        with link:
            assert NAME + "x" in available()
    assert NAME + "x" not in available()


def test_a_closed_program_is_not_put_into_a_table(backend: Backend, build: Build) -> None:
    with build(table("x", ".struct_ops")).load() as obj:
        obj.take("the_ssthresh").close()
        with pytest.raises(rawbpf.Closed):
            obj.attach()
        assert NAME + "x" not in available()


def test_a_pinned_table_is_found_again(backend: Backend, build: Build) -> None:
    spec = build(table("x", ".struct_ops"))
    spec.maps["x"].pinning = 1
    with bpffs(backend) as pins, spec.load(pin_dir=pins) as first, spec.load(pin_dir=pins) as second:
        assert first.maps["x"].same_as(second.maps["x"])
        with second.attach():
            assert first.maps["x"].state.name == "BPF_STRUCT_OPS_STATE_INUSE"


def test_fitting_gives_each_program_its_place_in_the_kernels_struct(backend: Backend, build: Build) -> None:
    content = build(table("x"))._content.copy()
    fit_tables(backend, content, Modules(backend))
    kernel = vmlinux()["tcp_congestion_ops"]
    names = [member.name for member in kernel.members]  # type: ignore[attr-defined]  # a struct
    for member, program in content.maps["x"].programs.items():
        spec = content.programs[program]
        assert (spec.attach_btf_id, spec.expected_attach_type) == (kernel.id, names.index(member))
    fitted = content.maps["x"]
    assert fitted.value == vmlinux()["bpf_struct_ops_tcp_congestion_ops"]
    assert fitted.contents is not None
    assert (len(fitted.contents), fitted.contents.count(NAME.encode() + b"x\0")) == (fitted.value_size, 1)
