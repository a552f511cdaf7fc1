"""A map to be measured and what goes into it: keys and values of any type, made by number.

Knows what each map type takes for an element, and of which types that cannot be made up here. Does not print.
"""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack

from rawbpf.asm import build as b
from rawbpf.cli.failure import Failure
from rawbpf.codec import PerCpu, PerCpuCodec
from rawbpf.map.base import Map
from rawbpf.program.program import Program
from rawbpf.syscall import group
from rawbpf.syscall.footprint import amount
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name, map_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from rawbpf.codec import Codec
    from rawbpf.syscall.protocol import Backend

_OWNED = "its values belong to {}, which come and go with their owners: there is no map of a given size to measure"
_SOCKETS = "its elements are sockets in use, which user space puts there one by one and programs send packets to"
_RECORDS = "it has no elements that are looked up: records pass through it"
NOT_MEASURED = {
    c.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "its elements are perf events, which programs write records to",
    c.BPF_MAP_TYPE_STACK_TRACE: "its elements are stacks, which programs put there where they run",
    c.BPF_MAP_TYPE_CGROUP_ARRAY: "its elements are cgroups, which nobody can read back",
    c.BPF_MAP_TYPE_SOCKMAP: _SOCKETS,
    c.BPF_MAP_TYPE_SOCKHASH: _SOCKETS,
    c.BPF_MAP_TYPE_XSKMAP: _SOCKETS,
    c.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: _SOCKETS,
    c.BPF_MAP_TYPE_CGROUP_STORAGE: _OWNED.format("cgroups that a program is attached to"),
    c.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: _OWNED.format("cgroups that a program is attached to"),
    c.BPF_MAP_TYPE_SK_STORAGE: _OWNED.format("sockets"),
    c.BPF_MAP_TYPE_INODE_STORAGE: _OWNED.format("inodes"),
    c.BPF_MAP_TYPE_TASK_STORAGE: _OWNED.format("tasks"),
    c.BPF_MAP_TYPE_CGRP_STORAGE: _OWNED.format("cgroups"),
    c.BPF_MAP_TYPE_STRUCT_OPS: "its only element is a table of functions that it registers with the kernel",
    c.BPF_MAP_TYPE_RINGBUF: _RECORDS,
    c.BPF_MAP_TYPE_USER_RINGBUF: _RECORDS,
    c.BPF_MAP_TYPE_ARENA: "it has no elements: it is memory, which is read and written without asking the kernel",
    c.BPF_MAP_TYPE_INSN_ARRAY: "its elements are places in a program, which the kernel fills in",
}
"""By type: why nothing of it is measured."""

_ARRAYS = (*group.PLAIN_ARRAYS, *group.SLOT_ARRAYS)
_LOOPBACK, _QUEUE_LENGTH = 1, 192
# Of these each write waits for all that may still use the old value (kernel/bpf/syscall.c:
# maybe_wait_bpf_programs), or starts and ends a thread: milliseconds.
_SLOW_WRITES = (*group.NESTED, c.BPF_MAP_TYPE_CPUMAP)
_FEW = 16


