"""Maps that hold objects of the kernel: programs, maps, sockets, devices, cgroups.

What is written is the descriptor of an open object, what is read is the kernel's id of it. Both are
numbers, and to take one for the other is a mistake that the kernel cannot see: only objects with
`fileno()` are taken, and ids are of a type of their own. Here are the verbs; a family says what it
holds, why the kernel may refuse that, and how it is opened. None of these calls is frequent, so that
nothing is compiled.

Kernel side: kernel/bpf/syscall.c:bpf_map_update_value, bpf_map_copy_value (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.codec.base import NATIVE
from rawbpf.codec.descriptor import DescriptorCodec
from rawbpf.errors import BpfError, Closed, IndexOutOfRange, KeyExists, KeyNotFound
from rawbpf.map.base import Map
from rawbpf.map.batch import DEFAULT_CHUNK, Elements
from rawbpf.map.memory import buffer_of
from rawbpf.map.view import ItemsView, KeysView, ValuesView
from rawbpf.syscall import map as command
from rawbpf.syscall.descriptor import require_kind
from rawbpf.uapi.constants import BPF_EXIST, BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, ClassVar, overload

    from typing_extensions import TypeVar

    from rawbpf.codec import Codec, Description
    from rawbpf.codec.descriptor import HasFileno

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    D = TypeVar("D")
    Opened = TypeVar("Opened")

_ENOENT, _EBADF, _EINVAL = 2, 9, 22


class SlotMap(Map["K", "V"]):
    """A map of kernel objects, as far as one may write to it; what can be read as well is a `ReadableSlotMap`."""

    __slots__ = ()

    _noun: ClassVar[str] = "an object of the kernel"
    """What the map holds, with its article."""
    _bpf_kind: ClassVar[str] = ""
    """The kind of bpf object that this is, as `require_kind` says it; empty for sockets and the like."""
    _identity: ClassVar[type[int]] = int
    """What reads back."""
    _refusals: ClassVar[dict[int, str]] = {}
    """What an errno says of a value, where it says so always."""
    _default_value = "u32"

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        # C has no type for what is stored here: a u32, an int or a size say how long it is and no more.
        return DescriptorCodec(cls._noun, cls._identity, super()._value_codec(described, word).size)

    def __setitem__(self, key: K, value: HasFileno) -> None:
        """Store what `value` is open on under `key`, in place of what is there.

        Raises: TypeError for what has no fileno(), ints among them; ValueError and Closed for what is closed;
        IndexOutOfRange; MapFull (E2BIG); BpfError (EINVAL: an object that the map does not take; the text says
        why); PermissionDenied (EPERM: opened for reading only).
        Source: kernel/bpf/syscall.c:map_update_elem
        """
        self.put(key, value)

    def put(self, key: K, value: HasFileno, flags: int = 0) -> None:
        """Store what `value` is open on under `key`, with BPF_ flags. Raises: as `m[key] = value`."""
        packed, held = self._key.pack(key), self._value.pack(value)
        try:
            self._call(command.map_update_elem, packed, buffer_of(held), flags)
        except BpfError as error:
            # Of unknown flags the kernel complains first.
            raise self._refusal(error, key, packed, value if flags <= BPF_EXIST else None) from None

    def __delitem__(self, key: K) -> None:
        """Empty the slot `key`.

        Raises: KeyNotFound for an empty one; IndexOutOfRange; Closed; PermissionDenied (EPERM).
        Source: kernel/bpf/syscall.c:map_delete_elem
        """
        packed = self._key.pack(key)
        try:
            self._call(command.map_delete_elem, packed)
        except BpfError as error:
            raise self._refusal(error, key, packed) from None

    def update(self, items: Mapping[K, HasFileno] | Iterable[tuple[K, HasFileno]]) -> None:
        """Store all of `items`, a mapping or pairs; all are looked at before the first is stored.

        Raises: as `m[key] = value`, with `.applied`, how many were stored before the one that was refused.
        """
        pairs = list(items.items() if hasattr(items, "items") else items)
        keys = self._key.pack_many([key for key, _ in pairs])
        values = self._value.pack_many([value for _, value in pairs])
        try:
            self._elements().write(keys, values, len(pairs))
        except BpfError as error:
            if error.applied is None:
                raise
            key, value = pairs[error.applied]
            raise self._refusal(error, key, self._key.pack(key), value) from None

    def put_many(self, items: Mapping[K, HasFileno] | Iterable[tuple[K, HasFileno]]) -> None:
        """Store all of `items`; as `update`."""
        self.update(items)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Empty those of `keys` that hold something and return how many did.

        Where emptying an empty slot is no error, as in a devmap, those count as well.
        Raises: as `del m[key]`, with `.applied`, how many were emptied before.
        """
        every = list(keys)
        packed, size = self._key.pack_many(every), self._key.size
        # Some types answer to a slot beyond the last as to an empty one.
        beyond = (at for at in range(len(every)) if self._is_beyond(packed[at * size : (at + 1) * size]))
        end = next(beyond, len(every))
        emptied = self._elements().delete(packed[: end * size], end)
        if end < len(every):
            try:
                del self[every[end]]
            except BpfError as error:
                error.applied = emptied
                raise
        return emptied

    def _elements(self) -> Elements:
        return Elements(self._handle, self._shape, self._value.size)

    def _call(self, call: Callable[..., None], packed: bytes, *rest: object) -> None:
        self._handle.call(call, buffer_of(packed), *rest)

    def _refusal(self, error: BpfError, key: object, packed: bytes, value: HasFileno | None = None) -> BpfError:
        # What is raised for `error`. To the kernel a slot beyond the end is missing, as an empty one is.
        if isinstance(error, (KeyNotFound, IndexOutOfRange)) and self._is_beyond(packed):
            return self._beyond(error, key)
        if isinstance(error, (KeyNotFound, KeyExists)):
            error.key = key
        elif value is not None and self._owner is None:  # the view `raw` takes bytes
            error.hint = self._why(error, value) or error.hint
        return error

    def _is_beyond(self, packed: bytes) -> bool:
        return self._index_keys and int.from_bytes(packed, NATIVE) >= self._shape.max_entries

    def _beyond(self, error: BpfError, key: object) -> IndexOutOfRange:
        number, cmd, backend = error.errno or 0, error._cmd, error.backend
        hint = f"no index {key!r}: max_entries is {self._shape.max_entries}"
        found = IndexOutOfRange(number, call=error.call, cmd=cmd, subject=error.subject, hint=hint, backend=backend)
        found.applied = error.applied
        return found

    def _why(self, error: BpfError, value: HasFileno) -> str:
        # Why `value` is not taken, where that can be found out; a family knows more.
        if not self._bpf_kind or error.errno not in (_EBADF, _EINVAL):
            return self._refusals.get(error.errno or 0, "")
        try:
            require_kind(self._handle.backend, value.fileno(), self._bpf_kind)
        except Closed:  # or there is no /proc to tell
            return ""
        except BpfError as found:
            return found.hint
        return ""


