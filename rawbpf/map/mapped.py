"""Arrays of plain numbers, read and written in their own memory: no system call, once they are mapped.

An array made with BPF_F_MMAPABLE lets its memory be mapped. `Mapped` puts operations that use it in the
place of those that make system calls, at the first read and at the first write: two mappings, because one
for reading alone does not stand in the way of `freeze()`, and is there where writing is not allowed.
Where the kernel does not map (the descriptor is for reading or writing only, the map is frozen, or
programs alone may write) the system calls stay. They also answer whatever the memory does not take: an
index out of range, a slice, a value of the wrong kind; results and errors are the same in both ways.

A view that was released takes nothing any more. So the mapping can be dropped under a thread that is
about to use it: its access goes to the system call, which knows whether the map is closed or frozen.
Kernel side: kernel/bpf/arraymap.c:array_map_mmap, kernel/bpf/syscall.c:bpf_map_mmap (v6.12).
"""

from __future__ import annotations

from rawbpf.map.memory import cast_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from typing import Any

    from rawbpf.map.array import ArrayMap
    from rawbpf.map.base import Shape
    from rawbpf.map.handle import Handle

    Operations = dict[str, Callable[..., Any]]

_READS, _WRITES = ("__getitem__",), ("__setitem__", "put")


class Mapped:
    """The memory of one open array, whose class `owner` has operations that make system calls."""

    __slots__ = ("_calls", "_form", "_handle", "_owner", "_shape", "_views")

    def __init__(self, owner: type[ArrayMap[Any]], handle: Handle, shape: Shape, form: str) -> None:
        self._owner = owner
        self._handle = handle
        self._shape = shape
        self._form = form
        self._calls: Operations = {name: owner.__dict__[name] for name in (*_READS, *_WRITES)}
        # For reading and for writing; None where the kernel does not map.
        self._views: dict[bool, memoryview | None] = {}
        self._install(_first_uses(self))

    def view(self, *, writable: bool) -> memoryview | None:
        """Return the values, mapped when they are first asked for; None where that is refused. Raises: Closed."""
        try:
            return self._views[writable]
        except KeyError:
            pass
        with self._handle as fd:
            try:
                octets = memoryview(map_array(self._handle, fd, self._shape, writable=writable))
            except OSError:
                view = None
            else:
                stride = stride_of(self._shape)
                values = cast_view(octets[: stride * self._shape.max_entries], self._form)
                view = values[:: stride // values.itemsize]
            # Another thread may have been quicker.
            view = self._views.setdefault(writable, view)
        if self._handle.fd < 0:  # close() came before there was a view for it to drop
            self.drop()
        return view

    def read(self) -> None:
        """From now on read in memory, if that can be."""
        view = self.view(writable=False)
        self._install({name: self._calls[name] for name in _READS} if view is None else _reads(view, self._calls))

    def write(self) -> None:
        """From now on write in memory, if that can be."""
        view = self.view(writable=True)
        self._install({name: self._calls[name] for name in _WRITES} if view is None else _writes(view, self._calls))

    def stop_writing(self) -> None:
        """Write by system calls, and let go of the memory for writing: `freeze()` is refused while it is mapped."""
        view = self._views.get(True)
        self._views[True] = None
        self._install({name: self._calls[name] for name in _WRITES})
        _release(view)

    def drop(self) -> None:
        """Let go of all memory, whoever uses it at this moment."""
        for writable in (False, True):
            _release(self._views.pop(writable, None))

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


def _release(view: memoryview | None) -> None:
    if view is not None:
        try:
            view.release()
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


def _writes(view: memoryview, calls: Operations) -> Operations:
    by_call = calls["put"]

    def __setitem__(self: ArrayMap[Any], index: Any, value: Any) -> None:  # noqa: ANN401, N807
        try:
            view[+index] = value
        except (IndexError, TypeError, ValueError):
            by_call(self, index, value)

    def put(self: ArrayMap[Any], index: Any, value: Any, flags: int = 0) -> None:  # noqa: ANN401
        if flags:
            by_call(self, index, value, flags)
        else:
            __setitem__(self, index, value)

    return {"__setitem__": __setitem__, "put": put}


def stride_of(shape: Shape) -> int:
    """Return how many bytes lie between the starts of two elements. Source: kernel/bpf/arraymap.c:array_map_alloc."""
    return shape.value_size + 7 & ~7


def map_array(handle: Handle, fd: int, shape: Shape, *, writable: bool) -> mmap:
    """Return the memory of an array, whole pages of it. Raises: OSError."""
    page = handle.backend.host.page_size
    return handle.backend.mmap(fd, stride_of(shape) * shape.max_entries + page - 1 & -page, writable=writable)
