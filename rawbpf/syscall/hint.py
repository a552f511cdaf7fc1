"""Why a bpf command was refused and what to try, in words: all hints of one command stand together.

Called only when something was refused. Reads facts of the host; must not make bpf calls, or know
which exception the errno becomes.
"""

from __future__ import annotations

from rawbpf.errors import ENOTSUPP
from rawbpf.syscall import footprint, group, permission, rule
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import cmd_name, map_type_name, prog_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rawbpf.syscall.protocol import Backend, Host

    Values = Mapping[str, int | bytes]

_EPERM, _ENOENT, _E2BIG, _EBADF, _EAGAIN, _ENOMEM, _EACCES, _EFAULT = 1, 2, 7, 9, 11, 12, 13, 14
_EBUSY, _EEXIST, _EINVAL, _ENOSPC, _ERANGE, _ENOSYS, _ENOLINK, _ENOTSOCK = 16, 17, 22, 28, 34, 38, 67, 88
_EOPNOTSUPP, _EINPROGRESS, _ESTALE = 95, 115, 116

_WRITE_ONLY = "the descriptor is write-only (BPF_F_WRONLY)"
_NO_WRITE = "the map is frozen, or the descriptor is read-only (BPF_F_RDONLY)"
_ID_GONE = "no object has this id now: it was freed, or never existed"
_MISSING_COMMAND = "this kernel lacks the command, or refuses the arguments"

