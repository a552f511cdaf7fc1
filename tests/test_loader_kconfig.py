"""Variables of .kconfig hold what the kernel's configuration says, or what they were given before loading."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clang import LIBBPF, compiled

import rawbpf
from rawbpf.asm.instruction import MapReference
from rawbpf.btf import Builder
from rawbpf.errors import NotSupported, SpecError
from rawbpf.loader.kconfig import version_code
from rawbpf.sim.simulator import Simulator
from rawbpf.syscall.host import KernelHost
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("tool:clang", "module:elftools")]
Compile = Callable[[str], rawbpf.ObjectSpec]

READ = """
SEC("socket") int read(void *ctx) { return (long)CONFIG_X; }
"""


@pytest.fixture
def compile_spec(tmp_path: Path) -> Compile:
    return lambda source: rawbpf.ObjectSpec.from_file(compiled(tmp_path, source, prelude=LIBBPF))


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


SEVERAL = """
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_BPF __kconfig __weak;
extern int CONFIG_HZ __kconfig __weak;
extern char CONFIG_CC_VERSION_TEXT[8] __kconfig __weak;
extern u64 CONFIG_NOBODY_HAS_THIS __kconfig __weak;
extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;
extern int LINUX_HAS_WHAT_IS_NOT_THOUGHT_OF __kconfig __weak;
u64 seen[9];
SEC("socket") int read(void *ctx)
{
	seen[0] = CONFIG_BPF_SYSCALL; seen[1] = CONFIG_BPF; seen[2] = CONFIG_HZ;
	seen[3] = CONFIG_CC_VERSION_TEXT[0]; seen[4] = CONFIG_NOBODY_HAS_THIS; seen[5] = LINUX_KERNEL_VERSION;
	seen[6] = LINUX_HAS_BPF_COOKIE; seen[7] = LINUX_HAS_SYSCALL_WRAPPER; seen[8] = LINUX_HAS_WHAT_IS_NOT_THOUGHT_OF;
	return 0;
}
"""


@pytest.mark.real_kernel("programs run there only")
def test_a_program_sees_what_the_running_kernel_was_configured_with(backend: Backend, compile_spec: Compile) -> None:
    config = backend.host.kconfig()
    with compile_spec(SEVERAL).load() as obj:
        obj.programs["read"].run(bytes(14))
        seen = obj.variables["seen"].value
        assert seen[:3] == (1, {"y": 1, "m": 2}.get(config.get("CONFIG_BPF", "n"), 0), int(config.get("CONFIG_HZ", 0)))
        text = config.get("CONFIG_CC_VERSION_TEXT", "")
        assert seen[3] == ord(text[:1] or "\0")
        assert obj.variables["CONFIG_CC_VERSION_TEXT"].value == text[:7]
        assert seen[4] == 0
        major, minor, _ = os.uname().release.split(".", 2)
        assert seen[5] >> 8 == int(major) << 8 | int(minor)
        assert seen[6] == bool(rawbpf.features.helper("tracepoint", "get_attach_cookie"))
        assert seen[8] == 0


def test_the_map_is_what_libbpf_makes(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(SEVERAL)
    assert list(spec.maps) == [".bss", ".kconfig"]
    kconfig = spec.maps[".kconfig"]
    assert (kconfig.map_type, kconfig.key_size, kconfig.max_entries) == (c.BPF_MAP_TYPE_ARRAY, 4, 1)
    assert kconfig.map_flags == c.BPF_F_MMAPABLE | c.BPF_F_RDONLY_PROG
    assert kconfig.frozen
    places = {name: (v.offset, v.size) for name, v in spec.variables.items() if v.map is kconfig}
    assert places == {
        "CONFIG_NOBODY_HAS_THIS": (0, 8),
        "CONFIG_BPF": (8, 4),
        "CONFIG_HZ": (12, 4),
        "LINUX_HAS_WHAT_IS_NOT_THOUGHT_OF": (16, 4),
        "LINUX_KERNEL_VERSION": (20, 4),
        "CONFIG_BPF_SYSCALL": (24, 1),
        "LINUX_HAS_BPF_COOKIE": (25, 1),
        "LINUX_HAS_SYSCALL_WRAPPER": (26, 1),
        "CONFIG_CC_VERSION_TEXT": (27, 8),
    }
    assert kconfig.value_size == 35
    loads = [i for i in spec.programs["read"].instructions if i.reference == MapReference(".kconfig", 20)]
    assert [i.src for i in loads] == [c.BPF_PSEUDO_MAP_VALUE]
    spec.variables["CONFIG_BPF_SYSCALL"].value = True
    with spec.load(only=[]) as obj:
        assert obj.maps[".kconfig"].info.name == "made.kconfig"
        assert obj.maps[".kconfig"].info.value_size == 35


@pytest.mark.parametrize(
    ("name", "names"),
    [
        pytest.param("it.bpf.o", ["it.kconfig", "it.bss", ".data.mine"], id="short"),
        pytest.param("longest_of_all.bpf.o", ["longest.kconfig", "longest_.bss", ".data.mine"], id="long"),
        pytest.param("odd-é.o", ["odd___.kconfig", "odd___.bss", ".data.mine"], id="other characters"),
    ],
)
def test_the_kernel_knows_data_sections_by_libbpfs_names(
    backend: Backend, tmp_path: Path, name: str, names: list[str]
) -> None:
    source = 'int total; int mine SEC(".data.mine") = 1; extern int CONFIG_X __kconfig __weak;'
    source += 'SEC("socket") int f(void *ctx) { mine = total = CONFIG_X; return 0; }'
    data = compiled(tmp_path, source, prelude=LIBBPF).read_bytes()
    with rawbpf.ObjectSpec.from_bytes(data, name=name).load(only=[]) as obj:
        assert [obj.maps[each].info.name for each in (".kconfig", ".bss", ".data.mine")] == names


RULES = [
    # (declaration, what the configuration says or None, the value)
    pytest.param("_Bool CONFIG_X", "y", True, id="bool y"),
    pytest.param("_Bool CONFIG_X", "n", False, id="bool n"),
    pytest.param("_Bool CONFIG_X", "1", True, id="bool number"),
    pytest.param("enum libbpf_tristate CONFIG_X", "n", 0, id="tristate n"),
    pytest.param("enum libbpf_tristate CONFIG_X", "y", 1, id="tristate y"),
    pytest.param("enum libbpf_tristate CONFIG_X", "m", 2, id="tristate m"),
    pytest.param("const volatile enum libbpf_tristate CONFIG_X", "m", 2, id="tristate with qualifiers"),
    pytest.param("char CONFIG_X", "m", ord("m"), id="char m"),
    pytest.param("u8 CONFIG_X", "255", 255, id="u8 number"),
    pytest.param("s8 CONFIG_X", "-128", -128, id="s8 number"),
    pytest.param("u16 CONFIG_X", "0xffff", 0xFFFF, id="u16 hexadecimal"),
    pytest.param("int CONFIG_X", "-1", -1, id="int negative"),
    pytest.param("int CONFIG_X", "2147483647", 2147483647, id="int greatest"),
    pytest.param("u64 CONFIG_X", "0xffffffffffffffff", (1 << 64) - 1, id="u64 greatest"),
    pytest.param("s64 CONFIG_X", "0xffffffffffffffff", -1, id="s64 of all bits"),
    pytest.param("u64 CONFIG_X", "-1", (1 << 64) - 1, id="u64 of a negative"),
    pytest.param("char CONFIG_X[6]", "hello", "hello", id="text"),
    pytest.param("char CONFIG_X[4]", "hello", "hel", id="text cut"),
    pytest.param("char CONFIG_X[4]", "", "", id="text empty"),
    pytest.param("int CONFIG_X __weak", None, 0, id="weak int"),
    pytest.param("char CONFIG_X[4] __weak", None, "", id="weak text"),
    pytest.param("_Bool CONFIG_X __weak", None, False, id="weak bool"),
]


@pytest.mark.parametrize(("declaration", "says", "value"), RULES)
def test_values_are_of_the_variables_type(
    sim: Simulator, compile_spec: Compile, declaration: str, says: str | None, value: object
) -> None:
    if says is not None:
        sim.host.configuration["CONFIG_X"] = says
    spec = compile_spec(f"extern {declaration} __kconfig;" + READ)
    with spec.load(only=[], backend=sim) as obj:
        assert obj.variables["CONFIG_X"].value == value


MISFITS = [
    pytest.param("_Bool CONFIG_X", "m", "'CONFIG_X' takes y or n, 1 bytes, .* says 'm'", id="bool m"),
    pytest.param("_Bool CONFIG_X", "2", "says '2'", id="bool 2"),
    pytest.param("int CONFIG_X", "y", "says 'y'", id="int y"),
    pytest.param("int CONFIG_X", "text", "says 'text'", id="int text"),
    pytest.param("enum libbpf_tristate CONFIG_X", "7", "takes y, m or n", id="tristate number"),
    pytest.param("u8 CONFIG_X", "256", "takes 1 bytes, .* says '256'", id="u8 too large"),
    pytest.param("u16 CONFIG_X", "-1", "says '-1'", id="u16 negative"),
    pytest.param("int CONFIG_X", "2147483648", "says '2147483648'", id="int too large"),
    pytest.param("u64 CONFIG_X", "18446744073709551616", "takes 8 bytes", id="u64 too large"),
    pytest.param("int CONFIG_X", None, r"'CONFIG_X': .* does not set .* __weak.* spec\.variables", id="not set"),
    pytest.param("int LINUX_X", None, "'LINUX_X': it is no CONFIG_ option, and none of LINUX_KERNEL", id="LINUX"),
    pytest.param("_Bool LINUX_KERNEL_VERSION", None, "takes y or n, 1 bytes, .* says [0-9]+:", id="version as bool"),
    pytest.param("char LINUX_KERNEL_VERSION[8]", None, "takes text, 8 bytes", id="version as text"),
]


@pytest.mark.parametrize(("declaration", "says", "complaint"), MISFITS)
def test_what_does_not_fit_is_refused_and_leaves_nothing_open(
    sim: Simulator, compile_spec: Compile, declaration: str, says: str | None, complaint: str
) -> None:
    if says is not None:
        sim.host.configuration["CONFIG_X"] = says
    name = declaration.rsplit(maxsplit=1)[-1].partition("[")[0]
    spec = compile_spec(f"extern {declaration} __kconfig;" + READ.replace("CONFIG_X", name))
    with pytest.raises(SpecError, match=complaint):
        spec.load(only=[], backend=sim)


TYPES = [
    "struct { int a; } CONFIG_X",
    "int *CONFIG_X",
    "int CONFIG_X[2]",
    "char CONFIG_X[2][2]",
    "_Bool CONFIG_X[2]",
    "enum other CONFIG_X",
]


@pytest.mark.parametrize("declaration", TYPES)
def test_types_that_no_configuration_gives_are_refused_when_the_object_is_read(
    compile_spec: Compile, declaration: str
) -> None:
    source = f"enum other {{ A, B }}; extern {declaration} __kconfig;" + READ.replace("(long)", "(long)&")
    with pytest.raises(SpecError, match=r"(?s)variable '.*CONFIG_X.*': of section '\.kconfig' are bool"):
        compile_spec(source)


def test_a_value_that_is_given_wins_and_nothing_is_asked(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec("extern int CONFIG_X __kconfig;" + READ)
    given = spec.variables["CONFIG_X"]
    assert given.constant
    assert given.value is None
    given.value = 42
    assert given.value == 42
    for each in (spec, spec.copy(), pickle.loads(pickle.dumps(spec))):
        assert each.variables["CONFIG_X"].value == 42
        with each.load(only=[]) as obj:
            assert obj.variables["CONFIG_X"].value == 42
    with pytest.raises(OverflowError, match="'CONFIG_X'"):
        given.value = 1 << 31


def test_loading_twice_asks_twice(sim: Simulator, compile_spec: Compile) -> None:
    spec = compile_spec("extern int CONFIG_X __kconfig;" + READ)
    for value in (1, 2):
        sim.host.configuration["CONFIG_X"] = str(value)
        with spec.load(only=[], backend=sim) as obj:
            assert obj.variables["CONFIG_X"].value == value
        assert spec.variables["CONFIG_X"].value is None


def test_a_map_in_the_place_of_the_configuration_is_used_as_it_is(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec("extern int CONFIG_X __kconfig;" + READ)
    spec.variables["CONFIG_X"].value = 5
    with spec.load(only=[]) as first:
        unset = compile_spec("extern int CONFIG_X __kconfig;" + READ)
        with unset.load(only=[], maps={".kconfig": first.maps[".kconfig"]}) as second:
            assert second.variables["CONFIG_X"].value == 5


def test_without_a_configuration_the_error_says_what_to_set(
    compile_spec: Compile, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> dict[str, str]:
        raise NotSupported(2, call="open", subject="kernel configuration", hint="it is nowhere")

    monkeypatch.setattr(sim.host, "kconfig", absent)
    spec = compile_spec("extern int CONFIG_X __kconfig __weak;" + READ)
    with pytest.raises(NotSupported, match=r"nowhere; set spec\.variables\['CONFIG_X'\]\.value instead"):
        spec.load(only=[], backend=sim)


def value_of(backend: Backend, spec: rawbpf.ObjectSpec, name: str) -> object:
    with spec.load(only=[], backend=backend) as obj:
        return obj.variables[name].value


@pytest.mark.parametrize(("release", "has"), [("5.14", False), ("5.15", True)])
def test_whether_there_are_cookies_is_found_out(compile_spec: Compile, release: str, has: bool) -> None:
    name = "LINUX_HAS_BPF_COOKIE"
    spec = compile_spec(f"extern _Bool {name} __kconfig;" + READ.replace("CONFIG_X", name))
    with Simulator(release) as older:
        assert value_of(older, spec, name) is has


WRAPPERS = [
    pytest.param(["__x64_sys_bpf", "create_local_trace_kprobe"], True, id="wrapped"),
    pytest.param(["__arm64_sys_bpf", "create_local_trace_kprobe", "__x64_sys_write"], True, id="another machine's"),
    pytest.param(["sys_bpf", "create_local_trace_kprobe"], False, id="not wrapped"),
    pytest.param(["__x64_sys_bpf"], False, id="no kprobes, as libbpf says"),
]


@pytest.mark.parametrize("source", ["types", "symbols"])
@pytest.mark.parametrize(("functions", "has"), WRAPPERS)
def test_whether_system_calls_are_wrapped_is_seen_by_names_of_functions(
    compile_spec: Compile, sim: Simulator, monkeypatch: pytest.MonkeyPatch, functions: list[str], has: bool, source: str
) -> None:
    def types() -> memoryview:
        if source == "symbols":
            raise NotSupported(2, call="open", subject="BTF", hint="there is none")
        b = Builder()
        prototype = b.func_proto(0, [])
        for each in functions:
            b.func(each, prototype)
        return memoryview(b.to_bytes())

    monkeypatch.setattr(sim.host, "btf", types)
    monkeypatch.setattr(sim.host, "kallsyms", lambda: ((16, each) for each in functions))
    name = "LINUX_HAS_SYSCALL_WRAPPER"
    spec = compile_spec(f"extern _Bool {name} __kconfig;" + READ.replace("CONFIG_X", name))
    assert value_of(sim, spec, name) is has


@pytest.mark.parametrize(
    ("release", "version", "code"),
    [
        ("6.12.48", "", 0x060C30),
        ("6.18.44-fc-v669", "#1 SMP PREEMPT_DYNAMIC @0", 0x06122C),
        ("5.10", "", 0x050A00),
        ("4.19.300", "", 0x0413FF),
        ("4.19.0-22-amd64", "#1 SMP Debian 4.19.260-1 (2022-09-29)", 0x0413FF),
        ("5.4.0-12-generic", "Ubuntu 5.4.0-12.15-generic 5.4.8", 0x050408),
        ("strange", "", 0),
    ],
)
def test_the_version_is_that_of_the_kernel_that_a_distribution_started_from(
    release: str, version: str, code: int
) -> None:
    assert version_code(release, version) == code


def test_the_host_tells_its_version() -> None:
    version = KernelHost().version
    assert version == os.uname().version or version.startswith("Ubuntu")
