"""What clang leaves to the loader is repaired, and the kernel then accepts the BTF; .BTF.ext is read."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.btf_samples import ByteOrder, sample

from rawbpf.btf import Btf, BtfExt, Builder, Datasec, Func, FuncProto, Struct, Var
from rawbpf.btf.ext import pack_core_relo, pack_func_info, pack_line_info
from rawbpf.btf.fixup import add_strings, fixup_datasecs
from rawbpf.errors import BpfError, FormatError

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend


SOURCE = """
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32;
typedef unsigned long long u64;
struct event { u32 pid; u64 ts; char comm[16]; } __attribute__((preserve_access_index));
struct wide { u64 a[3]; };
static volatile int first_static = 5;
static volatile int second_static = 6;
u64 total;
struct wide big = {{1}};
int started = 1;
const volatile u32 min_uid = 3;
char LICENSE[] SEC("license") = "Dual BSD/GPL";
struct { int (*type)[1]; int (*max_entries)[16]; u32 *key; struct event *value; } events SEC(".maps");
struct { int (*type)[2]; int (*max_entries)[1]; u32 *key; u64 *value; } counts SEC(".maps");
extern const void kernel_symbol __attribute__((section(".ksyms")));
extern const int typed_symbol __attribute__((section(".ksyms")));
extern u64 kernel_function(u32 *restrict, u64 size) __attribute__((section(".ksyms")));
extern _Bool CONFIG_BPF __attribute__((section(".kconfig")));
extern u32 LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
static __attribute__((noinline)) int helper(int x) { first_static++; return x + second_static + min_uid; }
SEC("tp/x/y")
int count(struct event *event)
{
	u32 local = event->pid;
	total += helper(started) + LINUX_KERNEL_VERSION + CONFIG_BPF + big.a[1];
	total += (long)&kernel_symbol + (long)&typed_symbol;
	return kernel_function(&local, event->ts);
}
"""
Sections = dict[str, tuple[int, dict[str, int]]]
Compiled = tuple[bytes, bytes, Sections]
TARGETS: list[tuple[str, ByteOrder]] = [("bpf", "little"), ("bpfeb", "big")]
ORDERS = pytest.mark.parametrize(("target", "byteorder"), TARGETS, ids=["little", "big"])
NEEDS = pytest.mark.needs("tool:clang", "tool:llvm-objcopy", "module:elftools")


@pytest.fixture
def compile_for(tmp_path: Path) -> Callable[[str], Compiled]:
    def compile_for(target: str) -> Compiled:
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection

        (tmp_path / "a.c").write_text(SOURCE)
        subprocess.run(["clang", "-O2", "-g", "-target", target, "-c", "a.c", "-o", "a.o"], cwd=tmp_path, check=True)
        dumps = ["--dump-section", ".BTF=a.btf", "--dump-section", ".BTF.ext=a.ext"]
        subprocess.run(["llvm-objcopy", *dumps, "a.o"], cwd=tmp_path, check=True)
        sections: Sections = {}
        with (tmp_path / "a.o").open("rb") as file:
            elf = ELFFile(file)
            for section in elf.iter_sections():
                if section["sh_size"] and section.name in {".data", ".bss", ".rodata", ".maps", "license"}:
                    sections[section.name] = (section["sh_size"], {})
            symbols = elf.get_section_by_name(".symtab")
            assert isinstance(symbols, SymbolTableSection)
            for symbol in symbols.iter_symbols():
                if symbol["st_info"]["bind"] == "STB_GLOBAL" and isinstance(symbol["st_shndx"], int):
                    name = elf.get_section(symbol["st_shndx"]).name
                    if name in sections:
                        sections[name][1][symbol.name] = symbol["st_value"]
        return (tmp_path / "a.btf").read_bytes(), (tmp_path / "a.ext").read_bytes(), sections

    return compile_for


def placed(btf: Btf, section: str) -> list[tuple[str, int, int]]:
    found = btf.find(section, Datasec)
    assert found is not None
    return [(var.name, offset, size) for var, offset, size in found.variables]


@NEEDS
@ORDERS
def test_variables_get_the_places_that_the_object_gives_them(
    target: str, byteorder: ByteOrder, compile_for: Callable[[str], Compiled]
) -> None:
    data, _, sections = compile_for(target)
    before, after = Btf.from_bytes(data), Btf.from_bytes(fixup_datasecs(data, sections))
    assert after.byteorder == byteorder
    assert placed(before, ".maps") == [("events", 0, 32), ("counts", 0, 32)]
    assert placed(after, ".maps") == [("events", 0, 32), ("counts", 32, 32)]
    (first, second) = (offset for name, offset, _ in placed(before, ".data") if name.endswith("_static"))
    assert sorted(placed(after, ".data")) == sorted(
        [
            ("big", sections[".data"][1]["big"], 24),
            ("started", sections[".data"][1]["started"], 4),
            ("first_static", first, 4),
            ("second_static", second, 4),
        ]
    )
    for name, (size, _) in sections.items():
        found = after.find(name, Datasec)
        assert found is not None
        assert found.size == size
        offsets = [offset for _, offset, _ in found.variables]
        assert offsets == sorted(offsets)
    assert [str(type) for type in after][: before["count"].id] == [str(type) for type in before][: before["count"].id]


@NEEDS
@ORDERS
def test_what_the_kernel_has_is_declared_so_that_it_takes_it(
    target: str, byteorder: ByteOrder, compile_for: Callable[[str], Compiled]
) -> None:
    data, _, sections = compile_for(target)
    before, after = Btf.from_bytes(data), Btf.from_bytes(fixup_datasecs(data, sections))
    assert sorted(size for _, _, size in placed(after, ".ksyms")) == [4, 4, 4]
    kconfig = placed(after, ".kconfig")
    assert kconfig == [("LINUX_KERNEL_VERSION", 0, 4), ("CONFIG_BPF", 4, 1)]
    for name in ("kernel_symbol", "typed_symbol"):
        assert str(after[name]) == f"int {name};"
    assert not [type for type in after if isinstance(type, (Var, Func)) and type.linkage == "extern"]
    function = after.find("kernel_function", Func)
    assert function is not None
    assert isinstance(function.type, FuncProto)
    assert [bool(name) for name, _ in function.type.params] == [True, True]
    assert after["kernel_function"].id == before["kernel_function"].id


@NEEDS
def test_the_kernel_accepts_the_repaired_btf_and_not_clangs(
    backend: Backend, compile_for: Callable[[str], Compiled]
) -> None:
    from rawbpf.syscall.btf import btf_load

    data, _, sections = compile_for("bpf" if sys.byteorder == "little" else "bpfeb")
    with pytest.raises(BpfError):
        btf_load(backend, data)
    os.close(btf_load(backend, fixup_datasecs(data, sections)))
    # Also without knowledge of any section: the loader may drop maps, and their names with them.
    os.close(btf_load(backend, fixup_datasecs(data, {name: row for name, row in sections.items() if name != ".maps"})))


@NEEDS
@ORDERS
def test_functions_lines_and_relocations_of_an_object_are_read(
    target: str, byteorder: ByteOrder, compile_for: Callable[[str], Compiled]
) -> None:
    data, extension, _ = compile_for(target)
    btf = Btf.from_bytes(data)
    ext = BtfExt.from_bytes(extension, btf)
    functions = {section: [btf[id].name for _, id in records] for section, records in ext.func_info.items()}
    assert functions == {".text": ["helper"], "tp/x/y": ["count"]}
    lines = ext.line_info["tp/x/y"]
    assert {line.file_name.rpartition("/")[2] for line in lines} == {"a.c"}
    source = dict(enumerate(SOURCE.splitlines(), 1))
    # Line 0 is an instruction that belongs to no line.
    assert {line.line: line.text for line in lines if line.line} == {
        line.line: source[line.line] for line in lines if line.line
    }
    assert "\tu32 local = event->pid;" in {line.text for line in lines}
    assert [(btf[core.type_id].name, core.access, core.kind) for core in ext.core_relo["tp/x/y"]] == [
        ("event", "0:0", 0),
        ("event", "0:1", 0),
    ]
    event = btf.find("event", Struct)
    assert event is not None
    assert event.member("ts").offset == 8


def test_repairing_twice_changes_nothing_more() -> None:
    data, _ = sample()
    once = fixup_datasecs(data, {".data": (80, {"total": 0})})
    assert fixup_datasecs(once, {".data": (80, {"total": 0})}) == once
    assert placed(Btf.from_bytes(once), ".data") == [("total", 0, 8), ("hidden", 8, 72)]


def test_variables_are_sorted_by_the_place_that_they_got() -> None:
    fixed = Btf.from_bytes(fixup_datasecs(sample()[0], {".data": (88, {"total": 80})}))
    assert placed(fixed, ".data") == [("hidden", 8, 72), ("total", 80, 8)]


def test_variables_of_an_unknown_section_lie_one_after_the_other_the_widest_first_then_the_smallest() -> None:
    b = Builder("big")
    byte, word = b.int("char", 1), b.int("int", 4)
    text = b.array(byte, 3, word)
    variables = [b.var("text", text), b.var("z", byte), b.var("b", word, "extern"), b.var("a", byte)]
    b.datasec(".kconfig", 0, [(id, 0, 0) for id in variables])
    fixed = Btf.from_bytes(fixup_datasecs(b.to_bytes(), {}))
    assert placed(fixed, ".kconfig") == [("b", 0, 4), ("a", 4, 1), ("z", 5, 1), ("text", 6, 3)]
    assert str(fixed["b"]) == "int b;"


@pytest.mark.parametrize("size", [1 << 32, 1 << 40])
def test_a_section_of_4_gib_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match="4 GiB"):
        fixup_datasecs(sample()[0], {".data": (size, {})})


def test_strings_are_added_once_and_existing_ones_are_found() -> None:
    data, _ = sample("big")
    old = Btf.from_bytes(data)
    longer, offsets = add_strings(data, ["event", "new.c", "", "new.c"])
    new = Btf.from_bytes(longer)
    assert {text: new.string(offset) for text, offset in offsets.items()} == {text: text for text in offsets}
    assert offsets["event"] < len(old.strings) <= offsets["new.c"]
    assert len(new.strings) == len(old.strings) + len("new.c") + 1
    assert [str(type) for type in new] == [str(type) for type in old]
    with pytest.raises(ValueError, match="NUL"):
        add_strings(data, ["a\0b"])


@pytest.mark.parametrize(("byteorder", "order"), [("little", "<"), ("big", ">")])
def test_records_are_packed_as_prog_load_takes_them(byteorder: ByteOrder, order: str) -> None:
    assert pack_func_info([(0, 3), (5, 4)], byteorder) == struct.pack(order + "4I", 0, 3, 5, 4)
    assert pack_line_info([(2, 10, 20, 7, 3)], byteorder) == struct.pack(order + "4I", 2, 10, 20, 7 << 10 | 3)
    assert pack_line_info([(2, 10, 20, 1 << 30, 5000)], byteorder) == struct.pack(
        order + "4I", 2, 10, 20, (1 << 32) - 1
    )
    assert pack_core_relo([(2, 9, 30, 1)], byteorder) == struct.pack(order + "4I", 16, 9, 30, 1)
