"""Arrays, read and written in their own memory: no system call, once they are mapped.

An array made with BPF_F_MMAPABLE lets its memory be mapped. `Mapped` puts operations that use it in the
place of those that make system calls, at the first read and at the first write: two mappings, because one
for reading alone does not stand in the way of `freeze()`, and is there where writing is not allowed.
Plain numbers are items of a view; of anything else the bytes are copied, as the kernel would copy them, and
the codec has them. Where the kernel does not map (the descriptor is for reading or writing only, the map is
frozen, programs alone may write, or values have locks and the like) the system calls stay. They also answer
whatever the memory does not take: an index out of range, a slice, a value of the wrong kind; results and errors
are the same in both ways.

Memory that was let go of takes nothing any more. So it can be dropped under a thread that is about to use
it: its access goes to the system call, which knows whether the map is closed or frozen.
Kernel side: kernel/bpf/arraymap.c:array_map_mmap, kernel/bpf/syscall.c:bpf_map_mmap (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import NotSupported
from rawbpf.map.mapping import refused
from rawbpf.map.memory import cast_view
from rawbpf.uapi.constants import BPF_F_MMAPABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from typing import Any

    from rawbpf.codec import Codec
    from rawbpf.map.array import ArrayMap
    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle

    Operations = dict[str, Callable[..., Any]]

_EINVAL = 22
_READS, _WRITES = ("__getitem__",), ("__setitem__", "put")


class Mapped:
    """The memory of one open array, whose class `owner` has operations that make system calls."""

    __slots__ = ("_calls", "_codec", "_handle", "_memory", "_owner", "_shape")

    def __init__(self, owner: type[ArrayMap[Any]], handle: Handle, shape: Shape, codec: Codec[Any]) -> None:
        self._owner = owner
        self._handle = handle
        self._shape = shape
        self._codec = codec
        self._calls: Operations = {name: owner.__dict__[name] for name in (*_READS, *_WRITES)}
        # For reading and for writing: plain numbers as a view, else the mapping; None where the kernel does not map.
        self._memory: dict[bool, memoryview | mmap | None] = {}
        self._install(_first_uses(self))

    def memory(self, *, writable: bool) -> memoryview | mmap | None:
        """Return the values, mapped when they are first asked for; None where that is refused. Raises: Closed."""
        try:
            return self._memory[writable]
        except KeyError:
            pass
        memory: memoryview | mmap | None
        with self._handle as fd:
            try:
                memory = map_array(self._handle, fd, self._shape, writable=writable)
            except OSError:
                memory = None
            else:
                if self._codec.format:
                    stride = stride_of(self._shape)
                    octets = memoryview(memory)[: stride * self._shape.max_entries]
                    memory = cast_view(octets, self._codec.format)[:: stride // self._codec.size]
            # Another thread may have been quicker.
            memory = self._memory.setdefault(writable, memory)
        if self._handle.fd < 0:  # close() came before there was memory for it to drop
            self.drop()
        return memory

    def part(self, index: slice) -> list[Any] | None:
        """Return the values of a slice; None where memory does not tell. Raises: Closed."""
        memory = self.memory(writable=False)
        if memory is None:
            return None
        try:
            if isinstance(memory, memoryview):
                numbers: list[Any] = memory[index].tolist()
                return numbers
            stride, size = stride_of(self._shape), self._codec.size
            starts = range(0, stride * self._shape.max_entries, stride)[index]
            if starts.step == stride == size:
                return self._codec.unpack_many(memory[starts.start : starts.stop], len(starts))
            unpack = self._codec.unpack
            return [unpack(memory[at : at + size]) for at in starts]
        except ValueError:  # let go of meanwhile; or a step of 0, which the caller refuses
            return None

    def read(self) -> None:
        """From now on read in memory, if that can be."""
        self._use(self.memory(writable=False), _READS, _reads, _copies_out)

    def write(self) -> None:
        """From now on write in memory, if that can be."""
        self._use(self.memory(writable=True), _WRITES, _writes, _copies_in)

    def stop_writing(self) -> None:
        """Write by system calls, and let go of the memory for writing: `freeze()` is refused while it is mapped."""
        memory = self._memory.get(True)
        self._memory[True] = None
        self._use(None, _WRITES, _writes, _copies_in)
        _release(memory)

    def drop(self) -> None:
        """Let go of all memory, whoever uses it at this moment."""
        for writable in (False, True):
            _release(self._memory.pop(writable, None))

    def _use(
        self,
        memory: memoryview | mmap | None,
        names: tuple[str, ...],
        of_numbers: Callable[[memoryview, Operations], Operations],
        of_others: Callable[[mmap, Operations, Codec[Any], range], Operations],
    ) -> None:
        if memory is None:
            self._install({name: self._calls[name] for name in names})
        elif isinstance(memory, memoryview):
            self._install(of_numbers(memory, self._calls))
        else:
            stride = stride_of(self._shape)
            starts = range(0, stride * self._shape.max_entries, stride)
            self._install(of_others(memory, self._calls, self._codec, starts))

    # Operations that come after close() put theirs in place raise Closed as well: their calls have no descriptor.
    def _install(self, operations: Operations) -> None:
        for name, operation in operations.items():
            operation.__doc__ = self._calls[name].__doc__
            setattr(self._owner, name, operation)


def _first_uses(mapped: Mapped) -> Operations:
    def __getitem__(self: ArrayMap[Any], index: Any) -> Any:  # noqa: ANN401, N807
        mapped.read()
        return self[index]

    def put(self: ArrayMap[Any], index: int, value: object, flags: int = 0) -> None:
        mapped.write()
        self.put(index, value, flags)

    return {"__getitem__": __getitem__, "__setitem__": put, "put": put}


def _release(memory: memoryview | mmap | None) -> None:
    try:
        if isinstance(memory, memoryview):
            memory.release()
        elif memory is not None:
            memory.close()
    except BufferError:
        pass  # a slice of it is being read at this moment, and lets go of it


# A view takes negative indices as an array does. It would take slices and tuples, too: those have no `+`.


def _reads(view: memoryview, calls: Operations) -> Operations:
    by_call = calls["__getitem__"]

    def __getitem__(self: ArrayMap[Any], index: Any) -> Any:  # noqa: ANN401, N807
        try:
            return view[+index]
        except (IndexError, TypeError, ValueError):
            pass
        return by_call(self, index)

    return {"__getitem__": __getitem__}


# A range takes negative indices, too, and of what is no index makes no number.


def _copies_out(memory: mmap, calls: Operations, codec: Codec[Any], starts: range) -> Operations:
    by_call, unpack, size = calls["__getitem__"], codec.unpack, codec.size

    def __getitem__(self: ArrayMap[Any], index: Any) -> Any:  # noqa: ANN401, N807
        try:
            at = starts[index]
            return unpack(memory[at : at + size])
        except (IndexError, TypeError, ValueError):
            pass
        return by_call(self, index)

    return {"__getitem__": __getitem__}


def _writes(view: memoryview, calls: Operations) -> Operations:
    by_call = calls["put"]

    def __setitem__(self: ArrayMap[Any], index: Any, value: Any) -> None:  # noqa: ANN401, N807
        try:
            view[+index] = value
        except (IndexError, TypeError, ValueError):
            by_call(self, index, value)

    return _storing(__setitem__, by_call)


def _copies_in(memory: mmap, calls: Operations, codec: Codec[Any], starts: range) -> Operations:
    by_call, pack, size = calls["put"], codec.pack, codec.size

    def __setitem__(self: ArrayMap[Any], index: Any, value: Any) -> None:  # noqa: ANN401, N807
        try:
            at = starts[index]
            memory[at : at + size] = pack(value)
        except (IndexError, TypeError, ValueError, OverflowError):
            by_call(self, index, value)

    return _storing(__setitem__, by_call)


def _storing(store: Callable[[Any, Any, Any], None], by_call: Callable[..., None]) -> Operations:
    def put(self: ArrayMap[Any], index: Any, value: Any, flags: int = 0) -> None:  # noqa: ANN401
        if flags:
            by_call(self, index, value, flags)
        else:
            store(self, index, value)

    return {"__setitem__": store, "put": put}


def stride_of(shape: Shape) -> int:
    """Return how many bytes lie between the starts of two elements. Source: kernel/bpf/arraymap.c:array_map_alloc."""
    return shape.value_size + 7 & ~7


def map_array(handle: Handle, fd: int, shape: Shape, *, writable: bool) -> mmap:
    """Return the memory of an array, whole pages of it. Raises: OSError."""
    page = handle.backend.host.page_size
    return handle.backend.mmap(fd, stride_of(shape) * shape.max_entries + page - 1 & -page, writable=writable)


def live_memory(handle: Handle, shape: Shape, *, writable: bool = True) -> memoryview:
    """Return an array's memory for somebody to keep, as bytes; `freeze()` knows that it is there.

    Raises: Closed; NotSupported for an array without BPF_F_MMAPABLE, or with values that the kernel does not share;
    PermissionDenied (EPERM: frozen; EACCES: opened for reading or for writing only); BpfError (ENOMEM).
    """
    if not shape.map_flags & BPF_F_MMAPABLE:
        hint = "only arrays created with BPF_F_MMAPABLE can be mapped into memory"
        raise NotSupported(_EINVAL, call="mmap", subject=str(shape), hint=hint)
    with handle as fd:
        try:
            mapping = map_array(handle, fd, shape, writable=writable)
        except OSError as error:
            raise refused(handle, error) from None
    if writable:
        from weakref import ref

        handle.views[:] = [view for view in handle.views if view() is not None]
        handle.views.append(ref(mapping))
    return memoryview(mapping)[: stride_of(shape) * shape.max_entries]
