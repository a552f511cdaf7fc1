"""A simulator of an older release refuses what that kernel had not yet, and rawbpf's own fallbacks work on it."""

from __future__ import annotations

import ctypes
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.btf_image import ENUM64, TYPE_TAG, Image

import rawbpf
from rawbpf import features
from rawbpf.errors import errno_name
from rawbpf.sim import Simulator
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi import names, since
from rawbpf.uapi.helper import HELPERS
from rawbpf.uapi.layout import Layout

RELEASES = ["4.19", "5.10", "5.15", "6.1", "6.12", "6.18"]


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _reached(release: str, first: str | None) -> bool:
    return first is not None and _version(first) <= _version(release)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def old(release: str) -> Iterator[Simulator]:
    with Simulator(release=release) as simulator, rawbpf.using(simulator):
        yield simulator


def _call(sim: Simulator, layout: Layout, at_most: int = 0, /, **values: int | bytes) -> str:
    image = layout.pack(**values)
    result = sim.bpf(layout.cmd, ctypes.byref(image), at_most or layout.size)
    if result < 0:
        return errno_name(ctypes.get_errno())
    if result:
        sim.close(result)
    return ""


PLAIN: dict[str, int | bytes] = {"map_type": c.BPF_MAP_TYPE_ARRAY, "key_size": 4, "value_size": 4, "max_entries": 1}


def test_map_types_are_those_of_the_release(release: str, old: Simulator) -> None:
    for number in range(1, c.BPF_MAP_TYPE_ARENA + 1):
        word = names.map_type_name(number)
        assert bool(features.map_type(number)) == _reached(release, since.MAP_TYPES[word]), word


def test_program_types_are_those_of_the_release(release: str, old: Simulator) -> None:
    for word, first in since.PROG_TYPES.items():
        assert bool(features.prog_type(word)) == _reached(release, first), word


def test_helpers_are_those_of_the_release(release: str, old: Simulator) -> None:
    for number in range(1, len(HELPERS)):
        first = since.helper(number)
        if first is not None and not _reached(release, first):
            assert not features.helper("socket_filter", number), number
    assert features.helper("socket_filter", "map_lookup_elem")


@pytest.mark.parametrize("name", since.COMMANDS)
def test_a_command_that_is_too_new_is_einval(name: str) -> None:
    layout = next(layout for layout in a.LAYOUTS.values() if layout.name == name)
    major, minor = _version(since.COMMANDS[name])
    before = f"{major}.{minor - 1}" if minor else f"{major - 1}.20"
    with Simulator(release=before) as sim:
        assert _call(sim, layout) in ("EINVAL", "E2BIG")


# A field of MAP_CREATE, the release that brought it, and what the one before says: beyond its union, or only beyond
# the command.
FIELDS = {
    "btf_vmlinux_value_type_id": ("5.5", "5.6", "EINVAL"),
    "map_extra": ("5.15", "5.16", "EINVAL"),
    "map_token_fd": ("6.8", "6.9", "EINVAL"),
    "excl_prog_hash_size": ("6.12", "6.18", "EINVAL"),
}


@pytest.mark.parametrize(("before", "first", "refused"), FIELDS.values(), ids=FIELDS)
def test_fields_that_are_too_new_are_refused(
    request: pytest.FixtureRequest, before: str, first: str, refused: str
) -> None:
    field = request.node.callspec.id
    with Simulator(release=before) as sim:
        assert _call(sim, a.MAP_CREATE, a.MAP_CREATE.end(field), **PLAIN, **{field: 1}) == refused
    with Simulator(release=first) as sim:
        assert _call(sim, a.MAP_CREATE, a.MAP_CREATE.end(field), **PLAIN) == ""


UNIONS = {"4.19": 72, "5.10": 120, "5.15": 128, "6.1": 144, "6.12": 152, "6.18": 168}


def test_bytes_beyond_the_union_are_too_big(release: str, old: Simulator) -> None:
    size = UNIONS[release]
    image = a.MAP_CREATE.pack(**PLAIN)
    for length, errno in ((size, "EINVAL"), (size + 4, "E2BIG")):
        room = ctypes.create_string_buffer(image.raw[: length - 1] + b"\1", length)
        assert old.bpf(c.BPF_MAP_CREATE, ctypes.byref(room), length) == -1
        assert errno_name(ctypes.get_errno()) == errno
    assert _call(old, a.MAP_CREATE, **PLAIN) == ""


FLAGS = {
    "zero_seed": (c.BPF_MAP_TYPE_HASH, c.BPF_F_ZERO_SEED, "5.0"),
    "rdonly_prog": (c.BPF_MAP_TYPE_ARRAY, c.BPF_F_RDONLY_PROG, "5.2"),
    "mmapable": (c.BPF_MAP_TYPE_ARRAY, c.BPF_F_MMAPABLE, "5.5"),
    "inner_map": (c.BPF_MAP_TYPE_ARRAY, c.BPF_F_INNER_MAP, "5.10"),
}


@pytest.mark.parametrize(("kind", "flag", "first"), FLAGS.values(), ids=FLAGS)
def test_flags_are_those_of_the_release(release: str, old: Simulator, kind: int, flag: int, first: str) -> None:
    expected = "" if _reached(release, first) else "EINVAL"
    assert _call(old, a.MAP_CREATE, **(PLAIN | {"map_type": kind, "map_flags": flag})) == expected


