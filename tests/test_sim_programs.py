"""Simulated programs: refused for what comes before the verifier as on the running kernel, held as info shows them."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.twin import RETURN_0, Side, agree, u32

import rawbpf
from rawbpf import features
from rawbpf.asm import build
from rawbpf.asm.instruction import Instruction, decode
from rawbpf.btf.build import Builder
from rawbpf.sim import Simulator
from rawbpf.syscall.current import using
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi.helper import HELPERS
from rawbpf.uapi.names import prog_type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.uapi.layout import Layout

SUFFIX = ".bpf.o" if sys.byteorder == "little" else ".bpfeb.o"
OBJECTS = sorted((Path(__file__).parent.parent / "bpf").glob(f"*{SUFFIX}"))
needs_kernel = pytest.mark.needs("kernel")
# Types that this kernel may refuse to everyone, by a security module or for lack of a driver.
NOT_EVERYWHERE = (c.BPF_PROG_TYPE_LIRC_MODE2, c.BPF_PROG_TYPE_EXT, c.BPF_PROG_TYPE_LSM)
PROG_TYPES = [number for number in range(1, c.BPF_PROG_TYPE_NETFILTER + 1) if number not in NOT_EVERYWHERE]


# What a security module may forbid.
_FORBIDDEN = (c.BPF_TRACE_FENTRY, c.BPF_TRACE_FEXIT, c.BPF_MODIFY_RETURN)


def _load_64(source: int, imm: int, second: int = 0, offset: int = 0) -> bytes:
    return struct.pack("=BBhiBBhi", 0x18, source << 4 | 1, offset, imm, 0, 0, 0, second)


RETURN = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
CODE: dict[str, list[Instruction] | bytes] = {
    "nothing": b"",
    "unknown opcode": bytes([0xFF]) + bytes(7) + RETURN,
    "an opcode of the kernel's own": bytes([0xF5]) + bytes(7) + RETURN,
    "load with reserved fields": struct.pack("<BBhi", 0x61, 0x10, 0, 1) + RETURN,
    "a jump beyond the end": [build.jump(5), *RETURN_0],
    "a jump before the beginning": [build.jump(-5), *RETURN_0],
    "no end": [build.mov_imm(0, 0)],
    "a call beyond the end": [build.call_slot(9), *RETURN_0],
    "half a load": struct.pack("<BBhi", 0x18, 1, 0, 0),
    "a load without a second half": struct.pack("<BBhi", 0x18, 1, 0, 0) + RETURN,
    "an unknown kind of load": _load_64(9, 0) + RETURN,
    "no map": _load_64(c.BPF_PSEUDO_MAP_FD, 1 << 20) + RETURN,
    "no map by index": _load_64(c.BPF_PSEUDO_MAP_IDX, 0) + RETURN,
    "a helper that no kernel has": [build.call(999), *RETURN_0],
    "helper 0": [build.call(0), *RETURN_0],
    "a helper of another type": [build.call(HELPERS.index("xdp_adjust_head")), *RETURN_0],
}


def _without_places(log: bytes) -> list[bytes]:
    # The messages: which registers there are, and how much was verified, only a verifier knows.
    # Some messages of the kernel do not end their line.
    lines = log.replace(b"processed ", b"\nprocessed ").splitlines()
    return [line for line in lines if line and not line.startswith((b"processed ", b"0: R1=", b"func#"))]


@needs_kernel
@pytest.mark.parametrize("name", CODE)
def test_instructions_are_refused_in_the_words_of_the_kernel(name: str) -> None:
    def scenario(side: Side) -> Iterator[object]:
        error, log, _ = side.load("p", c.BPF_PROG_TYPE_SOCKET_FILTER, CODE[name], log_level=1, log_size=4096)
        yield error, _without_places(log)

    assert agree(scenario)[0] != ("", [])


@needs_kernel
def test_references_to_maps_are_refused_in_the_words_of_the_kernel() -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("one", c.BPF_MAP_TYPE_ARRAY, max_entries=1)
        side.make_map("many", c.BPF_MAP_TYPE_ARRAY, max_entries=4)
        side.make_map("hash", c.BPF_MAP_TYPE_HASH)
        for name in ("one", "many", "hash"):
            for source in range(7):
                for second in (0, 3, 4, 1 << 29, -1):
                    code = _load_64(source, side.fds[name], second) + RETURN
                    if source in (c.BPF_PSEUDO_BTF_ID, c.BPF_PSEUDO_FUNC):
                        continue
                    error, log, _ = side.load("p", c.BPF_PROG_TYPE_SOCKET_FILTER, code, log_level=1, log_size=4096)
                    yield name, source, second, error, _without_places(log)
                    if not error:
                        side.let_go("p")

    agree(scenario)


@needs_kernel
def test_arrays_of_descriptors_are_read_as_the_kernel_reads_them() -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY)
        side.load("other")
        fds = (ctypes.c_int * 4)(side.fds["m"], -1, side.fds["m"], side.fds["other"])
        address = ctypes.addressof(fds)
        for source in (c.BPF_PSEUDO_MAP_IDX, c.BPF_PSEUDO_MAP_FD, 0):
            for array, count in ((address, 0), (address, 1), (address, 2), (address + 12, 1), (0, 1), (8, 0), (8, 1)):
                code = _load_64(source, 0) + RETURN
                error, log, _ = side.load(
                    "p",
                    c.BPF_PROG_TYPE_SOCKET_FILTER,
                    code,
                    log_level=1,
                    log_size=4096,
                    fd_array=array,
                    fd_array_cnt=count,
                )
                # A number says nothing from one kernel to the other.
                words = [line.split(b" is not pointing")[-1] for line in _without_places(log)]
                yield source, array == address, count, error, words, error or side.prog_info("p")["nr_map_ids"]
                if not error:
                    side.let_go("p")
        yield side.load("p", fd_array=address, fd_array_cnt=1 << 30)[0]

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("prog_type", [0, *PROG_TYPES, 33, 1 << 20])
def test_attach_types_go_with_program_types_as_in_the_kernel(prog_type: int) -> None:
    # Some ways to attach let a program return nothing but 1, which the verifier knows.
    code = [build.mov_imm(0, prog_type == c.BPF_PROG_TYPE_CGROUP_SOCK_ADDR), build.exit_()]
    flags = c.BPF_F_SLEEPABLE if prog_type == c.BPF_PROG_TYPE_SYSCALL else 0

    def scenario(side: Side) -> Iterator[object]:
        for attach_type in range(60):
            if prog_type == c.BPF_PROG_TYPE_TRACING and attach_type in _FORBIDDEN:
                continue
            error = side.load("p", prog_type, code, expected_attach_type=attach_type, prog_flags=flags)[0]
            yield attach_type, error
            if not error:
                side.let_go("p")
        for flag in range(32):
            error = side.load("p", prog_type, code, prog_flags=1 << flag)[0]
            if 1 << flag not in (c.BPF_F_TOKEN_FD, c.BPF_F_XDP_DEV_BOUND_ONLY):
                yield 1 << flag, error
            if not error:
                side.let_go("p")

    agree(scenario)


def _load(side: Side, kind: int, level: int, fields: dict[str, int | bytes]) -> tuple[str, bytes]:
    # With fields that replace any other.
    code, text = ctypes.create_string_buffer(RETURN), ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(4096)
    values: dict[str, int | bytes] = {
        "prog_type": kind,
        "insn_cnt": len(RETURN) // 8,
        "insns": ctypes.addressof(code),
        "license": ctypes.addressof(text),
        "log_level": level,
        "log_size": len(log) if level else 0,
        "log_buf": ctypes.addressof(log) if level else 0,
    }
    result, _ = side.call(a.PROG_LOAD, **(values | fields))
    return side.keep("p", result), log.value


@needs_kernel
def test_every_field_is_refused_on_the_same_terms() -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.load("other")
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY)
        kind = c.BPF_PROG_TYPE_SOCKET_FILTER
        wrong: dict[str, tuple[int | bytes, ...]] = {
            "insn_cnt": (0, 1_000_001, 0xFFFFFFFF),
            "insns": (0, 8),
            "license": (0, 8),
            "prog_name": (b"a b", b"x" * 16, b"a.b_C1", b"a-b"),
            "kern_version": (1,),
            "attach_btf_id": (1,),
            "log_level": (1, 8, 16),
            "log_buf": (8,),
            "log_size": (8,),
            "prog_ifindex": (1,),
            "attach_prog_fd": (side.fds["other"], side.fds["m"], 1 << 20),
        }
        alone = [{field: value} for field, values in wrong.items() for value in values]
        alone += [{"func_info_cnt": 1, "prog_btf_fd": fd} for fd in (side.fds["other"], 1 << 20)]
        for fields in alone:
            error = _load(side, kind, 0, fields)[0]
            yield [*fields], error
            if not error:
                side.let_go("p")
        for number in (0, 1, 1 << 19, 1 << 20):
            for attach_type in (c.BPF_TRACE_RAW_TP, c.BPF_CGROUP_DEVICE):
                more: dict[str, int | bytes] = {"attach_btf_id": number, "expected_attach_type": attach_type}
                for kind in (c.BPF_PROG_TYPE_TRACING, c.BPF_PROG_TYPE_STRUCT_OPS, c.BPF_PROG_TYPE_XDP):
                    error, log = _load(side, kind, 1, more)
                    yield number, attach_type, kind, error, _without_places(log)
                    if not error:
                        side.let_go("p")

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("level", [0, 1, c.BPF_LOG_LEVEL1 | c.BPF_LOG_FIXED])
@pytest.mark.parametrize("size", [0, 1, 2, 20, 129, 130, 131, 4096])
def test_a_log_fits_its_buffer_as_the_kernel_makes_it_fit(level: int, size: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        for code in (RETURN[:8], RETURN):
            yield side.load("p", c.BPF_PROG_TYPE_SOCKET_FILTER, code, log_level=level, log_size=size)

    agree(scenario)


@needs_kernel
def test_info_tells_what_a_program_was_loaded_with() -> None:
    builder = Builder()
    number = builder.int("int", 4, signed=True)
    proto = builder.func_proto(number, [])
    function, other = (builder.func(name, proto) for name in ("main", "other"))
    types = builder.to_bytes()
    # main() calls other().
    code = [build.call_slot(1), build.exit_(), *RETURN_0]

    def scenario(side: Side) -> Iterator[object]:
        image = ctypes.create_string_buffer(types, len(types))
        made, _ = side.call(a.BTF_LOAD, btf=ctypes.addressof(image), btf_size=len(types))
        yield side.keep("btf", made)
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY)
        funcs = u32(0, function, 2, other)
        lines = u32(0, 1, 5, 1 << 10, 2, 1, 5, 2 << 10)
        for func_info, line_info, func_size, line_size in (
            (funcs, lines, 8, 16),
            (funcs, b"", 8, 16),
            (b"", lines, 8, 16),
            (u32(0, function), lines, 8, 16),
            (u32(1, function, 2, other), lines, 8, 16),
            (u32(0, function, 3, other), lines, 8, 16),
            (u32(0, function, 0, other), b"", 8, 16),
            (u32(0, number, 2, other), b"", 8, 16),
            (u32(0, 99, 2, other), b"", 8, 16),
            (funcs, u32(0, 1, 5, 0), 8, 16),
            (funcs, u32(0, 1, 5, 0, 9, 1, 5, 0), 8, 16),
            (funcs, u32(0, 999, 5, 0, 2, 1, 5, 0), 8, 16),
            (funcs, u32(1, 1, 5, 0, 2, 1, 5, 0), 8, 16),
            (u32(0, function, 0, 2, other, 0), b"", 12, 16),
            (u32(0, function, 7, 2, other, 0), b"", 12, 16),
            (funcs, b"", 4, 16),
            (funcs, b"", 6, 16),
            (funcs, lines, 8, 12),
        ):
            rooms = [ctypes.create_string_buffer(records, max(len(records), 1)) for records in (func_info, line_info)]
            error, log, _ = side.load(
                "p",
                c.BPF_PROG_TYPE_SOCKET_FILTER,
                code,
                log_level=1,
                log_size=4096,
                prog_btf_fd=side.fds["btf"],
                func_info=ctypes.addressof(rooms[0]),
                func_info_cnt=len(func_info) // func_size,
                func_info_rec_size=func_size,
                line_info=ctypes.addressof(rooms[1]),
                line_info_cnt=len(line_info) // line_size,
                line_info_rec_size=line_size,
            )
            yield error, _without_places(log) if error else []
            if not error:
                yield _records(side)
                side.let_go("p")

    assert len(agree(scenario)) > 20


def _records(side: Side) -> object:
    funcs, lines, tags = (ctypes.create_string_buffer(64) for _ in range(3))
    pointers = {
        "func_info": ctypes.addressof(funcs),
        "line_info": ctypes.addressof(lines),
        "prog_tags": ctypes.addressof(tags),
    }
    counts = {"nr_func_info": 3, "func_info_rec_size": 8, "nr_line_info": 1, "line_info_rec_size": 16}
    told = side.prog_info("p", **pointers, **counts, nr_prog_tags=4)
    fields = ("type", "nr_func_info", "nr_line_info", "func_info_rec_size", "line_info_rec_size", "nr_prog_tags")
    wrong = [[*side.prog_info("p", **{f"{name}_info_rec_size": 9})][:1] for name in ("func", "line")]
    return [told[field] for field in fields], bool(told["btf_id"]), funcs.raw, lines.raw[:16], wrong


@needs_kernel
def test_maps_are_kept_and_shown_by_their_ids() -> None:
    def scenario(side: Side) -> Iterator[object]:
        for name in ("first", "second", "bound"):
            side.make_map(name, c.BPF_MAP_TYPE_ARRAY, max_entries=1)
        code = [
            build.ld_map_fd(1, side.fds["second"]),
            build.ld_map_value(2, side.fds["first"], 2),
            build.ld_map_fd(3, side.fds["second"]),
            *RETURN_0,
        ]
        yield side.load("p", c.BPF_PROG_TYPE_SOCKET_FILTER, code, prog_name=b"keeper")[0]
        for fields in ({"flags": 1}, {"map_fd": 1 << 20}, {"prog_fd": side.fds["bound"]}, {}, {}):
            asked = {"prog_fd": side.fds["p"], "map_fd": side.fds["bound"]} | fields
            yield side.call(a.PROG_BIND_MAP, **asked)[0]
        ids, shown = ctypes.create_string_buffer(64), ctypes.create_string_buffer(256)
        names = {side.info(name, "id"): name for name in ("first", "second", "bound")}
        pointers = {"map_ids": ctypes.addressof(ids), "xlated_prog_insns": ctypes.addressof(shown)}
        told = side.prog_info("p", nr_map_ids=8, xlated_prog_len=256, **pointers)
        yield told["nr_map_ids"], told["xlated_prog_len"], told["gpl_compatible"]
        yield [names[number] for number in struct.unpack_from("=3I", ids)]
        for each in decode(shown.raw[: told["xlated_prog_len"]], side.backend.host.byteorder):
            low = names.get(each.imm & 0xFFFFFFFF, each.imm & 0xFFFFFFFF)
            yield each.opcode, each.dst, each.src, low, each.imm >> 32
        # Fewer than there are, and what is more than the caller has room for.
        yield side.prog_info("p", nr_map_ids=1, **pointers)["nr_map_ids"], struct.unpack_from("=I", ids)[0] in names
        yield side.prog_info("p", nr_map_ids=1, map_ids=8), side.prog_info("p", xlated_prog_len=8, xlated_prog_insns=8)
        kept = side.info("second", "id")
        side.let_go("second")
        yield side.keep("again", side.call(a.MAP_GET_FD_BY_ID, map_id=kept)[0])

    answers = agree(scenario)
    assert answers[-1] == ""


@needs_kernel
@pytest.mark.parametrize(
    "code", [RETURN, _load_64(0, 7, 9) + RETURN, b"MAP" + RETURN], ids=["plain", "a number", "a map"]
)
def test_the_tag_is_the_kernels(code: bytes) -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY, max_entries=1)
        image = code.replace(b"MAP", _load_64(c.BPF_PSEUDO_MAP_VALUE, side.fds["m"], 1))
        yield side.load("p", c.BPF_PROG_TYPE_SOCKET_FILTER, image)[0]
        tag = ctypes.create_string_buffer(8)
        side.prog_info("p", nr_prog_tags=1, prog_tags=ctypes.addressof(tag))
        yield tag.raw

    agree(scenario)


@needs_kernel
@pytest.mark.parametrize("prog_type", PROG_TYPES, ids=map(prog_type_name, PROG_TYPES))
def test_features_tell_of_the_newest_simulated_kernel_what_they_tell_of_a_real_one(prog_type: int) -> None:
    kernel = KernelBackend()
    if not features.helper("xdp", "cgrp_storage_delete", backend=kernel) and prog_type == c.BPF_PROG_TYPE_XDP:
        pytest.fail("this kernel is older than the tables")
    with Simulator() as simulator:
        real, simulated = (features.prog_type(prog_type, backend=each) for each in (kernel, simulator))
        assert simulated == real
        if prog_type == c.BPF_PROG_TYPE_STRUCT_OPS:
            return
        wrong = [
            name
            for number, name in enumerate(HELPERS)
            if number
            and features.helper(prog_type, number, backend=kernel)
            != features.helper(prog_type, number, backend=simulator)
        ]
        assert not wrong


@pytest.mark.parametrize(
    ("release", "prog_type", "helper", "answer"),
    [
        ("5.10", "xdp", "redirect_map", True),
        ("5.10", "xdp", "snprintf", False),
        ("5.10", "syscall", "sys_bpf", False),
        ("5.15", "syscall", "sys_bpf", True),
        ("5.15", "xdp", "loop", False),
        ("6.1", "xdp", "loop", True),
    ],
)
def test_a_release_has_the_helpers_that_it_had(release: str, prog_type: str, helper: str, answer: bool) -> None:
    with Simulator(release=release) as simulator:
        assert bool(features.helper(prog_type, helper, backend=simulator)) is answer


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_every_object_loads_as_far_as_nothing_attaches(path: Path) -> None:
    with using(Simulator()), rawbpf.load(str(path)) as loaded:
        for program in loaded.programs.values():
            assert program.info.id
        assert {map_id for program in loaded.programs.values() for map_id in program.info.map_ids or ()} <= {
            each.id for each in loaded.maps.values()
        }


def test_what_would_attach_or_run_is_refused_after_its_own_checks() -> None:
    with Simulator() as simulator, Side(simulator) as side:
        side.load("xdp")
        side.load("device", c.BPF_PROG_TYPE_CGROUP_DEVICE)
        side.load("raw", c.BPF_PROG_TYPE_RAW_TRACEPOINT)
        side.make_map("m", c.BPF_MAP_TYPE_ARRAY)
        text = ctypes.create_string_buffer(b"sys_enter")
        name = ctypes.addressof(text)
        fds = side.fds
        cases: list[tuple[Layout, dict[str, int], str]] = [
            (a.LINK_CREATE, {"prog_fd": fds["xdp"], "attach_type": c.BPF_XDP}, "ENOTSUPP"),
            (a.LINK_CREATE, {"prog_fd": fds["xdp"], "attach_type": c.BPF_CGROUP_DEVICE}, "EINVAL"),
            (a.LINK_CREATE, {"prog_fd": fds["m"], "attach_type": c.BPF_XDP}, "EINVAL"),
            (a.LINK_CREATE, {"prog_fd": 1 << 20, "attach_type": c.BPF_XDP}, "EBADF"),
            (a.LINK_CREATE, {"prog_fd": fds["m"], "attach_type": c.BPF_STRUCT_OPS}, "EINVAL"),
            (a.PROG_ATTACH, {"attach_bpf_fd": fds["device"], "attach_type": c.BPF_CGROUP_DEVICE}, "ENOTSUPP"),
            (a.PROG_ATTACH, {"attach_bpf_fd": fds["xdp"], "attach_type": c.BPF_CGROUP_DEVICE}, "EINVAL"),
            (a.PROG_ATTACH, {"attach_bpf_fd": fds["xdp"], "attach_type": 99}, "EINVAL"),
            (a.PROG_DETACH, {"attach_type": c.BPF_CGROUP_DEVICE}, "EBADF"),
            (a.PROG_DETACH, {"attach_type": c.BPF_TCX_INGRESS, "attach_bpf_fd": fds["m"]}, "EINVAL"),
            (a.RAW_TRACEPOINT_OPEN, {"prog_fd": fds["raw"], "name": name}, "ENOTSUPP"),
            (a.RAW_TRACEPOINT_OPEN, {"prog_fd": fds["raw"], "name": 8}, "EFAULT"),
            (a.RAW_TRACEPOINT_OPEN, {"prog_fd": fds["xdp"], "name": name}, "EINVAL"),
            (a.PROG_TEST_RUN, {"prog_fd": fds["xdp"]}, "ENOTSUPP"),
            (a.PROG_TEST_RUN, {"prog_fd": fds["xdp"], "ctx_size_in": 4}, "EINVAL"),
            (a.PROG_TEST_RUN, {"prog_fd": fds["m"]}, "EINVAL"),
        ]
        for layout, values, error in cases:
            assert side.call(layout, **values)[0] == error, (layout, values)


@needs_kernel
def test_questions_about_links_and_programs_are_answered_alike() -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.load("p")
        side.make_map("m", c.BPF_MAP_TYPE_SOCKMAP)
        fds = side.fds
        for layout in (a.LINK_UPDATE, a.LINK_DETACH, a.ITER_CREATE):
            yield [side.call(layout, link_fd=fd)[0] for fd in (fds["p"], 1 << 20)]
        yield side.call(a.LINK_GET_FD_BY_ID, link_id=1 << 30)[0]
        yield [side.call(a.LINK_GET_NEXT_ID, start_id=start)[0] for start in (1 << 30, 0x7FFFFFFF, 0xFFFFFFFF)]
        yield [side.keep("stats", side.call(a.ENABLE_STATS, type=kind)[0]) for kind in (1, 0)]
        for fd in (fds["p"], 1 << 20):
            yield [side.call(a.PROG_STREAM_READ_BY_FD, prog_fd=fd, stream_id=number)[0] for number in (0, 1, 2, 3)]
        for pid in (os.getpid(), 0x3FFFFFFF):
            yield [side.call(a.TASK_FD_QUERY, pid=pid, fd=fd, flags=f)[0] for fd in (fds["p"], 1 << 20) for f in (0, 1)]
        for attach_type in (c.BPF_SK_MSG_VERDICT, c.BPF_TCX_INGRESS, c.BPF_SK_LOOKUP, c.BPF_XDP, 99):
            for target in (1, 0x3FFFFFFF, fds["p"], fds["m"]):
                result, filled = side.call(a.PROG_QUERY, target_fd=target, attach_type=attach_type)
                if attach_type != c.BPF_TCX_INGRESS or target in (1, 0x3FFFFFFF):
                    yield attach_type, result, a.PROG_QUERY.integer(filled, "prog_cnt"), filled.raw[56:64]
        yield side.call(a.PROG_QUERY, target_fd=fds["m"], attach_type=c.BPF_SK_MSG_VERDICT, query_flags=2)[0]

    agree(scenario)


@needs_kernel
def test_nothing_is_detached_from_what_is_no_cgroup() -> None:
    def scenario(side: Side) -> Iterator[object]:
        side.load("p")
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        side.stack.callback(os.close, null)
        for attach_type in (0, c.BPF_CGROUP_DEVICE, c.BPF_CGROUP_SOCK_OPS, c.BPF_CGROUP_SETSOCKOPT, 99):
            for name, target in (("closed", 0x3FFFFFFF), ("negative", -1), ("device", null)):
                for more in ({}, {"attach_bpf_fd": side.fds["p"]}, {"attach_bpf_fd": 0x3FFFFFFF}, {"attach_flags": 1}):
                    values = {"attach_type": attach_type, "target_fd": target} | more
                    yield attach_type, name, [*more], side.call(a.PROG_DETACH, **values)[0]

    agree(scenario)


@needs_kernel
def test_signatures_are_refused_alike() -> None:
    def scenario(side: Side) -> Iterator[object]:
        # Kernels of before 6.18 do not know the fields.
        yield side.load("plain", keyring_id=5, signature_size=16)[0]
        room = ctypes.create_string_buffer(16)
        for address in (ctypes.addressof(room), 1):
            for size in (0, 16, 8192, 8193, 1 << 30, 0xFFFFFFFF):
                if address == 1 or size in (0, 16) or size > 8192:
                    for keyring in (0, 1, 2, 3, 5, 0x7FFFFFFF):
                        more: dict[str, Any] = {"signature": address, "signature_size": size, "keyring_id": keyring}
                        yield (address == 1, size, keyring), side.load("signed", **more)[0]
        more = {"signature": ctypes.addressof(room), "signature_size": 16}
        yield side.load("signed", 99, **more)[0], side.load("signed", insns=0, **more)[0]
        yield side.load("signed", prog_ifindex=1, **more)[0], side.load("signed", prog_name=b"a-b", **more)[0]

    answers = agree(scenario)
    assert answers[0] == "EINVAL" or ((False, 16, 0), "EOPNOTSUPP") in answers
