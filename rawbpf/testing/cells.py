"""What the kernel answers, as data: (map type, verb, case) -> errno, and which of these were seen.

A case is what of a map's state and of an operation decides the answer. The models of `rawbpf.testing.model` find the
case and take the errno from here, so that each row is tested by every operation that falls into it; a row that
no operation reaches is one that nothing vouches for. docs/reference/map-semantics.md shows these tables.

Seen on Linux 6.18, x86-64. Kernel side: kernel/bpf/syscall.c and the file of each map type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

RELEASE = "6.18"
"""The release of Linux that these tables were compared with."""


class Cell(NamedTuple):
    """One answer to be seen: of maps of `map_type`, for `verb`, in `case`."""

    map_type: str
    verb: str
    case: str

    def __str__(self) -> str:
        return f"{self.map_type}: {self.verb}, {self.case}"


# A table says, by verb: "case ok" or "case ERRNO". Three answers of an update are for the flags ANY, NOEXIST, EXIST;
# "-" is what falls into another case.
Table = dict[str, str]

_HASH: Table = {
    "lookup": "existing ok, missing ENOENT",
    "update": "existing ok EEXIST ok, missing ok ok ENOENT, full E2BIG E2BIG ENOENT, flags EINVAL",
    "delete": "existing ok, missing ENOENT",
    "next_key": "empty ENOENT, first ok, next ok, last ENOENT, unknown ok",
    "lookup_and_delete": "existing ok, missing ENOENT",
    "lookup_batch": "some ok, end ENOENT, bucket ENOSPC, beyond ENOENT, flags EINVAL",
    "lookup_and_delete_batch": "some ok, end ENOENT, bucket ENOSPC, beyond ENOENT, flags EINVAL",
    "update_batch": "all ok, full E2BIG",
    "delete_batch": "all ok, missing ENOENT",
}
_LRU: Table = _HASH | {
    "update": "existing ok EEXIST ok, missing ok ok ENOENT, flags EINVAL",
    "update_batch": "all ok",
}
_ARRAY: Table = {
    "lookup": "existing ok, out of range ENOENT",
    "update": "existing ok EEXIST ok, out of range E2BIG E2BIG E2BIG, flags EINVAL",
    "delete": "always EINVAL",
    "next_key": "first ok, next ok, last ENOENT, out of range ok",
    "lookup_and_delete": "always ENOTSUPP",
    "lookup_batch": "some ok, end ENOENT",
    "lookup_and_delete_batch": "always ENOTSUPP",
    "update_batch": "all ok, out of range E2BIG",
    "delete_batch": "always ENOTSUPP",
}
_NO_BATCH: Table = {
    "lookup_batch": "always ENOTSUPP",
    "lookup_and_delete_batch": "always ENOTSUPP",
    "update_batch": "always ENOTSUPP",
    "delete_batch": "always ENOTSUPP",
}
_SLOTS: Table = _NO_BATCH | {
    "next_key": _ARRAY["next_key"],
    "lookup_and_delete": "always ENOTSUPP",
}
# Arrays of descriptors: the flags are looked at before the index, and the index before the descriptor.
_DESCRIPTORS: Table = _SLOTS | {
    "lookup": "existing ok, missing ENOENT, out of range ENOENT",
    "update": "existing ok EINVAL EINVAL, missing ok EINVAL EINVAL, out of range E2BIG EINVAL EINVAL, flags EINVAL, "
    "closed EBADF, another kind EINVAL",
    "delete": "existing ok, missing ENOENT, out of range E2BIG",
}
_DEVICES: Table = _SLOTS | {
    "lookup": "existing ok, missing ENOENT, out of range ENOENT",
    "update": "existing ok EEXIST ok, missing ok EEXIST ok, out of range E2BIG E2BIG E2BIG, flags EINVAL, "
    "no such device EINVAL, program without device EINVAL, closed EINVAL, another kind EINVAL",
    "delete": "existing ok, missing ok, out of range EINVAL",
}
# The socket is looked at before the flags and the index.
_SOCKETS: Table = _SLOTS | {
    "lookup": "existing ok, missing ENOENT, out of range ENOENT, short value ENOSPC",
    "update": "existing ok EEXIST ok, missing ok ok ENOENT, out of range E2BIG E2BIG E2BIG, flags EINVAL, "
    "closed EBADF, beyond descriptors EINVAL, another kind ENOTSOCK, unsuitable EOPNOTSUPP",
    "delete": "existing ok, missing EINVAL, out of range EINVAL",
}
_QUEUE: Table = _NO_BATCH | {
    "lookup": "existing ok, empty ENOENT",
    "update": "room ok EINVAL ok, full E2BIG EINVAL ok, flags EINVAL",
    "delete": "always EINVAL",
    "next_key": "always EINVAL",
    "lookup_and_delete": "existing ok, empty ENOENT",
}
_STORAGE: Table = _NO_BATCH | {
    "lookup": "existing ok, missing ENOENT, closed EBADF, another kind EBADF",
    "update": "existing ok EEXIST ok, missing ok ok ENOENT, flags EINVAL, closed EBADF, another kind EBADF",
    "delete": "existing ok, missing ENOENT, closed EBADF, another kind EBADF",
    "next_key": "always ENOTSUPP",
    "lookup_and_delete": "always ENOTSUPP",
}
_CGROUP_STORAGE: Table = _NO_BATCH | {
    "lookup": "missing ENOENT",
    "update": "missing ENOENT EINVAL ENOENT, flags EINVAL",
    "delete": "always EINVAL",
    "next_key": "empty ENOENT",
    "lookup_and_delete": "always ENOTSUPP",
}
_RING: Table = _NO_BATCH | {
    "lookup": "always ENOTSUPP",
    "update": "always ENOTSUPP",
    "delete": "always ENOTSUPP",
    "next_key": "always ENOTSUPP",
    "lookup_and_delete": "always ENOTSUPP",
}

TABLES: dict[str, Table] = {
    "hash": _HASH,
    "percpu_hash": _HASH,
    "lru_hash": _LRU,
    "lru_percpu_hash": _LRU,
    "array": _ARRAY,
    "percpu_array": _ARRAY,
    "prog_array": _DESCRIPTORS | {"update": _DESCRIPTORS["update"] + ", unlike the others EINVAL"},
    "perf_event_array": _DESCRIPTORS
    | {
        "lookup": "always ENOTSUPP",
        "update": _DESCRIPTORS["update"].replace("another kind EINVAL", "another kind EBADF"),
    },
    "cgroup_array": _DESCRIPTORS
    | {
        "lookup": "always ENOTSUPP",
        "update": _DESCRIPTORS["update"].replace("another kind EINVAL", "another kind EBADF"),
    },
    "stack_trace": _NO_BATCH
    | {
        "lookup": "missing ENOENT, out of range ENOENT",
        "update": "always EINVAL",
        "delete": "missing ENOENT, out of range E2BIG",
        "next_key": "empty ENOENT",
        "lookup_and_delete": "missing ENOENT, out of range ENOENT",
    },
    "lpm_trie": _HASH
    | {
        "lookup": "existing ok, covered ok, missing ENOENT, too long ENOENT",
        "update": "existing ok EEXIST ok, missing ok ok ENOENT, full ENOSPC ENOSPC ENOENT, flags EINVAL, "
        "too long EINVAL",
        "delete": "existing ok, missing ENOENT, too long EINVAL",
        "lookup_and_delete": "always ENOTSUPP",
        "lookup_batch": "some ok, end ENOENT",
        "lookup_and_delete_batch": "always ENOTSUPP",
        "update_batch": "all ok, full ENOSPC, too long EINVAL",
        "delete_batch": "all ok, missing ENOENT, too long EINVAL",
    },
    "array_of_maps": _DESCRIPTORS
    | {
        "update": _DESCRIPTORS["update"] + ", unlike the template EINVAL",
        "lookup_batch": "some ok, end ENOENT",
        "update_batch": "all ok, out of range E2BIG, closed EBADF, another kind EINVAL, unlike the template EINVAL",
    },
    "hash_of_maps": _HASH
    | {
        "update": _HASH["update"] + ", closed EBADF, another kind EINVAL, unlike the template EINVAL",
        "lookup_and_delete": "always ENOTSUPP",
        "update_batch": "all ok, full E2BIG, closed EBADF, another kind EINVAL, unlike the template EINVAL",
    },
    "devmap": _DEVICES,
    "devmap_hash": _NO_BATCH
    | {
        "lookup": "existing ok, missing ENOENT",
        "update": "existing ok EEXIST ok, missing ok ok ok, full E2BIG E2BIG E2BIG, flags EINVAL, no device EINVAL, "
        "no such device EINVAL, closed EINVAL, another kind EINVAL",
        "delete": "existing ok, missing ENOENT",
        "next_key": _HASH["next_key"],
        "lookup_and_delete": "always ENOTSUPP",
    },
    "sockmap": _SOCKETS,
    "cpumap": _SLOTS
    | {
        "lookup": "existing ok, missing ENOENT, out of range ENOENT",
        "update": "existing ok EEXIST ok, missing ok EEXIST ok, out of range E2BIG E2BIG E2BIG, flags EINVAL, "
        "long queue EOVERFLOW, no such cpu ENODEV, closed ENOMEM, another kind ENOMEM",
        "delete": "existing ok, missing ok, out of range EINVAL",
    },
    "xskmap": _SLOTS
    | {
        "lookup": "always EOPNOTSUPP",
        "update": "existing ok EEXIST ok, missing ok ok ENOENT, same ok ok ok, out of range E2BIG E2BIG E2BIG, "
        "flags EINVAL, closed EBADF, another kind ENOTSOCK, unsuitable EOPNOTSUPP",
        "delete": "existing ok, missing ok, out of range EINVAL",
    },
    "sockhash": _NO_BATCH
    | {
        "lookup": "existing ok, missing ENOENT, short value ENOSPC",
        "update": "existing ok EEXIST ok, missing ok ok ENOENT, full E2BIG E2BIG ENOENT, flags EINVAL, "
        "closed EBADF, beyond descriptors EINVAL, another kind ENOTSOCK, unsuitable EOPNOTSUPP",
        "delete": "existing ok, missing ENOENT",
        "next_key": _HASH["next_key"],
        "lookup_and_delete": "always ENOTSUPP",
    },
    "cgroup_storage": _CGROUP_STORAGE,
    "reuseport_sockarray": _SLOTS
    | {
        "lookup": "existing ok, missing ENOENT, out of range ENOENT, short value ENOSPC",
        "update": "existing EBUSY EEXIST EBUSY, replaced ok - ok, missing ok ok ENOENT, "
        "elsewhere EBUSY EBUSY -, "
        "out of range E2BIG E2BIG E2BIG, flags EINVAL, closed EBADF, beyond descriptors EINVAL, "
        "another kind ENOTSOCK, unsuitable EINVAL",
        "delete": "existing ok, missing ENOENT, out of range E2BIG",
    },
    "percpu_cgroup_storage": _CGROUP_STORAGE,
    "queue": _QUEUE,
    "stack": _QUEUE,
    "sk_storage": _STORAGE
    | {
        verb: _STORAGE[verb].replace("another kind EBADF", "another kind ENOTSOCK")
        for verb in ("lookup", "update", "delete")
    },
    "ringbuf": _RING,
    "inode_storage": _STORAGE
    | {verb: _STORAGE[verb].replace(", another kind EBADF", "") for verb in ("lookup", "update", "delete")},
    "task_storage": _STORAGE,
    "bloom_filter": _NO_BATCH
    | {
        "lookup": "existing ok, missing ENOENT, false positive ok",
        "update": "any ok EINVAL EINVAL, flags EINVAL",
        "delete": "always EOPNOTSUPP",
        "next_key": "always EOPNOTSUPP",
        "lookup_and_delete": "always ENOTSUPP",
    },
    "user_ringbuf": _RING,
    "cgrp_storage": _STORAGE,
    "arena": _RING
    | {
        "lookup": "always EINVAL",
        "update": "always EOPNOTSUPP",
        "delete": "always EOPNOTSUPP",
        "next_key": "always EOPNOTSUPP",
    },
}
"""What each map type answers once the operation itself is in order."""

KEYLESS = frozenset({"queue", "stack", "bloom_filter", "ringbuf", "user_ringbuf", "arena"})
"""The types whose key_size is 0."""
VALUELESS = frozenset({"ringbuf", "user_ringbuf", "arena"})
"""The types whose value_size is 0 as well."""
LOCKABLE = frozenset({"hash", "array"})
"""The types whose values may have a bpf_spin_lock here."""

_READS = ("lookup", "next_key", "lookup_and_delete", "lookup_batch", "lookup_and_delete_batch")
_WRITES = ("update", "delete", "lookup_and_delete", "lookup_and_delete_batch", "update_batch", "delete_batch")
_BATCHES = ("lookup_batch", "lookup_and_delete_batch", "update_batch", "delete_batch")


def _common(map_type: str, verb: str, table: Table) -> str:
    # What the syscall layer answers before, or after, it asks the type.
    rows = []
    answers = table.get(verb, "")
    supported = "ok" in answers.split() or "ok," in answers.split()
    if verb in {"lookup", "lookup_and_delete"}:
        rows += ["bad flags EINVAL", "no lock EINVAL"]
    elif verb == "update":
        rows.append("no lock EINVAL")
    elif verb in {"delete", "next_key"}:
        rows.append("beyond the command EINVAL")
    if verb in _READS:
        rows.append("write-only EPERM")
    if verb in _WRITES:
        rows += ["read-only EPERM", "frozen EPERM"]
    if verb in _BATCHES:
        if supported:
            rows += ["no elements ok", "bad element flags EINVAL", "no lock EINVAL", "null pointer EFAULT"]
        return ", ".join(rows)
    if map_type in KEYLESS:
        rows.append("key given EINVAL")
    elif verb != "next_key":
        rows.append("null key EFAULT")
    if verb == "update":
        rows += ["null value EFAULT"] * (map_type not in VALUELESS)
    elif verb != "delete" and supported:
        rows.append("null value EFAULT")
    return ", ".join(rows)


def _parse(map_type: str, verb: str, text: str) -> dict[Cell, str]:
    found: dict[Cell, str] = {}
    for row in text.split(", "):
        words = row.split()
        case = " ".join(word for word in words if not _is_answer(word))
        answers = ["" if word == "ok" else word for word in words if _is_answer(word)]
        for prefix, answer in zip(("", "NOEXIST, ", "EXIST, "), answers, strict=False):
            if answer != "-":
                found[Cell(map_type, verb, prefix + case)] = answer
    return found


def _is_answer(word: str) -> bool:
    return word in {"ok", "-"} or (word[0] == "E" and word.isupper() and len(word) > 3) or word == "E2BIG"


_FREEZE = "open ok, frozen EPERM, read-only EPERM"


def cells(tables: Mapping[str, Table]) -> dict[Cell, str]:
    """Return the errno's name of each cell of `tables`, by map type; what they lack is the same for every type."""
    found: dict[Cell, str] = {}
    for map_type, table in tables.items():
        for verb, text in table.items():
            if verb != "freeze":
                found |= _parse(map_type, verb, _common(map_type, verb, table) + ", " + text)
        lock = ", lock ENOTSUPP" if map_type in LOCKABLE else ""
        found |= _parse(map_type, "freeze", table.get("freeze", _FREEZE + lock))
        found |= _parse(map_type, "info", "any ok")
    return found


CELLS: dict[Cell, str] = cells(TABLES)
"""The errno's name of each cell; "" where the kernel does it."""


class Seen:
    """How often each cell was seen: what a run has covered."""

    def __init__(self) -> None:
        self.counts: Counter[Cell] = Counter()

    def missing(self, map_type: str) -> list[Cell]:
        """Return the cells of `map_type` that no operation fell into."""
        return [cell for cell in CELLS if cell.map_type == map_type and cell not in self.counts]
