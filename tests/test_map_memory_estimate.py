"""What a map will take is known before it is made, and one that the machine cannot hold is not tried."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.map_shapes import PAGE, SMALLEST, each

import rawbpf
from rawbpf.syscall import footprint
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.host import KernelHost
from rawbpf.syscall.map import map_create
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_number

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

# What the estimate may differ by: the head of each type, and the rest in parts of what the kernel says.
HEAD = 256
PART = 0.05
# The kernel counts nothing of these until they are used; what it says then is the next test.
COUNT_NOTHING = ("lpm_trie", "arena", "sk_storage", "inode_storage", "task_storage", "cgrp_storage")


def _charged(backend: Backend, fd: int) -> int:
    return next(int(line.split()[1]) for line in backend.fdinfo(fd).splitlines() if line.startswith("memlock:"))


@pytest.mark.real_kernel("kernel/bpf/hashtab.c:htab_map_mem_usage and its like: simulated maps take other memory")
@pytest.mark.needs("kernel", "capability:CAP_NET_ADMIN")
@pytest.mark.parametrize("entries", [1, 8, 1000, 4096], ids="{} entries".format)
@pytest.mark.parametrize("word", each(word for word in SMALLEST if word not in COUNT_NOTHING))
def test_the_estimate_agrees_with_what_the_kernel_charges(backend: Backend, word: str, entries: int) -> None:
    key_size, value_size, least, flags = SMALLEST[word]
    shape: dict[str, Any] = {
        "map_type": map_type_number(word),
        "key_size": key_size,
        "value_size": value_size,
        "max_entries": {0: 0, PAGE: PAGE * (1 << entries.bit_length() - 1)}.get(least, entries),
        "map_flags": flags,
    }
    if word == "cpumap":
        shape["max_entries"] = min(entries, backend.host.possible_cpus)
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as inner:
        if word.endswith("_of_maps"):
            shape["inner_map_fd"] = inner.fileno()
        fd = map_create(backend, **shape)
    try:
        charged = _charged(backend, fd)
    finally:
        backend.close(fd)
    assert footprint.memory_at_once(backend.host, shape) == pytest.approx(charged, rel=PART, abs=HEAD)


@pytest.mark.real_kernel("kernel/bpf/hashtab.c:htab_map_mem_usage and its like: simulated maps take other memory")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("hash", {"key": "u64", "value": 40, "max_entries": 3000}, id="hash"),
        pytest.param(
            "hash", {"key": 7, "value": 40, "max_entries": 3000, "flags": c.BPF_F_NO_PREALLOC}, id="hash that grows"
        ),
        pytest.param("lru_hash", {"key": "u32", "value": 3, "max_entries": 3000}, id="lru_hash"),
        pytest.param("percpu_hash", {"key": "u32", "value": "u64", "max_entries": 3000}, id="percpu_hash"),
        pytest.param(
            "percpu_hash",
            {"key": "u32", "value": "u64", "max_entries": 3000, "flags": c.BPF_F_NO_PREALLOC},
            id="percpu_hash that grows",
        ),
        pytest.param("array", {"value": "u64", "max_entries": 3000}, id="array in memory"),
        pytest.param("array", {"value": 12, "max_entries": 3000, "flags": c.BPF_F_RDONLY_PROG}, id="array"),
        pytest.param("percpu_array", {"value": 12, "max_entries": 3000}, id="percpu_array"),
        pytest.param(
            "lpm_trie", {"key": {"bits": "u32", "address": "ipv4"}, "value": "u64", "max_entries": 3000}, id="lpm_trie"
        ),
    ],
)
def test_a_full_map_takes_what_was_estimated(backend: Backend, kind: str, options: dict[str, Any]) -> None:
    estimate = rawbpf.Map.estimate_memory(kind, **options)
    m: Any
    with rawbpf.Map.create(kind, **options) as m:
        if "array" not in kind:
            size, width = m.key_type.size, m.value_type.size
            keys = (_network(i) if kind == "lpm_trie" else i.to_bytes(size, "little") for i in range(3000))
            m.raw.update((key, bytes(width)) for key in keys)
        charged = m.info.memory
    assert estimate == pytest.approx(charged, rel=PART, abs=HEAD)


def _network(i: int) -> bytes:
    return struct.pack("=I", 32) + struct.pack(">I", 0x0A000000 + i)


def test_classes_estimate_for_their_own_type(backend: Backend) -> None:
    shape: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": 1000}
    assert rawbpf.LruHashMap.estimate_memory(**shape) == rawbpf.Map.estimate_memory("lru_hash", **shape)
    with pytest.raises(TypeError, match="needs a map type"):
        rawbpf.Map.estimate_memory(**shape)
    with pytest.raises(TypeError, match="makes maps of type hash"):
        rawbpf.HashMap.estimate_memory("array", **shape)
    with pytest.raises(TypeError, match="max_entries"):
        rawbpf.HashMap.estimate_memory(key="u32", value="u64")


@pytest.mark.parametrize("entries", [1 << 30, 1 << 31, (1 << 32) - 1])
def test_a_bloom_filter_takes_half_a_gib_at_most(backend: Backend, entries: int) -> None:
    assert rawbpf.Map.estimate_memory("bloom_filter", value="u64", max_entries=entries) >> 20 == 512


def test_estimating_makes_no_call(backend: Backend) -> None:
    calls: list[Call] = []
    rawbpf.HashMap.estimate_memory(key="u32", value=8, max_entries=1 << 30, backend=TraceBackend(backend, calls.append))
    assert calls == []


def test_memory_grows_with_the_possible_cpus(backend: Backend) -> None:
    def per_element(kind: str) -> float:
        options: dict[str, Any] = {"value": 800, "max_entries": 10000}
        return rawbpf.Map.estimate_memory(kind, **options) / 10000

    grown = per_element("percpu_array") - per_element("array")
    assert grown == pytest.approx(800 * (backend.host.possible_cpus - 1) + 8, abs=1)


@pytest.mark.parametrize(
    ("kind", "options", "advice"),
    [
        pytest.param("array", {"value": 8}, "lower max_entries", id="array"),
        pytest.param("hash", {"key": "u32", "value": 8}, "lower max_entries", id="hash"),
        pytest.param("lru_hash", {"key": "u32", "value": 8}, "lower max_entries", id="lru_hash"),
        pytest.param("percpu_array", {"value": 8}, "lower max_entries", id="percpu_array"),
        pytest.param("prog_array", {}, "lower max_entries", id="prog_array"),
    ],
)
def test_a_map_for_which_there_is_no_memory_is_refused_before_the_call(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], advice: str
) -> None:
    calls: list[Call] = []
    monkeypatch.setattr(type(backend.host), "memory_available", property(lambda _: 3 << 30), raising=False)
    with pytest.raises(rawbpf.BpfError) as caught:
        rawbpf.Map.create(kind, max_entries=1 << 30, backend=TraceBackend(backend, calls.append), **options)
    assert calls == []
    assert caught.value.errno == 12
    assert caught.value.cmd == c.BPF_MAP_CREATE
    text = str(caught.value)
    needed = footprint.amount(rawbpf.Map.estimate_memory(kind, max_entries=1 << 30, **options))
    assert f"about {needed} of kernel memory at once" in text
    assert "3.0 GiB available" in text
    assert advice in text
    assert f"({kind}" in text


def test_what_would_not_help_is_not_advised(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend.host), "memory_available", property(lambda _: 3 << 30), raising=False)
    shape: dict[str, Any] = {"key": "u32", "value": "u64", "max_entries": 1 << 30}
    with pytest.raises(rawbpf.BpfError, match=r"or allocate as it fills \(BPF_F_NO_PREALLOC\)$"):
        rawbpf.HashMap.create(key="u32", value=4096, max_entries=1 << 20)
    for flags in (0, c.BPF_F_NO_PREALLOC):  # the table alone is too large
        with pytest.raises(rawbpf.BpfError, match=r"lower max_entries$"):
            rawbpf.HashMap.create(flags=flags, **shape)
    # Where the kernel is who says it, too.
    lazy = FaultBackend(backend, {c.BPF_MAP_CREATE: [(1, 12), (2, 12)]})
    with pytest.raises(rawbpf.BpfError, match="lower max_entries; a memory cgroup"):
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, flags=c.BPF_F_NO_PREALLOC, backend=lazy)


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel")
def test_what_the_machine_has_available_is_what_it_says(backend: Backend) -> None:
    available = backend.host.memory_available
    assert available is not None
    with open("/proc/meminfo", encoding="ascii") as file:
        said = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemTotal"))
    assert 0 < available < said


@pytest.mark.real_kernel("a simulated machine has no more memory than it says")
def test_small_maps_are_made_without_looking_at_the_memory(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> int:
        raise AssertionError("/proc/meminfo was read")

    monkeypatch.setattr(type(backend.host), "memory_available", property(refuse), raising=False)
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=10000):
        pass


def test_where_the_memory_is_not_known_the_kernel_decides(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend.host), "memory_available", property(lambda _: None), raising=False)
    with rawbpf.Map.create("array", value=1 << 20, max_entries=65) as m:
        assert m.info.memory == pytest.approx(65 << 20, rel=PART)


@pytest.mark.real_kernel("a simulated machine has no more memory than it says")
def test_maps_that_allocate_as_they_fill_are_exempt(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend.host), "memory_available", property(lambda _: 1 << 20), raising=False)
    flags = c.BPF_F_NO_PREALLOC
    with rawbpf.HashMap.create(key="u32", value=4096, max_entries=1 << 18, flags=flags) as m:
        m[1] = bytes(4096)
    with rawbpf.Map.create("lpm_trie", key={"bits": "u32", "address": "ipv4"}, value=4096, max_entries=1 << 20) as m:
        assert m.info.memory == 0


@pytest.mark.needs("kernel", "module:elftools")
def test_a_map_of_an_object_is_refused_as_well(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(backend.host), "memory_available", property(lambda _: 1 << 30), raising=False)
    spec = rawbpf.ObjectSpec.from_file(Path(__file__).resolve().parents[1] / "bpf/execcount.bpf.o")
    spec.maps["exec_count"].max_entries = 1 << 28
    with pytest.raises(rawbpf.BpfError, match=r"'exec_count'.* of kernel memory at once, and the machine has 1.0 GiB"):
        spec.load()


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemAvailable:\n", "MemAvailable: many kB\n"])
def test_strange_meminfo_says_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(text))
    assert KernelHost().memory_available is None