class Subject:
    """A map with elements for a `with` block: `present` keys in random order, `absent` ones, and a `value`.

    `elements` is how many it was filled with: of an LRU map half of what it can hold, so that it need not make
    room. `operations` is how many are done in a round, `writes` how many of those that change it one by one.
    Raises: Failure where it would not fit into memory or there are not as many keys; as `Map.create`.
    """

    def __init__(
        self, backend: Backend, map_type: str, *, key: int | str | None, value: int | str | None, entries: int,
        flags: int | None, operations: int,
    ) -> None:  # fmt: skip
        self.type = map_type_number(map_type)
        self.word = map_type_name(self.type)
        self.backend = backend
        self.value: Any = None
        self._random = random.Random(0)
        self._stack = ExitStack()
        if self.type == c.BPF_MAP_TYPE_CPUMAP:
            entries = min(entries, backend.host.possible_cpus)
        if key is None and self.type not in (*_ARRAYS, *group.QUEUES, c.BPF_MAP_TYPE_BLOOM_FILTER):
            key = "ipv4" if self.type == c.BPF_MAP_TYPE_LPM_TRIE else "u32"
        takes_value = self.type not in (*group.NESTED, *group.SLOT_ARRAYS, c.BPF_MAP_TYPE_DEVMAP_HASH)
        if value is None and takes_value and self.type != c.BPF_MAP_TYPE_CPUMAP:
            value = "u64"
        self._must_fit(key, value, entries, flags)
        with ExitStack() as stack:
            inner = stack.enter_context(self._template()) if self.type in group.NESTED else None
            self.map: Map[Any, Any] = stack.enter_context(
                Map.create(
                    self.type, key=key, value=value, max_entries=entries, flags=flags, inner=inner, name="bench",
                    backend=backend,
                )
            )  # fmt: skip
            self.elements = max(entries // 2, 1) if self.type in group.LRU_HASHES else entries
            self.operations = operations
            self.writes = min(operations, _FEW) if self.type in _SLOW_WRITES else operations
            self._check_keys()
            self.value = self._made_value(stack, inner)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def described(self) -> dict[str, object]:
        """Return what the map is, as JSON has it; `memory` in bytes, `many_path` as maps with `get_many` tell it."""
        from rawbpf.uapi.enums import MapFlag

        m: Any = self.map
        info = m.info
        set_flags = [f"BPF_F_{flag.name}" for flag in MapFlag if info.map_flags & flag]
        return {
            "type": self.word,
            "key": "" if self.has_values_only else m.key_type.name,
            "value": m.value_type.name,
            "max_entries": m.max_entries,
            "elements": self.elements,
            "flags": set_flags,
            "memory": info.memory,
            "many_path": getattr(m, "many_path", ""),
        }

    def fill(self) -> None:
        """Store all elements, and choose the keys that are used later."""
        if self.has_values_only:
            self._fill_values()
            return
        m: Any = self.map
        m.update((self.key(number), self.value) for number in range(self.elements))

    @property
    def has_values_only(self) -> bool:
        """Whether it has no keys: a queue, a stack, a bloom filter."""
        return not self.map.key_type.size

    @property
    def may_lack_keys(self) -> bool:
        """Whether some of the keys that were stored may be gone: an LRU map drops what it likes."""
        return self.type in group.LRU_HASHES

    def present(self, count: int) -> list[Any]:
        """Return `count` keys that were stored, any of them as often as it comes."""
        return [self.key(number) for number in self._random.choices(range(self.elements), k=count)]

    def distinct(self, count: int) -> list[Any]:
        """Return `count` keys that were stored, or as many as there are, in random order."""
        return [self.key(number) for number in self._random.sample(range(self.elements), min(count, self.elements))]

    def absent(self) -> list[Any]:
        """Return as many keys that were never stored; none where all that there are were stored."""
        last = min(2 * self.elements, self._all_keys())
        if last <= self.elements or self.type in _ARRAYS:
            return []
        return [self.key(number) for number in self._random.choices(range(self.elements, last), k=self.operations)]

    def key(self, number: int) -> Any:  # noqa: ANN401  (as the keys)
        """Return the key with this number."""
        return self._numbered(self.map.value_type if self.has_values_only else self.map.key_type, number)

    def packed_value(self) -> bytes:
        """Return the value as programs hand it over: that of one CPU."""
        codec = self.map.value_type
        packed = codec.pack(self.value)
        return packed[: codec.stride] if isinstance(codec, PerCpuCodec) else packed

    def _fill_values(self) -> None:
        m: Any = self.map
        values = map(self.key, range(self.elements))
        if self.type == c.BPF_MAP_TYPE_BLOOM_FILTER:
            m.update(values)
        else:
            for value in values:
                m.push(value)

    def _must_fit(self, key: int | str | None, value: int | str | None, entries: int, flags: int | None) -> None:
        # What allocates as it fills is created at any size, and here it is filled.
        size = Map.estimate_memory(
            self.type, key=key, value=value, max_entries=entries, flags=flags, backend=self.backend
        )
        available = self.backend.host.memory_available
        if available is not None and size > available:
            raise Failure(
                f"{self.word}: {entries:,} entries would take about {amount(size)} of kernel memory, and the machine "
                f"has {amount(available)} available: ask for fewer --entries"
            )

    def _check_keys(self) -> None:
        if self._all_keys() < self.elements and not self.has_values_only:
            codec = self.map.key_type
            raise Failure(
                f"{self.word}: there are only {self._all_keys():,} different keys of type {codec.name}, "
                f"and --entries asks for {self.elements:,}"
            )

    def _all_keys(self) -> int:
        # How many keys there are; a network has its length in front, and is of full length here.
        codec: Codec[Any] = self.map.value_type if self.has_values_only else self.map.key_type
        size = codec.size - 4 if self.type == c.BPF_MAP_TYPE_LPM_TRIE else codec.size
        return 2 if codec.name == "bool" else 1 << 8 * min(size, 8)

    def _numbered(self, codec: Codec[Any], number: int) -> Any:  # noqa: ANN401
        if self.type == c.BPF_MAP_TYPE_LPM_TRIE and codec is self.map.key_type:
            width = codec.size - 4
            return codec.unpack((8 * width).to_bytes(4, sys.byteorder) + number.to_bytes(width, "big"))
        return codec.unpack(number.to_bytes(codec.size, sys.byteorder))

    def _made_value(self, stack: ExitStack, inner: Map[Any, Any] | None) -> Any:  # noqa: ANN401  (as the values)
        codec = self.map.value_type
        if inner is not None:
            return inner
        if self.type == c.BPF_MAP_TYPE_PROG_ARRAY:
            accept = [b.mov_imm(b.R0, 0), b.exit_()]
            return stack.enter_context(Program.load("socket_filter", accept, backend=self.backend))
        if self.type in (c.BPF_MAP_TYPE_DEVMAP, c.BPF_MAP_TYPE_DEVMAP_HASH):
            return _LOOPBACK
        if self.type == c.BPF_MAP_TYPE_CPUMAP:
            return _QUEUE_LENGTH
        if isinstance(codec, PerCpuCodec):
            return PerCpu.filled(self._numbered(codec.inner, 1))
        return self._numbered(codec, 1)

    def _template(self) -> Map[Any, Any]:
        return Map.create("array", value="u64", max_entries=1, flags=0, backend=self.backend)
