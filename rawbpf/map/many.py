"""Many keys in one call: a program of our own does in the kernel what else is a system call for each key.

`Many` belongs to one open map and keeps what it loaded until the map is closed. A verb leases a `Keys`,
a program with the memory that keys and values are handed over in, so that threads and signal handlers
never share one; where there is none to be had, the system calls are made as ever, with the same results
and errors. Whether a map may be written or read, the kernel asks of the descriptor and not of programs:
so the first key of each call that writes goes by a system call, whose refusal is everybody's.

What is not for programs: values with locks, timers or pointers of the kernel's own; look-ups in an LRU map,
where a program's counts as a use; values per CPU that are written, of which a program sees its own CPU's.
Kernel side: kernel/bpf/hashtab.c, kernel/bpf/arraymap.c, kernel/bpf/lpm_trie.c (v6.12).
"""

from __future__ import annotations

import os
from os import getpid

from rawbpf.errors import BpfError
from rawbpf.map.keys import QUICK, Keys, Unpackable, packed_keys
from rawbpf.map.many_code import DONE, FLAGS, MISSED, Layout, delete_code, get_code, put_code
from rawbpf.map.runner import Unavailable, unavailable
from rawbpf.syscall.group import HASHES, LRU_HASHES, PERCPU, PLAIN_ARRAYS
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.base import Shape
    from rawbpf.map.batch import Elements
    from rawbpf.map.handle import Handle
    from rawbpf.map.taken import Taken
    from rawbpf.map.walk import Walks

GET, PUT, DELETE, POP = "get_many", "put_many", "delete_many", "pop_many"
VERBS = (GET, PUT, DELETE, POP)

MOST_KEYS = 8192
MOST_BYTES = 1 << 19
"""Bounds of the memory that a program works on: as many keys as both allow, and one at least."""
LONGEST = 1 << 15
"""Bytes of the longest value that is handed over in that memory."""
MOST_AT_A_TIME = 8
"""How many calls of a verb on one map may use programs at the same time; further ones make system calls."""
_SUITABLE = (*HASHES, *PLAIN_ARRAYS, c.BPF_MAP_TYPE_LPM_TRIE)
READ, WRITE = 1, 2
_PUT_FLAGS = (c.BPF_ANY, c.BPF_NOEXIST, c.BPF_EXIST)
_NEEDS = {GET: READ, PUT: WRITE, DELETE: WRITE, POP: READ | WRITE}
_MODES = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: READ | WRITE}


SPECIAL: dict[bool | None, str] = {
    True: "the kernel keeps something of its own in the values",
    None: "the kernel may keep something of its own in the values, whose types cannot be read",
}


