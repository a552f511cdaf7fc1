"""Simulated BTF_LOAD refuses what the running kernel refuses, with its errno: record by record, loops, fields, logs."""

from __future__ import annotations

import ctypes
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from support import btf_image as i
from support.btf_image import SPECIAL, Image
from support.twin import Side, agree

from rawbpf.errors import errno_name
from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi.info import BTF_INFO

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

needs_kernel = pytest.mark.needs("kernel")


def _load(backend: Backend, content: bytes, log: ctypes.Array[ctypes.c_char] | None = None, level: int = 0) -> str:
    # "" or the errno's name.
    buffer = ctypes.create_string_buffer(content, max(len(content), 1))
    image = a.BTF_LOAD.pack(btf=ctypes.addressof(buffer), btf_size=len(content), btf_log_level=level)
    if log is not None:
        a.BTF_LOAD.set(image, "btf_log_buf", ctypes.addressof(log))
        a.BTF_LOAD.set(image, "btf_log_size", len(log))
    result = backend.bpf(c.BPF_BTF_LOAD, ctypes.byref(image), a.BTF_LOAD.size)
    if result < 0:
        return errno_name(ctypes.get_errno())
    backend.close(result)
    return ""


def _image(build: Callable[[Image], object]) -> bytes:
    image = Image()
    build(image)
    return image.to_bytes()


def _with_int(build: Callable[[Image, int], object]) -> bytes:
    return _image(lambda image: build(image, image.integer()))


def _plain(**header: object) -> bytes:
    image = Image()
    image.integer()
    return image.to_bytes(**header)  # type: ignore[arg-type]  # any field of the header


def _chain(image: Image, kind: int, length: int) -> None:
    # `length` types, each of which refers to the next, and an int.
    for number in range(length):
        image.add(kind, "t" if kind == i.TYPEDEF else "", number + 2)
    image.integer()


def _locks(image: Image, count: int) -> None:
    lock = image.struct("bpf_spin_lock", 4)
    image.struct("s", 4 * count, [(f"l{at}", lock, 32 * at) for at in range(count)])


def _pointing(image: Image) -> None:
    image.struct("s", 8, [("a", 2, 0)])
    image.add(i.PTR, "", 1)


def _function(*parameters: tuple[str, int], linkage: int = 0) -> bytes:
    image = Image()
    image.integer()
    image.func_proto(1, parameters)
    image.add(i.FUNC, "f", 2, linkage)
    return image.to_bytes()


def _section(size: int) -> bytes:
    image = Image()
    image.datasec(".data", size, [(image.var("v", image.integer()), 0, 4)])
    return image.to_bytes()


def _tag_behind_const(image: Image) -> None:
    image.add(i.CONST, "", image.add(i.TYPE_TAG, "t", image.integer()))


