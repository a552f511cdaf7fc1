"""The point operations of one map, made when it is opened: look up, update, delete.

`m[k]` is a system call of about a microsecond, so that what Python adds is what users pay. The
operations are closures over what the map's descriptor, sizes and codecs settle: no attribute is looked
up, no argument converted, no question asked that was answered when the map was opened. A scalar goes
through a typed memoryview, anything else through its codec; what follows from that is written into the
source that `_SOURCE` is the pattern of, which is compiled once for each of the few outcomes.
Each call takes the slot of buffers, or makes one where another thread or an interrupted call has it: they
never share one, and no lock is taken.

Knows nothing of files, programs or types: a codec says how keys and values look.
Kernel side: kernel/bpf/syscall.c:map_lookup_elem, map_update_elem, map_delete_elem (v6.12).
"""

from __future__ import annotations

import ctypes
from _weakref import ref
from ctypes import set_errno
from operator import call
from types import MethodType

from rawbpf.map.memory import cast_view
from rawbpf.uapi.constants import BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.handle import Handle

    # (key view, value view, reference to the attribute)
    Slot = tuple[Any, Any, Any]

_ENOENT, _EINTR = 2, 4
# Offsets in the attribute of the element commands: map_fd, key, value, flags. DELETE_ELEM refuses
# non-zero bytes after the key, so it is told a size that ends there and needs no clean buffer.
_KEY, _VALUE, _FLAGS, _SIZE, _DELETE_SIZE = 8, 16, 24, 32, 16

# Words in capitals are replaced: STORED_KEY is the key as it is put at KEY_AT of its view, and so for values;
# REFUSED_GET and REFUSED_SET are what comes of a key that the view refuses. It is packed once more by the
# codec, whose message says what was expected; arrays see first whether it is a negative index or a slice.
#
# `spare` is taken in one statement, which nothing comes between: the interpreter changes threads and runs signal
# handlers at calls and at jumps backwards. Source: Python/generated_cases.c.h:CHECK_EVAL_BREAKER (v3.13)
#
# A call that failed is repeated where its errno is EINTR, and where it is 0: between a call that fails and the
# reading of its errno a signal handler may run and make calls that fail. All set the errno to 0 in the step
# that reads it, so that who reads 0 was interrupted. A call on one element that failed has changed nothing.
_SOURCE = f"""
def make(
    bpf, this, new, flags_of, failed, set_errno, refused_flags, pack_key, pack_value, unpack_value, every
):
    spare = None

    def __getitem__(self, key):
        nonlocal spare
        stored = STORED_KEY
        slot, spare = spare, None
        key_view, value_view, attr = slot = slot or new()
        try:
            key_view[KEY_AT] = stored
        except (TypeError, ValueError):
            spare = slot
            REFUSED_GET
        while bpf(this, {BPF_MAP_LOOKUP_ELEM}, attr, {_SIZE}):
            if (errno := set_errno(0)) and errno != {_EINTR}:
                spare = slot
                raise failed({BPF_MAP_LOOKUP_ELEM}, errno, key)
        value = UNPACKED
        spare = slot
        return value

    def get(self, key, default=None):
        nonlocal spare
        stored = STORED_KEY
        slot, spare = spare, None
        key_view, value_view, attr = slot = slot or new()
        try:
            key_view[KEY_AT] = stored
        except (TypeError, ValueError):
            spare = slot
            pack_key(key)
            raise
        while bpf(this, {BPF_MAP_LOOKUP_ELEM}, attr, {_SIZE}):
            errno = set_errno(0)
            if errno == {_ENOENT}:
                spare = slot
                return default
            if errno and errno != {_EINTR}:
                spare = slot
                raise failed({BPF_MAP_LOOKUP_ELEM}, errno, key)
        value = UNPACKED
        spare = slot
        return value

    def __contains__(self, key):
        nonlocal spare
        stored = STORED_KEY
        slot, spare = spare, None
        key_view, _, attr = slot = slot or new()
        try:
            key_view[KEY_AT] = stored
        except (TypeError, ValueError):
            spare = slot
            pack_key(key)
            raise
        while bpf(this, {BPF_MAP_LOOKUP_ELEM}, attr, {_SIZE}):
            errno = set_errno(0)
            if errno == {_ENOENT}:
                spare = slot
                return False
            if errno and errno != {_EINTR}:
                spare = slot
                raise failed({BPF_MAP_LOOKUP_ELEM}, errno, key)
        spare = slot
        return True

    def put(self, key, value, flags=0):
        nonlocal spare
        stored = STORED_KEY
        stored_value = STORED_VALUE
        slot, spare = spare, None
        key_view, value_view, attr = slot = slot or new()
        try:
            key_view[KEY_AT] = stored
        except (TypeError, ValueError):
            spare = slot
            REFUSED_SET
        try:
            value_view[VALUE_AT] = stored_value
        except (TypeError, ValueError):
            spare = slot
            pack_value(value)
            raise
        if flags:
            try:
                flags_of[attr][0] = flags
            except (TypeError, ValueError):
                spare = slot
                raise refused_flags(flags) from None
        while bpf(this, {BPF_MAP_UPDATE_ELEM}, attr, {_SIZE}):
            if (errno := set_errno(0)) and errno != {_EINTR}:
                flags_of[attr][0] = 0
                spare = slot
                raise failed({BPF_MAP_UPDATE_ELEM}, errno, key, flags)
        if flags:
            flags_of[attr][0] = 0
        spare = slot

    def __delitem__(self, key):
        nonlocal spare
        stored = STORED_KEY
        slot, spare = spare, None
        key_view, _, attr = slot = slot or new()
        try:
            key_view[KEY_AT] = stored
        except (TypeError, ValueError):
            spare = slot
            pack_key(key)
            raise
        while bpf(this, {BPF_MAP_DELETE_ELEM}, attr, {_DELETE_SIZE}):
            if (errno := set_errno(0)) and errno != {_EINTR}:
                spare = slot
                raise failed({BPF_MAP_DELETE_ELEM}, errno, key)
        spare = slot

    return {{
        "__getitem__": __getitem__,
        "get": get,
        "__contains__": __contains__,
        "__setitem__": put,
        "put": put,
        "__delitem__": __delitem__,
    }}
"""

