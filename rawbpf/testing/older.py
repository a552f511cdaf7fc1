"""What other releases of Linux answer otherwise than `rawbpf.testing.cells` says, and how a kernel's is found.

Seen on Debian's 5.10, 6.1, 6.12 and 7.2. Of a change between two, the release is from the history of the kernel.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rawbpf.testing.cells import CELLS, LOCKABLE, TABLES, Cell, cells

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_ALL = tuple(TABLES)
_LOCKABLE = tuple(LOCKABLE)
_HASHES = ("hash", "percpu_hash", "lru_hash", "lru_percpu_hash")
_OF_MAPS = ("array_of_maps", "hash_of_maps")
_BATCHES = ("lookup_batch", "lookup_and_delete_batch", "update_batch", "delete_batch")
_NEVER = "always ENOTSUPP"
_BLIND = (
    "existing ok ok ok, existing in full ENOSPC ENOSPC ENOSPC, missing ok ok ok, full ENOSPC ENOSPC ENOSPC, "
    "flags EINVAL, too long EINVAL"
)

OLDER: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str], ...] = (
    # kernel/bpf/stackmap.c:stack_map_lookup_and_delete_elem (v6.18).
    ("6.18", ("stack_trace",), ("lookup_and_delete",), _NEVER),
    # Commits eae6a075e952 ("bpf: Handle BPF_EXIST and BPF_NOEXIST for LPM trie"), 532d6b36b2bf ("bpf: Handle in-place
    # update for full LPM trie correctly"), 27abc7b3fa2e ("bpf: Fix exact match conditions in trie_get_next_key()").
    ("6.13", ("lpm_trie",), ("update",), _BLIND),
    ("6.13", ("lpm_trie",), ("update_batch",), "*, existing in full ENOSPC"),
    ("6.13", ("lpm_trie",), ("next_key",), "*, mistaken ok, mistaken for the last ENOENT"),
    # Commit c4c84f6fb2c4 ("bpf: drop unnecessary bpf_capable() check in BPF_MAP_FREEZE command").
    ("6.5", _ALL, ("freeze",), "open ok, frozen EBUSY, read-only ok"),
    ("6.5", _LOCKABLE, ("freeze",), "*, lock ENOTSUPP"),
    # Commit db559117828d ("bpf: Consolidate spin_lock, timer management into btf_record").
    ("6.2", _LOCKABLE, ("freeze",), "open ok, frozen EBUSY, read-only ok"),
    # Commit 9263dddc7b6f ("bpf: Extend batch operations for map-in-map bpf-maps").
    ("5.19", _OF_MAPS, _BATCHES, _NEVER),
    # Commit c63829182c37 ("af_unix: Implement ->psock_update_sk_prot()").
    ("5.15", ("sockmap", "sockhash"), ("update",), "*, unix socket EOPNOTSUPP"),
    # Commit 3e87f192b405 ("bpf: Add lookup_and_delete_elem support to hashtab"), which brought its flags, too.
    ("5.14", _HASHES, ("lookup_and_delete",), _NEVER),
    ("5.14", _ALL, ("lookup_and_delete",), "*, beyond the command EINVAL"),
    # Commit f008d732ab18 ("bpf: Add batched ops support for percpu array").
    ("5.13", ("percpu_array", "lpm_trie"), _BATCHES, _NEVER),
)
"""Rows, the newest first: the release that brought what `TABLES` has, the map types, the verbs, and what was before.

`*` in a text is what the row above it left.
"""

NEWER: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str], ...] = (
    # Commit 48e11bad9a1f ("bpf: cpumap: propagate underlying error in cpu_map_update_elem()").
    ("7.0", ("cpumap",), ("update",), "*, closed EBADF, another kind EINVAL"),
)
"""Rows, the oldest first: the release that answers otherwise than `TABLES`, the map types, the verbs, and how."""

# The stable releases that have what a release brought, where that matters to `OLDER`.
_STABLE: dict[str, dict[tuple[int, ...], int]] = {
    "6.13": {(6, 12): 5, (6, 6): 66, (6, 1): 120, (5, 15): 174, (5, 10): 231}
}


def cells_of(release: str) -> Mapping[Cell, str]:
    """Return the errno's name of each cell on Linux `release`, such as "5.10" or "6.1.120-1-generic"."""
    return _cells(_numbers(release))


@functools.lru_cache
def _cells(version: tuple[int, ...]) -> Mapping[Cell, str]:
    rows = [row for row in OLDER if not _has(version, row[0])] + [row for row in NEWER if _has(version, row[0])]
    if not rows:
        return CELLS
    tables = {map_type: dict(table) for map_type, table in TABLES.items()}
    for _, map_types, verbs, text in rows:
        for map_type in map_types:
            table = tables[map_type]
            table |= {verb: text.replace("*", table.get(verb, "")) for verb in verbs}
    return cells(tables)


def _has(version: tuple[int, ...], first: str) -> bool:
    stable = _STABLE.get(first, {}).get(version[:2])
    return version >= _numbers(first) or (stable is not None and version[2:] >= (stable,))


def _numbers(release: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if found is None:
        raise ValueError(f"release {release!r}: numbers are expected, such as '5.10' or '6.12.3'")
    return tuple(int(number or 0) for number in found.groups())


def release_of(backend: Backend) -> str:
    """Return the release of Linux that `backend` runs; of Debian's kernels, the stable release that they are made of.

    They call themselves 6.1.0-32-amd64 where they are 6.1.129, and say so only in the second place.
    """
    debian = re.search(r"\bDebian (\d+\.\d+\.\d+)", os.uname().version) if backend.name == "kernel" else None
    return debian[1] if debian else backend.host.release