# What (command, errno) means whatever the arguments are.
_SAYINGS: dict[tuple[int, int], str] = {
    (c.BPF_MAP_LOOKUP_ELEM, _EPERM): _WRITE_ONLY,
    (c.BPF_MAP_LOOKUP_BATCH, _EPERM): _WRITE_ONLY,
    (c.BPF_MAP_GET_NEXT_KEY, _EPERM): _WRITE_ONLY,
    (c.BPF_MAP_UPDATE_ELEM, _EPERM): _NO_WRITE,
    (c.BPF_MAP_DELETE_ELEM, _EPERM): _NO_WRITE,
    (c.BPF_MAP_LOOKUP_AND_DELETE_ELEM, _EPERM): _NO_WRITE + ", or write-only",
    (c.BPF_MAP_LOOKUP_AND_DELETE_BATCH, _EPERM): _NO_WRITE + ", or write-only",
    (c.BPF_MAP_UPDATE_BATCH, _EPERM): _NO_WRITE,
    (c.BPF_MAP_DELETE_BATCH, _EPERM): _NO_WRITE,
    (c.BPF_MAP_FREEZE, _EPERM): "the map is frozen already, or the descriptor is read-only (BPF_F_RDONLY)",
    (c.BPF_MAP_FREEZE, _EBUSY): "the map is mapped writable: close those mappings first",
    (c.BPF_MAP_FREEZE, ENOTSUPP): "the kernel does not freeze maps of this type",
    (c.BPF_MAP_LOOKUP_BATCH, _ENOSPC): "a hash bucket holds more elements than `count`: "
    "repeat from the same cursor with room for more",
    (c.BPF_MAP_LOOKUP_AND_DELETE_BATCH, _ENOSPC): "a hash bucket holds more elements than `count`: "
    "repeat from the same cursor with room for more",
    (
        c.BPF_OBJ_PIN,
        _EPERM,
    ): "pins live in a bpf file system only (mount -t bpf bpf /sys/fs/bpf), and a pin's name has no dot",
    (c.BPF_OBJ_PIN, _EACCES): "this user may not write to the directory",
    (c.BPF_OBJ_PIN, _EEXIST): "something is pinned there already: unpin it, or choose another path",
    (c.BPF_OBJ_PIN, _ENOENT): "the directory does not exist: make it first, inside the bpf file system",
    (c.BPF_OBJ_PIN, _EINVAL): "the descriptor is no bpf object that can be pinned, or file_flags are not known",
    (c.BPF_OBJ_GET, _EACCES): "it is no pinned object, or its mode forbids this access: "
    'open it with mode="r" (BPF_F_RDONLY), or have its owner change the mode',
    (c.BPF_OBJ_GET, _EPERM): "it is no pinned object",
    (c.BPF_OBJ_GET, _ENOENT): "nothing is pinned there",
    (c.BPF_OBJ_GET, _EINVAL): "file_flags may be BPF_F_RDONLY or BPF_F_WRONLY, and only for maps",
    **{
        (cmd, _ENOENT): _ID_GONE
        for cmd in (
            c.BPF_MAP_GET_FD_BY_ID,
            c.BPF_PROG_GET_FD_BY_ID,
            c.BPF_BTF_GET_FD_BY_ID,
            c.BPF_LINK_GET_FD_BY_ID,
        )
    },
    (c.BPF_OBJ_GET_INFO_BY_FD, _EINVAL): "the descriptor is no map, program, BTF object or link",
    (c.BPF_OBJ_GET_INFO_BY_FD, _E2BIG): "bytes of the info struct that this kernel does not know must be 0",
    (c.BPF_BTF_LOAD, _EINVAL): "the kernel does not accept this BTF, perhaps for a kind newer than itself; "
    "its log says where (log_level=1)",
    (c.BPF_BTF_LOAD, _ENOSPC): "the log did not fit its buffer",
    (c.BPF_BTF_LOAD, _E2BIG): "BTF of more than 16 MiB, or with too long a name",
    (c.BPF_PROG_TEST_RUN, ENOTSUPP): "programs of this type cannot be run on demand",
    (c.BPF_PROG_TEST_RUN, _EINVAL): "the sizes, flags or repeat do not suit the program's type: "
    "packet programs want at least 14 bytes of data, tracing programs none",
    (c.BPF_PROG_ATTACH, _EEXIST): "it is attached there already",
    (c.BPF_PROG_ATTACH, _EINVAL): "the program's type does not belong to this attach type, "
    "or the target takes no such program or flags",
    (c.BPF_PROG_ATTACH, _EBADF): "the program or the target is closed, or the target is of another kind (a cgroup?)",
    (c.BPF_PROG_ATTACH, _ESTALE): "the list of programs changed since expected_revision was read",
    (c.BPF_PROG_DETACH, _ENOENT): "no such program is attached there",
    (c.BPF_PROG_QUERY, _ENOSPC): "more programs are attached than there was room for",
    (c.BPF_PROG_QUERY, _EINVAL): "the target cannot be queried for this attach type, or not with these flags",
    (c.BPF_RAW_TRACEPOINT_OPEN, _ENOENT): "no tracepoint has this name: raw tracepoints go by the event alone "
    "(sched_switch), without its category",
    (c.BPF_RAW_TRACEPOINT_OPEN, _EINVAL): "the program is of another type, "
    "or a name was given to a program that has its target by BTF (or none to one that has not)",
    (c.BPF_LINK_CREATE, _EBADF): "the program or the target is closed, or the target is of another kind",
    (c.BPF_LINK_CREATE, _EBUSY): "another program or link occupies the place",
    (c.BPF_LINK_CREATE, _EEXIST): "something is attached there already",
    (c.BPF_LINK_CREATE, _EINVAL): "the program's type does not belong to this attach type, "
    "or this kernel has no such kind of link",
    (c.BPF_LINK_UPDATE, _EPERM): "another program than old_prog_fd is attached",
    (c.BPF_LINK_UPDATE, _EINVAL): "this kind of link, or a program of another type, cannot be exchanged",
    (c.BPF_LINK_UPDATE, _ENOLINK): "what it was attached to is gone",
    (c.BPF_LINK_DETACH, _EOPNOTSUPP): "this kind of link is detached by closing it only",
    (c.BPF_ITER_CREATE, _EINVAL): "the link is no iterator",
    (c.BPF_TASK_FD_QUERY, ENOTSUPP): "the descriptor is no raw tracepoint and no perf event with a program",
    (c.BPF_TASK_FD_QUERY, _ENOENT): "no such process, or a perf event without a program",
    (c.BPF_TASK_FD_QUERY, _EBADF): "the process has no such descriptor",
    (c.BPF_TOKEN_CREATE, _EOPNOTSUPP): "tokens exist only for user namespaces other than the first",
    (c.BPF_TOKEN_CREATE, _ENOENT): "the bpf file system was mounted without anything to delegate (delegate_cmds=...)",
    (c.BPF_TOKEN_CREATE, _EINVAL): "the descriptor is not the root of a bpf file system, or this kernel has no tokens",
    (c.BPF_PROG_STREAM_READ_BY_FD, _ENOENT): "a program has two streams: BPF_STDOUT (1) and BPF_STDERR (2)",
}

