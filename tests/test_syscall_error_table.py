"""What the kernel's errno means for each command and map type: one table, and the kernel asked about it."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.backends import said
from support.bpffs import bpffs
from support.map_shapes import SMALLEST, needed

import rawbpf
from rawbpf import errors as e
from rawbpf.syscall import map as command
from rawbpf.syscall.error import bpf_error, error_class
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rawbpf.syscall.protocol import Backend

FAR = (1 << 31) - 1

# (map type, command, key, expected): on an empty map of one element. A key of None is NULL.
ASKED: list[tuple[str, str, int | None, type[e.BpfError] | None]] = [
    *((word, "lookup", FAR, e.KeyNotFound) for word in ("hash", "percpu_hash", "lru_hash", "lpm_trie", "stack_trace")),
    *((word, "lookup", FAR, e.IndexOutOfRange) for word in ("array", "percpu_array", "insn_array")),
    *((word, "lookup", FAR, e.KeyNotFound) for word in ("prog_array", "devmap", "devmap_hash", "cpumap")),
    ("hash_of_maps", "lookup", FAR, e.KeyNotFound),
    *((word, "lookup", None, e.Empty) for word in ("queue", "stack")),
    *((word, "lookup", 0, e.NotSupported) for word in ("sockmap", "sockhash", "xskmap")),
    *((word, "lookup", 0, e.NotSupported) for word in ("perf_event_array", "cgroup_array")),
    ("ringbuf", "lookup", None, e.NotSupported),
    ("user_ringbuf", "lookup", None, e.NotSupported),
    ("arena", "lookup", None, e.NotSupported),
    ("bloom_filter", "lookup", None, e.KeyNotFound),
    ("cgroup_storage", "lookup", FAR, e.KeyNotFound),
    *((word, "update", FAR, e.IndexOutOfRange) for word in ("array", "percpu_array", "prog_array", "perf_event_array")),
    *((word, "update", FAR, e.IndexOutOfRange) for word in ("cgroup_array", "array_of_maps", "devmap", "cpumap")),
    *((word, "update", FAR, e.IndexOutOfRange) for word in ("xskmap", "reuseport_sockarray", "insn_array")),
    ("stack_trace", "update", 0, e.NotSupported),
    ("ringbuf", "update", None, e.NotSupported),
    ("arena", "update", None, e.NotSupported),
    *((word, "delete", FAR, e.KeyNotFound) for word in ("hash", "percpu_hash", "lru_hash", "lpm_trie", "devmap_hash")),
    *((word, "delete", 0, e.KeyNotFound) for word in ("prog_array", "perf_event_array", "cgroup_array")),
    ("array_of_maps", "delete", 0, e.KeyNotFound),
    *((word, "delete", FAR, e.IndexOutOfRange) for word in ("prog_array", "perf_event_array", "array_of_maps")),
    *((word, "delete", FAR, e.IndexOutOfRange) for word in ("devmap", "cpumap", "xskmap", "stack_trace")),
    *((word, "delete", 0, e.NotSupported) for word in ("array", "percpu_array", "cgroup_storage", "insn_array")),
    ("sockmap", "delete", 0, e.KeyNotFound),
    *((word, "delete", None, e.NotSupported) for word in ("queue", "stack", "bloom_filter", "ringbuf", "arena")),
    *((word, "take", FAR, e.KeyNotFound) for word in ("hash", "percpu_hash", "lru_hash")),
    *((word, "take", 0, e.NotSupported) for word in ("array", "lpm_trie", "prog_array", "devmap", "insn_array")),
    *((word, "take", None, e.Empty) for word in ("queue", "stack")),
    *((word, "next", None, e.NotSupported) for word in ("queue", "stack", "bloom_filter", "ringbuf", "arena")),
    *((word, "next", FAR, None) for word in ("hash", "array", "lpm_trie", "devmap", "insn_array")),
    *((word, "insert", 0, e.KeyExists) for word in ("array", "percpu_array", "hash", "lru_hash", "lpm_trie")),
    ("insn_array", "insert", 0, e.KeyExists),
    *(("insn_array", what, 0, e.NotSupported) for what in ("batch", "delete_batch")),
    *((word, "replace", FAR, e.KeyNotFound) for word in ("hash", "percpu_hash", "lru_hash", "lpm_trie")),
    *((word, "fill", None, e.MapFull) for word in ("hash", "percpu_hash", "queue", "stack", "lpm_trie")),
    *((word, "batch", None, e.MapFull) for word in ("hash", "percpu_hash", "lpm_trie")),
    *((word, "batch", None, e.IndexOutOfRange) for word in ("array", "percpu_array")),
    *((word, "delete_batch", None, e.KeyNotFound) for word in ("hash", "percpu_hash")),
    *((word, "delete_batch", None, e.NotSupported) for word in ("array", "prog_array", "queue", "ringbuf")),
]  # fmt: skip


@pytest.fixture
def inner(backend: Backend) -> Iterator[int]:
    fd = command.map_create(backend, map_type=c.BPF_MAP_TYPE_HASH, key_size=4, value_size=4, max_entries=1)
    yield fd
    backend.close(fd)


@pytest.mark.needs("kernel", "capability:CAP_NET_ADMIN")
@pytest.mark.parametrize(
    ("word", "what", "key", "expected"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}-{row[2]}", marks=needed(row[0])) for row in ASKED],
)
def test_the_kernels_answer_becomes_the_class_of_the_table(
    backend: Backend, inner: int, word: str, what: str, key: int | None, expected: type[e.BpfError] | None
) -> None:
    key_size, value_size, max_entries, flags = SMALLEST[word]
    kind = map_type_number(word)
    fd = command.map_create(
        backend,
        map_type=kind,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags,
        inner_map_fd=inner if word.endswith("_of_maps") else 0,
    )
    try:
        if expected is None:
            act(backend, fd, kind, what, key)
            return
        with pytest.raises(expected) as caught:
            act(backend, fd, kind, what, key)
        assert caught.type is expected
        assert caught.value.hint
        assert "None" not in str(caught.value)
    finally:
        backend.close(fd)


def act(backend: Backend, fd: int, kind: int, what: str, number: int | None) -> None:
    key = None if number is None else (ctypes.c_uint32 * 4)(number, 7)
    value = (ctypes.c_uint64 * 512)(1)
    if kind == c.BPF_MAP_TYPE_LPM_TRIE and key is not None:
        key[0] = 32  # the prefix length stands first
    match what:
        case "lookup":
            command.map_lookup_elem(backend, fd, key, value, map_type=kind)
        case "update":
            command.map_update_elem(backend, fd, key, value, map_type=kind)
        case "insert":
            command.map_update_elem(backend, fd, key, value, map_type=kind)
            command.map_update_elem(backend, fd, key, value, c.BPF_NOEXIST, map_type=kind)
        case "replace":
            command.map_update_elem(backend, fd, key, value, c.BPF_EXIST, map_type=kind)
        case "delete":
            command.map_delete_elem(backend, fd, key, map_type=kind)
        case "take":
            command.map_lookup_and_delete_elem(backend, fd, key, value, map_type=kind)
        case "next":
            command.map_get_next_key(backend, fd, key, value, map_type=kind)
        case "fill":
            for each in range(2):
                one = None if keyless(kind) else (ctypes.c_uint32 * 4)(32, each)
                if one is not None and kind != c.BPF_MAP_TYPE_LPM_TRIE:
                    one[0] = each
                command.map_update_elem(backend, fd, one, value, map_type=kind)
        case "batch":
            keys = (ctypes.c_uint32 * 8)(*((32, 1, 32, 2) if kind == c.BPF_MAP_TYPE_LPM_TRIE else (0, 1)))
            command.map_update_batch(backend, fd, keys, value, 2, map_type=kind)
        case "delete_batch":
            command.map_delete_batch(backend, fd, (ctypes.c_uint32 * 8)(), 2, map_type=kind)


def keyless(kind: int) -> bool:
    return kind in (c.BPF_MAP_TYPE_QUEUE, c.BPF_MAP_TYPE_STACK)


@pytest.mark.parametrize(
    ("number", "cmd", "map_type", "expected"),
    [
        pytest.param(errno.EBADF, c.BPF_MAP_LOOKUP_ELEM, c.BPF_MAP_TYPE_HASH, e.Closed, id="closed"),
        pytest.param(errno.EBADF, c.BPF_OBJ_GET_INFO_BY_FD, None, e.Closed, id="closed object"),
        pytest.param(
            errno.EBADF, c.BPF_MAP_LOOKUP_ELEM, c.BPF_MAP_TYPE_TASK_STORAGE, e.BpfError, id="key's descriptor"
        ),
        pytest.param(
            errno.EBADF, c.BPF_MAP_UPDATE_ELEM, c.BPF_MAP_TYPE_CGROUP_ARRAY, e.BpfError, id="value's descriptor"
        ),
        pytest.param(524, c.BPF_MAP_LOOKUP_BATCH, c.BPF_MAP_TYPE_QUEUE, e.NotSupported, id="ENOTSUPP"),
        pytest.param(errno.EOPNOTSUPP, c.BPF_LINK_DETACH, None, e.NotSupported, id="EOPNOTSUPP"),
        pytest.param(errno.EPERM, c.BPF_MAP_UPDATE_ELEM, c.BPF_MAP_TYPE_HASH, e.PermissionDenied, id="frozen"),
        pytest.param(errno.EACCES, c.BPF_OBJ_GET, None, e.PermissionDenied, id="mode"),
        pytest.param(errno.EACCES, c.BPF_PROG_LOAD, None, e.BpfError, id="verifier"),
        pytest.param(errno.ENOENT, c.BPF_MAP_GET_FD_BY_ID, None, e.NotFound, id="no such id"),
        pytest.param(errno.EEXIST, c.BPF_OBJ_PIN, None, e.KeyExists, id="pinned already"),
        pytest.param(errno.E2BIG, c.BPF_MAP_CREATE, c.BPF_MAP_TYPE_ARRAY, e.BpfError, id="too big a map"),
        pytest.param(errno.EBUSY, c.BPF_MAP_FREEZE, c.BPF_MAP_TYPE_ARRAY, e.BpfError, id="busy"),
    ],
)
def test_the_class_of_an_errno(number: int, cmd: int, map_type: int | None, expected: type[e.BpfError]) -> None:
    assert error_class(number, cmd=cmd, map_type=map_type) is expected


def test_an_error_knows_what_failed(backend: Backend) -> None:
    error = bpf_error(backend, 2, cmd=c.BPF_MAP_LOOKUP_ELEM, subject="'counts'", map_type=c.BPF_MAP_TYPE_HASH)
    assert isinstance(error, KeyError)
    assert isinstance(error, OSError)
    assert (error.errno, error.cmd, error.subject, error.backend) == (
        2,
        c.BPF_MAP_LOOKUP_ELEM,
        "'counts'",
        backend.name,
    )
    assert said(error) == "map_lookup_elem 'counts': ENOENT: the map has no such key"


def test_a_hint_that_was_handed_in_is_kept(backend: Backend) -> None:
    error = bpf_error(backend, 22, cmd=c.BPF_MAP_CREATE, hint="because")
    assert said(error) == "map_create: EINVAL: because"


@pytest.mark.parametrize("number", range(1, 134))
def test_every_errno_of_every_command_becomes_an_error_with_words(backend: Backend, number: int) -> None:
    for cmd in range(c.BPF_PROG_STREAM_READ_BY_FD + 2):
        for map_type in (None, c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_ARRAY, c.BPF_MAP_TYPE_QUEUE, 777):
            assert str(bpf_error(backend, number, cmd=cmd, map_type=map_type)).rpartition(": ")[2]


USE_UP = """
import resource, rawbpf
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
maps = []
try:
    while True:
        maps.append(rawbpf.HashMap.create(key="u32", value="u32", max_entries=1))
except rawbpf.BpfError as error:
    print(error)
"""


@pytest.mark.guest
def test_who_may_open_no_more_files_is_told_so(backend: Backend) -> None:
    # In a process of its own, that has imported nothing of what explains errors.
    done = subprocess.run(
        [sys.executable, "-c", USE_UP],
        env={**os.environ, "RAWBPF_BACKEND": backend.name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "EMFILE: this process may open no more files" in done.stdout
    assert "ulimit -n" in done.stdout


@pytest.mark.guest
def test_what_is_not_there_is_a_file_that_is_not_found(backend: Backend) -> None:
    with bpffs(backend) as root, rawbpf.HashMap.create(key="u32", value="u32", max_entries=1) as m:
        asked: list[Callable[[], object]] = [
            lambda: rawbpf.Map.from_pin(root / "none"),
            lambda: rawbpf.Program.from_pin(root / "none"),
            lambda: rawbpf.Map.from_id(FAR),
            lambda: rawbpf.Program.from_id(FAR),
            lambda: rawbpf.Map.from_name("never made"),
            lambda: m.pin(root / "none" / "pin"),
        ]
        for ask in asked:
            with pytest.raises(FileNotFoundError) as missing:
                ask()
            assert type(missing.value) is rawbpf.NotFound
