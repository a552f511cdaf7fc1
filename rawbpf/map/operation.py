"""The point operations of one map, compiled when it is opened: look up, update, delete.

`m[k]` is a system call of about a microsecond, so that what Python adds is what users pay. Source
text with the two ways to store a key and to read a value (a typed memoryview, or packed bytes) is
compiled once per combination, and closed over one map's buffers. Each call leases a slot of buffers
from a free list: threads and signal handlers never share one, and no lock is taken.

Knows nothing of files, programs or types: a codec says how keys and values look.
Kernel side: kernel/bpf/syscall.c:map_lookup_elem, map_update_elem, map_delete_elem (v6.12).
"""

from __future__ import annotations

import ctypes

from rawbpf.map.memory import cast_view
from rawbpf.uapi.constants import BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from rawbpf.codec import Codec
    from rawbpf.map.handle import Handle

_ENOENT = 2
# Offsets in the attribute of the element commands: map_fd, key, value, flags. DELETE_ELEM refuses
# non-zero bytes after the key, so it is told a size that ends there and needs no clean buffer.
_KEY, _VALUE, _FLAGS, _SIZE, _DELETE_SIZE = 8, 16, 24, 32, 16

# Between a call that fails and the reading of its errno a signal handler may run and make calls that
# fail. All set the errno to 0 once they have read it: who then reads 0 was interrupted and calls again,
# which is right, because a call on one element that failed has changed nothing.
_SOURCE = """
def make(pop, push, new, bpf, get_errno, set_errno, pack_key, pack_value, unpack_value, failed):
    def __getitem__(self, key):
        {pack_key}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        {index_get}
        while bpf({lookup}, attr, {size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            push(slot)
            raise failed({lookup}, number, key)
        value = {load_value}
        push(slot)
        return value

    def get(self, key, default=None):
        {pack_key}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        {store_key}
        while bpf({lookup}, attr, {size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            push(slot)
            if number == {enoent}:
                return default
            raise failed({lookup}, number, key)
        value = {load_value}
        push(slot)
        return value

    def __contains__(self, key):
        {pack_key}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        {store_key}
        while bpf({lookup}, attr, {size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            push(slot)
            if number == {enoent}:
                return False
            raise failed({lookup}, number, key)
        push(slot)
        return True

    def __setitem__(self, key, value):
        {pack_key}
        {pack_value}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, _, attr = slot
        {index_set}
        {store_value}
        while bpf({update}, attr, {size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            push(slot)
            raise failed({update}, number, key)
        push(slot)

    def put(self, key, value, flags=0):
        {pack_key}
        {pack_value}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, value_view, flags_view, attr = slot
        {store_key}
        {store_value}
        flags_view[0] = flags
        while bpf({update}, attr, {size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            flags_view[0] = 0
            push(slot)
            raise failed({update}, number, key)
        flags_view[0] = 0
        push(slot)

    def __delitem__(self, key):
        {pack_key}
        try:
            slot = pop()
        except IndexError:
            slot = new()
        key_view, _, _, attr = slot
        {store_key}
        while bpf({delete}, attr, {delete_size}):
            number = get_errno()
            if not number:
                continue
            set_errno(0)
            push(slot)
            raise failed({delete}, number, key)
        push(slot)

    return {{
        "__getitem__": __getitem__,
        "get": get,
        "__contains__": __contains__,
        "__setitem__": __setitem__,
        "put": put,
        "__delitem__": __delitem__,
    }}
"""

# A scalar goes straight into a typed view. What the view refuses is packed once more by the codec,
# whose message says what was expected; arrays first see whether it is a negative index or a slice.
_STORE = """try:
            {name}_view[0] = {name}
        except (TypeError, ValueError):
            push(slot)
            {refused}"""
_EXPLAIN = "pack_{name}({name})\n            raise"

_compiled: dict[tuple[bool, bool, bool], CodeType] = {}


def _code(scalar_key: bool, scalar_value: bool, indexed: bool) -> CodeType:
    code = _compiled.get((scalar_key, scalar_value, indexed))
    if code is None:
        packed_key, packed_value = "key_view[:] = packed_key", "value_view[:] = packed_value"
        explain_key, explain_value = _EXPLAIN.format(name="key"), _EXPLAIN.format(name="value")
        get = "return self._get_index(key)" if indexed else explain_key
        put = "return self._set_index(key, value)" if indexed else explain_key
        source = _SOURCE.format(
            pack_key="pass" if scalar_key else "packed_key = pack_key(key)",
            pack_value="pass" if scalar_value else "packed_value = pack_value(value)",
            index_get=_STORE.format(name="key", refused=get) if scalar_key else packed_key,
            index_set=_STORE.format(name="key", refused=put) if scalar_key else packed_key,
            store_key=_STORE.format(name="key", refused=explain_key) if scalar_key else packed_key,
            store_value=_STORE.format(name="value", refused=explain_value) if scalar_value else packed_value,
            load_value="value_view[0]" if scalar_value else "unpack_value(value_view)",
            lookup=BPF_MAP_LOOKUP_ELEM,
            update=BPF_MAP_UPDATE_ELEM,
            delete=BPF_MAP_DELETE_ELEM,
            size=_SIZE,
            delete_size=_DELETE_SIZE,
            enoent=_ENOENT,
        )
        code = compile(source, "<rawbpf map operations>", "exec")
        _compiled[scalar_key, scalar_value, indexed] = code
    return code


def compile_operations(
    handle: Handle,
    key: Codec[object],
    value: Codec[object],
    failed: Callable[[int, int, object], Exception],
    indexed: bool,
) -> dict[str, Callable[..., object]]:
    """Return the operations of the map behind `handle` by method name, each a function of (self, ...).

    `failed(cmd, errno, key)` makes the exception to raise. `indexed`: a key that is no u32 goes to the
    map's `_get_index` and `_set_index`.
    """
    slots: list[tuple[memoryview, memoryview, memoryview, object]] = []
    key_size, value_size = key.size, value.size
    key_format, value_format = key.format, value.format
    words = handle.fd_words

    def new() -> tuple[memoryview, memoryview, memoryview, object]:
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
            cast_view(key_view, key_format) if key_format else key_view,
            cast_view(value_view, value_format) if value_format else value_view,
            octets[_FLAGS:_SIZE].cast("Q"),
            ctypes.byref(attr),
        )

    names: dict[str, Callable[..., dict[str, Callable[..., object]]]] = {}
    exec(_code(key_format is not None, value_format is not None, indexed), names)  # noqa: S102  (the text is above)
    backend = handle.backend
    return names["make"](
        slots.pop,
        slots.append,
        new,
        backend.bpf,
        ctypes.get_errno,
        ctypes.set_errno,
        key.pack,
        value.pack,
        value.unpack,
        failed,
    )
