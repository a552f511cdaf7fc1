"""What a kernel of a given release has: the simulator refuses the rest, as such a kernel does.

Everything is a table of (the release that brought it, what). Vanilla releases; distributions backport.
Source: uapi/since.py, and the history of the files and the commits named here.
"""

from __future__ import annotations

from rawbpf.sim.types import special
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c
from rawbpf.uapi import info as i
from rawbpf.uapi import since
from rawbpf.uapi.names import cmd_name, map_type_name, prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from rawbpf.uapi.layout import Layout

    T = TypeVar("T")

_HASHES = (
    c.BPF_MAP_TYPE_HASH,
    c.BPF_MAP_TYPE_PERCPU_HASH,
    c.BPF_MAP_TYPE_LRU_HASH,
    c.BPF_MAP_TYPE_LRU_PERCPU_HASH,
)
_OF_MAPS = (c.BPF_MAP_TYPE_ARRAY_OF_MAPS, c.BPF_MAP_TYPE_HASH_OF_MAPS)

# sizeof(union bpf_attr): include/uapi/linux/bpf.h at each release.
_ATTR_SIZES = (
    ("3.18", 48),
    ("4.17", 72),
    ("5.0", 112),
    ("5.5", 120),
    ("5.14", 128),
    ("5.17", 144),
    ("6.9", 152),
    ("6.18", 168),
)
# The last field that a command takes: kernel/bpf/syscall.c:BPF_..._LAST_FIELD at each release.
_LAST_FIELDS: dict[Layout, tuple[tuple[str, str], ...]] = {
    a.MAP_CREATE: (
        ("4.18", "btf_value_type_id"),
        ("5.6", "btf_vmlinux_value_type_id"),
        ("5.16", "map_extra"),
        ("6.9", "map_token_fd"),
        ("6.18", "excl_prog_hash_size"),
    ),
    a.MAP_LOOKUP_ELEM: (("3.18", "value"), ("5.1", "flags")),
    a.MAP_LOOKUP_AND_DELETE_ELEM: (("4.20", "value"), ("5.14", "flags")),
    a.PROG_LOAD: (
        ("4.17", "expected_attach_type"),
        ("5.0", "line_info_cnt"),
        ("5.5", "attach_prog_fd"),
        ("5.14", "fd_array"),
        ("5.17", "core_relo_rec_size"),
        ("6.4", "log_true_size"),
        ("6.9", "prog_token_fd"),
        ("6.14", "fd_array_cnt"),
        ("6.18", "keyring_id"),
    ),
    a.PROG_ATTACH: (("4.10", "attach_flags"), ("5.5", "replace_bpf_fd"), ("6.6", "expected_revision")),
    a.PROG_DETACH: (("4.10", "attach_type"), ("6.6", "expected_revision")),
    a.PROG_QUERY: (("4.15", "prog_cnt"), ("6.0", "prog_attach_flags"), ("6.6", "revision")),
    a.PROG_TEST_RUN: (("4.12", "duration"), ("5.2", "ctx_out"), ("5.10", "cpu"), ("5.18", "batch_size")),
    a.RAW_TRACEPOINT_OPEN: (("4.17", "prog_fd"), ("6.10", "cookie")),
    a.OBJ_PIN: (("4.15", "file_flags"), ("6.5", "path_fd")),
    a.OBJ_GET: (("4.15", "file_flags"), ("6.5", "path_fd")),
    a.BTF_LOAD: (("4.18", "btf_log_level"), ("6.4", "btf_log_true_size"), ("6.9", "btf_token_fd")),
    a.BTF_GET_FD_BY_ID: (("4.18", "btf_id"), ("6.15", "fd_by_id_token_fd")),
}
# The size of what OBJ_GET_INFO_BY_FD tells.
_INFO_SIZES: dict[Layout, tuple[tuple[str, int], ...]] = {
    i.MAP_INFO: (("4.18", 80), ("5.16", 88), ("6.18", 104)),
    i.PROG_INFO: (("4.18", 128), ("5.0", 192), ("5.1", 208), ("5.12", 216), ("5.16", 224), ("5.19", 232)),
    i.BTF_INFO: (("4.18", 16), ("5.11", 32)),
}
_MAP_FLAGS = (
    ("4.6", c.BPF_F_NO_PREALLOC | c.BPF_F_NO_COMMON_LRU | c.BPF_F_NUMA_NODE),
    ("4.15", c.BPF_F_RDONLY | c.BPF_F_WRONLY),
    ("4.17", c.BPF_F_STACK_BUILD_ID),
    ("5.0", c.BPF_F_ZERO_SEED),
    ("5.2", c.BPF_F_RDONLY_PROG | c.BPF_F_WRONLY_PROG),
    ("5.4", c.BPF_F_CLONE),
    ("5.5", c.BPF_F_MMAPABLE),
    ("5.10", c.BPF_F_PRESERVE_ELEMS | c.BPF_F_INNER_MAP),
    ("6.4", c.BPF_F_LINK),
    ("6.9", c.BPF_F_VTYPE_BTF_OBJ_FD | c.BPF_F_TOKEN_FD | c.BPF_F_SEGV_ON_FAULT | c.BPF_F_NO_USER_CONV),
)
_PIN_FLAGS = (("4.15", 0), ("6.5", c.BPF_F_PATH_FD))
_LOOKUP_AND_DELETE = (
    ("4.20", (c.BPF_MAP_TYPE_QUEUE, c.BPF_MAP_TYPE_STACK)),
    ("5.14", _HASHES),  # commit 3e87f192b405 ("bpf: Add lookup_and_delete_elem support to hashtab")
    ("6.18", (c.BPF_MAP_TYPE_STACK_TRACE,)),
)
_BATCHES = (
    ("5.6", (*_HASHES, c.BPF_MAP_TYPE_ARRAY)),
    # commit f008d732ab18 ("bpf: Add batched ops support for percpu array")
    ("5.13", (c.BPF_MAP_TYPE_PERCPU_ARRAY, c.BPF_MAP_TYPE_LPM_TRIE)),
    ("5.19", _OF_MAPS),  # commit 9263dddc7b6f ("bpf: Extend batch operations for map-in-map bpf-maps")
)
_MAP_EXTRA = (("5.16", (c.BPF_MAP_TYPE_BLOOM_FILTER,)), ("6.9", (c.BPF_MAP_TYPE_ARENA,)))
# The last kind that is known: RESTRICT, FUNC_PROTO, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64.
_BTF_KINDS = (("4.18", 11), ("5.0", 13), ("5.2", 15), ("5.13", 16), ("5.16", 17), ("5.17", 18), ("6.0", 19))
_FIELDS = (
    ("5.1", special.SPIN_LOCK),
    ("5.15", special.TIMER),
    ("5.19", special.KPTR_UNREF | special.KPTR_REF),
    ("6.2", special.LIST_HEAD | special.LIST_NODE),
    ("6.3", special.RB_ROOT | special.RB_NODE),
    ("6.4", special.REFCOUNT),
    ("6.7", special.KPTR_PERCPU),
    ("6.10", special.WORKQUEUE),
    ("6.13", special.UPTR),
    ("6.15", special.RES_SPIN_LOCK),
    ("6.18", special.TASK_WORK),
)
# Fields that keep a map from being frozen: kernel/bpf/syscall.c:map_freeze.
_UNFROZEN = (("5.15", special.TIMER), ("5.19", special.KPTR), ("6.2", -1))
# Tries before and after commits eae6a075e952 ("bpf: Handle BPF_EXIST and BPF_NOEXIST for LPM trie"), 532d6b36b2bf
# ("bpf: Handle in-place update for full LPM trie correctly"), 27abc7b3fa2e ("bpf: Fix exact match conditions in
# trie_get_next_key()"): in v6.13, and in stable releases of December 2024. Seen: 5.10.223 has none of them, 6.1.176 and
# 6.12.117 have all.
_MENDED_TRIES = ("6.13", {(6, 12): 5, (6, 6): 66, (6, 1): 120, (5, 15): 174, (5, 10): 231})
_FDINFO = (("5.2", "frozen"), ("5.12", "recursion_misses"), ("5.16", "map_extra"), ("5.16", "verified_insns"))


