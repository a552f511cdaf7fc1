"""Every kind of BTF type is read as it was built, in both byte orders, and the kernel accepts what was built."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.btf_samples import VMLINUX, ByteOrder, sample, walk

from rawbpf.btf import Btf, Builder, Composite, Datasec, FuncProto, Ptr, Struct, Type, types
from rawbpf.errors import FormatError

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


def described(type: object) -> object:
    """Return `type` with nested types as `kind name`, so that expectations can be written down."""
    if isinstance(type, types.Type):
        return f"{type.kind_name} {type.name}".rstrip()
    if isinstance(type, tuple):
        return tuple(map(described, type))
    return type


CASES: list[tuple[str, type[Type], dict[str, object]]] = [
    ("int", types.Int, {"name": "int", "size": 4, "bits": 32, "offset": 0, "signed": True, "is_char": False}),
    ("unsigned int", types.Int, {"signed": False, "is_bool": False}),
    ("char", types.Int, {"size": 1, "bits": 8, "signed": True}),
    ("_Bool", types.Int, {"size": 1, "is_bool": True, "signed": False}),
    ("double", types.Float, {"name": "double", "size": 8}),
    ("u64", types.Typedef, {"name": "u64", "type": "int unsigned long long"}),
    ("array", types.Array, {"name": "", "type": "int char", "index_type": "int int", "length": 16}),
    ("fwd", types.Fwd, {"name": "task", "is_union": False}),
    ("const", types.Const, {"type": "int int"}),
    ("volatile", types.Volatile, {"type": "const"}),
    ("type_tag", types.TypeTag, {"name": "user", "type": "volatile"}),
    ("ptr", types.Ptr, {"type": "type_tag user"}),
    ("restrict", types.Restrict, {"type": "ptr"}),
    ("union", types.Union, {"size": 8, "members": (("i", "int int", 0, 0), ("d", "float double", 0, 0))}),
    ("enum", types.Enum, {"size": 4, "signed": True, "values": (("OFF", 0), ("ON", 7), ("BROKEN", -1))}),
    ("enum64", types.Enum64, {"size": 8, "signed": False, "values": (("LITTLE", 1), ("BIG", 1 << 40))}),
    (
        "struct",
        types.Struct,
        {
            "name": "event",
            "size": 72,
            "members": (
                ("ts", "typedef u64", 0, 0),
                ("comm", "array", 64, 0),
                ("low", "int unsigned int", 192, 3),
                ("high", "int unsigned int", 195, 5),
                ("mode", "enum mode", 224, 0),
                ("next", "ptr", 256, 0),
                ("number", "union number", 320, 0),
                ("", "struct", 384, 0),
                ("task", "ptr", 448, 0),
                ("ok", "int _Bool", 512, 0),
            ),
        },
    ),
    (
        "func_proto",
        types.FuncProto,
        {"return_type": "int int", "params": (("ctx", "ptr"), ("flags", "typedef u64")), "variadic": False},
    ),
    ("variadic", types.FuncProto, {"return_type": "void void", "params": (("", "int int"),), "variadic": True}),
    ("func", types.Func, {"name": "count", "type": "func_proto", "linkage": "global"}),
    ("static func", types.Func, {"linkage": "static"}),
    ("var", types.Var, {"name": "total", "type": "typedef u64", "linkage": "global"}),
    ("static var", types.Var, {"linkage": "static"}),
    (
        "datasec",
        types.Datasec,
        {"name": ".data", "size": 80, "variables": (("var total", 0, 8), ("var hidden", 8, 72))},
    ),
    ("decl_tag", types.DeclTag, {"name": "counted", "type": "struct event", "component_index": -1}),
    ("member tag", types.DeclTag, {"component_index": 0}),
]


@pytest.mark.guest_byte_order
@ORDERS
@pytest.mark.parametrize(("word", "kind", "expected"), [pytest.param(*case, id=case[0]) for case in CASES])
def test_a_type_is_read_as_it_was_built(
    word: str, kind: type[Type], expected: dict[str, object], byteorder: ByteOrder
) -> None:
    data, ids = sample(byteorder)
    btf = Btf.from_bytes(data)
    found = btf[ids[word]]
    assert type(found) is kind
    assert {part: described(getattr(found, part)) for part in expected} == expected
    assert (found.btf, found.id) == (btf, ids[word])


def test_the_sample_has_every_kind() -> None:
    data, _ = sample()
    assert {type.kind for type in Btf.from_bytes(data)} == set(range(20))
    assert [kind.kind for kind in types.CLASSES] == list(range(20))


@pytest.mark.guest_byte_order
@ORDERS
def test_every_part_of_the_sample_can_be_read(byteorder: ByteOrder) -> None:
    btf = Btf.from_bytes(sample(byteorder)[0])
    assert btf.byteorder == byteorder
    # What has neither size nor alignment: void, a declaration, a function and its prototypes, tags on declarations.
    without = [type for type in btf if type.kind in {0, 7, 12, 13, 17}]
    assert walk(btf) == 2 * len(without) + len([type for type in btf if type.kind == types.Datasec.kind])


@pytest.mark.guest_byte_order
def test_copying_everything_from_one_byte_order_to_the_other_keeps_it() -> None:
    big, little = Btf.from_bytes(sample("big")[0]), Builder("little")
    copied = [little.add(type) for type in big]
    again = Btf.from_bytes(little.to_bytes())
    assert [str(again[id]) for id in copied] == [str(type) for type in big]


def test_identical_types_get_one_id_and_strings_are_stored_once() -> None:
    builder = Builder()
    assert builder.int("int", 4, signed=True) == builder.int("int", 4, signed=True) == 1
    assert builder.int("int", 4) == 2
    assert builder.to_bytes().count(b"int\0") == 1


@pytest.mark.parametrize(
    ("build", "text"),
    [
        pytest.param(lambda b: b.int("x", 3), "3 bytes", id="int of 3 bytes"),
        pytest.param(lambda b: b.float("x", 1), "1 bytes", id="float of 1 byte"),
        pytest.param(lambda b: b.enum("x", [("A", -1)]), "A = -1", id="negative in unsigned enum"),
        pytest.param(lambda b: b.enum("x", [("A", 1 << 31)], signed=True), "enum64", id="too large for signed enum"),
        pytest.param(lambda b: b.enum64("x", [("A", 1 << 64)]), "64 bits", id="too large for enum64"),
        pytest.param(lambda b: b.typedef("a\0b", 1), "NUL", id="NUL in a name"),
        pytest.param(lambda b: b.func("f", 1, "weak"), "weak", id="unknown linkage"),
        pytest.param(lambda b: b.struct("x", 1 << 32, []), "32 bits", id="size of 4 GiB"),
        pytest.param(lambda b: b.struct("x", 4, [("m", 1, 1 << 24, 3)]), "too far", id="bit-field too far behind"),
        pytest.param(lambda b: b.enum("x", [("A", 0)] * 65536), "65535", id="too many values"),
    ],
)
def test_what_btf_cannot_say_is_refused_by_the_builder(build: object, text: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=text):
        build(Builder())


@pytest.mark.guest_byte_order
def test_a_bit_field_of_an_old_compiler_is_a_bit_field() -> None:
    builder = Builder()
    number = builder.int("unsigned int", 4)
    blob = bytearray(builder.to_bytes())
    blob[24 + 12 : 24 + 16] = (5 | 3 << 16).to_bytes(4, sys.byteorder)  # 5 bits from bit 3 on
    narrow = Btf.from_bytes(bytes(blob))[number]
    builder = Builder()
    builder.struct("s", 4, [("whole", builder.add(narrow), 8)])
    (member,) = builder_members(builder, "s")
    assert (member.bit_offset, member.bit_size) == (11, 5)


def builder_members(builder: Builder, name: str) -> tuple[types.Member, ...]:
    found = Btf.from_bytes(builder.to_bytes())[name]
    assert isinstance(found, Composite)
    return found.members


def test_a_member_is_found_through_anonymous_structs() -> None:
    btf = Btf.from_bytes(sample()[0])
    event = btf.find("event", Struct)
    assert event is not None
    right = event.member("right")
    assert (right.name, right.bit_offset, right.offset, right.type.name) == ("right", 416, 52, "int")
    assert repr(right) == "Member(name='right', type=<Int 'int' #1>, bit_offset=416, bit_size=0)"
    with pytest.raises(KeyError, match="left_out"):
        event.member("left_out")


def test_types_are_equal_by_id_and_survive_copy_and_pickle() -> None:
    btf = Btf.from_bytes(sample()[0])
    event = btf["event"]
    assert event == btf["event"]
    assert event != btf["total"]
    assert event != Btf.from_bytes(btf.raw)["event"]
    assert len({event, btf["event"]}) == 1
    assert copy.deepcopy(event) is event
    first, second = pickle.loads(pickle.dumps([event, btf["u64"]]))
    assert first.btf is second.btf
    assert str(first) == str(event)


def test_a_recursive_struct_can_be_followed_for_ever() -> None:
    type = Btf.from_bytes(sample()[0])["event"]
    for _ in range(100):
        assert isinstance(type, Struct)
        pointer = type.member("next").type
        assert isinstance(pointer, Ptr)
        type = pointer.type
    assert type.name == "event"


@pytest.mark.guest
@pytest.mark.needs("kernel")
@pytest.mark.needs("btf_name:BTF_KIND_ENUM64")
def test_the_kernel_accepts_the_sample_with_all_kinds(backend: Backend) -> None:
    load(backend, sample(sys.byteorder)[0])


@pytest.mark.guest
@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel", f"file:{VMLINUX}")
def test_the_kernel_accepts_a_copy_of_a_struct_of_its_own(backend: Backend) -> None:
    builder = Builder()
    vmlinux = Btf.from_bytes(Path(VMLINUX).read_bytes())
    id = builder.add(vmlinux["sock"])
    assert len(builder) < 1000, "pointers were followed"
    load(backend, builder.to_bytes())
    assert str(Btf.from_bytes(builder.to_bytes())[id]) == str(vmlinux["sock"])


def load(backend: Backend, data: bytes) -> None:
    from rawbpf.errors import BpfError
    from rawbpf.syscall.btf import btf_load

    log = ctypes.create_string_buffer(1 << 16)
    try:
        os.close(btf_load(backend, data, log_level=1, log_buffer=log))
    except BpfError as error:
        pytest.fail(f"{error}\n{log.value.decode()[-2000:]}")


def test_a_datasec_that_holds_no_variables_is_refused() -> None:
    builder = Builder()
    builder.datasec(".data", 4, [(builder.int("int", 4), 0, 4)])
    section = Btf.from_bytes(builder.to_bytes())[".data"]
    assert isinstance(section, Datasec)
    with pytest.raises(FormatError, match=r"holds type 1 \(int\), which is no variable"):
        _ = section.variables


def test_a_prototype_without_parameters_is_not_variadic() -> None:
    builder = Builder()
    proto = Btf.from_bytes((builder.func_proto(0, []), builder)[1].to_bytes())[1]
    assert isinstance(proto, FuncProto)
    assert (proto.variadic, proto.params) == (False, ())


def test_building_btf_imports_neither_array_nor_collections() -> None:
    # Creating a map builds BTF; `array` imports collections.abc, which takes milliseconds.
    root = Path(types.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from rawbpf.btf import Builder; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "rawbpf.btf.build" in loaded
    assert not {"array", "collections", "collections.abc", "enum", "functools", "re", "typing"} & set(loaded)
