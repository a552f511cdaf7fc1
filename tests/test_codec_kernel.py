"""Codecs against the kernel: it takes the BTF that they add, and finds the keys that they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.needs import require

import rawbpf
from rawbpf.btf import Btf, Builder
from rawbpf.codec import codec_for
from rawbpf.syscall.btf import btf_load

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.guest

DESCRIPTIONS: list[Any] = [
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "be16", "be32", "be64", "f32", "f64", "bool", "char[16]",
    "u8[3]", 5, "u32[3]", "be16[2]", "char[2][4]", "ipv4", "ipv6", "mac",
    {"a": "u8", "b": {"c": "be32", "d": "mac"}, "class": "bool[2]", "e": "f64"},
    {"lock": "bpf_spin_lock", "timer": "bpf_timer", "count": "u64"},
]  # fmt: skip


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=str)
def test_the_kernel_takes_the_btf_of_a_codec(backend: Backend, description: Any) -> None:
    if "f32" in str(description) or "f64" in str(description):
        require("btf_name:BTF_KIND_FLOAT")
    builder = Builder()
    assert codec_for(description).add_to(builder) > 0
    backend.close(btf_load(backend, builder.to_bytes()))


@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.parametrize(
    "name", ["task_struct", "sk_buff", "iphdr", "tcphdr", "bpf_attr", "sock", "page", "module", "file"]
)
def test_the_kernels_own_structs_have_codecs(name: str) -> None:
    with open("/sys/kernel/btf/vmlinux", "rb") as file:
        codec: Any = codec_for(Btf.from_bytes(file.read())[name])
    for raw in (bytes(codec.size), bytes(index % 255 + 1 for index in range(codec.size))):
        value = codec.unpack(raw)
        assert codec.pack(value) == codec.encode(value, "") == raw


KEYS: list[Any] = [
    "u32",
    "char[8]",
    "f32",
    "bool",
    {"a": "u8", "b": "u32"},
    {"name": "char[5]", "id": "u16", "x": "bool"},
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_that_came_from_a_map_finds_its_entry(backend: Backend, key: Any) -> None:
    size = codec_for(key).size
    raws = [bytes(size), bytes(range(1, size + 1)), b"\xff" * size]
    if size > 1:
        raws.append(b"a".ljust(size - 1, b"\0") + b"z")
    with rawbpf.Map.create("hash", key=key, value="u32", max_entries=8) as m:
        for number, raw in enumerate(raws):
            m.raw[raw] = number.to_bytes(4, backend.host.byteorder)
        found = {m[one] for one in m.keys()}  # noqa: SIM118  # iteration is not what is tested
        assert found == set(range(len(raws)))
        for one in list(m.keys()):
            del m[one]
        assert len(m) == 0
