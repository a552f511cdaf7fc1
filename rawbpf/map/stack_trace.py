"""Stack traces: where programs keep the call stacks that they were reached by.

A program calls bpf_get_stackid(), which stores the stack in the map under an id, a hash of it, and
gives the id; equal stacks have one. User space reads stacks by their ids and deletes them, and cannot
store any. Names of addresses come from `symbols`. Kernel side: kernel/bpf/stackmap.c (v6.12).
"""

from __future__ import annotations

import operator
from struct import unpack as unpack_words

from rawbpf.codec import codec_for
from rawbpf.codec.base import NATIVE, Codec, exactly, refuse
from rawbpf.errors import KeyNotFound, errno_name
from rawbpf.map.base import Map
from rawbpf.map.batch import DEFAULT_CHUNK, Elements
from rawbpf.map.handle import closed
from rawbpf.map.missing import MISSING, Missing
from rawbpf.map.view import ItemsView, KeysView, ValuesView
from rawbpf.syscall.current import current
from rawbpf.uapi.constants import BPF_F_STACK_BUILD_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Description
    from rawbpf.codec.base import Raw
    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle
    from rawbpf.symbols import Symbol
    from rawbpf.syscall.protocol import Host

    V = TypeVar("V", default="StackTrace")
    D = TypeVar("D")

_EEXIST, _EFAULT, _EINVAL, _ENOMEM = 17, 14, 22, 12
_MOST_ERRNO = 4095
_REASONS = {
    _EEXIST: "another stack has its slot: a map with more max_entries, or BPF_F_REUSE_STACKID, which replaces it",
    _EFAULT: "there was no such stack, as a kernel thread has none of user space",
    _ENOMEM: "the map has no free entry",
    _EINVAL: "its flags do not suit",
}
# struct bpf_stack_build_id
_BUILD_ID = {"status": "s32", "build_id": "u8[20]", "offset": "u64"}
_DEEPEST = 127
"""PERF_MAX_STACK_DEPTH, what the sysctl kernel.perf_event_max_stack is where nobody changed it."""


class StackTrace(tuple[int, ...]):  # noqa: SLOT001  (tuples can only have a __dict__)
    """The addresses of a call stack, innermost first: where it was, then where each caller goes on.

    Those that a map gives know their kernel; `StackTrace(addresses)` is of the current one.
    """

    _host: Host | None = None

    def symbols(self, pid: int | None = None) -> list[Symbol | None]:
        """Return what the addresses are called, innermost first; None for those that nothing is known of.

        By default they are of the kernel, by its symbols as `rawbpf.ksym` knows them. With `pid` they are
        of that process, which must still run: files and the offsets in them.
        Raises: as `rawbpf.ksym`; with `pid` ProcessLookupError, PermissionError.
        """
        from rawbpf.symbols import ProcessFiles, Symbol, kernel_symbols

        host = self._host or current().host
        known = kernel_symbols(host) if pid is None else ProcessFiles(pid)
        found: list[Symbol | None] = []
        for depth, address in enumerate(self):
            # A call that is a function's last instruction returns to where the next function begins.
            back = 1 if depth else 0
            symbol = known.find(address - back)
            found.append(Symbol(symbol.name, symbol.offset + back) if symbol else None)
        return found

    def __repr__(self) -> str:
        return f"StackTrace({', '.join(map(hex, self))})"

    def __reduce__(self) -> tuple[type[StackTrace], tuple[tuple[int, ...]]]:
        return StackTrace, (tuple(self),)