_NEVER = 1 << 32


class Release:
    """The features of Linux `text`, such as "5.10" or "5.10.0-32-amd64"; of the newest known where it is None."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text or "6.18.0"
        self.version = _numbers(self.text)[:2]
        self.attr_size = self._latest(_ATTR_SIZES)
        self._ends = {layout: layout.end(self._latest(rows)) for layout, rows in _LAST_FIELDS.items()}
        self._info_sizes = {layout: self._latest(rows) for layout, rows in _INFO_SIZES.items()}
        self._lookup_and_delete = self._all(_LOOKUP_AND_DELETE)
        self._batches = self._all(_BATCHES)
        self._extra = self._all(_MAP_EXTRA)
        self.map_flags = self._union(_MAP_FLAGS)
        """The flags of MAP_CREATE."""
        self.pin_flags = self._union(_PIN_FLAGS)
        """The flags of OBJ_PIN and OBJ_GET, beside those for reading and writing."""
        self.last_btf_kind = self._latest(_BTF_KINDS)
        """The last kind of BTF type."""
        self.special_fields = self._union(_FIELDS)
        """The kinds of field of a value that are the kernel's own."""
        self.unfrozen_fields = self._union(_UNFROZEN)
        """Those that keep a map from being frozen."""

    def __deepcopy__(self, memo: dict[int, object]) -> Release:
        return self  # it never changes

    def has_command(self, number: int) -> bool:
        """Whether this kernel has the command."""
        return self.reached(since.COMMANDS.get(cmd_name(number)))

    def has_map_type(self, number: int) -> bool:
        """Whether this kernel has the map type."""
        return self.reached(since.MAP_TYPES.get(map_type_name(number)))

    def has_prog_type(self, number: int) -> bool:
        """Whether this kernel has the program type."""
        return self.reached(since.PROG_TYPES.get(prog_type_name(number)))

    def can_lookup_and_delete(self, map_type: int) -> bool:
        """Whether this kernel has LOOKUP_AND_DELETE_ELEM for a type."""
        return map_type in self._lookup_and_delete

    def has_batch(self, map_type: int) -> bool:
        """Whether this kernel has batch commands for a type; which of them is the type's own to say."""
        return map_type in self._batches

    def takes_extra(self, map_type: int) -> bool:
        """Whether map_extra means something for a type."""
        return map_type in self._extra

    def end(self, layout: Layout) -> int:
        """Return where the last field ends that a command takes."""
        return self._ends.get(layout) or layout.size

    def info_size(self, layout: Layout) -> int:
        """Return the size of one of the structs that OBJ_GET_INFO_BY_FD fills in."""
        return self._info_sizes[layout]

    def shows(self, field: str) -> bool:
        """Whether fdinfo has a line."""
        return all(self.reached(first) for first, name in _FDINFO if name == field)

    @property
    def has_flagged_tags(self) -> bool:
        """Whether decl tags and type tags may be attributes (kind_flag)."""
        return self.reached("6.14")

    @property
    def has_signed_enums(self) -> bool:
        """Whether an enum may say that it is signed (kind_flag)."""
        return self.reached("6.0")

    @property
    def has_function_linkage(self) -> bool:
        """Whether a function of a BTF may be global."""
        return self.reached("5.6")

    @property
    def has_printable_sections(self) -> bool:
        """Whether a section of a BTF may have a name of any printable characters. Commit bd70a8fb7ca4 (in v6.9)."""
        return self.reached("6.9")

    @property
    def lists_own_types(self) -> bool:
        """Whether the kernel's own BTF has an id. Commit 5329722057d4 (in v5.11)."""
        return self.reached("5.11")

    @property
    def checks_structs(self) -> bool:
        """Whether BTF_LOAD looks for the kernel's fields in every struct."""
        return self.reached("6.2")

    @property
    def has_mended_tries(self) -> bool:
        """Whether tries heed BPF_NOEXIST and BPF_EXIST, replace where they are full, and walk on from the key alone."""
        first, stable = _MENDED_TRIES
        return self.reached(first) or _numbers(self.text)[2] >= stable.get(self.version, _NEVER)

    @property
    def freezes_by_permission(self) -> bool:
        """Whether MAP_FREEZE asks whether the descriptor may write. Commit c4c84f6fb2c4 (in v6.5)."""
        return self.reached("6.5")

    @property
    def maps_unix_sockets(self) -> bool:
        """Whether sockmaps take sockets of AF_UNIX. Commits c63829182c37, 94531cfcbe79 (in v5.15)."""
        return self.reached("5.15")

    @property
    def maps_unbound_udp(self) -> bool:
        """Whether sockmaps take UDP sockets that are not bound: since commit 0c48eefae712 (in v5.15), for some time.

        Seen: 5.10.223, 6.12.117 and 6.18.44 refuse them, 6.1.176 and 6.12.95 do not.
        """
        refused_again = self.reached("6.18") or (self.version == (6, 12) and _numbers(self.text)[2] >= 117)
        return self.reached("5.15") and not refused_again

    @property
    def tells_why_cpumaps_refuse(self) -> bool:
        """Whether cpumaps say what is wrong with a program. Commit 48e11bad9a1f (in v7.0)."""
        return self.reached("7.0")

    @property
    def xskmaps_want_receivers(self) -> bool:
        """Whether xskmaps take only sockets with a ring to receive from. Seen: 7.2.13 does so, 6.18.44 does not."""
        return self.reached("7.0")

    @property
    def has_hashes(self) -> bool:
        """Whether a map tells its hash. Commit ea2e6467ac36 (in v6.18)."""
        return self.reached("6.18")

    def reached(self, release: str | None) -> bool:
        """Whether this kernel is `release` or a later one; None, which nobody knows, is reached."""
        return release is None or _numbers(release)[:2] <= self.version

    def _latest(self, rows: tuple[tuple[str, T], ...]) -> T:
        # The value of the latest row that was reached; of the first where none was.
        found = rows[0][1]
        for first, value in rows:
            if self.reached(first):
                found = value
        return found

    def _all(self, rows: tuple[tuple[str, tuple[int, ...]], ...]) -> frozenset[int]:
        return frozenset(number for first, numbers in rows if self.reached(first) for number in numbers)

    def _union(self, rows: tuple[tuple[str, int], ...]) -> int:
        found = 0
        for first, flags in rows:
            if self.reached(first):
                found |= flags
        return found


def _numbers(release: str) -> tuple[int, int, int]:
    # The third, of a stable release, is 0 where it is not told.
    major, _, rest = release.partition(".")
    minor, _, patch = rest.split("-")[0].partition(".")
    digits = patch[: len(patch) - len(patch.lstrip("0123456789"))]
    try:
        return int(major), int(minor), int(digits or 0)
    except ValueError:
        raise ValueError(f"release {release!r}: two numbers are expected, such as '5.10' or '6.12.3'") from None
