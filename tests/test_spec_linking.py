"""Objects that are linked are one object: the one that `bpftool gen object` makes, and one that loads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clang import LIBBPF, PRELUDE, compiled
from support.congestion import PROGRAMS, STRUCT, available, table

import rawbpf
from rawbpf import ObjectSpec
from rawbpf.asm import FunctionReference, MapReference, SymbolReference
from rawbpf.errors import SpecError
from rawbpf.spec.config import ConfigSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("tool:clang", "module:elftools")

PACKET = bytes(64)
MAP = """
struct {
    int (*type)[2]; int (*max_entries)[4]; u32 *key; u64 *value;
} counts SEC(".maps");
"""
HELPERS = """
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
"""
PAIRS = {
    "functions": (
        (
            "int twice(int x); static __noinline int own(int x) { return x + 1; }\n"
            'SEC("tc") int f(void *ctx) { return own(twice(20)); }'
        ),
        "static __noinline int own(int x) { return x * 2; } __noinline int twice(int x) { return own(x); }",
    ),
    "variables": (
        (
            "extern int counter; extern const int limit; static volatile char mine = 5; char pad = 1;\n"
            'SEC("tc") int f(void *ctx) { counter += mine; return counter + limit + pad; }'
        ),
        (
            "int counter = 7; const volatile int limit = 30; static volatile int mine = 6; u64 total; char late;\n"
            'SEC("xdp") int g(void *ctx) { total += mine; late = 1; return 2; }'
        ),
    ),
    "maps": (
        HELPERS + "extern" + MAP + 'SEC("tc") int f(void *ctx) {\n'
        "u32 key = 0; u64 *value = bpf_map_lookup_elem(&counts, &key); return value ? 42 : 0; }",
        HELPERS + MAP + 'SEC("xdp") int g(void *ctx) {\n'
        "u32 key = 1; u64 *value = bpf_map_lookup_elem(&counts, &key); if (value) *value = 9; return 2; }",
    ),
    "maps in a map": (
        "struct inner { int (*type)[2]; int (*max_entries)[4]; u32 *key; u64 *value; };\n"
        'struct inner own SEC(".maps"); extern struct inner others SEC(".maps");\n'
        "struct { int (*type)[12]; int (*max_entries)[4]; u32 *key; struct inner *values[]; }\n"
        'outer SEC(".maps") = { .values = { [1] = &own, [3] = (void *)&others } };\n'
        + HELPERS
        + 'SEC("tc") int f(void *ctx) {\n'
        "u32 key = 3; u64 *value = bpf_map_lookup_elem(&outer, &key);\n"
        "if (value) value = bpf_map_lookup_elem(value, &key); return value ? 42 : 0; }",
        "struct inner { int (*type)[2]; int (*max_entries)[4]; u32 *key; u64 *value; };\n"
        'struct inner others SEC(".maps");\n'
        + HELPERS
        + 'SEC("xdp") int g(void *ctx) { u32 key = 1; return bpf_map_lookup_elem(&others, &key) ? 2 : 1; }',
    ),
    "weak": (
        (
            "__weak __noinline int twice(int x) { return x * 3; } __weak int level = 1; __weak u64 first = 5;\n"
            'SEC("tc") int f(void *ctx) { return twice(20) + level + first; }'
        ),
        (
            "__noinline int twice(int x) { return x * 2; } int level = 2; __weak u64 first = 6;\n"
            'SEC("xdp") int g(void *ctx) { return twice(1) + level + first; }'
        ),
    ),
    "options": (
        (
            "extern u32 CONFIG_HZ __kconfig __weak; extern char CONFIG_A __kconfig __weak;\n"
            'SEC("tc") int f(void *ctx) { return CONFIG_HZ ? CONFIG_A : 1; }'
        ),
        (
            "extern u64 CONFIG_BIG __kconfig __weak; extern u32 CONFIG_HZ __kconfig __weak;\n"
            'SEC("xdp") int g(void *ctx) { return CONFIG_HZ + CONFIG_BIG; }'
        ),
    ),
    "symbols of the kernel": (
        'extern const void do_exit __ksym; SEC("tc") int f(void *ctx) { return !!&do_exit; }',
        (
            "extern const void do_exit __ksym; extern const void absent_of __ksym __weak;\n"
            'SEC("xdp") int g(void *ctx) { return !&do_exit + !&absent_of; }'
        ),
    ),
}
RETURNS = {"functions": 41, "variables": 43, "maps": 42, "maps in a map": 42, "weak": 47}

Compile = Callable[..., list[Path]]


@pytest.fixture
def objects(tmp_path: Path) -> Compile:
    def compile_all(*sources: str, prelude: str = LIBBPF) -> list[Path]:
        out = []
        for number, source in enumerate(sources):
            directory = tmp_path / f"{number}"
            directory.mkdir()
            made = compiled(directory, source, prelude=prelude)
            out.append(made.rename(tmp_path / f"{'abc'[number]}.o"))
        return out

    return compile_all


def shown(spec: ObjectSpec) -> dict[str, object]:
    """What an object is, without what may be numbered otherwise: ids of types and places of strings."""
    content = spec._content
    code = {name: [str(i) for i in program.instructions] for name, program in spec.programs.items()}
    return {
        "programs": code,
        "sections": {name: program.section for name, program in spec.programs.items()},
        "functions": {name: [str(i) for i in body] for name, body in content.functions.items()},
        "lines": {name: [i.line for i in program.instructions] for name, program in spec.programs.items()},
        "maps": {name: (repr(m), bytes(m.contents or b""), str(m.value)) for name, m in spec.maps.items()},
        "variables": {
            name: (v.map.section, v.offset, v.size, v.value, str(v.type)) for name, v in spec.variables.items()
        },
        "weak": {name: v.weak for name, v in spec.variables.items() if isinstance(v, ConfigSpec)},
        "ksyms": {name: (k.index, k.weak, str(k.type)) for name, k in content.ksyms.items()},
        "of the file": (spec.license, spec.byteorder, content.kernel_version),
    }


@pytest.mark.needs("tool:bpftool")
@pytest.mark.parametrize("pair", list(PAIRS))
def test_the_result_is_what_bpftool_makes(objects: Compile, tmp_path: Path, pair: str) -> None:
    paths = objects(*PAIRS[pair])
    made = tmp_path / "made.o"
    subprocess.run(["bpftool", "gen", "object", made, *paths], check=True)
    assert shown(ObjectSpec.link(paths)) == shown(ObjectSpec.from_file(made))


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize("pair", list(RETURNS))
def test_programs_run_with_what_the_other_file_has(backend: Backend, objects: Compile, pair: str) -> None:
    with ObjectSpec.link(objects(*PAIRS[pair]), name="both").load() as obj:
        assert obj.programs["f"].run(PACKET).retval == RETURNS[pair]


def test_a_linked_object_loads_and_its_variables_can_be_set(backend: Backend, objects: Compile) -> None:
    spec = ObjectSpec.link(objects(*PAIRS["variables"]))
    spec.variables["counter"].value = 99
    with spec.load() as obj:
        assert obj.variables["counter"].value == 99
        assert obj.variables["limit"].value == 30


def test_what_is_static_in_two_files_is_there_twice(objects: Compile) -> None:
    source = "static volatile int same = %d; static __noinline int own(int x) { return x + same; }\n"
    code = 'SEC("tc") int %s(void *ctx) { return own(1); }'
    spec = ObjectSpec.link(objects(source % 1 + code % "f", source % 2 + code % "g"))
    assert [variable.value for variable in spec.variables.values()] == [1, 2]
    assert list(spec.variables) == ["same", ".data:same@4"]
    assert spec.btf is not None
    assert [len(spec.btf.find_all(name)) for name in ("same", "own", "f")] == [2, 2, 1]
    calls = [i.reference for name in "fg" for i in spec.programs[name].instructions if i.reference]
    assert calls == [FunctionReference("own"), FunctionReference("own.2")]
    loads = [i.reference for name in ("own", "own.2") for i in spec._content.functions[name] if i.reference]
    assert loads == [MapReference(".data", 0), MapReference(".data", 4)]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param(
            "int x = 1;", "int x = 2;", r"variable 'x' is defined both in a\.o and in b\.o", id="two variables"
        ),
        pytest.param(
            "int f(int x) { return x; }",
            "int f(int x) { return 1; }",
            r"function 'f' is defined both in a\.o and in b\.o",
            id="two functions",
        ),
        pytest.param(
            'int f(u64 x); SEC("tc") int g(void *ctx) { return f(1); }',
            "int f(u32 x) { return x; }",
            r"b\.o defines 'int f\(u32 x\)', and for a\.o it is 'int f\(u64",
            id="prototypes",
        ),
        pytest.param(
            'extern u64 x; SEC("tc") int g(void *ctx) { return x; }',
            "u32 x = 1;",
            r"b\.o defines 'u32 x', and for a\.o it is 'u64 x'",
            id="types",
        ),
        pytest.param(
            'extern u64 f; SEC("tc") int g(void *ctx) { return f; }',
            "int f(u32 x) { return x; }",
            r"'f' is a function in b\.o and a variable in a\.o",
            id="kinds",
        ),
        pytest.param(
            "extern" + MAP.replace("[4]", "[8]") + 'SEC("tc") int g(void *ctx) { return !&counts; }\n'
            'int h(void *); SEC("tc") int i(void *ctx) { return h(&counts); }',
            MAP,
            r"map 'counts' has not the same max_entries in b\.o and in a\.o",
            id="sizes of maps",
        ),
        pytest.param(
            "extern" + MAP.replace("u64 *value", "s64 *value") + "int h(void *);\n"
            'SEC("tc") int i(void *ctx) { return h(&counts); }',
            MAP,
            r"map 'counts' has not the same value type in b\.o and in a\.o",
            id="values of maps",
        ),
        pytest.param(
            "extern u32 CONFIG_A __kconfig; int f(void) { return CONFIG_A; }",
            "extern u64 CONFIG_A __kconfig; int g(void) { return CONFIG_A; }",
            r"variable 'CONFIG_A' of \.kconfig has not the same type",
            id="options",
        ),
    ],
)
def test_contradictions_name_both_files(objects: Compile, first: str, second: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ObjectSpec.link(objects(first, second))


def test_licenses_must_agree(objects: Compile) -> None:
    first, second = objects("int a;", "int b;")
    second.write_bytes(second.read_bytes().replace(b"GPL\0", b"MIT\0"))
    with pytest.raises(SpecError, match=r"a\.o has the license 'GPL' and b\.o 'MIT': they must agree"):
        ObjectSpec.link([first, second])


def test_byte_orders_must_agree(tmp_path: Path) -> None:
    little = ObjectSpec.from_file(compiled(tmp_path, "int a;", prelude=LIBBPF))
    big = ObjectSpec.from_file(compiled(tmp_path, "int b;", prelude=LIBBPF, target="bpfeb"))
    with pytest.raises(SpecError, match=r"byte order 'little' and .* 'big'"):
        ObjectSpec.link([little, big])


def test_no_objects_are_none() -> None:
    with pytest.raises(SpecError, match="no objects to link"):
        ObjectSpec.link([])


def test_what_nobody_defines_stays_for_who_is_linked_later(objects: Compile) -> None:
    first, second, third = objects(
        'int one(int); int two(int); SEC("tc") int f(void *ctx) { return one(1) + two(2); }',
        "int two(int); int one(int x) { return two(x); }",
        "int two(int x) { return x; }",
    )
    half = ObjectSpec.link([first, second])
    references = [i.reference for i in half.programs["f"].instructions if i.reference]
    assert references == [FunctionReference("one"), SymbolReference("two")]
    with pytest.raises(SpecError, match="'one' refers to 'two', which is not defined"):
        rawbpf.relocate(half)
    whole = ObjectSpec.link([half, third])
    assert shown(whole) == shown(ObjectSpec.link([first, second, third]))
    assert len(rawbpf.relocate(whole)["f"]) > 6


def test_edits_count_and_what_was_linked_stays_as_it_was(objects: Compile) -> None:
    first, second = map(ObjectSpec.from_file, objects(*PAIRS["variables"]))
    first.variables["pad"].value = 3
    before = shown(first), shown(second)
    spec = ObjectSpec.link([first, second])
    assert spec.variables["pad"].value == 3
    spec.variables["counter"].value = 100
    assert (shown(first), shown(second)) == before


def test_what_is_declared_stays_as_it_was_as_well(objects: Compile) -> None:
    other, needing = map(ObjectSpec.from_file, objects("struct wide { int a; u64 b; } wide;", PAIRS["maps"][0]))
    declared = needing._content.symbols["counts"].map
    assert declared is not None
    before = declared.key_type_id, declared.value_type_id, declared.value
    linked = ObjectSpec.link([other, needing])
    assert (declared.key_type_id, declared.value_type_id, declared.value) == before
    again = linked._content.symbols["counts"].map
    assert again is not None
    assert linked.btf is not None
    assert (again.value, again.value_type_id) == (linked.btf["u64"], linked.btf["u64"].id)


def test_types_of_one_structure_become_one(objects: Compile) -> None:
    node = "struct node { struct node *next; struct { int a; } inside; u64 value; };\n"
    spec = ObjectSpec.link(objects(node + "struct node first;", "typedef int other;" + node + "struct node second;"))
    assert spec.btf is not None
    assert [len(spec.btf.find_all(name)) for name in ("node", "u64", "first", "second", ".bss")] == [1, 1, 1, 1, 1]
    assert spec.variables["first"].type == spec.variables["second"].type == spec.btf["node"]


def test_relocations_of_every_file_are_of_its_own_types(objects: Compile) -> None:
    source = (
        "struct {0} {{ char pad[{1}]; int {0}_member; }} CORE;\n"
        'SEC("raw_tp") int {0}_of(struct {0} *x) {{ int y; fetch(&y, 4, &x->{0}_member); return y; }}'
    )
    prelude = PRELUDE + "static int (*fetch)(void *, int, const void *) = (void *)113;\n"
    spec = ObjectSpec.link(objects(source.format("one", 8), source.format("two", 24), prelude=prelude))
    assert spec.btf is not None
    relocated = rawbpf.relocate(spec, spec.btf)
    assert [8 in [i.imm for i in relocated["one_of"]], 24 in [i.imm for i in relocated["two_of"]]] == [True, True]


LEGACY = (
    'struct bpf_map_def { u32 type, key, value, entries, flags; };\n%s struct bpf_map_def m SEC("maps") = {2, 4, 8, 1};'
)
TABLE = STRUCT + '%s struct tcp_congestion_ops m SEC(".struct_ops.link") = {.name = "%s"};'


@pytest.mark.parametrize("text", [LEGACY % "", TABLE % ("", "a")], ids=["of before BTF", "table"])
def test_every_kind_of_map_is_defined_once(objects: Compile, text: str) -> None:
    with pytest.raises(SpecError, match=r"map 'm' is defined both in a\.o and in b\.o"):
        ObjectSpec.link(objects(text, text))


def test_a_map_of_before_btf_is_found_by_others(objects: Compile) -> None:
    user = HELPERS + 'extern int m; SEC("tc") int f(void *ctx) { u32 key = 0; return !!bpf_map_lookup_elem(&m, &key); }'
    first, second = objects(user, LEGACY % "")
    with pytest.raises(SpecError, match=r"'m' is a map in b\.o and a variable in a\.o"):
        ObjectSpec.link([first, second])


def test_of_weak_tables_the_first_is_there_with_its_members(objects: Compile) -> None:
    linked = ObjectSpec.link(objects(TABLE % ("__attribute__((weak))", "a"), TABLE % ("__attribute__((weak))", "b")))
    assert [(name, v.map) for name, v in linked.variables.items()] == [("m", linked.maps["m"])]
    assert bytes(linked.maps["m"].contents or b"").rstrip(b"\0")[-1:] == b"a"


def test_static_tables_of_one_name_are_two_with_their_members(objects: Compile) -> None:
    linked = ObjectSpec.link(objects(TABLE % ("static", "a"), TABLE % ("static", "b")))
    found = {v.map.name: bytes(v.map.contents or b"").rstrip(b"\0")[-1:] for v in linked.variables.values()}
    assert list(linked.maps) == ["m", "m.2"]
    assert found == {"m": b"a", "m.2": b"b"}


ARENA = """
%s struct { int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[4]; } %s SEC(".maps");
SEC(".addr_space.1") %s int %s = 5; SEC("syscall") int f_%s(void *ctx) { return %s; }
"""
WEAK = "__attribute__((weak))"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("", "one"), ("", "two"), "an object has one arena at most, and here are 'one' and 'two'"),
        (("static", "one"), ("static", "one"), "an object has one arena at most, and here are 'one' and 'one.2'"),
        ((WEAK, "one"), (WEAK, "one"), r"b\.o has variables in its arena 'one', in place of which is that of a\.o"),
    ],
    ids=["two", "static namesakes", "weak namesakes"],
)
def test_what_is_linked_has_one_arena_with_the_variables_of_one_object(
    objects: Compile, first: tuple[str, str], second: tuple[str, str], message: str
) -> None:
    paths = objects(ARENA % (*first, "", "x", "x", "x"), ARENA % (*second, "", "y", "y", "y"))
    with pytest.raises(SpecError, match=message):
        ObjectSpec.link(paths)


def test_references_follow_an_arena_to_its_new_name(objects: Compile) -> None:
    linked = ObjectSpec.link(objects("int it;", ARENA % ("static", "it", "", "x", "x", "x")))
    (reference,) = [i.reference for i in linked.programs["f_x"].instructions if i.reference]
    assert reference == MapReference("it.2", 0)
    assert linked.variables["x"].map is linked.maps["it.2"]
    assert linked.maps["it.2"].name == "it.2"


def test_a_weak_variable_of_the_arena_gives_way(objects: Compile) -> None:
    linked = ObjectSpec.link(objects(ARENA % ("", "it", WEAK, "x", "x", "x"), "int x = 9;"))
    (reference,) = [i.reference for i in linked.programs["f_x"].instructions if i.reference]
    assert reference == MapReference(".data", 0)
    assert [(name, v.map, v.value) for name, v in linked.variables.items()] == [("x", linked.maps[".data"], 9)]


@pytest.mark.parametrize("setter", [0, 1])
def test_an_option_that_was_set_in_one_file_is_set_in_all(objects: Compile, setter: int) -> None:
    specs = [*map(ObjectSpec.from_file, objects(*PAIRS["options"]))]
    specs[setter].variables["CONFIG_HZ"].value = 250
    linked = ObjectSpec.link(specs)
    assert {name: v.value for name, v in linked.variables.items()} == {
        "CONFIG_BIG": None,
        "CONFIG_HZ": 250,
        "CONFIG_A": None,
    }
    specs[1 - setter].variables["CONFIG_HZ"].value = 100
    with pytest.raises(SpecError, match=r"variable 'CONFIG_HZ' of \.kconfig was set to (250 and 100|100 and 250)"):
        ObjectSpec.link(specs)


@pytest.mark.real_kernel(
    "kernel/bpf/bpf_struct_ops.c:bpf_struct_ops_map_update_elem registers with the running kernel's TCP"
)
@pytest.mark.needs("capability:CAP_SYS_ADMIN", "btf_name:bpf_struct_ops_link_create")
def test_a_table_of_functions_is_registered_with_what_another_file_has(tmp_path: Path, backend: Backend) -> None:
    name = f"linked{os.getpid()}"
    text = STRUCT + PROGRAMS + table("ops", ".struct_ops.link").replace("unnamed", name)
    specs = [
        ObjectSpec.from_file(compiled(tmp_path, source, prelude=LIBBPF))
        for source in ('SEC("tc") int f(void *ctx) { return 1; }', text)
    ]
    linked = ObjectSpec.link(specs)
    assert linked.maps["ops"].programs == specs[1].maps["ops"].programs
    with linked.load(backend=backend) as obj:
        assert obj.programs["f"].run(data=PACKET).retval == 1
        obj.attach()
        assert name in available()
