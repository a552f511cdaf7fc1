"""Every constant and every field of uapi is the running kernel's own, and none of the kernel's is missing.

The tables are complete for one release. A newer kernel may have more, which is then printed; an older
one may have less.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from enum import IntEnum
from typing import TYPE_CHECKING

import pytest

from rawbpf.btf.btf import Btf
from rawbpf.btf.types import Array, Composite, Enum, Int, Type, strip
from rawbpf.uapi import constants, enums, names, perf
from rawbpf.uapi.attr import LAYOUTS
from rawbpf.uapi.helper import HELPERS
from rawbpf.uapi.info import BTF_INFO, LINK_INFO, LINK_INFOS, MAP_INFO, PROG_INFO, TOKEN_INFO

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.layout import Layout

pytestmark = pytest.mark.needs("file:/sys/kernel/btf/vmlinux")

logger = logging.getLogger(__name__)
Field = tuple[str, int, str]
# What the tables have beyond their release.
LATER = {("INSN_ARRAY", 34), ("BPF_F_RB_OVERWRITE", 1 << 19)}


def release(text: str) -> tuple[int, int]:
    major, minor = text.split("-", maxsplit=1)[0].split(".")[:2]
    return int(major), int(minor)


@pytest.fixture(scope="module")
def kernel() -> Btf:
    with open("/sys/kernel/btf/vmlinux", "rb") as file:
        return Btf.from_bytes(file.read())


@pytest.fixture(scope="module")
def unnamed(kernel: Btf) -> list[dict[str, int]]:
    """The enumerators of each enum without a name."""
    return [dict(kind.values) for kind in kernel if isinstance(kind, Enum) and not kind.name]


def compare(ours: AbstractSet[object], theirs: AbstractSet[object]) -> None:
    with open("/proc/sys/kernel/osrelease", encoding="ascii") as file:
        running = release(file.read())
    table = release(constants.TABLE_RELEASE)
    if more := theirs - ours:
        logger.warning("this kernel also has %s", sorted(map(str, more)))
        assert running > table, f"missing from the tables: {sorted(map(str, more))}"
    if less := ours - theirs - LATER:
        logger.warning("this kernel lacks %s", sorted(map(str, less)))
        assert running < table, f"in the tables and not in this kernel: {sorted(map(str, less))}"


def enumerators(kernel: Btf, name: str) -> dict[str, int]:
    kind = kernel.find(name, Enum)
    assert kind is not None, f"this kernel has no enum {name}"
    return {word: value for word, value in kind.values if not word.startswith("__") and not word.endswith("_MAX")}


@pytest.mark.parametrize(
    ("enum", "prefix", "ours"),
    [
        ("bpf_cmd", "BPF_", enums.Cmd),
        ("bpf_map_type", "BPF_MAP_TYPE_", enums.MapType),
        ("bpf_prog_type", "BPF_PROG_TYPE_", enums.ProgType),
        ("bpf_attach_type", "BPF_", enums.AttachType),
        ("bpf_link_type", "BPF_LINK_TYPE_", enums.LinkType),
        ("bpf_task_fd_type", "BPF_FD_TYPE_", enums.TaskFdType),
        ("bpf_perf_event_type", "BPF_PERF_EVENT_", enums.PerfEventType),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("bpf") else "",
)
def test_an_enum_has_the_members_of_the_kernels_enum(kernel: Btf, enum: str, prefix: str, ours: type[IntEnum]) -> None:
    theirs = {word.removeprefix(prefix): value for word, value in enumerators(kernel, enum).items()}
    compare({(word, int(member)) for word, member in ours.__members__.items()}, set(theirs.items()))


@pytest.mark.parametrize(
    "enum",
    ["bpf_stats_type", "bpf_stream_id", "bpf_cgroup_iter_order", "bpf_stack_build_id_status", "bpf_core_relo_kind"],
)
def test_constants_have_the_values_of_the_kernels_enum(kernel: Btf, enum: str) -> None:
    theirs = enumerators(kernel, enum)
    compare({(word, getattr(constants, word, None)) for word in theirs}, set(theirs.items()))


def test_map_flags_are_all_of_the_kernels_unnamed_enum(unnamed: list[dict[str, int]]) -> None:
    flags = next(enum for enum in unnamed if "BPF_F_NO_PREALLOC" in enum)
    ours = {(f"BPF_F_{word}", int(member)) for word, member in enums.MapFlag.__members__.items()}
    compare(ours, set(flags.items()))


@pytest.mark.parametrize(
    "word",
    [
        word
        for word in vars(constants)
        if word.startswith(("BPF_RB", "BPF_RINGBUF", "BPF_F_CURRENT", "BPF_F_INDEX", "BPF_F_CTXLEN", "BPF_F_USER"))
        or word in ("BPF_ANY", "BPF_NOEXIST", "BPF_EXIST", "BPF_F_LOCK", "BPF_F_REUSE_STACKID", "BPF_F_FAST_STACK_CMP")
    ],
)
def test_constants_have_the_values_of_unnamed_enumerators(unnamed: list[dict[str, int]], word: str) -> None:
    assert getattr(constants, word) in [enum[word] & 0xFFFF_FFFF_FFFF_FFFF for enum in unnamed if word in enum]


@pytest.mark.parametrize(
    ("enum", "prefix", "name", "number"),
    [
        ("bpf_cmd", "BPF_", names.cmd_name, names.cmd_number),
        ("bpf_map_type", "BPF_MAP_TYPE_", names.map_type_name, names.map_type_number),
        ("bpf_prog_type", "BPF_PROG_TYPE_", names.prog_type_name, names.prog_type_number),
        ("bpf_attach_type", "BPF_", names.attach_type_name, names.attach_type_number),
        ("bpf_link_type", "BPF_LINK_TYPE_", names.link_type_name, names.link_type_number),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("bpf") else "",
)
def test_a_word_stands_for_each_of_the_kernels_numbers(
    kernel: Btf, enum: str, prefix: str, name: Callable[[int], str], number: Callable[[str], int]
) -> None:
    theirs = enumerators(kernel, enum)
    compare({value for value in range(max(theirs.values()) + 1) if " " not in name(value)}, set(theirs.values()))
    for word, value in theirs.items():
        if " " not in name(value):
            assert number(word.removeprefix(prefix).lower()) == value
            assert number(name(value)) == value


def test_helpers_have_the_kernels_numbers(kernel: Btf) -> None:
    theirs = {(word.removeprefix("BPF_FUNC_"), value) for word, value in enumerators(kernel, "bpf_func_id").items()}
    compare({(word, number) for number, word in enumerate(HELPERS)}, theirs)


def fields(kind: Type, base: int = 0, prefix: str = "") -> Iterator[Field]:
    """Yield each scalar under `kind`, with the names of named inner structs in front."""
    assert isinstance(kind, Composite)
    for member in kind.members:
        inner = strip(member.type)
        offset = base + member.bit_offset // 8
        if isinstance(inner, Composite):
            yield from fields(inner, offset, f"{prefix}{member.name}_" if member.name else prefix)
        elif isinstance(inner, Array):
            yield f"{prefix}{member.name}", offset, f"{inner.length}s"
        else:
            assert isinstance(inner, Int)
            letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[inner.size]
            yield f"{prefix}{member.name}", offset, letter.lower() if inner.signed else letter


def composite(kernel: Btf, name: str) -> Composite:
    kind = kernel.find(name, Composite)
    assert kind is not None, f"this kernel has no {name}"
    return kind


def test_attr_layouts_are_all_of_the_kernels_bpf_attr(kernel: Btf) -> None:
    structs = [set(fields(strip(member.type))) for member in composite(kernel, "bpf_attr").members]
    ours: set[object] = set()
    for layout in LAYOUTS.values():
        assert any(set(layout.fields) <= struct for struct in structs), f"{layout.name} is no part of one struct"
        ours |= set(layout.fields)
    compare(ours, set().union(*structs))


def test_there_is_a_layout_for_every_command(kernel: Btf) -> None:
    compare(set(LAYOUTS), set(enumerators(kernel, "bpf_cmd").values()))


@pytest.mark.parametrize("layout", [MAP_INFO, PROG_INFO, BTF_INFO, TOKEN_INFO], ids=lambda layout: layout.name)
def test_info_layouts_are_the_kernels_structs(kernel: Btf, layout: Layout) -> None:
    compare(set(layout.fields), set(fields(composite(kernel, layout.name))))


def test_link_infos_are_all_of_the_kernels_bpf_link_info(kernel: Btf) -> None:
    link_info = composite(kernel, "bpf_link_info")
    union = link_info.members[-1]
    common = set(LINK_INFO.fields)
    assert common == {field for field in fields(link_info) if field[1] < union.bit_offset // 8}
    ours = {
        (names.link_type_name(number), *field)
        for number, layout in LINK_INFOS.items()
        for field in layout.fields
        if field not in common
    }
    kinds = strip(union.type)
    assert isinstance(kinds, Composite)
    theirs = {
        (member.name, "perf_type" if (member.name, field[0]) == ("perf_event", "type") else field[0], *field[1:])
        for member in kinds.members
        for field in fields(strip(member.type), union.bit_offset // 8)
    }
    compare(ours, theirs)


def test_perf_event_attr_is_the_kernels(kernel: Btf) -> None:
    attr = composite(kernel, "perf_event_attr")
    whole = {field for field in fields(attr) if field[0] not in bits(attr) and "__reserved" not in field[0]}
    inner = {"aux_start_paused", "aux_pause", "aux_resume"}
    compare(
        set(perf.PERF_EVENT_ATTR.fields), {field for field in whole if field[0] not in inner} | {("flags", 40, "Q")}
    )
    assert perf.PERF_EVENT_ATTR.size == attr.size


def bits(attr: Composite) -> dict[str, tuple[int, int]]:
    return {member.name: (member.bit_offset - 320, member.bit_size) for member in attr.members if member.bit_size}


def test_flags_of_perf_event_attr_are_the_kernels_bit_fields(kernel: Btf) -> None:
    theirs = {
        (name, 1 << start)
        for name, (start, _) in bits(composite(kernel, "perf_event_attr")).items()
        if "__" not in name
    }
    ours = {(name, perf.flag_word("little", **{name: 1})) for name in perf._FLAGS}
    compare(ours, theirs)


def test_big_endian_flags_of_perf_event_attr_start_at_the_top() -> None:
    assert perf.flag_word("big", disabled=1) == 1 << 63
    assert perf.flag_word("big", precise_ip=1) == 1 << 63 >> 16


@pytest.mark.parametrize("enum", ["perf_type_id", "perf_hw_id", "perf_sw_ids"])
def test_perf_constants_are_the_kernels(kernel: Btf, enum: str) -> None:
    theirs = enumerators(kernel, enum)
    compare({(word, getattr(perf, word, None)) for word in theirs}, set(theirs.items()))


@pytest.mark.parametrize("enum", ["perf_event_sample_format", "perf_event_type"])
def test_those_perf_constants_that_are_listed_have_the_kernels_values(kernel: Btf, enum: str) -> None:
    theirs = enumerators(kernel, enum)
    listed = {word: getattr(perf, word) for word in theirs if hasattr(perf, word)}
    assert listed
    assert listed == {word: theirs[word] for word in listed}


@pytest.mark.needs("kernel")
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_the_kernel_refuses_a_byte_beyond_the_last_field(backend: Backend, layout: Layout) -> None:
    # CHECK_ATTR in kernel/bpf/syscall.c: a layout that ends too early would put the byte into a field.
    attr = layout.pack()
    if layout.size >= 168:
        return  # nothing of the union lies behind it
    attr[layout.size] = b"\x01"
    result = backend.bpf(layout.cmd, ctypes.byref(attr), 168)
    number = ctypes.get_errno()
    if result > 2:
        backend.close(result)
    assert (result, number) == (-1, 22)