class ReadableSlotMap(SlotMap["K", "V"]):
    """A map of kernel objects that tells their ids: a dict of those slots that hold something."""

    __slots__ = ()

    # Python would fall back on indices from len(m) down.
    __reversed__ = None

    def __getitem__(self, key: K) -> V:
        """Return the id of what is stored under `key`.

        Raises: KeyNotFound for an empty slot; IndexOutOfRange; Closed; PermissionDenied (EPERM: opened for
        writing only). Source: kernel/bpf/syscall.c:map_lookup_elem
        """
        packed, room = self._key.pack(key), ctypes.create_string_buffer(self._value.size)
        try:
            self._call(command.map_lookup_elem, packed, room)
        except BpfError as error:
            raise self._refusal(error, key, packed) from None
        return self._value.unpack(room.raw)

    if TYPE_CHECKING:

        @overload
        def get(self, key: K) -> V | None: ...
        @overload
        def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """Return the id of what is stored under `key`, or `default` where there is nothing. Raises: as `m[key]`."""
        try:
            return self[key]
        except (KeyNotFound, IndexOutOfRange):
            return default

    def get_many(self, keys: Iterable[K], default: D | None = None) -> list[V | D | None]:
        """Return the ids under `keys`, in their order, with `default` for what holds nothing. Raises: as `m[key]`."""
        return [self.get(key, default) for key in keys]

    def __contains__(self, key: K) -> bool:
        """Whether something is stored under `key`. Raises: as `get`."""
        try:
            self[key]
        except (KeyNotFound, IndexOutOfRange):
            return False
        return True

    def __len__(self) -> int:
        """Count the slots that hold something, which reads all of them."""
        return sum(count for _, _, count in self._elements().read())

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys of those slots that hold something."""
        return iter(self.keys())

    def batches(self, n: int = DEFAULT_CHUNK) -> Iterator[tuple[list[K], list[V]]]:
        """Yield (keys, ids) of up to `n` slots that hold something at a time.

        Raises: Closed; ValueError for `n` below 1; IterationAborted.
        """
        for keys, values, count in self._elements().read(n):
            yield self._key.unpack_many(keys, count), self._value.unpack_many(values, count)

    def keys(self) -> KeysView[K]:
        """Return a view of the keys of those slots that hold something, read anew by each iteration."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """Return a view of the ids, read anew by each iteration."""
        return ValuesView(self)

    def items(self) -> ItemsView[K, V]:
        """Return a view of the (key, id) pairs, read anew by each iteration."""
        return ItemsView(self)

    def snapshot(self) -> dict[K, V]:
        """Return the ids by key as a dict. Raises: Closed."""
        return dict(self.items())

    def clear(self) -> None:
        """Empty every slot that holds something now. Raises: Closed; PermissionDenied (EPERM)."""
        if not self._index_keys:
            for _ in self._elements().read(remove=True):
                pass
            return
        for index in range(self._shape.max_entries):
            try:
                self._call(command.map_delete_elem, index.to_bytes(4, NATIVE))
            except KeyNotFound:
                continue

    def _opened(self, key: K, open_id: Callable[[Any], Opened]) -> Opened:
        # What is stored may be replaced, and freed, between the reading of its id and the opening.
        while True:
            held = self[key]
            try:
                return open_id(held)
            except BpfError as error:
                if error.errno != _ENOENT or self.get(key) == held:
                    raise

    def _has_key(self, key: Any) -> bool:  # noqa: ANN401  (views ask of anything)
        return key in self

    def _get(self, key: K, default: D | None) -> V | D | None:
        return self.get(key, default)


class InsertableSlotMap(ReadableSlotMap["K", "V"]):
    """A map of kernel objects that distinguishes filling a slot from replacing what is in one."""

    __slots__ = ()

    def insert(self, key: K, value: HasFileno) -> None:
        """Store under a `key` that must be free. Raises: KeyExists (EEXIST); else as `m[key] = value`."""
        self.put(key, value, BPF_NOEXIST)

    def replace(self, key: K, value: HasFileno) -> None:
        """Store under a `key` that must be in use. Raises: KeyNotFound (ENOENT); else as `m[key] = value`."""
        self.put(key, value, BPF_EXIST)