_GENERAL = {
    _ENOSYS: "the kernel, or the sandbox around this process, has no bpf(2); "
    "maps are simulated with RAWBPF_BACKEND=sim, or rawbpf.using(rawbpf.sim.Simulator())",
    _EFAULT: "a pointer among the arguments leads nowhere",
    _ENOMEM: "the kernel has no memory for it, or a memory cgroup does not allow it",
}


def hint_for(backend: Backend, errno: int, *, cmd: int, map_type: int | None, values: Values) -> str:
    """Return the hint for `errno` of command `cmd`; "" where there is nothing to add to the errno.

    `map_type` is that of the map concerned, `values` the fields that the attr was packed from.
    """
    host = backend.host
    if errno == _EPERM and (wanted := permission.needed(cmd, values)):
        return permission.explain(host, wanted) + (_SIMULATED if cmd in _ALSO_SIMULATED else "")
    if errno == _EINVAL and _has_flag(values.get("file_flags", 0), c.BPF_F_PATH_FD):
        return _NO_DIR_FD
    if cmd in _DIALOGUES and (text := _DIALOGUES[cmd](host, errno, cmd, map_type, values)):
        return text
    if text := _SAYINGS.get((cmd, errno), ""):
        return text
    if errno == _EINVAL and cmd in _SINCE_LATER:
        return _MISSING_COMMAND + _since("command", cmd_name(cmd))
    return _GENERAL.get(errno, "")


_NO_DIR_FD = (
    "this kernel may not take a directory's descriptor (dir_fd: since Linux 6.5): give the whole path; "
    "or the descriptor is no bpf object that can be pinned"
)


def _has_flag(flags: int | bytes, flag: int) -> bool:
    return isinstance(flags, int) and bool(flags & flag)


# Where it helps: a simulated kernel makes and loads what this one refuses, and lists or attaches nothing of it.
_ALSO_SIMULATED = (c.BPF_MAP_CREATE, c.BPF_BTF_LOAD, c.BPF_PROG_LOAD)
_SIMULATED = "; without any privileges maps are simulated (RAWBPF_BACKEND=sim, or rawbpf.using(rawbpf.sim.Simulator()))"
_ONE_ELEMENT = (c.BPF_MAP_UPDATE_ELEM, c.BPF_MAP_DELETE_ELEM)
_SINCE_LATER = frozenset(range(c.BPF_MAP_LOOKUP_AND_DELETE_ELEM, c.BPF_PROG_STREAM_READ_BY_FD + 1))


def _since(what: str, word: str) -> str:
    from rawbpf.uapi import since

    release = {"command": since.COMMANDS, "map type": since.MAP_TYPES, "program type": since.PROG_TYPES}[what].get(word)
    return f" ({what} {word}: since Linux {release})" if release else ""