# What is loaded, and what the kernel says, which the test asks it too.
CASES: dict[str, tuple[bytes, str]] = {
    "an int": (_plain(), ""),
    "nothing": (b"", "EINVAL"),
    "seven bytes": (_plain()[:7], "EINVAL"),
    "another magic": (_plain(magic=0x9FEB), "EINVAL"),
    "version 2": (_plain(version=2), "ENOTSUPP"),
    "flags": (_plain(flags=1), "ENOTSUPP"),
    "a header that is too long": (_plain(header=1000), "EINVAL"),
    "a longer header of zeros": (_plain(header=32, extra=bytes(8)), ""),
    "a longer header of others": (_plain(header=32, extra=b"1234\0\0\0\0"), "E2BIG"),
    "sections with a gap": (_plain(types=(0, 16), strings=(20, 5), end=bytes(4)), "EINVAL"),
    "sections that overlap": (_plain(types=(0, 16), strings=(12, 9)), "EINVAL"),
    "bytes at the end": (_plain(end=b"more"), "EINVAL"),
    "a string that does not end": (_plain(end=b"x", strings=(16, 6)), "EINVAL"),
    "no types": (Image().to_bytes(), "EINVAL"),
    "kind 0": (_image(lambda image: image.add(0)), "EINVAL"),
    "kind 20": (_image(lambda image: image.add(20)), "EINVAL"),
    "an encoding of two": (_image(lambda image: image.integer(encoding=3)), "ENOTSUPP"),
    "an int of 129 bits": (_image(lambda image: image.integer(size=17, bits=129)), "EINVAL"),
    "an int that is too small": (_image(lambda image: image.integer(size=2, bits=32)), "EINVAL"),
    "an array of no type": (_with_int(lambda image, at: image.array(0, at, 1)), "EINVAL"),
    "an array by a struct": (_image(lambda image: image.array(image.struct("s", 4), 1, 1)), "EINVAL"),
    "an array above 4 GiB": (_with_int(lambda image, at: image.array(at, at, 1 << 30)), "EINVAL"),
    "a member beyond its struct": (_with_int(lambda image, at: image.struct("s", 2, [("a", at, 0)])), "EINVAL"),
    "members backwards": (_with_int(lambda image, at: image.struct("s", 8, [("a", at, 32), ("b", at, 0)])), "EINVAL"),
    "a member of no type": (_image(lambda image: image.struct("s", 8, [("a", 0, 0)])), "EINVAL"),
    "a bit field": (_with_int(lambda image, at: image.struct("s", 4, [("a", at, 3 << 24 | 5)], flag=1)), ""),
    "a bit field of 33": (_with_int(lambda image, at: image.struct("s", 8, [("a", at, 33 << 24)], flag=1)), "EINVAL"),
    "a struct in itself": (_image(lambda image: image.struct("s", 4, [("a", 1, 0)])), "EEXIST"),
    "a pointer to its struct": (_image(_pointing), ""),
    "a typedef of itself": (_image(lambda image: image.add(i.TYPEDEF, "t", 1)), "EEXIST"),
    "a pointer to itself": (_image(lambda image: image.add(i.PTR, "", 1)), "EEXIST"),
    "31 modifiers": (_image(lambda image: _chain(image, i.CONST, 31)), ""),
    "33 modifiers": (_image(lambda image: _chain(image, i.CONST, 33)), "E2BIG"),
    "32 pointers": (_image(lambda image: _chain(image, i.PTR, 32)), ""),
    "a type that is not there": (_image(lambda image: image.add(i.CONST, "", 7)), "EINVAL"),
    "a name with a blank": (_image(lambda image: image.struct("a b", 4)), "EINVAL"),
    "a name that starts with a digit": (_image(lambda image: image.struct("1a", 4)), "EINVAL"),
    "a name with a dot": (_image(lambda image: image.struct("a.b", 4)), ""),
    "a name of 512": (_image(lambda image: image.struct("a" * 512, 4)), ""),
    "a name of 513": (_image(lambda image: image.struct("a" * 513, 4)), "EINVAL"),
    "a name that is nowhere": (_image(lambda image: image.add(i.STRUCT, "", 4))[:24] + b"\xff" * 12 + b"\0", "EINVAL"),
    "a typedef without a name": (_with_int(lambda image, at: image.add(i.TYPEDEF, "", at)), "EINVAL"),
    "a pointer with a name": (_with_int(lambda image, at: image.add(i.PTR, "p", at)), "EINVAL"),
    "an enum of 3 bytes": (_image(lambda image: image.enum("e", ["A"], 3)), "EINVAL"),
    "a signed enum": (_image(lambda image: image.enum("e", ["A"], flag=1)), ""),
    "an enum64": (_image(lambda image: image.enum("e", ["A", "B"], 8, i.ENUM64)), ""),
    "an enum without a name": (_image(lambda image: image.enum("e", [""])), "EINVAL"),
    "a function": (_function(("x", 1), linkage=1), ""),
    "an extern function": (_function(linkage=2), "EINVAL"),
    "a function of an int": (_with_int(lambda image, at: image.add(i.FUNC, "f", at)), "EINVAL"),
    "a parameter without a name": (_function(("", 1)), "EINVAL"),
    "variable arguments": (_function(("x", 1), ("", 0)), ""),
    "a section": (_section(4), ""),
    "a section that is too small": (_section(2), "EINVAL"),
    "a section of an int": (_with_int(lambda image, at: image.datasec(".data", 4, [(at, 0, 4)])), "EINVAL"),
    "an extern variable": (_with_int(lambda image, at: image.var("v", at, 2)), "EINVAL"),
    "a float of 3 bytes": (_image(lambda image: image.add(i.FLOAT, "f", 3)), "EINVAL"),
    "a tag of an int": (_with_int(lambda image, at: image.decl_tag("t", at)), "EINVAL"),
    "a tag of no member": (_image(lambda image: image.decl_tag("t", image.struct("s", 4), 0)), "EINVAL"),
    "a type tag behind a const": (_image(_tag_behind_const), "EINVAL"),
    "two locks": (_image(lambda image: _locks(image, 2)), "E2BIG"),
    "a lock": (_image(lambda image: _locks(image, 1)), ""),
}  # fmt: skip