class Many:
    """The programs of one open map. `special`: its values hold something of the kernel's own; None: nobody knows."""

    __slots__ = ("_barred", "_free", "_pid", "_room", "handle", "shape", "special", "value_size", "walks")

    def __init__(self, handle: Handle, shape: Shape, value_size: int, *, special: bool | None) -> None:
        self.handle = handle
        self.special = special
        self.shape = shape
        self.value_size = value_size
        self._pid = getpid()
        self._free: dict[str, list[Keys]] = {verb: [] for verb in VERBS}
        # How many more programs may be made.
        self._room: dict[str, list[None]] = {verb: [None] * MOST_AT_A_TIME for verb in VERBS}
        self._barred = _barred(shape, value_size, special=special)
        self.walks: Walks | None = None

    def get(self, key: Codec[Any], value: Codec[Any], keys: Sequence[Any], default: object) -> list[Any] | None:
        """Return the values of `keys`, with `default` for what is missing; None: make system calls."""
        total = len(keys)
        runner = self.lease(GET, total)
        if runner is None:
            return None
        try:
            capacity = runner.layout.capacity
            if total <= QUICK and total <= capacity and key.format:
                runner.fill(key, keys)
                return runner.decoded(value, total, runner.look_up(self.handle, total), default)
            packed, size = packed_keys(key, keys), key.size
            result: list[Any] = []
            for start in range(0, total, capacity):
                count = min(capacity, total - start)
                runner.keys[: count * size] = packed[start * size : (start + count) * size]
                result += runner.decoded(value, count, runner.look_up(self.handle, count), default)
            return result
        except (Unavailable, Unpackable):
            return None
        finally:
            self.give_back(GET, runner)

    def put(self, elements: Elements, keys: bytes, values: bytes, count: int, flags: int) -> None:
        """Store `count` elements. Raises: as `Elements.write`, with `.applied`."""
        runner = self.lease(PUT, count) if flags in _PUT_FLAGS else None
        if runner is None:
            elements.write(keys, values, count, flags)
            return
        key_size, value_size, capacity = elements.key_size, elements.value_size, runner.layout.capacity
        every_key, every_value = memoryview(keys), memoryview(values)
        at, asked = 0, False
        try:
            runner.words[FLAGS] = flags
            while at < count:
                some = min(capacity, count - at)
                runner.keys[: some * key_size] = every_key[at * key_size : (at + some) * key_size]
                runner.values[: some * value_size] = every_value[at * value_size : (at + some) * value_size]
                start = 0
                if not asked:
                    # The first one, and any that the program was refused: a system call tells why.
                    if not runner.store_first(self.handle, flags):
                        elements.put(bytes(runner.keys[:key_size]), bytes(runner.values[:value_size]), flags)
                    at += 1
                    start = 1
                reached = runner.go(self.handle, some, start)
                at += reached - start
                asked = reached == some
        except BpfError as error:
            error.applied = at
            raise
        finally:
            self.give_back(PUT, runner)

    def delete(self, elements: Elements, keys: bytes, count: int) -> int:
        """Delete those of `count` keys that are there; return how many were. Raises: as `Elements.delete`."""
        runner = self.lease(DELETE, count)
        if runner is None:
            return elements.delete(keys, count)
        size, capacity = elements.key_size, runner.layout.capacity
        every = memoryview(keys)
        at = deleted = 0
        try:
            while at < count:
                deleted += elements.delete(bytes(every[at * size : (at + 1) * size]), 1)
                at += 1
                refused = False
                while at < count and not refused:
                    some = min(capacity, count - at)
                    runner.keys[: some * size] = every[at * size : (at + some) * size]
                    reached = runner.go(self.handle, some)
                    refused = reached < some
                    at += reached
                    deleted += reached - runner.words[MISSED]
            return deleted
        except BpfError as error:
            if deleted or error.applied is not None:
                error.applied = deleted
            raise
        finally:
            self.give_back(DELETE, runner)

    def pop(self, taken: Taken, count: int) -> bool:
        """Take the first `count` keys of `taken` out of the map; False: make system calls. Raises: as `Taken.one`."""
        runner = self.lease(POP, count)
        if runner is None:
            return False
        # No view of the runner's memory has a name here: the traceback of an error would keep it mapped.
        size, width = self.shape.key_size, self.value_size
        every = memoryview(taken.keys)
        at = 0
        try:
            while len(taken) < count:
                taken.one()
                refused = False
                while len(taken) < count and not refused:
                    runner.words[DONE] = 0
                    at = len(taken)
                    some = min(runner.layout.capacity, count - at)
                    runner.keys[: some * size] = every[at * size :][: some * size]
                    reached = runner.go(self.handle, some)
                    refused = reached < some
                    taken.add(runner.values[: reached * width], runner.found[:reached])
            return True
        except BaseException:
            if len(taken) == at:  # the program may have taken what was not added yet
                done = runner.words[DONE]
                taken.add(runner.values[: done * width], runner.found[:done])
            raise
        finally:
            runner.words[DONE] = 0
            self.give_back(POP, runner)

    def lease(self, verb: str, count: int) -> Keys | None:
        """Return what runs `verb` for `count` keys, to be given back; None: make system calls."""
        # The first key of those that write goes by a system call in any case.
        if count < (2 if verb == GET else 3) or verb in self._barred:
            return None
        self.forget_parents()
        try:
            return self._free[verb].pop()
        except IndexError:
            pass
        try:
            return self._load(verb)
        except Unavailable:
            return None

    def forget_parents(self) -> None:
        """In a child, let go of its parent's programs: it shares their memory, and must not use it."""
        pid = getpid()
        if self._pid != pid:
            self._pid = pid
            self._room = {verb: [None] * MOST_AT_A_TIME for verb in VERBS}
            self.drop()

    def give_back(self, verb: str, keys: Keys) -> None:
        """Take back what was leased."""
        self._free[verb].append(keys)
        if self.handle.fd < 0:  # closed meanwhile
            self.drop()

    def drop(self) -> None:
        """Unload every program that is not in use; those in use follow when they are given back."""
        for free in self._free.values():
            while free:
                try:
                    free.pop().close()
                except IndexError:
                    break
        if self.walks is not None:
            self.walks.drop()

    def why_not(self, verb: str) -> str:
        """Return why `verb` makes system calls; empty where it runs a program."""
        self.forget_parents()
        if verb not in self._barred and not self._free[verb]:
            try:
                keys = self._load(verb)
            except Unavailable as unavailable:
                return unavailable.why
            if keys is not None:
                self.give_back(verb, keys)
        return self._barred.get(verb, "")

    def _layout(self, verb: str) -> Layout:
        shape = self.shape
        with_values = verb != DELETE
        cpus = self.handle.backend.host.possible_cpus if shape.map_type in PERCPU and with_values else 0
        size = self.value_size if with_values else 0
        capacity = max(1, min(MOST_KEYS, MOST_BYTES // (1 + shape.key_size + size)))
        return Layout(capacity, shape.key_size, shape.value_size if size else 0, cpus)

    def _load(self, verb: str) -> Keys | None:
        # None: as many as may be are in use.
        layout = self._layout(verb)

        def code(map_fd: int, scratch: int, steps: int) -> Any:  # noqa: ANN401  (Code)
            if verb == PUT:
                return put_code(layout, map_fd, scratch, steps)
            if verb == DELETE:
                return delete_code(layout, map_fd, scratch, steps)
            return get_code(layout, map_fd, scratch, steps, delete=verb == POP)

        room = self._room[verb]
        try:
            room.pop()
        except IndexError:
            return None
        try:
            self.require(_NEEDS[verb])
            keys = Keys(self.handle, layout, code)
            try:
                keys.run()  # over no keys: whether it runs at all
            except BaseException:
                keys.close()
                raise
        except BaseException as error:
            room.append(None)
            if isinstance(error, Unavailable) and error.lasting:
                self._barred[verb] = error.why
            raise
        return keys

    def require(self, wanted: int) -> None:
        """Raise Unavailable unless the descriptor is open for what is `wanted`, READ or WRITE or both.

        Programs may do what it may not, but must not do it for whoever holds only that.
        """
        with self.handle as fd:
            try:
                mode = _mode(self.handle.backend.fdinfo(fd))
            except OSError as error:  # no descriptor left to read it by, or no /proc
                raise unavailable(error) from None
        if mode is None:
            raise Unavailable("what the descriptor is open for cannot be told")
        if wanted & ~mode:
            raise Unavailable(f"the descriptor is for {'reading' if mode == READ else 'writing'} only")


def _barred(shape: Shape, value_size: int, *, special: bool | None) -> dict[str, str]:
    # What is not for programs, and why.
    kind, flags = shape.map_type, shape.map_flags
    if kind not in _SUITABLE:
        return dict.fromkeys(VERBS, "programs do not see the elements of such a map as we do")
    if special or special is None:
        return dict.fromkeys(VERBS, SPECIAL[special])
    barred: dict[str, str] = {}
    if value_size > LONGEST:
        barred = dict.fromkeys((GET, PUT, POP), f"values of more than {LONGEST} bytes take longer than the call")
    if flags & c.BPF_F_WRONLY_PROG:
        barred |= dict.fromkeys((GET, POP), "programs may not read the map")
    if flags & c.BPF_F_RDONLY_PROG:
        barred |= dict.fromkeys((PUT, DELETE, POP), "programs may not write to the map")
    if kind in LRU_HASHES:
        barred |= dict.fromkeys((GET, POP), "a program's look-up counts as a use of the element")
    if kind in PERCPU:
        barred |= dict.fromkeys((PUT, POP), "a program writes the value of its own CPU")
    if kind in PLAIN_ARRAYS:
        barred |= dict.fromkeys((DELETE, POP), "elements of an array are not removed")
    return barred


def _mode(fdinfo: str) -> int | None:
    # What the descriptor is open for. Source: fs/proc/fd.c:seq_show (v6.12)
    for line in fdinfo.splitlines():
        word, _, rest = line.partition(":")
        if word == "flags":
            return _MODES.get(int(rest, 8) & os.O_ACCMODE)
    return None