def _map_create(host: Host, errno: int, _cmd: int, map_type: int | None, values: Values) -> str:
    kind = values.get("map_type", map_type or 0)
    word = map_type_name(kind) if isinstance(kind, int) else "?"
    if errno == _EINVAL:
        if broken := rule.broken_rules(host, values):
            return "; ".join(broken)
        if values.get("btf_value_type_id") and kind in group.CGROUP_STORAGES:
            return "the key is a u64, or a struct of a u64 and a u32, also to BTF: leave key= out"
        why = "this kernel may lack the map type or one of its flags, or refuses the combination"
        more = "; or a stack may have more addresses than kernel.perf_event_max_stack" if word == "stack_trace" else ""
        if values.get("btf_value_type_id"):
            more = "; or the BTF types do not have the sizes key_size and value_size, or the ids are wrong"
            more += "; a lpm_trie map takes BTF only for a key that is a struct" if word == "lpm_trie" else ""
        return why + _since("map type", word) + more
    if errno == _E2BIG:
        return rule.too_big(values)
    if errno in (ENOTSUPP, _EOPNOTSUPP):
        return rule.not_supported(values) or f"this kernel does not support such {rule.article(word)} map"
    if errno == _ENOMEM:
        if wide := rule.too_wide(values):  # an older kernel (seen on 5.10) just asks for the memory
            return wide
        size = footprint.amount(footprint.memory_at_once(host, values))
        lazily = ", or allocate as it fills (BPF_F_NO_PREALLOC)" if footprint.can_be_lazy(values) else ""
        return (
            f"the map takes about {size} of kernel memory; lower max_entries{lazily}; a memory cgroup may limit it too"
        )
    if errno == _ERANGE and word == "arena":
        return "from map_extra on, the arena would cross a multiple of 4 GiB, which pointers in it could not tell"
    if errno == _EBADF:
        handed = [
            f"{field} {values[field]!r}" for field in ("inner_map_fd", "btf_fd", "map_token_fd") if values.get(field)
        ]
        return f"closed, or of another kind: {' or '.join(handed)}" if handed else ""
    return ""


def _prog_load(_host: Host, errno: int, _cmd: int, _map_type: int | None, values: Values) -> str:
    kind, name = values.get("prog_type", 0), values.get("prog_name", b"")
    word = prog_type_name(kind) if isinstance(kind, int) else "?"
    if errno == _EINVAL:
        if isinstance(name, bytes) and (wrong := rule.bad_name(name)):
            return wrong
        if not values.get("insn_cnt"):
            return "a program has at least one instruction"
        why = "the verifier refused it (its log says why: log_level=1), or this kernel lacks the program type"
        return why + _since("program type", word)
    return {
        _EACCES: "the verifier refused it; its log says why (log_level=1)",
        _E2BIG: "too many instructions: 1,000,000 with CAP_BPF, 4,096 without; or too complex to be verified",
        _ENOSPC: "the verifier's log did not fit its buffer",
        _EBADF: "a map, BTF or program that it refers to is closed, or of another kind",
        _EAGAIN: "signals kept interrupting the verifier",
        ENOTSUPP: f"this kernel does not support something that the program ({word}) asks for",
    }.get(errno, "")


