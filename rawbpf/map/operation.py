"""The point operations of one map, made when it is opened: look up, update, delete.

`m[k]` is a system call of about a microsecond, so that what Python adds is what users pay. The
operations are closures over what the map's descriptor, sizes and codecs settle: no attribute is looked
up, no argument converted. A scalar goes through a typed memoryview, anything else through its codec.
Each call leases a slot of buffers from a free list: threads and signal handlers never share one, and
no lock is taken.

Knows nothing of files, programs or types: a codec says how keys and values look.
Kernel side: kernel/bpf/syscall.c:map_lookup_elem, map_update_elem, map_delete_elem (v6.12).
"""

from __future__ import annotations

import ctypes
from ctypes import get_errno, set_errno

from rawbpf.map.memory import cast_view
from rawbpf.uapi.constants import BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.array import ArrayMap
    from rawbpf.map.handle import Handle

    # (key view, value view, flags view, reference to the attribute)
    Slot = tuple[Any, Any, Any, Any]

_ENOENT, _EINTR = 2, 4
# Offsets in the attribute of the element commands: map_fd, key, value, flags. DELETE_ELEM refuses
# non-zero bytes after the key, so it is told a size that ends there and needs no clean buffer.
_KEY, _VALUE, _FLAGS, _SIZE, _DELETE_SIZE = 8, 16, 24, 32, 16


def make_operations(
    handle: Handle,
    key_codec: Codec[Any],
    value_codec: Codec[Any],
    failed: Callable[..., Exception],
    indexed: bool,
) -> dict[str, Callable[..., object]]:
    """Return the operations of the map behind `handle` by method name, each a function of (self, ...).

    `failed(cmd, errno, key, flags)` makes the exception to raise. `indexed`: a key that is no u32 goes to the
    map's `_get_index` and `_set_index`.
    """
    slots: list[Slot] = []
    pop, push, bpf = slots.pop, slots.append, handle.backend.bpf
    new = _slot_maker(handle, key_codec, value_codec)
    # Where a value is stored in its view, and what turns it into what is stored there.
    key_at: Any = 0 if key_codec.format else slice(None)
    value_at: Any = 0 if value_codec.format else slice(None)
    pack_key = None if key_codec.format else key_codec.pack
    pack_value = None if value_codec.format else value_codec.pack
    unpack_value = None if value_codec.format else value_codec.unpack

    def failure(slot: Slot) -> int:
        # Between a call that fails and the reading of its errno a signal handler may run and make calls
        # that fail. All set the errno to 0 once they have read it: who then reads 0 was interrupted and
        # calls again, as after EINTR: a call on one element that failed has changed nothing.
        number = get_errno()
        if number == _EINTR:
            number = 0
        elif number:
            slot[2][0] = 0
            push(slot)
        set_errno(0)
        return number

    # What a typed view refuses is packed once more by the codec, whose message says what was expected;
    # arrays first see whether it is a negative index or a slice.

    def __getitem__(self: ArrayMap[Any], key: object) -> object:  # noqa: N807
        stored = pack_key(key) if pack_key else key
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        try:
            key_view[key_at] = stored
        except (TypeError, ValueError):
            push(slot)
            if indexed:
                return self._get_index(key)
            key_codec.pack(key)
            raise
        while bpf(BPF_MAP_LOOKUP_ELEM, attr, _SIZE):
            if number := failure(slot):
                raise failed(BPF_MAP_LOOKUP_ELEM, number, key)
        value = unpack_value(value_view) if unpack_value else value_view[0]
        push(slot)
        return value

    def get(self: object, key: object, default: object = None) -> object:  # noqa: ARG001
        stored = pack_key(key) if pack_key else key
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        try:
            key_view[key_at] = stored
        except (TypeError, ValueError):
            push(slot)
            key_codec.pack(key)
            raise
        while bpf(BPF_MAP_LOOKUP_ELEM, attr, _SIZE):
            number = get_errno()
            if number == _ENOENT:  # common, and so without the call of failure()
                set_errno(0)
                push(slot)
                return default
            if failure(slot):
                raise failed(BPF_MAP_LOOKUP_ELEM, number, key)
        value = unpack_value(value_view) if unpack_value else value_view[0]
        push(slot)
        return value

    def __contains__(self: object, key: object) -> bool:  # noqa: ARG001, N807
        stored = pack_key(key) if pack_key else key
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, _, _, attr = slot
        try:
            key_view[key_at] = stored
        except (TypeError, ValueError):
            push(slot)
            key_codec.pack(key)
            raise
        while bpf(BPF_MAP_LOOKUP_ELEM, attr, _SIZE):
            number = get_errno()
            if number == _ENOENT:  # common, and so without the call of failure()
                set_errno(0)
                push(slot)
                return False
            if failure(slot):
                raise failed(BPF_MAP_LOOKUP_ELEM, number, key)
        push(slot)
        return True

    def put(self: ArrayMap[Any], key: object, value: object, flags: int = 0) -> None:
        stored_key = pack_key(key) if pack_key else key
        stored_value = pack_value(value) if pack_value else value
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, flags_view, attr = slot
        try:
            key_view[key_at] = stored_key
        except (TypeError, ValueError):
            push(slot)
            if indexed:
                return self._set_index(key, value, flags)
            key_codec.pack(key)
            raise
        try:
            value_view[value_at] = stored_value
        except (TypeError, ValueError):
            push(slot)
            value_codec.pack(value)
            raise
        if flags:
            try:
                flags_view[0] = flags
            except (TypeError, ValueError):
                push(slot)
                raise _bad_flags(flags) from None
        while bpf(BPF_MAP_UPDATE_ELEM, attr, _SIZE):
            if number := failure(slot):
                raise failed(BPF_MAP_UPDATE_ELEM, number, key, flags)
        if flags:
            flags_view[0] = 0
        return push(slot)

    def __delitem__(self: object, key: object) -> None:  # noqa: ARG001, N807
        stored = pack_key(key) if pack_key else key
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, _, _, attr = slot
        try:
            key_view[key_at] = stored
        except (TypeError, ValueError):
            push(slot)
            key_codec.pack(key)
            raise
        while bpf(BPF_MAP_DELETE_ELEM, attr, _DELETE_SIZE):
            if number := failure(slot):
                raise failed(BPF_MAP_DELETE_ELEM, number, key)
        push(slot)

    return {
        "__getitem__": __getitem__,
        "get": get,
        "__contains__": __contains__,
        "__setitem__": put,
        "put": put,
        "__delitem__": __delitem__,
    }


