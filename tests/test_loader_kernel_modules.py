"""What only modules of the kernel have: called, read, relocated against and attached to, and then let go of.

Each test inserts the modules that it is about and removes them, which fails while anything uses them.
"""

from __future__ import annotations

import errno
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.bpffs import detached_bpffs
from support.congestion import available, transfer
from support.kernel_modules import inserted, removed
from support.objects import native

import rawbpf
from rawbpf.btf import Func, Struct, vmlinux
from rawbpf.errors import BpfError, NotFound, VerifierError

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [
    pytest.mark.real_kernel("a simulated kernel has no modules"),
    pytest.mark.guest,
    pytest.mark.guest_module,
    pytest.mark.needs("module:elftools", "btf_name:btf_module", "file:/sys/kernel/btf/vmlinux"),
]
# The interpreter calls no functions of the kernel, and nothing is attached to functions without a compiler.
CALLS = pytest.mark.needs("kernel_module:nf_nat", "file:/proc/sys/net/core/bpf_jit_enable")
TYPES = pytest.mark.needs("kernel_module:x_tables")
PACKET = bytes(64)


@pytest.fixture
def spec(backend: Backend) -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(native("modules"))


def of_bpftool(module: str, struct: str) -> tuple[int, dict[str, int]]:
    """Return the size of `struct` and where its members begin, in bits, as bpftool has it."""
    words = ["bpftool", "--base-btf", "/sys/kernel/btf/vmlinux", "btf", "dump", "file", f"/sys/kernel/btf/{module}"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^\[\d+\] STRUCT '{struct}' size=(\d+).*\n((?:\t.*\n)*)", text, re.MULTILINE)
    assert found is not None
    return int(found[1]), {name: int(at) for name, at in re.findall(r"'(\w+)' type_id=\d+ bits_offset=(\d+)", found[2])}


@TYPES
@pytest.mark.needs("tool:bpftool")
def test_a_modules_types_are_listed_and_continue_the_kernels(backend: Backend) -> None:
    assert rawbpf.btfs("x_tables") == []
    with inserted("x_tables"):
        (info,) = rawbpf.btfs("x_tables")
        types = info.types()
        found = types.find("xt_af", Struct)
        assert info.kernel
        assert types.base is vmlinux()
        assert found is not None
        assert found.id >= types.first_id
        members = {member.name: member.bit_offset for member in found.members}
        assert (found.size, members) == of_bpftool("x_tables", "xt_af")
        assert {member.type.btf for member in found.members if member.name == "target"} == {vmlinux()}
    assert rawbpf.btfs("x_tables") == []


@TYPES
@pytest.mark.needs("tool:bpftool")
def test_programs_are_relocated_against_a_modules_types(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with pytest.raises(VerifierError, match=r"the kernel's types have no struct xt_af\S*\.target"):
        spec.load(only=["places"])
    with inserted("x_tables"):
        size, members = of_bpftool("x_tables", "xt_af")
        with spec.load(only=["places"]) as obj:
            obj.programs["places"].run(PACKET)
            names = ("offset", "size", "has_target", "has_gone")
            assert [obj.variables[name].value for name in names] == [members["target"] // 8, size, 1, 0]
        given = [vmlinux(), rawbpf.btfs("x_tables")[0].types()]
        assert rawbpf.relocate(spec, given)["places"] == rawbpf.relocate(spec)["places"]


@TYPES
def test_a_variable_of_a_module_is_read(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with pytest.raises(NotFound, match="neither the kernel's BTF nor that of a module has a variable 'xt_recseq'"):
        spec.load(only=["counted"])
    with inserted("x_tables"), spec.load(only=["counted"]) as obj:
        assert not removed("x_tables")
        assert obj.programs["counted"].run(PACKET).retval == 0


@CALLS
@pytest.mark.parametrize("name", ["look_up", "look_up_early"])
def test_functions_of_a_module_are_called(backend: Backend, spec: rawbpf.ObjectSpec, name: str) -> None:
    with pytest.raises(NotFound, match="nor that of a module has a function 'bpf_ct_release'; declare"):
        spec.load(only=[name])
    with inserted("nf_conntrack"), spec.load(only=[name]) as obj:
        assert not removed("nf_conntrack")
        assert obj.programs[name].run(PACKET).retval == (0 if name == "look_up" else 1)
        assert obj.variables["error"].value == -errno.ENOENT


@CALLS
def test_functions_of_two_modules_are_called_by_one_program(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with inserted("nf_nat"), spec.load(only=["translate", "look_up"]) as obj:
        assert not removed("nf_nat")
        assert obj.programs["translate"].run(PACKET).retval == 0
        assert obj.variables["error"].value == 0
        assert obj.programs["look_up"].run(PACKET).retval == 1


@CALLS
@pytest.mark.needs("kernel_module:fou")
def test_a_weak_function_is_there_with_its_module(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load(only=["encapsulated"]) as obj:
        assert obj.programs["encapsulated"].run(PACKET).retval == 7
        assert obj.variables["address_is_there"].value == 0
    with inserted("fou"):
        # The module has it since Linux 6.4.
        has = rawbpf.btfs("fou")[0].types().find("bpf_skb_get_fou_encap", Func) is not None
        with spec.load(only=["encapsulated"]) as obj:
            assert obj.programs["encapsulated"].run(PACKET).retval == (8 if has else 7)
            assert obj.variables["address_is_there"].value == has
            assert obj.variables["error"].value == (-errno.EINVAL if has else 0)


@CALLS
def test_a_program_made_in_python_calls_functions_of_a_module(backend: Backend) -> None:
    code = """
        r0 = 0
        *(u64 *)(r10 -8) = r0
        *(u64 *)(r10 -16) = r0
        *(u64 *)(r10 -24) = r0
        *(u64 *)(r10 -32) = r0
        r2 = r10
        r2 += -16
        r3 = 12
        r4 = r10
        r4 += -32
        r5 = 12
        call kernel[bpf_skb_ct_lookup]
        if r0 == 0 goto none
        r1 = r0
        call kernel[bpf_ct_release]
      none:
        r0 = *(u32 *)(r10 -28)
        r0 = -r0
        exit
    """
    with inserted("nf_conntrack"), rawbpf.Program.load("tc", code) as program:
        assert program.run(PACKET).retval == errno.EPROTO


@CALLS
def test_programs_are_attached_to_functions_of_a_module(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.programs["entered"].attach_target = "nf_conntrack:nf_conntrack_find_get"
    for name, text in (
        ("entered", "no module 'nf_conntrack' is loaded that has BTF"),
        ("left", "this kernel's BTF has no function 'nf_conntrack_find_get'"),
    ):
        with pytest.raises(BpfError, match=text):
            spec.load(only=[name])
    with inserted("nf_conntrack"), spec.load(only=["look_up", "entered", "left"]) as obj:
        (module,) = rawbpf.btfs("nf_conntrack")
        assert [obj.programs[name].info.attach_btf_obj_id for name in ("entered", "left")] == [module.id] * 2
        with obj.attach():
            obj.programs["look_up"].run(PACKET)
        obj.programs["look_up"].run(PACKET)
        assert [obj.variables[name].value for name in ("entries", "exits")] == [1, 1]


@CALLS
@TYPES
@pytest.mark.needs("tool:bpftool")
def test_libbpf_loads_the_same(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with inserted("nf_nat", "x_tables"), spec.load() as obj, detached_bpffs() as pins:
        # Whatever the path is in, bpftool would mount another bpffs there.
        words = ["bpftool", "prog", "loadall", str(native("modules")), str(pins / "made")]
        subprocess.run(words, capture_output=True, check=True)
        # Descriptors of maps do not count in the tag, but that of the variable's module does; and an old libbpf has
        # another number for a function that is missing.
        for name in set(spec.programs) - {"counted", "encapsulated"}:
            with rawbpf.Program.from_pin(pins / "made" / name) as theirs:
                ours = obj.programs[name]
                assert (name, ours.tag, ours.info.attach_btf_id) == (name, theirs.tag, theirs.info.attach_btf_id)


@CALLS
@pytest.mark.needs("kernel_module:tcp_dctcp", "tool:ip")
def test_a_table_of_functions_calls_those_of_a_module(backend: Backend) -> None:
    with inserted("tcp_dctcp"):
        with rawbpf.load(native("dctcp")) as obj, obj.attach():
            assert "dctcp_again" in available()
            assert transfer("dctcp_again", 1 << 14) == "dctcp_again"
            assert obj.variables["acks"].value > 0
        assert "dctcp_again" not in available()