def _map_element(_host: Host, errno: int, cmd: int, map_type: int | None, values: Values) -> str:
    word = "maps of this type" if map_type is None else f"{rule.article(map_type_name(map_type))} map"
    if map_type in _OWNERS and errno in (_ENOENT, _EBADF, _ENOTSOCK):
        return _owner(map_type, errno)
    if map_type in _OWNERS and errno == _EAGAIN:
        return "what the owner had is just being freed: try again"
    if map_type == c.BPF_MAP_TYPE_SK_STORAGE and errno == _ENOMEM:
        return "the socket has no room left for it (net.core.optmem_max), or the kernel has no memory"
    if map_type in group.CGROUP_STORAGES and errno == _ENOENT:
        return "a cgroup has storage once a program that uses this map was attached to it: attach it first"
    if map_type == c.BPF_MAP_TYPE_STRUCT_OPS and (text := _STRUCT_OPS.get((cmd, errno), "")):
        return text
    update = cmd in (c.BPF_MAP_UPDATE_ELEM, c.BPF_MAP_UPDATE_BATCH)
    if update and errno in (_E2BIG, _ENOSPC):
        return _full(map_type)
    if errno in (ENOTSUPP, _EOPNOTSUPP):
        return f"the kernel does not support {cmd_name(cmd)} on {word}"
    if errno == _EINVAL:
        return _invalid_element(cmd, map_type, values)
    if errno == _ENOSPC and cmd == c.BPF_MAP_LOOKUP_ELEM:
        return "its sockets cannot be read; created with value_size 8, the map returns their cookies"
    if errno == _EBADF:
        return "the map is closed, or the descriptor handed in as key or value is closed or of another kind"
    if errno == _EBUSY:
        return "a program on this CPU is working on the same bucket: try again"
    if errno == _EFAULT:
        return "the key, the value, or the room for it is missing"
    return ""


def _owner(map_type: int, errno: int) -> str:
    if errno == _ENOENT:
        ended = ", or the task has ended" if map_type == c.BPF_MAP_TYPE_TASK_STORAGE else ""
        return f"nothing is stored for this owner{ended}"
    if errno == _ENOTSOCK:
        return "the descriptor is open, but not a socket"
    return f"the key is no open descriptor of {_OWNERS[map_type]} (or the map itself is closed)"


def _full(map_type: int | None) -> str:
    if map_type in group.QUEUES:
        return "it holds max_entries values; pop first, or push with overwrite=True (BPF_EXIST), which drops the oldest"
    if map_type is None:
        return "the map holds max_entries elements, or the index of an array is out of range"
    lru = {c.BPF_MAP_TYPE_HASH: "lru_hash", c.BPF_MAP_TYPE_PERCPU_HASH: "lru_percpu_hash"}.get(map_type)
    evict = f", or use {lru}, which evicts" if lru else ""
    return f"it holds max_entries elements; delete some, create it with more{evict}"


def _invalid_element(cmd: int, map_type: int | None, values: Values) -> str:
    deletes = cmd in (c.BPF_MAP_DELETE_ELEM, c.BPF_MAP_DELETE_BATCH)
    if map_type == c.BPF_MAP_TYPE_INSN_ARRAY and cmd == c.BPF_MAP_UPDATE_ELEM and values.get("flags", 0) in (0, 2):
        return "the kernel alone fills in xlated_off and jitted_off: store orig_off, and zeros in their place"
    if map_type in group.PLAIN_ARRAYS and deletes:
        return "elements of an array cannot be deleted: store zeros instead"
    if map_type in group.QUEUES:
        return "a queue or stack takes push, pop and peek only, without a key"
    if map_type == c.BPF_MAP_TYPE_STACK_TRACE and cmd == c.BPF_MAP_UPDATE_ELEM:
        return "only programs store stack traces (bpf_get_stackid)"
    if map_type in group.CGROUP_STORAGES and deletes:
        return "cgroup storage is made by attaching, goes with the cgroup, and cannot be deleted"
    if map_type == c.BPF_MAP_TYPE_LPM_TRIE and cmd in _ONE_ELEMENT and values.get("flags", 0) in (0, 1, 2):
        return "the prefix length, a u32 before the address, is larger than the bits of the address"
    if map_type == c.BPF_MAP_TYPE_SOCKMAP and deletes:
        return "the slot is empty, or the index is not below max_entries"
    if cmd in (
        c.BPF_MAP_LOOKUP_BATCH,
        c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
        c.BPF_MAP_UPDATE_BATCH,
        c.BPF_MAP_DELETE_BATCH,
    ):
        if values.get("elem_flags"):
            return "elem_flags of a batch may only be BPF_F_LOCK: the kernel refuses BPF_NOEXIST and BPF_EXIST there"
        return _MISSING_COMMAND + _since("command", cmd_name(cmd))
    flags = values.get("flags", 0)
    wrong_flags = f"maps of this type do not take these flags here ({flags!r})"
    if cmd == c.BPF_MAP_UPDATE_ELEM and isinstance(flags, int) and flags & ~c.BPF_F_LOCK not in (0, 1, 2):
        return f"flags {flags:#x}: one of BPF_ANY (0), BPF_NOEXIST (1) and BPF_EXIST (2), and BPF_F_LOCK (4)"
    if isinstance(flags, int) and flags & c.BPF_F_LOCK:
        return "BPF_F_LOCK needs a bpf_spin_lock in the value, known by BTF"
    if cmd == c.BPF_MAP_UPDATE_ELEM and map_type in _HOLDS:
        held = f"the value is no descriptor of {_HOLDS[map_type]}, or of one that does not suit the others"
        return f"{held}; or {wrong_flags}" if flags else held
    return wrong_flags if flags else "the descriptor is no map, or the kernel refuses this key or value"


