"""What fuzzing found stays refused or read, and the fuzzer's own changes of objects and types surprise no reader."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Literal

import pytest
from fuzz import targets
from fuzz.mutators import mutate
from fuzz.parts import join, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.btf_samples import sample
from support.elf_writer import LOCAL, OBJECT, ElfWriter
from support.objects import BPF, OBJECTS

import rawbpf
from rawbpf.asm import build, encode
from rawbpf.btf import Array, Builder, Int
from rawbpf.elf import parse
from rawbpf.elf.container import R_BPF_64_ABS64

pytestmark = pytest.mark.needs("module:elftools")

OBJECT_FILES = [path.read_bytes() for path in sorted([*BPF.glob("*.o"), *OBJECTS.glob("*.o")])]
RETURN = encode([build.mov_imm(0, 0), build.exit_()], "little")
TYPES = [sample("little")[0], sample("big")[0]]


# What was wrong -------------------------------------------------------------------------------------


def maps_without_a_symbol() -> bytes:
    elf = ElfWriter()
    elf.section("maps", bytes(20))
    return elf.build()


def an_old_bit_field_far_behind() -> bytes:
    # Structs without the flag for bit-fields have room for 32 bits of offset, with it for 24.
    builder = Builder("little")
    bit = builder.record(Int.kind, "bit", 4, 3)
    builder.struct("far", 1 << 28, [("x", bit, 1 << 30)])
    return join([builder.to_bytes(), b"", b""])


def an_arrays_key_of_eight_bytes() -> bytes:
    builder = Builder("little")
    number = builder.int("int", 4)
    key = builder.struct("key", 8, [("x", number, 0)])
    fields = {"type": builder.array(number, 3), "max_entries": builder.array(number, 1), "key": key, "value": number}
    members = [(name, builder.ptr(type), 64 * index) for index, (name, type) in enumerate(fields.items())]
    variable = builder.var("jumps", builder.struct("", 32, members))
    builder.datasec(".maps", 32, [(variable, 0, 32)])
    elf = ElfWriter()
    elf.symbol("jumps", elf.section(".maps", bytes(32)), 0, 32, type=OBJECT)
    elf.section(".BTF", builder.to_bytes(), flags=0)
    return join([elf.build(), TYPES[0]])


def a_name_that_the_kernel_refuses(of: Literal["a program", "a map"]) -> bytes:
    elf = ElfWriter()
    elf.symbol("a[]" if of == "a program" else "main", elf.code("xdp", RETURN), 0, 16)
    if of == "a map":
        elf.symbol("a[]", elf.section("maps", struct.pack("<5I", 1, 4, 4, 1, 0)), 0, 20, type=OBJECT)
    return join([elf.build(), TYPES[0]])


def a_value_of_a_damaged_type() -> bytes:
    builder = Builder("little")
    number = builder.int("int", 4)
    proto = builder.func_proto(99, [])
    fields = {"type": builder.array(number, 1), "max_entries": builder.array(number, 1), "value": builder.ptr(proto)}
    members = [(name, builder.ptr(type), 64 * index) for index, (name, type) in enumerate(fields.items())]
    variable = builder.var("m", builder.struct("", 32, members))
    builder.datasec(".maps", 32, [(variable, 0, 32)])
    elf = ElfWriter()
    elf.symbol("m", elf.section(".maps", bytes(32)), 0, 32, type=OBJECT)
    elf.section(".BTF", builder.to_bytes(), flags=0)
    return elf.build()


def a_map_without_an_integer_among_its_types() -> bytes:
    builder = Builder("little")
    members = [
        (name, builder.ptr(builder.record(Array.kind, "", 0, 0, 0, 1)), 0)
        for name in ("type", "max_entries", "key_size", "value_size")
    ]
    builder.datasec(".maps", 32, [(builder.var("m", builder.struct("", 32, members)), 0, 32)])
    elf = ElfWriter()
    elf.symbol("m", elf.section(".maps", bytes(32)), 0, 32, type=OBJECT)
    elf.section(".BTF", builder.to_bytes(), flags=0)
    return elf.build()


FOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "maps without a symbol": ("elf", maps_without_a_symbol),
    "an old bit-field far behind": ("btf", an_old_bit_field_far_behind),
    "an array's key of eight bytes": ("relocate", an_arrays_key_of_eight_bytes),
    "a program's name": ("relocate", lambda: a_name_that_the_kernel_refuses("a program")),
    "a map's name": ("relocate", lambda: a_name_that_the_kernel_refuses("a map")),
    "no integer to save numbers by": ("save", a_map_without_an_integer_among_its_types),
    "a map's value of a damaged type": ("save", a_value_of_a_damaged_type),
}


@pytest.mark.parametrize(("target", "content"), FOUND.values(), ids=FOUND)
def test_what_was_found_is_found_no_more(target: str, content: Callable[[], bytes]) -> None:
    targets.TARGETS[target][0](content())


# What took too long -----------------------------------------------------------------------------------


def functions_of_one_name(count: int) -> bytes:
    elf = ElfWriter()
    section = elf.code("xdp", RETURN * count)
    for number in range(count):
        elf.symbol("same", section, 16 * number, 16, bind=LOCAL)
    return elf.build()


def symbols_of_one_name_that_ends_others(count: int) -> bytes:
    builder = Builder("little")
    for number in range(count):
        builder.string(f"{number}same")
    builder.int("int", 4)
    elf = ElfWriter()
    section = elf.section(".data", bytes(8))
    for _ in range(count):
        elf.symbol("same", section, 0, 8, type=OBJECT)
    elf.section(".BTF", builder.to_bytes(), flags=0)
    return elf.build()


def maps_of_maps_with_a_value_each(count: int) -> bytes:
    builder = Builder("little")
    number = builder.int("int", 4)
    hash, array = (builder.ptr(builder.array(number, kind)) for kind in (1, 12))
    inner = builder.struct("", 8, [("type", hash, 0)])
    values = builder.array(builder.ptr(inner), 0)
    outer = builder.struct("", 16, [("type", array, 0), ("values", values, 64)])
    elf = ElfWriter()
    section = elf.section(".maps", bytes(16 * count + 8))
    entries = [(builder.var("inner", inner), 16 * count, 8)]
    target = elf.symbol("inner", section, 16 * count, 8, type=OBJECT)
    for place in range(0, 16 * count, 16):
        entries.append((builder.var(f"outer{place}", outer), place, 16))
        elf.relocate(section, place + 8, R_BPF_64_ABS64, target)
    builder.datasec(".maps", 16 * count + 8, entries)
    elf.section(".BTF", builder.to_bytes(), flags=0)
    return elf.build()


@pytest.mark.parametrize(
    "content", [functions_of_one_name, symbols_of_one_name_that_ends_others, maps_of_maps_with_a_value_each]
)
def test_an_object_four_times_as_large_takes_five_times_the_steps_at_most(content: Callable[[int], bytes]) -> None:
    few, many = (steps(partial(parse, content(count), "x.o")) for count in (100, 400))
    assert many < 5 * few


@pytest.mark.parametrize("names", [" " * 9, "abcdefghi"], ids=["without names", "with names"])
def test_a_variable_whose_struct_holds_others_many_times_over_is_not_read_for_a_summary(names: str) -> None:
    builder = Builder("little")
    id = builder.struct("", 8, [("x", builder.int("int", 4), 0)])
    for _ in range(5):
        id = builder.struct("", 8, [(name.strip(), id, 0) for name in names])
    builder.datasec(".data", 8, [(builder.var("v", id), 0, 8)])
    elf = ElfWriter()
    elf.section(".data", bytes(8))
    elf.section(".BTF", builder.to_bytes(), flags=0)
    spec = rawbpf.ObjectSpec.from_bytes(elf.build())
    assert steps(lambda: str(spec)) < 2_000_000


def steps(function: Callable[[], object]) -> int:
    """Return how many instructions of Python's run in `function`."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