def _bad_flags(flags: object) -> Exception:
    if hasattr(type(flags), "__index__"):
        return OverflowError(f"flags: expected an int in 0..{2**64 - 1}, got {flags!r}")
    return TypeError(f"flags: expected an int, got {flags!r} ({type(flags).__name__})")


def _slot_maker(handle: Handle, key: Codec[Any], value: Codec[Any]) -> Callable[[], Slot]:
    key_size, value_size = key.size, value.size
    words = handle.fd_words

    def new() -> Slot:
        attr = (ctypes.c_char * 64)()
        key_buffer = (ctypes.c_char * key_size)()
        value_buffer = (ctypes.c_char * value_size)()
        octets = memoryview(attr).cast("B")
        pointers = octets.cast("Q")
        # Types without keys refuse any other pointer than NULL.
        pointers[_KEY // 8] = ctypes.addressof(key_buffer) if key_size else 0
        pointers[_VALUE // 8] = ctypes.addressof(value_buffer)
        word = octets[0:4].cast("i")
        words.append(word)
        # In this order: close() marks the handle and then the words it finds, so that one of the two
        # sees the other whenever threads switch.
        word[0] = handle.fd
        if handle.fd < 0:
            word[0] = -1
        key_view, value_view = memoryview(key_buffer).cast("B"), memoryview(value_buffer).cast("B")
        return (
            cast_view(key_view, key.format) if key.format else key_view,
            cast_view(value_view, value.format) if value.format else value_view,
            octets[_FLAGS:_SIZE].cast("Q"),
            ctypes.byref(attr),
        )

    return new