# What the keys of local storage are descriptors of, and how to come by one.
_OWNERS = {
    c.BPF_MAP_TYPE_SK_STORAGE: "a socket",
    c.BPF_MAP_TYPE_INODE_STORAGE: "a file",
    c.BPF_MAP_TYPE_TASK_STORAGE: "a task: os.pidfd_open(pid) gives one, and a plain process id is not taken",
    c.BPF_MAP_TYPE_CGRP_STORAGE: "a cgroup, which is its directory",
}
# What a struct_ops map says: its element is registered with the kernel, which has reasons of its own.
_STRUCT_OPS = {
    (c.BPF_MAP_UPDATE_ELEM, _EBUSY): "this map was filled before; create another one for another table",
    (c.BPF_MAP_UPDATE_ELEM, _EEXIST): "the kernel has one of this name already",
    (c.BPF_MAP_UPDATE_ELEM, _EINVAL): "a program was loaded for another member or table, a member is one that programs "
    "cannot be or set, or this kind of table needs one that is missing",
    (c.BPF_MAP_UPDATE_ELEM, _EBADF): "the map is closed, or the descriptor of a program is closed or of another kind",
    (c.BPF_MAP_DELETE_ELEM, _EOPNOTSUPP): "the map was created with BPF_F_LINK: closing its link ends the registration",
    (c.BPF_MAP_DELETE_ELEM, _EINPROGRESS): "the registration was ended before, and the table is still in use",
}

# What the descriptors are of that these map types take as values.
_HOLDS = {
    c.BPF_MAP_TYPE_PROG_ARRAY: "a program",
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "a perf event",
    c.BPF_MAP_TYPE_CGROUP_ARRAY: "a cgroup",
    c.BPF_MAP_TYPE_ARRAY_OF_MAPS: "a map like the template",
    c.BPF_MAP_TYPE_HASH_OF_MAPS: "a map like the template",
    c.BPF_MAP_TYPE_SOCKMAP: "a socket",
    c.BPF_MAP_TYPE_SOCKHASH: "a socket",
    c.BPF_MAP_TYPE_XSKMAP: "an AF_XDP socket",
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "a socket with SO_REUSEPORT",
}


_DIALOGUES: dict[int, Callable[[Host, int, int, int | None, Values], str]] = {
    c.BPF_MAP_CREATE: _map_create,
    c.BPF_PROG_LOAD: _prog_load,
    **dict.fromkeys(
        (
            c.BPF_MAP_LOOKUP_ELEM,
            c.BPF_MAP_UPDATE_ELEM,
            c.BPF_MAP_DELETE_ELEM,
            c.BPF_MAP_GET_NEXT_KEY,
            c.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
            c.BPF_MAP_LOOKUP_BATCH,
            c.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
            c.BPF_MAP_UPDATE_BATCH,
            c.BPF_MAP_DELETE_BATCH,
        ),
        _map_element,
    ),
}
