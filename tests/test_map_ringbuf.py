"""Ring buffers: programs' records are found in the ring's memory, and user space's by programs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bpffs import bpffs
from support.map_shapes import PAGE
from support.objects import native

import rawbpf
from rawbpf.asm import build as b
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.syscall.host import KernelHost
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import helper_number
from rawbpf.uapi.names import map_type_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.event.ring_memory import RingMemory
    from rawbpf.syscall.protocol import Backend

RINGS = native("rings")
KINDS = ["ringbuf", "user_ringbuf"]
HEADER = c.BPF_RINGBUF_HDR_SZ
RECORD = struct.Struct("=QQ")
SLOT = HEADER + RECORD.size
SUBMIT, DISCARD = 0, 1
# The program of `rings` is called back, which takes a compiler in the kernel: one without has no such file.
needs_user_ring = pytest.mark.needs("map_type:user_ringbuf", "module:elftools")
needs_drain = pytest.mark.needs("file:/proc/sys/net/core/bpf_jit_enable")

pytestmark = [pytest.mark.needs("map_type:ringbuf", "prog_type:syscall")]


def writer(ring: rawbpf.RingBufMap) -> rawbpf.Program:
    """Load a program that reserves a record, fills it from its context, and submits or discards it."""
    instructions = [
        b.mov_reg(b.R6, b.R1),
        b.ld_map_fd(b.R1, ring.fileno()),
        b.mov_imm(b.R2, RECORD.size),
        b.mov_imm(b.R3, 0),
        b.call(helper_number("ringbuf_reserve")),
        b.jump_imm(b.R0, "!=", 0, 2),
        b.mov_imm(b.R0, 1),
        b.exit_(),
        *[i for at in (0, 8) for i in (b.load_mem(b.R1, b.R6, at), b.store_reg(b.R0, at, b.R1))],
        b.load_mem(b.R3, b.R6, 16),
        b.mov_reg(b.R1, b.R0),
        b.mov_imm(b.R2, 0),
        b.jump_imm(b.R3, "!=", SUBMIT, 2),
        b.call(helper_number("ringbuf_submit")),
        b.jump(1),
        b.call(helper_number("ringbuf_discard")),
        b.mov_imm(b.R0, 0),
        b.exit_(),
    ]
    return rawbpf.Program.load("syscall", instructions)


def write(program: rawbpf.Program, first: int, second: int, what: int = SUBMIT) -> bool:
    return program.run(ctx=struct.pack("=QQQ", first, second, what)).retval == 0


def taken(memory: RingMemory) -> Iterator[tuple[bool, bytes]]:
    """Yield (whether it was discarded, the bytes) of each record, and then give the room back."""
    position, end = memory.consumer[0], memory.producer[0]
    while position < end:
        at = position % memory.size
        (length,) = struct.unpack_from("=I", memory.data, at)
        assert not length & c.BPF_RINGBUF_BUSY_BIT
        size = length & ~c.BPF_RINGBUF_DISCARD_BIT
        yield length != size, bytes(memory.data[at + HEADER : at + HEADER + size])
        position += HEADER + size + 7 & ~7
    memory.consumer[0] = position


def numbers(memory: RingMemory) -> list[tuple[int, int]]:
    return [RECORD.unpack(record) for _, record in taken(memory)]


def put(memory: RingMemory, content: bytes, bits: int = 0) -> None:
    """Write a record as user space does: the record, its header, and then the position."""
    position = memory.producer[0]
    at = position % memory.size
    memory.data[at + HEADER : at + HEADER + len(content)] = content
    struct.pack_into("=II", memory.data, at, len(content) | bits, 0)
    memory.producer[0] = position + (HEADER + len(content) + 7 & ~7)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_records_that_a_program_submits_lie_in_the_memory(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, writer(ring) as program, ring.memory() as memory:
        assert memory.available == 0
        assert write(program, 1, 2)
        assert write(program, 3, 4, DISCARD)
        assert write(program, 5, 6)
        assert (memory.consumer[0], memory.producer[0], memory.available) == (0, 3 * SLOT, 3 * SLOT)
        assert list(taken(memory)) == [
            (False, RECORD.pack(1, 2)),
            (True, RECORD.pack(3, 4)),
            (False, RECORD.pack(5, 6)),
        ]
        assert memory.available == 0


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_a_record_that_reaches_beyond_the_end_reads_in_one_piece(backend: Backend) -> None:
    fitting = PAGE // SLOT
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, writer(ring) as program, ring.memory() as memory:
        for number in range(fitting):
            assert write(program, number, ~number & 0xFFFF)
        assert numbers(memory) == [(number, ~number & 0xFFFF) for number in range(fitting)]
        assert PAGE - fitting * SLOT < SLOT
        assert write(program, 0x1111111111111111, 0x2222222222222222)
        assert numbers(memory) == [(0x1111111111111111, 0x2222222222222222)]
        tail = memory.producer[0] - PAGE
        assert bytes(memory.data[:tail]) == RECORD.pack(0x1111111111111111, 0x2222222222222222)[-tail:]
        assert bytes(memory.data[:PAGE]) == bytes(memory.data[PAGE:])


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_the_room_of_a_full_ring_comes_back_with_the_consumers_position(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, writer(ring) as program, ring.memory() as memory:
        written = 0
        while write(program, written, 0):
            written += 1
        assert written == PAGE // SLOT
        assert len(numbers(memory)) == written
        assert write(program, written, 0)
        assert numbers(memory) == [(written, 0)]


@pytest.mark.guest
def test_of_a_ring_only_the_consumers_position_can_be_written(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring, ring.memory() as memory:
        memory.consumer[0] = 0
        for view in (memory.producer, memory.data):
            with pytest.raises(TypeError, match="read-only"):
                view[0] = 1


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
@needs_user_ring
@needs_drain
def test_a_program_drains_what_user_space_wrote(backend: Backend) -> None:
    with (
        rawbpf.load(RINGS) as obj,
        obj.maps["requests"].memory() as requests,
        obj.maps["answers"].memory() as answers,
    ):
        drain = obj.programs["drain"]
        put(requests, struct.pack("=Q", 21))
        put(requests, struct.pack("=Q", 5), c.BPF_RINGBUF_DISCARD_BIT)
        put(requests, struct.pack("=Q", 50))
        assert requests.available == 48
        assert drain.run(ctx=bytes(8)).retval == 2
        assert requests.available == 0
        assert [record for _, record in taken(answers)] == [struct.pack("=Q", 42), struct.pack("=Q", 100)]

        # A record that is still being written stops the program.
        put(requests, struct.pack("=Q", 7), c.BPF_RINGBUF_BUSY_BIT)
        drain.run(ctx=bytes(8))
        assert requests.available == 16
        assert answers.available == 0
        struct.pack_into("=I", requests.data, requests.consumer[0] % requests.size, 8)
        assert drain.run(ctx=bytes(8)).retval == 1
        assert [record for _, record in taken(answers)] == [struct.pack("=Q", 14)]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
@needs_user_ring
@needs_drain
def test_a_request_may_reach_beyond_the_end_of_the_ring(backend: Backend) -> None:
    with (
        rawbpf.load(RINGS) as obj,
        obj.maps["requests"].memory() as requests,
        obj.maps["answers"].memory() as answers,
    ):
        big = requests.size - 16  # the next header is the last thing before the end
        put(requests, struct.pack("=Q", 1).ljust(big - HEADER, b"\0"))
        put(requests, b"")  # as the first, it leaves room for a header only
        obj.programs["drain"].run(ctx=bytes(8))
        assert requests.producer[0] == requests.size - 8
        put(requests, struct.pack("=Q", 1000))
        assert obj.programs["drain"].run(ctx=bytes(8)).retval == 1
        assert [record for _, record in taken(answers)] == [struct.pack("=Q", 2), struct.pack("=Q", 2000)]


@pytest.mark.guest
@needs_user_ring
def test_of_a_user_ring_only_the_consumers_position_cannot_be_written(backend: Backend) -> None:
    with rawbpf.UserRingBufMap.create(max_entries=PAGE) as ring, ring.memory() as memory:
        memory.producer[0] = 0
        memory.data[0] = 1
        assert memory.data[PAGE] == 1
        with pytest.raises(TypeError, match="read-only"):
            memory.consumer[0] = 1


# The size -----------------------------------------------------------------------

SIZES = [
    pytest.param(1, PAGE, id="one byte"),
    pytest.param(PAGE, PAGE, id="a page"),
    pytest.param(PAGE + 1, 2 * PAGE, id="a page and a byte"),
    pytest.param(3 * PAGE, 4 * PAGE, id="three pages"),
    pytest.param(4 * PAGE, 4 * PAGE, id="four pages"),
]


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "rounded"), SIZES)
def test_the_size_is_rounded_up_to_a_power_of_two_pages(backend: Backend, kind: str, size: int, rounded: int) -> None:
    spec = MapSpec("ring", map_type_number(kind), max_entries=size)
    with rawbpf.Map.create(kind, max_entries=size) as ring, create_from_spec(backend, spec, name="ring") as from_spec:
        assert ring.max_entries == ring.info.max_entries == rounded
        assert from_spec.max_entries == from_spec.info.max_entries == rounded
        assert ring.memory().size == rounded
        assert len(ring.memory().data) == 2 * rounded
    assert spec.max_entries == size


@pytest.mark.guest
@needs_user_ring
@needs_drain
def test_the_sizes_of_an_objects_maps_are_completed(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(RINGS)
    with spec.load() as obj:
        sizes = {name: m.info.max_entries for name, m in obj.maps.items()}
    assert sizes == {"requests": max(8192, PAGE), "answers": max(16384, PAGE), "events": backend.host.possible_cpus}
    assert spec.maps["answers"].max_entries == 9000


@pytest.mark.guest
@needs_user_ring
@pytest.mark.parametrize("name", ["answers", "requests", "events"])
@needs_drain
def test_a_map_of_the_completed_size_fits_the_specification(backend: Backend, name: str) -> None:
    spec = rawbpf.ObjectSpec.from_file(RINGS)
    with bpffs(backend) as pins:
        spec.maps[name].pinning = 1
        with spec.load(pin_dir=pins) as first, spec.load(pin_dir=pins) as second:
            assert second.maps[name].same_as(first.maps[name])
            with spec.load(maps={name: first.maps[name]}, pin_dir=pins) as third:
                assert third.maps[name].same_as(first.maps[name])
        spec.maps[name].max_entries = 1 << 16
        with pytest.raises(rawbpf.SpecError, match=rf"max_entries \d+ instead of {1 << 16}"):
            spec.load(pin_dir=pins)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({}, TypeError, "needs max_entries=, how many bytes", id="no size"),
        pytest.param({"max_entries": 0}, ValueError, "max_entries, the size in bytes, must not be 0", id="size 0"),
        pytest.param({"max_entries": (1 << 31) + 1}, rawbpf.BpfError, r"; try 2147483648$", id="too large"),
        pytest.param({"max_entries": PAGE, "key": "u32"}, ValueError, "must be 0, not 4: leave key= out", id="keys"),
        pytest.param({"max_entries": PAGE, "value": 8}, ValueError, "must be 0, not 8: leave value= out", id="values"),
        pytest.param(
            {"max_entries": PAGE, "flags": c.BPF_F_NO_PREALLOC},
            rawbpf.BpfError,
            "does not take the flag BPF_F_NO_PREALLOC",
            id="flags",
        ),
    ],
)
def test_what_makes_no_ring_is_said(
    backend: Backend,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a small machine the size would be too large before it is no power of two.
    monkeypatch.setattr(KernelHost, "memory_available", property(lambda _: None))
    with pytest.raises(error, match=message):
        rawbpf.Map.create(kind, **options)


# Elements, closing, refusals -------------------------------------------------------


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(len, id="len"),
        pytest.param(list, id="iterate"),
        pytest.param(lambda m: m[0], id="read"),
        pytest.param(lambda m: m.__setitem__(0, 0), id="write"),
        pytest.param(lambda m: b"" in m, id="in"),
        pytest.param(lambda m: m.clear(), id="clear"),
        pytest.param(lambda m: m.raw[b""], id="raw"),
    ],
)
def test_a_ring_has_no_verbs_of_elements(backend: Backend, kind: str, use: Callable[[Any], object]) -> None:
    with rawbpf.Map.create(kind, max_entries=PAGE) as m, pytest.raises((TypeError, AttributeError)):
        use(m)


@pytest.mark.guest
def test_a_ring_is_shown_without_types_of_elements(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE, name="events") as m:
        assert repr(m) == f"<RingBufMap 'events': max_entries {PAGE}, fd {m.fileno()}{mark(backend)}>"


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS)
def test_a_ring_opened_by_id_has_the_same_memory(backend: Backend, kind: str) -> None:
    with rawbpf.Map.create(kind, max_entries=PAGE) as ring, rawbpf.Map.from_id(ring.id) as other:
        assert type(other).__name__ == type(ring).__name__
        # The position that user space moves.
        name = "consumer" if kind == "ringbuf" else "producer"
        with ring.memory() as mine, other.memory() as theirs:
            getattr(mine, name)[0] = 64
            assert getattr(theirs, name)[0] == 64


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.guest
def test_the_memory_outlives_the_map_and_views_outlive_the_memory(backend: Backend) -> None:
    before = _mappings()
    ring = rawbpf.RingBufMap.create(max_entries=PAGE)
    with writer(ring) as program:
        memory = ring.memory()
        ring.close()
        assert write(program, 8, 9)
        data = memory.data
        memory.close()
        memory.close()
        assert memory.closed
        assert RECORD.unpack_from(data, HEADER) == (8, 9)
        assert _mappings() > before
        del data
        assert _mappings() == before


@pytest.mark.guest
def test_closed_memory_and_closed_maps_raise_closed(backend: Backend) -> None:
    ring = rawbpf.RingBufMap.create(max_entries=PAGE, name="gone")
    memory = ring.memory()
    memory.close()
    assert f"'gone' (ringbuf): {PAGE} bytes, closed" in repr(memory)
    for use in (lambda: memory.data, lambda: memory.available, lambda: memory.consumer, lambda: memory.producer):
        with pytest.raises(rawbpf.Closed, match=r"memory of 'gone' \(ringbuf\)"):
            use()
    ring.close()
    with pytest.raises(rawbpf.Closed, match="gone"):
        ring.memory()


@pytest.mark.guest
@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_ring_opened_for_one_direction_only_cannot_be_mapped(backend: Backend, mode: str) -> None:
    with (
        bpffs(backend) as pins,
        rawbpf.RingBufMap.create(max_entries=PAGE, pin=pins / "ring"),
        rawbpf.Map.from_pin(pins / "ring", mode=mode) as ring,
        pytest.raises(rawbpf.PermissionDenied, match=r'EACCES: .*mode="rw"'),
    ):
        ring.memory()


@pytest.mark.guest
def test_a_frozen_ring_cannot_be_mapped(backend: Backend) -> None:
    with rawbpf.RingBufMap.create(max_entries=PAGE) as ring:
        ring.freeze()
        with pytest.raises(rawbpf.PermissionDenied, match="EPERM: the map is frozen"):
            ring.memory()


def _mappings() -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("bpf-map")