BATCHES = {
    "hash": ("hash", "5.6"),
    "array": ("array", "5.6"),
    "percpu_array": ("percpu_array", "5.13"),
    "lpm_trie": ("lpm_trie", "5.13"),
}


def _made(kind: str) -> Any:
    if kind == "lpm_trie":
        return rawbpf.LpmTrieMap.create(key="ipv4", value="u64", max_entries=4)
    if kind == "hash":
        return rawbpf.HashMap.create(key="u32", value="u64", max_entries=4)
    return rawbpf.Map.create("percpu_array" if kind == "percpu_array" else "array", value="u64", max_entries=4)


def _key(kind: str, at: int) -> object:
    return ipaddress.ip_network(f"10.{at}.0.0/16") if kind == "lpm_trie" else at


@pytest.mark.parametrize(("kind", "first"), BATCHES.values(), ids=BATCHES)
def test_a_map_is_read_in_batches_or_key_by_key(release: str, old: Simulator, kind: str, first: str) -> None:
    cpus = old.host.possible_cpus if kind == "percpu_array" else 0
    with _made(kind) as m:
        for at in range(4):
            m[_key(kind, at)] = [at + 5] * cpus if cpus else at + 5
        found = {key: value.sum() if cpus else value for key, value in m.items()}
        assert found == {_key(kind, at): (at + 5) * (cpus or 1) for at in range(4)}
        answer = _call(old, a.MAP_LOOKUP_BATCH, map_fd=m.fileno())
    if _reached(release, first):
        assert answer == ""
    else:
        assert answer == ("ENOTSUPP" if _reached(release, "5.6") else "EINVAL")


def test_an_array_is_mapped_where_it_can_be(release: str, old: Simulator) -> None:
    with rawbpf.Map.create("array", value="u32", max_entries=4) as m:
        m[1] = 7
        assert list(m) == [0, 7, 0, 0]
        assert bool(m.info.map_flags & c.BPF_F_MMAPABLE) == _reached(release, "5.5")


def test_elements_are_popped_where_they_can_be(release: str, old: Simulator) -> None:
    with rawbpf.Map.create("hash", key="u32", value="u32", max_entries=4) as m:
        m[1] = 2
        assert m.pop(1) == 2
        assert 1 not in m
        m[1] = 2
        key, value = ctypes.create_string_buffer((1).to_bytes(4, sys.byteorder)), ctypes.create_string_buffer(4)
        pointers = {"key": ctypes.addressof(key), "value": ctypes.addressof(value)}
        answer = _call(old, a.MAP_LOOKUP_AND_DELETE_ELEM, map_fd=m.fileno(), **pointers)
    assert answer == ("" if _reached(release, "5.14") else "ENOTSUPP" if _reached(release, "4.20") else "EINVAL")


def test_kinds_of_types_are_those_of_the_release(release: str, old: Simulator) -> None:
    def load(image: Image) -> str:
        content = image.to_bytes()
        buffer = ctypes.create_string_buffer(content, len(content))
        return _call(old, a.BTF_LOAD, btf=ctypes.addressof(buffer), btf_size=len(content))

    tag, enum64, flagged, signed = Image(), Image(), Image(), Image()
    tag.add(TYPE_TAG, "t", tag.integer())
    enum64.enum("e", ["A"], 8, ENUM64)
    flagged.add(TYPE_TAG, "t", flagged.integer(), flag=1)
    signed.enum("e", ["A"], flag=1)
    for image, first in ((tag, "5.17"), (enum64, "6.0"), (flagged, "6.14"), (signed, "6.0")):
        assert load(image) == ("" if _reached(release, first) else "EINVAL")


def test_info_is_as_long_as_the_release_has_it(release: str, old: Simulator) -> None:
    with rawbpf.Map.create("hash", key="u32", value="u32", max_entries=4, name="old") as m:
        assert (m.info.name, m.info.key_size, m.info.max_entries) == ("old", 4, 4)
        room = ctypes.create_string_buffer(256)
        image = a.OBJ_GET_INFO_BY_FD.pack(bpf_fd=m.fileno(), info_len=256, info=ctypes.addressof(room))
        assert old.bpf(c.BPF_OBJ_GET_INFO_BY_FD, ctypes.byref(image), a.OBJ_GET_INFO_BY_FD.size) == 0
        length = a.OBJ_GET_INFO_BY_FD.integer(image, "info_len")
        assert length == (104 if _reached(release, "6.18") else 88 if _reached(release, "5.16") else 80)
        if _reached(release, "5.4"):
            assert [found.id for found in rawbpf.btfs() if found.name == "vmlinux"] == (
                [1] if _reached(release, "5.11") and old.host.has_btf else []
            )


def test_an_object_is_loaded_with_what_the_release_has(release: str, old: Simulator) -> None:
    spec = rawbpf.ObjectSpec.from_file(Path(__file__).parent.parent / "bpf" / "execcount.bpf.o")
    if not _reached(release, "5.2"):
        # It has constants, which need read-only maps.
        with pytest.raises(rawbpf.BpfError, match="rodata"):
            spec.load()
        return
    with spec.load() as loaded:
        assert set(loaded.maps) == set(spec.maps)
        assert set(loaded.programs) == set(spec.programs)
