"""What definitions may say: maps that are static, hidden, tagged or filled, data sections of any name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clang import LIBBPF, compiled

import rawbpf
from rawbpf.btf import DeclTag, Func
from rawbpf.errors import SpecError
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("tool:clang", "module:elftools")

MACROS = """
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define tag(text) __attribute__((btf_decl_tag(text)))
"""
ARRAY = "struct { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); "
LOOKUP = """
SEC("xdp") int look(void *ctx)
{
	u32 key = 0;
	u64 *(*lookup)(void *, const void *) = (void *)1, *value = lookup(&m, &key);
	return value && *value == 5 ? 2 : 1;
}
"""
INNER = "struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); };\n"
JUMPS = "struct { __uint(type, 3); __uint(max_entries, 4); __uint(key_size, 4); __array(values, int (void *)); } jumps"
Compile = Callable[[str], rawbpf.ObjectSpec]


@pytest.fixture
def spec_of(tmp_path: Path) -> Compile:
    return lambda source: rawbpf.ObjectSpec.from_bytes(
        compiled(tmp_path, MACROS + source, prelude=LIBBPF).read_bytes(), name="it.bpf.o"
    )


# Maps ----------------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(ARRAY + '} m SEC(".maps");', id="global"),
        pytest.param("static " + ARRAY + '} m SEC(".maps");', id="static"),
        pytest.param(ARRAY + '} m SEC(".maps") __hidden;', id="hidden"),
        pytest.param(ARRAY + '} m SEC(".maps") __weak;', id="weak"),
        pytest.param("typedef " + ARRAY + '} counts; const counts m SEC(".maps");', id="typedef"),
        pytest.param(ARRAY + '} m SEC(".maps") tag("of a map");', id="tagged"),
    ],
)
def test_however_a_map_is_declared_programs_find_it(backend: Backend, spec_of: Compile, definition: str) -> None:
    spec = spec_of(definition + LOOKUP)
    assert (spec.maps["m"].map_type, spec.maps["m"].max_entries) == (c.BPF_MAP_TYPE_ARRAY, 1)
    with spec.load(backend=backend) as obj:
        obj.maps["m"][0] = 5
        assert obj.programs["look"].run(data=bytes(64)).retval == 2


def test_a_map_that_is_only_declared_is_told(backend: Backend, spec_of: Compile) -> None:
    spec = spec_of("extern " + ARRAY + '} m SEC(".maps");' + ARRAY + '} other SEC(".maps");' + LOOKUP)
    assert ("m" in spec.maps, "other" in spec.maps) == (False, True)
    with pytest.raises(SpecError, match=r"refers to 'm', .*ObjectSpec\.link"):
        spec.load(backend=backend)


def test_maps_are_in_one_section_only(spec_of: Compile) -> None:
    with pytest.raises(SpecError, match=r"refers to 'm' in section '\?.maps', which is no data of a program"):
        spec_of(ARRAY + '} m SEC("?.maps");' + LOOKUP)


def test_a_node_of_memory_is_asked_for(backend: Backend, spec_of: Compile) -> None:
    spec = spec_of(ARRAY + '__uint(numa_node, 0); } m SEC(".maps");')
    assert (spec.maps["m"].numa_node, spec.maps["m"].map_flags) == (0, 0)
    with spec.load(backend=backend) as obj:
        assert obj.maps["m"].info.map_flags == c.BPF_F_NUMA_NODE


@pytest.mark.parametrize(("value", "number"), [("5", 5), ("0x80000000", 1 << 31)], ids=["small", "top bit of 32"])
def test_a_long_number_is_an_enumerator(spec_of: Compile, value: str, number: int) -> None:
    # One of more than 32 bits, which clang 14 does not write, is in the object of arenas.
    spec = spec_of(ARRAY + f'enum {{ unique = {value} }} map_extra; }} m SEC(".maps");')
    assert spec.maps["m"].map_extra == number


# First values --------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["struct inner in", "static struct inner in", "struct inner __hidden in"])
@pytest.mark.parametrize(
    ("outer", "key"),
    [("12", "u32"), ("13", "u32"), ("13", "u64"), ("13", "struct { u16 low; u16 high; }")],
    ids=["array", "hash", "hash of u64", "hash of a struct"],
)
def test_a_map_of_maps_begins_with_what_it_is_defined_with(
    backend: Backend, spec_of: Compile, inner: str, outer: str, key: str
) -> None:
    spec = spec_of(
        INNER + inner + f' SEC(".maps"); struct {{ __uint(type, {outer}); __uint(max_entries, 4); __type(key, {key}); '
        '__array(values, struct inner); } out SEC(".maps") = {.values = {[2] = (void *)&in, [3] = (void *)&in}};'
    )  # fmt: skip
    assert spec.maps["out"].values == {2: "in", 3: "in"}
    with spec.load(backend=backend) as obj:
        out, size = obj.maps["out"], spec.maps["out"].key_size
        for index in (2, 3):
            packed = index.to_bytes(size, backend.host.byteorder)
            assert out[out.key_type.unpack(packed)] == obj.maps["in"].id


def test_a_program_array_begins_with_programs(backend: Backend, spec_of: Compile) -> None:
    programs = 'SEC("xdp") int one(void *c) { return 1; } SEC("xdp") int two(void *c) { return 2; }\n'
    spec = spec_of(programs + JUMPS + ' SEC(".maps") = {.values = {[0] = one, [3] = two}};')
    assert spec.maps["jumps"].values == {0: "one", 3: "two"}
    with spec.load(backend=backend) as obj:
        assert {k: obj.maps["jumps"][k] for k in (0, 3)} == {0: obj.programs["one"].id, 3: obj.programs["two"].id}
    spec.programs["two"].autoload = False
    with pytest.raises(SpecError, match="map 'jumps' starts with 'two' at 3, which is not loaded"):
        spec.load(backend=backend)


def test_a_static_function_is_no_value_of_a_program_array(spec_of: Compile) -> None:
    static = 'static SEC("xdp") int one(void *c) { return 1; }\n'
    with pytest.raises(SpecError, match="map 'jumps': its value 'xdp' is no program of this object: is it static"):
        spec_of(static + JUMPS + ' SEC(".maps") = {.values = {[0] = one}};')


# Data ----------------------------------------------------------------------------


@pytest.mark.real_kernel("programs run there only")
def test_data_sections_may_have_names_of_their_own(backend: Backend, spec_of: Compile) -> None:
    spec = spec_of(
        'int a SEC(".data.mine") = 3; const volatile int b SEC(".rodata.mine") = 4; int c SEC(".bss.mine");'
        'int plain = 1; SEC("xdp") int sum(void *x) { c = a + b + plain; return 1; }'
    )
    assert set(spec.maps) == {".data", ".data.mine", ".rodata.mine", ".bss.mine"}
    spec.variables["b"].value = 40
    with spec.load(backend=backend) as obj:
        assert obj.programs["sum"].run(data=bytes(64)).retval == 1
        assert obj.variables["c"].value == 44
        assert obj.variables["b"].constant
        assert obj.maps[".rodata.mine"].info.frozen


@pytest.mark.real_kernel("programs run there only")
def test_hidden_and_static_variables_are_variables(backend: Backend, spec_of: Compile) -> None:
    spec = spec_of(
        "int hidden __hidden = 5; static volatile int local = 6;"
        'SEC("xdp") int p(void *x) { local++; return hidden++ ? 2 : 1; }'
    )
    with spec.load(backend=backend) as obj:
        assert obj.programs["p"].run(data=bytes(64)).retval == 2
        assert (obj.variables["hidden"].value, obj.variables["local"].value) == (6, 7)


def test_a_hidden_program_is_global_for_the_verifier_and_a_hidden_function_static(spec_of: Compile) -> None:
    spec = spec_of(
        "__hidden __noinline int f(int x) { return x; }"
        'SEC("xdp") __hidden int p(void *x) { return f(2); }'
    )  # fmt: skip
    assert spec.btf is not None
    assert {f.name: f.linkage for f in spec.btf if isinstance(f, Func)} == {"f": "static", "p": "global"}


@pytest.mark.real_kernel("programs run there only")
def test_pointers_in_data_stay_zero(backend: Backend, spec_of: Compile) -> None:
    # As with libbpf, which relocates code alone.
    spec = spec_of(
        "static __noinline int f(int x) { return x; } int (*function)(int) = f; int v = 3; int *pointer = &v;"
        'SEC("xdp") int p(void *x) { return function || pointer ? 1 : v; }'
    )
    assert (spec.variables["function"].value, spec.variables["pointer"].value) == (0, 0)
    with spec.load(backend=backend) as obj:
        assert obj.programs["p"].run(data=bytes(64)).retval == 3


@pytest.mark.real_kernel("programs run there only")
def test_tags_of_declarations_are_for_readers_of_btf(backend: Backend, spec_of: Compile) -> None:
    spec = spec_of(
        'struct tagged { int member tag("of a member"); } tag("of a struct");'
        'struct tagged v tag("of a variable") = {3};'
        'static __noinline tag("of a function") int f(int a tag("of an argument")) { return v.member + a; }'
        'SEC("xdp") tag("of a program") int p(void *c) { return f(1); }'
    )
    assert spec.btf is not None
    tags = {(t.name, t.component_index) for t in spec.btf if isinstance(t, DeclTag)}
    assert {(f"of a {what}", -1) for what in ("struct", "variable", "function", "program")} <= tags
    assert {("of a member", 0), ("of an argument", 0)} <= tags
    with spec.load(backend=backend) as obj:
        assert obj.programs["p"].run(data=bytes(64)).retval == 4