class StackTraceMap(Map[int, "V"]):
    """Stacks by the ids that bpf_get_stackid() gave; only programs store them.

    `value` is how many bytes a stack may take, 8 for each address; by default 127 addresses, the most
    that the kernel allows unless the sysctl kernel.perf_event_max_stack says otherwise. A stack is a
    StackTrace. With the flag BPF_F_STACK_BUILD_ID, for stacks of user space, it is a tuple of records,
    32 bytes each: `status` (1: known, 2: not), `build_id` of the file and `offset` in it, which is the
    address itself where the status is 2.

    A negative id is an error that bpf_get_stackid() returned: it raises ValueError that names it.
    """

    __slots__ = ()

    map_type = "stack_trace"
    _default_key = "u32"
    _default_value = 8 * _DEEPEST
    _operations = ("__getitem__", "get", "__contains__", "__delitem__")
    # Python would fall back on indices from len(m) down.
    __reversed__ = None

    @classmethod
    def _key_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        codec = super()._key_codec(described, word)
        if codec.size != 4:
            raise ValueError(f"key={described!r}: {word} maps are indexed by a u32; leave key= out")
        return _IdCodec()

    @classmethod
    def _open(cls, handle: Handle, shape: Shape, key: Codec[Any], value: Codec[Any]) -> Self:
        # Whatever the maker called them: the kernel stores addresses, or build ids.
        if shape.map_flags & BPF_F_STACK_BUILD_ID:
            value = _BuildIdsCodec(shape.value_size)
        else:
            value = _StackCodec(shape.value_size, handle.backend.host)
        return super()._open(handle, shape, key, value)

    # The bodies of these four are never run: each open map has compiled ones in their place.

    def __getitem__(self, stack_id: int) -> V:
        """Return the stack with the id `stack_id`.

        Raises: KeyNotFound (ENOENT); ValueError for an error in place of an id; Closed; PermissionDenied (EPERM);
        TypeError, OverflowError.
        Source: kernel/bpf/stackmap.c:bpf_stackmap_copy
        """
        raise closed(str(self._shape))

    if TYPE_CHECKING:

        @overload
        def get(self, stack_id: int) -> V | None: ...
        @overload
        def get(self, stack_id: int, default: D) -> V | D: ...

    def get(self, stack_id: int, default: D | None = None) -> V | D | None:  # noqa: ARG002
        """Return the stack `stack_id`, or `default` where it is missing. Raises: as `m[id]`, but for KeyNotFound."""
        raise closed(str(self._shape))

    def __contains__(self, stack_id: object) -> bool:
        """Whether there is a stack with this id. Raises: as `get`."""
        raise closed(str(self._shape))

    def __delitem__(self, stack_id: int) -> None:
        """Delete the stack `stack_id`.

        Raises: KeyNotFound (ENOENT); IndexOutOfRange for an id that this map never gives; else as `m[id]`.
        Source: kernel/bpf/stackmap.c:stack_map_delete_elem
        """
        raise closed(str(self._shape))

    if TYPE_CHECKING:

        @overload
        def pop(self, stack_id: int) -> V: ...
        @overload
        def pop(self, stack_id: int, default: D) -> V | D: ...

    def pop(self, stack_id: int, default: D | Missing = MISSING) -> V | D | Missing:
        """Remove the stack `stack_id` and return it, or `default` where it is missing and a default is given.

        The kernel does both in one step; before Linux 6.18 a stack stored between the two can be lost.
        Raises: KeyNotFound (ENOENT) without a default; else as `m[id]`.
        Source: kernel/bpf/syscall.c:map_lookup_and_delete_elem
        """
        try:
            taken = self._elements().take(self._key.pack(stack_id))
        except KeyNotFound as error:
            if default is MISSING:
                error.key = stack_id
                raise
            return default
        return self._value.unpack(taken)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids."""
        return iter(self.keys())

    def __len__(self) -> int:
        """Count the stacks, which reads all of them."""
        return sum(count for _, _, count in self._elements().read())

    def batches(self, n: int = DEFAULT_CHUNK) -> Iterator[tuple[list[int], list[V]]]:
        """Yield (ids, stacks), up to `n` at a time, one by one from the kernel. Raises: Closed; ValueError."""
        for ids, stacks, count in self._elements().read(n):
            yield self._key.unpack_many(ids, count), self._value.unpack_many(stacks, count)

    def keys(self) -> KeysView[int]:
        """Return a view of the ids, read anew by each iteration."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the stacks, read anew by each iteration."""
        return ValuesView(self)

    def items(self) -> ItemsView[int, V]:
        """Return a view of the (id, stack) pairs, read anew by each iteration."""
        return ItemsView(self)

    def snapshot(self) -> dict[int, V]:
        """Return all stacks by their ids. Raises: Closed."""
        return dict(self.items())

    def delete_many(self, stack_ids: Iterable[int]) -> int:
        """Delete those stacks that are there and return how many were. Raises: as `del m[id]`."""
        every = list(stack_ids)
        return self._elements().delete(self._key.pack_many(every), len(every))

    def clear(self) -> None:
        """Delete every stack that is there now. Raises: Closed; PermissionDenied (EPERM)."""
        for _ in self._elements().read(remove=True):
            pass

    def _elements(self) -> Elements:
        return Elements(self._handle, self._shape, self._value.size)

    def _has_key(self, key: object) -> bool:
        return key in self

    def _get(self, key: int, default: D | None) -> V | D | None:
        return self.get(key, default)


class _IdCodec(Codec[int]):
    # A u32 that is not the negative number that a helper returned, however many bits that was kept in.
    name = "u32"
    size = alignment = 4

    @property
    def label(self) -> str:
        return "stack id"

    def encode(self, value: object, where: str) -> bytes:
        if not hasattr(type(value), "__index__"):
            raise refuse(where, "an int, as bpf_get_stackid() gave it", value)
        number = operator.index(value)  # type: ignore[arg-type]  # has __index__
        for wrap in (0, 1 << 32, 1 << 64):
            if 1 <= wrap - number <= _MOST_ERRNO:
                errno = wrap - number
                why = _REASONS.get(errno, "it stored no stack")
                raise ValueError(f"{where} {number} is an error of bpf_get_stackid(): {errno_name(errno)}: {why}")
        if not 0 <= number < 1 << 32:
            raise OverflowError(f"{where}: expected an int in 0..{(1 << 32) - 1}, got {number}")
        return number.to_bytes(4, NATIVE)

    def pack(self, value: object, /) -> bytes:
        return self.encode(value, self.label)

    def decode(self, raw: bytes) -> int:
        return int.from_bytes(raw, NATIVE)


class _StackCodec(Codec[StackTrace]):
    alignment = 8

    def __init__(self, size: int, host: Host) -> None:
        self.size = size
        self.name = f"stack of {size // 8} addresses"
        self._host = host

    def pack(self, value: object, /) -> bytes:
        raise refuse("stack", "nothing, as only programs store stacks", value)

    def unpack(self, buffer: Raw, /) -> StackTrace:
        raw = exactly(buffer, self.size, self.name)
        # The kernel fills up with zeroes, and no code lies at 0.
        used = len(raw.rstrip(b"\0")) + 7 & ~7
        trace = StackTrace(unpack_words(f"={used // 8}Q", raw[:used]))
        trace._host = self._host
        return trace


class _BuildIdsCodec(Codec["tuple[Any, ...]"]):
    alignment = 8

    def __init__(self, size: int) -> None:
        self.size = size
        self._entry = codec_for(_BUILD_ID, name="bpf_stack_build_id")
        self.name = f"stack of {size // self._entry.size} build ids"

    def pack(self, value: object, /) -> bytes:
        raise refuse("stack", "nothing, as only programs store stacks", value)

    def unpack(self, buffer: Raw, /) -> tuple[Any, ...]:
        raw = exactly(buffer, self.size, self.name)
        step = self._entry.size
        used = -(-len(raw.rstrip(b"\0")) // step)
        return tuple(self._entry.unpack_many(raw, used))