# What is changed at random ------------------------------------------------------------------------------


def test_an_input_is_split_into_the_files_that_it_was_joined_of_and_whatever_it_says_into_all_its_bytes() -> None:
    files = [b"one", b"", b"three"]
    assert split(join(files), 3) == files
    damaged = b"\xff" * 8 + b"onethree"
    assert split(damaged, 3) == [b"onethree", b"", b""]


def changed(rng: random.Random) -> Callable[[bytes, int], bytes]:
    """Return what changes bytes at random, as the fuzzer's engine does."""

    def change(content: bytes, most: int) -> bytes:
        at = rng.randrange(len(content) + 1)
        return (content[:at] + rng.randbytes(rng.randrange(4)) + content[at + rng.randrange(4) :])[:most]

    return change


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from([*targets.TARGETS]), seed=st.integers(0, 1 << 32))
def test_no_change_that_leaves_most_in_order_surprises_a_reader(name: str, seed: int) -> None:
    # Invariant: each target returns, whatever was changed.
    rng = random.Random(seed)
    run, count = targets.TARGETS[name]
    kinds = {"btf": [TYPES] * 3, "relocate": [OBJECT_FILES, TYPES]}.get(name, [OBJECT_FILES] * count)
    files = [rng.choice(kind) for kind in kinds]
    chosen = rng.randrange(count)
    files[chosen] = mutate(files[chosen], 1 << 16, rng, changed(rng))
    run(join(files))
