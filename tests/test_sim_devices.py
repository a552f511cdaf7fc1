"""Simulated maps of devices and CPUs answer as the running kernel does, on the devices and CPUs that there are."""

from __future__ import annotations

import os
import random
import re
import socket
from typing import TYPE_CHECKING

import pytest
from support.twin import RETURN_0, Side, agree, u32

from rawbpf.asm import build
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("kernel")
LOOPBACK = socket.if_nametoindex("lo")
NO_DEVICE = 0x7FFFFFF0
DEVMAPS = {"devmap": c.BPF_MAP_TYPE_DEVMAP, "devmap_hash": c.BPF_MAP_TYPE_DEVMAP_HASH}
PROGRAMS = {
    "for devices": (c.BPF_PROG_TYPE_XDP, c.BPF_XDP_DEVMAP, 0),
    "for CPUs": (c.BPF_PROG_TYPE_XDP, c.BPF_XDP_CPUMAP, 0),
    "fragments": (c.BPF_PROG_TYPE_XDP, c.BPF_XDP_DEVMAP, c.BPF_F_XDP_HAS_FRAGS),
    "fragments, for CPUs": (c.BPF_PROG_TYPE_XDP, c.BPF_XDP_CPUMAP, c.BPF_F_XDP_HAS_FRAGS),
    "plain": (c.BPF_PROG_TYPE_XDP, 0, 0),
    "filter": (c.BPF_PROG_TYPE_SOCKET_FILTER, 0, 0),
}


def _programs(side: Side) -> None:
    for name, (kind, expected, flags) in PROGRAMS.items():
        assert side.load(name, kind, expected_attach_type=expected, prog_flags=flags)[0] == ""


@pytest.mark.parametrize("map_type", DEVMAPS.values(), ids=DEVMAPS)
@pytest.mark.parametrize("value_size", [4, 8])
def test_device_maps_take_devices_that_there_are(map_type: int, value_size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        _programs(side)
        yield side.make_map("m", map_type, value_size=value_size)
        for flags in (0, 1, 2, 3, 4, 8, 1 << 32):
            for ifindex in (LOOPBACK, 0, NO_DEVICE, 0xFFFFFFFF):
                for fd in (0, -1, side.fds["m"], *(side.fds[name] for name in PROGRAMS), 1 << 30):
                    for key in (0, 3, 4, 1 << 20):
                        asked = (flags, ifindex, key)
                        yield asked, side.update("m", u32(key), u32(ifindex, fd), flags), side.lookup("m", u32(key))
        yield side.keys("m"), [side.delete("m", u32(key)) for key in (0, 0, 3, 4, 99)], side.keys("m")

    agree(scenario)


@pytest.mark.parametrize("map_type", DEVMAPS.values(), ids=DEVMAPS)
def test_device_maps_agree_over_many_commands(map_type: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        yield side.make_map("m", map_type, max_entries=5)
        chance = random.Random(map_type)
        for _ in range(1000):
            key = u32(chance.choice((0, 1, 2, 3, 4, 5, 8, 9, 16, 1 << 31)))
            ifindex = u32(chance.choice((LOOPBACK, LOOPBACK, 0, NO_DEVICE)))
            verb = chance.choice(("update", "update", "delete", "lookup", "keys"))
            if verb == "update":
                yield key, side.update("m", key, ifindex, chance.choice((0, 0, 0, 1, 2)))
            elif verb == "delete":
                yield key, side.delete("m", key)
            else:
                yield key, side.lookup("m", key) if verb == "lookup" else side.keys("m")

    agree(scenario)


@pytest.mark.parametrize("value_size", [4, 8])
def test_cpu_maps_take_cpus_that_there_are(value_size: int) -> None:
    cpus = os.cpu_count() or 1

    def scenario(side: Side) -> Iterator[object]:
        _programs(side)
        with open("/sys/devices/system/cpu/kernel_max", encoding="ascii") as file:
            most = int(file.read()) + 1
        yield [side.make_map("large", c.BPF_MAP_TYPE_CPUMAP, max_entries=entries) for entries in (most, most + 1)]
        yield side.make_map("m", c.BPF_MAP_TYPE_CPUMAP, value_size=value_size, max_entries=cpus + 2)
        for flags in (0, 1, 2, 3, 4):
            for length in (64, 0, 16384, 16385):
                for fd in (0, -1, side.fds["m"], *(side.fds[name] for name in PROGRAMS), 1 << 30):
                    for key in (0, cpus + 1, cpus + 2):
                        asked = (flags, length, key)
                        yield asked, side.update("m", u32(key), u32(length, fd), flags), side.lookup("m", u32(key))
        yield side.keys("m"), [side.delete("m", u32(key)) for key in (0, 0, cpus + 1, cpus + 2)]

    agree(scenario)


@pytest.mark.parametrize("map_type", [*DEVMAPS.values(), c.BPF_MAP_TYPE_CPUMAP], ids=[*DEVMAPS, "cpumap"])
def test_what_uses_a_map_of_programs_has_to_be_like_them(map_type: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        _programs(side)
        yield side.make_map("m", map_type, value_size=8)
        code = [build.ld_map_fd(2, side.fds["m"]), *RETURN_0]
        for kind, flags in ((c.BPF_PROG_TYPE_XDP, 0), (c.BPF_PROG_TYPE_XDP, c.BPF_F_XDP_HAS_FRAGS)):
            yield side.load(f"user {flags}", kind, code, prog_flags=flags)[0]
        yield [side.update("m", u32(0), u32(LOOPBACK, side.fds[name])) for name in PROGRAMS]

    assert re.search("ENOMEM|EINVAL", str(agree(scenario))) or map_type != c.BPF_MAP_TYPE_CPUMAP