_code: dict[tuple[bool, bool, bool], CodeType] = {}


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
    scope: dict[str, Callable[..., dict[str, Callable[..., object]]]] = {}
    code = _compiled(key_codec.format is not None, value_codec.format is not None, indexed)
    exec(code, scope)  # noqa: S102  # made here, of nothing from outside
    # By the reference to an attribute, a view of its flags: few calls have some, and no other call pays for them.
    flags_of: dict[Any, memoryview] = {}
    bpf, this = _function(handle.backend.bpf)
    return scope["make"](
        bpf,
        this,
        _slot_maker(handle, key_codec, value_codec, flags_of),
        flags_of,
        failed,
        set_errno,
        _refused_flags,
        key_codec.pack,
        value_codec.pack,
        value_codec.unpack,
        slice(None),
    )


def _compiled(plain_key: bool, plain_value: bool, indexed: bool) -> CodeType:
    shape = (plain_key, plain_value, indexed)
    code = _code.get(shape)
    if code is None:
        words = {
            "STORED_KEY": "key" if plain_key else "pack_key(key)",
            "KEY_AT": "0" if plain_key else "every",
            "STORED_VALUE": "value" if plain_value else "pack_value(value)",
            "VALUE_AT": "0" if plain_value else "every",
            "UNPACKED": "value_view[0]" if plain_value else "unpack_value(value_view)",
            "REFUSED_GET": "return self._get_index(key)" if indexed else "pack_key(key); raise",
            "REFUSED_SET": "return self._set_index(key, value, flags)" if indexed else "pack_key(key); raise",
        }
        source = _SOURCE
        for word, meaning in words.items():
            source = source.replace(word, meaning)
        code = _code[shape] = compile(source, "<rawbpf map operations>", "exec")
    return code


def _function(bpf: Callable[..., int]) -> tuple[Callable[..., int], object]:
    # A bound method is called through an object that puts its first argument in front; here that is done once.
    if isinstance(bpf, MethodType):
        return bpf.__func__, bpf.__self__
    return call, bpf


def _refused_flags(flags: object) -> Exception:
    if hasattr(type(flags), "__index__"):
        return OverflowError(f"flags: expected an int in 0..{2**64 - 1}, got {flags!r}")
    return TypeError(f"flags: expected an int, got {flags!r} ({type(flags).__name__})")


def _slot_maker(
    handle: Handle, key: Codec[Any], value: Codec[Any], flags_of: dict[Any, memoryview]
) -> Callable[[], Slot]:
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
        reference = ctypes.byref(attr)
        flags_of[reference] = octets[_FLAGS:_SIZE].cast("Q")
        key_view, value_view = memoryview(key_buffer).cast("B"), memoryview(value_buffer).cast("B")
        if key.format:
            key_view = cast_view(key_view, key.format)

        def gone(_: object) -> None:
            del words[reference], flags_of[reference]

        # A slot that an interrupt kept from being given back vanishes with the call, and with it what is known of it.
        words[reference] = word, ref(key_view, gone)
        # In this order: close() marks the handle and then the words it finds, so that one of the two
        # sees the other whenever threads switch.
        word[0] = handle.fd
        if handle.fd < 0:
            word[0] = -1
        return key_view, cast_view(value_view, value.format) if value.format else value_view, reference

    return new
