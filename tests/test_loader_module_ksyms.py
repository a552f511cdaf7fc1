"""What modules have: functions are called by the index of their BTF's descriptor, variables loaded with it.

The modules are BTF made here, which continues the kernel's, behind descriptors of other BTF; what is looked at is the
code that would be loaded.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.clang import LIBBPF, compiled

import rawbpf
from rawbpf.asm import build
from rawbpf.btf import Btf, Builder, Func, FuncProto, Int, Struct, Type, Var, indexed
from rawbpf.btf.build import assemble
from rawbpf.codec.struct_ops import StructOpsCodec
from rawbpf.errors import BpfError, Closed, NotFound, SpecError
from rawbpf.loader.externs import Externs, find_typed
from rawbpf.loader.struct_ops import fit_tables, table_types
from rawbpf.map.create import create_from_spec
from rawbpf.map.module import Module, Modules
from rawbpf.program.target import attach_target
from rawbpf.spec.ksym import KsymSpec
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.obj import obj_get_info_by_fd
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c
from rawbpf.uapi.attr import MAP_CREATE
from rawbpf.uapi.info import BTF_INFO

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
GLOBAL = 1


def split(base: Btf, functions: list[str], variables: list[str]) -> Btf:
    """Return BTF that continues `base`: functions `int name(int)`, and variables of int."""
    number = base.find("int", Int)
    assert number is not None
    strings, words, first = b"\0", [], len(base)

    def named(text: str) -> int:
        nonlocal strings
        strings += text.encode() + b"\0"
        return len(base.strings) + len(strings) - len(text) - 1

    words += [0, FuncProto.kind << 24 | 1, number.id, named("x"), number.id]
    for name in functions:
        words += [named(name), Func.kind << 24 | GLOBAL, first]
    for name in variables:
        words += [named(name), Var.kind << 24, number.id, GLOBAL]
    return Btf.from_bytes(assemble(words, strings, sys.byteorder), base)


def declared() -> dict[str, Type]:
    """Return the types that an object would declare: of a function, of another one, and of a variable."""
    b = Builder()
    number = b.int("int", 4, signed=True)
    one, two = b.func_proto(number, [("x", number)]), b.func_proto(number, [("x", number), ("y", number)])
    btf = Btf.from_bytes(b.to_bytes())
    return {"function": btf[one], "other": btf[two], "variable": btf[number]}


TYPES = declared()


def ksyms(**kinds: str) -> dict[str, KsymSpec]:
    """Return what is declared, in the order of names; `kinds`: a word of `TYPES` for each, with `weak` before it."""
    return {
        name: KsymSpec(name, TYPES[kind.split()[-1]], weak=kind.startswith("weak"), index=index)
        for index, (name, kind) in enumerate(sorted(kinds.items()))
    }


def btf_id(backend: Backend, fd: int) -> int:
    """Return the id of the BTF object behind `fd`."""
    return BTF_INFO.integer(obj_get_info_by_fd(backend, fd, BTF_INFO.size), "id")


@pytest.fixture
def loaded(backend: Backend) -> Iterator[Modules]:
    """Modules `first` and `second` of the kernel below, each with the id of some BTF that can be opened."""
    base = indexed(backend.host.btf())
    some = Builder()
    some.int("int", 4)
    fds = [btf_load(backend, some.to_bytes()) for _ in range(2)]
    ids = [btf_id(backend, fd) for fd in fds]
    made = Modules(backend)
    made._found = [
        Module("first", ids[0], split(base, ["z_of_first", "both"], ["first_variable"])),
        Module("second", ids[1], split(base, ["a_of_second", "both"], [])),
    ]
    try:
        with made:
            yield made
    finally:
        for fd in fds:
            backend.close(fd)


def test_functions_count_modules_in_the_order_of_names(backend: Backend, loaded: Modules) -> None:
    code = [build.call_kernel("z_of_first"), build.call_kernel("a_of_second"), build.call_kernel("z_of_first")]
    wanted = ksyms(z_of_first="function", a_of_second="function")
    externs = Externs(backend, wanted, loaded)
    externs.resolve([code])
    calls = [externs.patched(each) for each in code]
    ids = [found.id for module in loaded for name in wanted if (found := module.own(name, Func))]
    assert [(i.src, i.imm, i.offset) for i in calls] == [(2, ids[0], 2), (2, ids[1], 1), (2, ids[0], 2)]
    assert loaded.fd_array[0] == 0
    assert [btf_id(backend, fd) for fd in loaded.fd_array[1:]] == [module.id for module in loaded][::-1]


def test_of_two_modules_the_first_counts(backend: Backend, loaded: Modules) -> None:
    found = find_typed(ksyms(both="function")["both"], indexed(backend.host.btf()), loaded)
    assert found is not None
    assert found.module is next(iter(loaded))


def test_variables_and_addresses_of_functions_come_with_the_descriptor(backend: Backend, loaded: Modules) -> None:
    first, second = loaded
    code = [build.ld_kernel_variable(1, "first_variable"), build.ld_kernel_variable(2, "a_of_second")]
    externs = Externs(backend, ksyms(first_variable="variable", a_of_second="weak function"), loaded)
    externs.resolve([code])
    variable, function = (externs.patched(each) for each in code)
    assert (variable.src, variable.imm & 0xFFFFFFFF) == (3, first.types["first_variable"].id)
    assert (function.src, function.imm & 0xFFFFFFFF) == (3, second.types["a_of_second"].id)
    fds = [variable.imm >> 32, function.imm >> 32]
    assert [btf_id(backend, fd) for fd in fds] == [first.id, second.id]
    # Only what may be called is counted, and this is no matter of the variable's module.
    assert loaded.fd_array == [0, fds[1]]


def test_what_the_object_does_not_declare_is_found_too(backend: Backend, loaded: Modules) -> None:
    first, second = loaded
    call, load = build.call_kernel("a_of_second"), build.ld_kernel_variable(1, "first_variable")
    externs = Externs(backend, {}, loaded)
    called, variable = externs.patched(call), externs.patched(load)
    assert (called.imm, called.offset) == (second.types["a_of_second"].id, 1)
    assert btf_id(backend, loaded.fd_array[1]) == second.id
    assert (variable.imm & 0xFFFFFFFF, btf_id(backend, variable.imm >> 32)) == (
        first.types["first_variable"].id,
        first.id,
    )
    with pytest.raises(NotFound, match=r"a_of_secon.*: ENOENT: neither .* did you mean a_of_second"):
        externs.patched(build.call_kernel("a_of_secon"))


def test_names_of_modules_functions_and_descriptors_do_not_mix(
    backend: Backend, loaded: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawbpf.map.module._listed", lambda _: list(loaded))
    code = [build.call_kernel("a_of_second"), build.exit_()]
    with pytest.raises(ValueError, match="fd_array= has no place for it"):
        rawbpf.Program.load("xdp", code, fd_array=[0])


def test_descriptors_are_closed_also_where_something_is_missing(backend: Backend, loaded: Modules) -> None:
    code = [build.call_kernel("a_of_second"), build.call_kernel("nobody_has_this")]
    externs = Externs(backend, ksyms(a_of_second="function", nobody_has_this="function"), loaded)
    with pytest.raises(
        NotFound, match="neither the kernel's BTF nor that of a module has a function 'nobody_has_this'"
    ):
        externs.resolve([code])
    _, opened = loaded.fd_array
    assert btf_id(backend, opened) == list(loaded)[1].id
    for _ in range(2):
        loaded.close()
        with pytest.raises(Closed):
            btf_id(backend, opened)


def test_another_prototype_names_the_module(backend: Backend, loaded: Modules) -> None:
    kernel = indexed(backend.host.btf())
    with pytest.raises(SpecError, match=r"and what module 'second' has is 'int a_of_second\(int x\)'"):
        find_typed(ksyms(a_of_second="other")["a_of_second"], kernel, loaded)
    assert find_typed(ksyms(a_of_second="weak other")["a_of_second"], kernel, loaded) is None


def test_the_kernels_own_come_first_and_modules_are_not_asked_for_them(backend: Backend) -> None:
    kernel = indexed(backend.host.btf())
    name = next(each for each in ("do_exit", "schedule") if kernel.find(each, Func) is not None)
    found = kernel.find(name, Func)
    assert found is not None

    def never() -> Iterator[Module]:
        yield pytest.fail("modules were listed")

    assert isinstance(found.type, FuncProto)
    symbol = KsymSpec(name, found.type, weak=False, index=0)
    got = find_typed(symbol, kernel, never())
    assert got is not None
    assert (got.id, got.module) == (found.id, None)


TARGETS = [
    pytest.param("z_of_first", 0, "z_of_first", id="of any module"),
    pytest.param("first:both", 0, "both", id="of one module"),
    pytest.param("second:both", 1, "both", id="of another one"),
]


@pytest.mark.parametrize(("target", "place", "name"), TARGETS)
def test_targets_are_found_in_modules(backend: Backend, loaded: Modules, target: str, place: int, name: str) -> None:
    module = list(loaded)[place]
    number, fd = attach_target(backend, c.BPF_TRACE_FENTRY, target, loaded)
    assert (number, btf_id(backend, fd)) == (module.types[name].id, module.id)


@pytest.mark.parametrize("target", ["schedule", "vmlinux:schedule"])
def test_targets_are_the_kernels_own_first(backend: Backend, loaded: Modules, target: str) -> None:
    found = indexed(backend.host.btf()).find("schedule", Func)
    assert found is not None
    assert attach_target(backend, c.BPF_TRACE_FENTRY, target, loaded) == (found.id, 0)


NO_TARGETS = [
    pytest.param("third:both", "no module 'third' is loaded that has BTF", id="no such module"),
    pytest.param(
        "first:a_of_second", "the BTF of module 'first' has no function 'a_of_second'", id="of another module"
    ),
    pytest.param("first:schedule", "the BTF of module 'first' has no function 'schedule'", id="of the kernel"),
    pytest.param("vmlinux:both", "this kernel's own BTF has no function 'both'", id="none of the kernel"),
    pytest.param("z_of_firs", "this kernel's BTF has no function 'z_of_firs'; did you mean z_of_first", id="misspelt"),
]


@pytest.mark.parametrize(("target", "text"), NO_TARGETS)
def test_targets_that_are_missing_are_told(backend: Backend, loaded: Modules, target: str, text: str) -> None:
    with pytest.raises(BpfError, match=text):
        attach_target(backend, c.BPF_TRACE_FENTRY, target, loaded)


TABLE = """
struct mine { int level; int gone; int (*twice)(int); };
SEC("struct_ops/twice") int twice(u64 *ctx) { return 2 * ctx[0]; }
SEC(".struct_ops.link") struct mine table = { .level = 5, .twice = (void *)twice };
"""


class Sent(Wrapper):
    """Keeps the fields of the last MAP_CREATE."""

    fields: Mapping[str, Any]

    def intercept(self, call: Callable[[int, Any, int], int], cmd: int, attr: Any, size: int) -> int:
        if cmd == c.BPF_MAP_CREATE:
            self.fields = MAP_CREATE.unpack(ctypes.string_at(ctypes.addressof(attr._obj), size))
        return super().intercept(call, cmd, attr, size)


@pytest.mark.needs("tool:clang", "module:elftools", "btf_name:bpf_struct_ops_common_value")
def test_tables_of_functions_are_found_in_modules(backend: Backend, loaded: Modules, tmp_path: Path) -> None:
    base = indexed(backend.host.btf())
    b = Builder(base=base)
    number = b.int("int", 4, signed=True)
    function = b.ptr(b.func_proto(number, [("n", number)]))
    table = b.struct("mine", 16, [("twice", function, 0), ("level", number, 64)])
    value = b.struct(
        "bpf_struct_ops_mine", 128, [("common", base["bpf_struct_ops_common_value"].id, 0), ("data", table, 512)]
    )
    types = Btf.from_bytes(b.to_bytes(), base)
    module = Module("third", next(iter(loaded)).id, types)
    content = rawbpf.ObjectSpec.from_file(compiled(tmp_path, TABLE, prelude=LIBBPF))._content
    with pytest.raises(BpfError, match="this kernel has no such table"):
        fit_tables(backend, content.copy(), loaded)
    loaded._found = [*loaded, module]
    fit_tables(backend, content, loaded)
    (program,) = content.programs.values()
    assert (program.attach_btf_id, program.expected_attach_type) == (table, 0)
    descriptors = table_types(content, loaded)
    assert btf_id(backend, descriptors["twice"]) == module.id
    spec = content.maps["table"]
    assert spec.contents is not None
    assert isinstance(spec.value, Struct)
    assert spec.contents[64:80] == struct.pack("=qii", 0, 5, 0)
    sent = Sent(backend)
    with pytest.raises(BpfError) as caught:  # the descriptor is in truth that of no module
        create_from_spec(sent, spec, name="table", btf_fd=descriptors["twice"])
    assert caught.value.errno == errno.EINVAL
    with rawbpf.StructOpsMap.create(value="tcp_congestion_ops") as opened:
        opened._value = StructOpsCodec(spec.value)  # as it is for a module's table that was opened by id
        with pytest.raises(TypeError, match="its table is a module's"):
            opened.target("twice")
    assert sent.fields["value_type_btf_obj_fd"] == descriptors["twice"]
    assert sent.fields["btf_vmlinux_value_type_id"] == value
    assert sent.fields["map_flags"] == c.BPF_F_LINK | c.BPF_F_VTYPE_BTF_OBJ_FD


def test_where_modules_cannot_be_listed_there_are_none_and_the_error_says_so(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = FaultBackend(backend, {c.BPF_BTF_GET_NEXT_ID: [(1, errno.EPERM)]})
    modules = Modules(refused)
    assert list(modules) == []
    monkeypatch.setattr(backend.host, "capabilities", lambda: frozenset({"CAP_BPF"}))
    with pytest.raises(NotFound, match=r"'nobody_has_this' \(modules are seen with CAP_SYS_ADMIN only\)"):
        Externs(refused, ksyms(nobody_has_this="function"), modules).resolve([[build.call_kernel("nobody_has_this")]])


def test_modules_of_the_kernel_are_listed_with_types_that_continue_its_own(backend: Backend) -> None:
    kernel = indexed(backend.host.btf())
    names = {name for name in os.listdir("/sys/kernel/btf") if name != "vmlinux"} if backend.name == "kernel" else set()
    found = list(Modules(backend))
    assert {module.name for module in found} == names
    assert all(module.types.base is kernel and module.types.first_id == len(kernel) for module in found)
