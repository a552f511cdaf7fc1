"""What the hints say of MAP_CREATE agrees with what the kernel does.

For each map type a smallest map that the kernel takes is changed in one field at a time. Where the kernel
still takes it, no rule is broken; where it answers EINVAL, some rule is named.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from support.backends import said
from support.map_shapes import PAGE, SMALLEST, each

from rawbpf.btf.build import Builder
from rawbpf.errors import BpfError, NotSupported
from rawbpf.syscall import rule
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.map import map_create
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name, map_type_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("kernel", "capability:CAP_NET_ADMIN")

CHANGES: dict[str, tuple[int, ...]] = {
    "key_size": (0, 1, 3, 4, 5, 8, 12, 16, 260, 261, 513),
    "value_size": (0, 1, 4, 8, 12, 16, 32, 1016, 1024),
    "max_entries": (0, 1, 2, 7, PAGE),
    "map_extra": (0, 1, 15, 16),
}
# Flags whose effect depends on what a single creation does not have, and one that came after the type that takes it.
UNTRIED = c.BPF_F_VTYPE_BTF_OBJ_FD | c.BPF_F_TOKEN_FD | c.BPF_F_RB_OVERWRITE


@pytest.fixture(scope="module")
def int_btf() -> bytes:
    builder = Builder()
    assert builder.int("int", 4, signed=True) == 1
    return builder.to_bytes()


@pytest.fixture
def inner(backend: Backend) -> Iterator[int]:
    fd = map_create(backend, map_type=c.BPF_MAP_TYPE_HASH, key_size=4, value_size=4, max_entries=1)
    yield fd
    backend.close(fd)


@pytest.mark.guest
@pytest.mark.parametrize("word", each())
def test_rules_agree_with_the_kernel(backend: Backend, int_btf: bytes, inner: int, word: str) -> None:
    key_size, value_size, max_entries, map_flags = SMALLEST[word]
    smallest = {
        "map_type": map_type_number(word),
        "key_size": key_size,
        "value_size": value_size,
        "max_entries": max_entries,
        "map_flags": map_flags,
        "inner_map_fd": inner if word.endswith("_of_maps") else 0,
    }
    btf_fd = btf_load(backend, int_btf)
    try:
        if word in ("sk_storage", "inode_storage", "task_storage", "cgrp_storage"):
            smallest |= {"btf_fd": btf_fd, "btf_key_type_id": 1, "btf_value_type_id": 1}
        wrong = [what for values in changed(smallest) if (what := disagreement(backend, values))]
    finally:
        backend.close(btf_fd)
    assert not wrong, "\n".join(wrong)


def changed(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield values
    for field, tries in CHANGES.items():
        yield from (values | {field: value} for value in tries)
    for bit in range(24):
        if not 1 << bit & UNTRIED:
            yield values | {"map_flags": values["map_flags"] ^ 1 << bit}
    yield values | {"map_flags": values["map_flags"] | c.BPF_F_RDONLY | c.BPF_F_WRONLY}
    yield values | {"map_flags": values["map_flags"] | c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG}
    yield values | {"inner_map_fd": 0}


def disagreement(backend: Backend, values: dict[str, Any]) -> str:
    broken = rule.broken_rules(backend.host, values)
    try:
        backend.close(map_create(backend, **values))
        return f"accepted, but {broken}: {values}" if broken else ""
    except BpfError as error:
        if error.errno == errno.EINVAL and not broken and "BTF types do not have the sizes" not in error.hint:
            return f"{error} of {values}"
        if error.errno not in (errno.EINVAL, errno.E2BIG) and not isinstance(error, NotSupported):
            return f"{error} of {values}"
        return "" if error.hint else f"no hint: {error} of {values}"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_RINGBUF, "max_entries": 5000, "name": b"events"},
            "map_create 'events' (ringbuf, max_entries 5000): EINVAL: max_entries must be a power of two and a "
            f"multiple of the page size ({PAGE}); try {max(PAGE, 8192)}",
            id="ring of an odd size",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_ARRAY, "key_size": 8, "value_size": 8, "max_entries": 1},
            "map_create (array, key_size 8, value_size 8, max_entries 1): EINVAL: key_size of an array map must be 4 "
            "(an index), not 8",
            id="array with a long key",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_LPM_TRIE, "key_size": 8, "value_size": 8, "max_entries": 1},
            "a lpm_trie map requires the flag BPF_F_NO_PREALLOC",
            id="trie without its flag",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_PERCPU_ARRAY, "key_size": 4, "value_size": 32769, "max_entries": 1},
            "E2BIG: a per-CPU value has at most 32768 bytes, not 32769",
            id="per-CPU value too large",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_HASH, "key_size": 1 << 22, "value_size": 8, "max_entries": 1},
            "E2BIG: key_size and value_size together are 4194312 bytes",
            id="hash element too large",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_ARRAY, "key_size": 4, "value_size": 1 << 30, "max_entries": 1 << 20},
            "ENOMEM: the map takes about 1048576.0 GiB of kernel memory; lower max_entries",
            id="no memory",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_CPUMAP, "key_size": 4, "value_size": 4, "max_entries": 1 << 20},
            "E2BIG: max_entries of a cpumap is at most the number of CPUs",
            id="more CPUs than there can be",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_HASH, "key_size": 4, "value_size": 4, "max_entries": 1, "name": b"a-map"},
            "the name holds '-'; only letters, digits, '_' and '.' are allowed",
            id="strange name",
        ),
        pytest.param(
            {"map_type": c.BPF_MAP_TYPE_HASH, "key_size": 4, "value_size": 4, "max_entries": 1, "name": b"a" * 16},
            "the name has 16 bytes; at most 15 are allowed",
            id="long name",
        ),
        pytest.param(
            {
                "map_type": c.BPF_MAP_TYPE_LRU_HASH,
                "key_size": 4,
                "value_size": 4,
                "max_entries": 1,
                "map_flags": c.BPF_F_NO_PREALLOC,
            },
            "ENOTSUPP: an LRU map is always preallocated: leave BPF_F_NO_PREALLOC out",
            id="LRU without preallocation",
        ),
        pytest.param(
            {"map_type": 777, "key_size": 4, "value_size": 4, "max_entries": 1},
            "map_create (type 777, key_size 4, value_size 4, max_entries 1): EINVAL: this kernel may lack the map type",
            id="unknown type",
        ),
        pytest.param(
            {
                "map_type": c.BPF_MAP_TYPE_ARRAY_OF_MAPS,
                "key_size": 4,
                "value_size": 4,
                "max_entries": 1,
                "inner_map_fd": 99999,
            },
            "EBADF: closed, or of another kind: inner_map_fd 99999",
            id="bad template",
        ),
    ],
)
def test_a_refused_map_says_why_and_what_to_try(backend: Backend, values: dict[str, Any], words: str) -> None:
    with pytest.raises(BpfError) as caught:
        backend.close(map_create(backend, **{"key_size": 0, "value_size": 0} | values))
    assert words in said(caught.value)


def test_every_type_with_rules_is_tried() -> None:
    # But for one that takes the kernel's own BTF.
    assert {map_type_name(kind) for kind in rule._RULES} - set(SMALLEST) == {"struct_ops"}