@needs_kernel
@pytest.mark.parametrize(("content", "expected"), CASES.values(), ids=CASES)
def test_what_is_refused_is_refused_alike(content: bytes, expected: str) -> None:
    with Simulator() as sim:
        assert (_load(KernelBackend(), content), _load(sim, content)) == (expected, expected)


class _Chance:
    # Draws images that are right for the most part: of all kinds, and structs with fields of the kernel's.
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def damaged(self) -> bytes:
        content = bytearray(self.any_kind())
        draw = self._random.random()
        if draw < 0.2:
            return bytes(content[: self._random.randint(0, len(content))])
        if draw < 0.6:
            content[self._random.randrange(len(content))] = self._random.choice((0, 1, 255, 128))
        return bytes(content)

    def any_kind(self) -> bytes:
        draw, image = self._random, Image()
        count = draw.randint(1, 9)

        def number() -> int:
            chance = draw.random()
            return draw.randint(1, count) if chance < 0.85 else max(1, image.count) if chance < 0.95 else count + 1

        def text() -> str:
            return draw.choice(("a", "b", "int", "s", "a.b", *SPECIAL, "", "1x", "\xe9"))

        for _ in range(count):
            kind = draw.choice((1, 1, 1, 2, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18, 19))
            if kind == i.INT:
                image.integer(text(), draw.choice((1, 2, 4, 4, 8, 16)), encoding=draw.choice((0, 1, 2, 4)))
            elif kind == i.ARRAY:
                image.array(number(), draw.choice((1, number())), draw.choice((0, 1, 3, 1 << 30)))
            elif kind in (i.STRUCT, i.UNION):
                step = draw.choice((8, 32, 64)) if kind == i.STRUCT else 0
                members = [(text(), number(), step * at) for at in range(draw.randint(0, 3))]
                image.struct(text(), draw.choice((4, 8, 16, 32)), members, draw.random() < 0.3, kind)
            elif kind in (i.ENUM, i.ENUM64):
                image.enum(text(), [text()], draw.choice((1, 2, 4, 8, 3)), kind, draw.random() < 0.3)
            elif kind == i.FUNC:
                image.add(kind, text(), number(), draw.choice((0, 1, 2)))
            elif kind == i.FUNC_PROTO:
                image.func_proto(number(), [(text(), number()) for _ in range(draw.randint(0, 2))])
            elif kind == i.VAR:
                image.var(text(), number(), draw.choice((0, 1, 1, 2)))
            elif kind == i.DATASEC:
                image.datasec(".data", draw.choice((4, 8, 16)), [(number(), 0, draw.choice((4, 8)))])
            elif kind == i.DECL_TAG:
                image.decl_tag(text(), number(), draw.choice((-1, 0, 1)), draw.random() < 0.1)
            elif kind in (i.TYPEDEF, i.TYPE_TAG):
                image.add(kind, text(), number(), flag=draw.random() < 0.1)
            elif kind in (i.FLOAT, i.FWD):
                image.add(kind, text(), draw.choice((4, 8, 3)) if kind == i.FLOAT else 0)
            else:
                image.add(kind, "", number())
        return image.to_bytes()

    def with_fields(self) -> tuple[bytes, int, int]:
        """The image, a type and its size: a struct, a typedef or a section."""
        draw, image = self._random, Image()
        word, long = image.integer(), image.integer("long", 8)
        known = {name: image.struct(name, size, [("a", word, 0)]) for name, size in SPECIAL.items()}
        made: list[tuple[int, int]] = []
        for at in range(draw.randint(1, 4)):
            members: list[tuple[str, int, int]] = []
            size, roots = 0, []
            for member in range(draw.randint(0, 5)):
                chance = draw.random()
                if chance < 0.55:
                    name = draw.choice([*SPECIAL])
                    number, each = known[name], SPECIAL[name]
                    if name in ("bpf_list_head", "bpf_rb_root"):
                        roots.append(member)
                elif chance < 0.7:
                    number, each = self._pointer(image, made), 8
                elif chance < 0.8 and made:
                    number, each = draw.choice(made)
                else:
                    number, each = draw.choice(((word, 4), (long, 8)))
                if draw.random() < 0.1:
                    length = draw.choice((1, 2, 3, 12, 0))
                    number, each = image.array(number, word, length), each * length
                size = -(-size // 8) * 8 if draw.random() < 0.95 else -(-size // 4) * 4
                members.append((draw.choice(("node", f"m{member}", "rn")), number, size * 8))
                size += each
            size = -(-size // 8) * 8
            number = image.struct(f"s{at}", size, members)
            for member in roots:
                target = f"contains:s{draw.choice((0, 1, at))}:{draw.choice(('node', 'node', 'rn', 'm0'))}"
                image.decl_tag(target, number, member)
            made.append((number, size))
        number, size = draw.choice(made)
        if draw.random() < 0.15:
            size = max(size, 1)
            number = image.datasec(".data.x", size, [(image.var("v", number), 0, size)])
        if draw.random() < 0.1:
            number = image.add(i.TYPEDEF, "t", number)
        return image.to_bytes(), number, size

    def _pointer(self, image: Image, made: list[tuple[int, int]]) -> int:
        draw = self._random
        name = draw.choice(("task_struct", "foo", "cgroup", "bpf_cpumask", "inode"))
        target = draw.choice(made)[0] if made and draw.random() < 0.5 else image.struct(name, draw.choice((0, 8)))
        tag = draw.choice(("kptr", "kptr_untrusted", "percpu_kptr", "uptr", "other"))
        pointer = image.add(i.PTR, "", image.add(i.TYPE_TAG, tag, target))
        return image.add(i.VOLATILE, "", pointer) if draw.random() < 0.2 else pointer


@needs_kernel
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_bytes_both_kernels_say_the_same(seed: int) -> None:
    kernel, chance, seen = KernelBackend(), _Chance(seed), Counter[str]()
    with Simulator() as sim:
        for _ in range(1500):
            content = chance.damaged()
            answer = _load(kernel, content)
            assert _load(sim, content) == answer, content.hex()
            seen[answer] += 1
    assert seen[""] > 20
    assert seen["EINVAL"] > 500
    assert seen["EEXIST"] > 10


FIELD_TYPES = (
    c.BPF_MAP_TYPE_HASH,
    c.BPF_MAP_TYPE_ARRAY,
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_PERCPU_ARRAY,
    c.BPF_MAP_TYPE_LRU_HASH,
    c.BPF_MAP_TYPE_TASK_STORAGE,
)


@needs_kernel
@pytest.mark.needs("file:/sys/kernel/btf/vmlinux")
@pytest.mark.parametrize("map_type", FIELD_TYPES)
def test_fields_of_values_are_found_hidden_and_refused_alike(map_type: int) -> None:
    storage = map_type == c.BPF_MAP_TYPE_TASK_STORAGE
    seen = Counter[object]()

    def scenario(side: Side) -> Iterator[object]:
        chance = _Chance(map_type)
        for at in range(400):
            content, number, size = chance.with_fields()
            buffer = ctypes.create_string_buffer(content, len(content))
            refused = side.keep("btf", side.call(a.BTF_LOAD, btf=ctypes.addressof(buffer), btf_size=len(content))[0])
            yield at, refused
            if refused:
                continue
            types = {"btf_fd": side.fds["btf"], "btf_key_type_id": 1, "btf_value_type_id": number}
            flags = c.BPF_F_NO_PREALLOC if storage else c.BPF_F_RDONLY_PROG if at % 10 == 0 else 0
            refused = side.make_map("map", map_type, 4, size, 0 if storage else 1, flags, **types)
            yield at, size, refused
            if not refused:
                yield at, _use(side, size)
                side.let_go("map")
            side.let_go("btf")

    for answer in agree(scenario):
        assert isinstance(answer, tuple)
        seen[answer[-1] if isinstance(answer[-1], str) else "made"] += 1
    assert seen["made"] > 20
    assert seen["EINVAL"] > 20
    assert seen["E2BIG"] > 5


def _use(side: Side, size: int) -> tuple[object, ...]:
    key = ctypes.create_string_buffer(4)
    room = -(-size // 8) * 8 * side.backend.host.possible_cpus
    value = ctypes.create_string_buffer(b"\xaa" * room, max(room, 1))
    read = ctypes.create_string_buffer(max(room, 1))
    pointers = {"map_fd": side.fds["map"], "key": ctypes.addressof(key)}
    stored = side.call(a.MAP_UPDATE_ELEM, **pointers, value=ctypes.addressof(value))[0]
    found = side.call(a.MAP_LOOKUP_ELEM, **pointers, value=ctypes.addressof(read))[0]
    locked = side.call(a.MAP_UPDATE_ELEM, **pointers, value=ctypes.addressof(value), flags=c.BPF_F_LOCK)[0]
    again = ctypes.create_string_buffer(max(room, 1))
    with_lock = side.call(a.MAP_LOOKUP_ELEM, **pointers, value=ctypes.addressof(again), flags=c.BPF_F_LOCK)[0]
    frozen = side.call(a.MAP_FREEZE, map_fd=side.fds["map"])[0]
    return stored, found, read.raw, locked, with_lock, again.raw, frozen


LOGS: dict[str, tuple[int, int, bool]] = {
    "level 1": (1, 4096, True),
    "level 2": (2, 4096, True),
    "level 8": (8, 4096, True),
    "level 16": (16, 4096, True),
    "no level": (0, 4096, True),
    "no buffer": (1, 0, False),
    "a size and no buffer": (1, 4096, False),
    "one byte": (1, 1, True),
    "ten bytes": (1, 10, True),
    "ten bytes, fixed": (9, 10, True),
}


@needs_kernel
@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
@pytest.mark.parametrize(("level", "size", "given"), LOGS.values(), ids=LOGS)
def test_a_log_fits_or_is_cut_as_the_kernel_cuts_it(level: int, size: int, given: bool, good: bool) -> None:
    content = _plain() if good else _plain(end=b"more")

    def scenario(side: Side) -> Iterator[object]:
        buffer = ctypes.create_string_buffer(content, len(content))
        log = ctypes.create_string_buffer(b"\xaa" * 4096, 4096)
        result, image = side.call(
            a.BTF_LOAD,
            btf=ctypes.addressof(buffer),
            btf_size=len(content),
            btf_log_level=level,
            btf_log_size=size,
            btf_log_buf=ctypes.addressof(log) if given else 0,
        )
        yield side.keep("btf", result)
        needed = a.BTF_LOAD.integer(image, "btf_log_true_size")
        yield needed > 0, needed > size, log.raw[: max(size, 1)].find(b"\0") >= 0
        if 0 < size < 4096 and result == "ENOSPC":
            yield log.raw[size - 1], log.raw[size]

    agree(scenario)


def test_a_log_says_which_type_is_wrong() -> None:
    with Simulator() as sim:
        log = ctypes.create_string_buffer(4096)
        assert _load(sim, CASES["a struct in itself"][0], log, 1) == "EEXIST"
        assert b"[1] STRUCT Loop detected" in log.value


@needs_kernel
def test_objects_have_ids_bytes_and_the_kernels_own_a_name() -> None:
    def scenario(side: Side) -> Iterator[object]:
        content = _plain()
        buffer = ctypes.create_string_buffer(content, len(content))
        yield side.keep("btf", side.call(a.BTF_LOAD, btf=ctypes.addressof(buffer), btf_size=len(content))[0])
        yield side.keep("own", side.call(a.BTF_GET_FD_BY_ID, btf_id=1)[0])
        for which in ("btf", "own"):
            for size in (0, 1, 4, 7, 8, 20):
                name, types = ctypes.create_string_buffer(b"\xaa" * 32, 32), ctypes.create_string_buffer(64)
                room = BTF_INFO.pack(
                    btf=ctypes.addressof(types),
                    btf_size=24,
                    name=ctypes.addressof(name) if size else 0,
                    name_len=size,
                )
                result, image = side.call(
                    a.OBJ_GET_INFO_BY_FD, bpf_fd=side.fds[which], info_len=32, info=ctypes.addressof(room)
                )
                told = BTF_INFO.unpack(room.raw[:32])
                yield which, size, result, a.OBJ_GET_INFO_BY_FD.integer(image, "info_len"), name.raw, types.raw
                yield told["btf_size"], told["name_len"], told["kernel_btf"], told["id"] == 1
        more = {"btf_key_type_id": 1, "btf_value_type_id": 1}
        yield side.make_map("map", c.BPF_MAP_TYPE_ARRAY, 4, 4, 1, btf_fd=side.fds["own"], **more)
        yield side.make_map("map", c.BPF_MAP_TYPE_ARRAY, 4, 4, 1, btf_fd=side.fds["btf"], **more)
        yield side.info("map", "btf_key_type_id"), side.info("map", "btf_value_type_id"), side.info("map", "btf_id") > 1

    assert "EACCES" in agree(scenario)
