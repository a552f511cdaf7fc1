"""One bpf(2) call of this process, read from its memory before and after: attr bytes into an `Image`, and back.

Every address is checked by the kernel, a bad one is noted as such. Must not make any bpf(2) call.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rawbpf.sim.error import Refused
from rawbpf.sim.memory import Memory
from rawbpf.testing import naming
from rawbpf.testing.pointee import BOTH, IN, TEXT, Pointee, Shape, info_pointees, pointees, pointers_of, subject_field
from rawbpf.testing.recording import Event, Image
from rawbpf.uapi.attr import ATTR_SIZE, LAYOUTS
from rawbpf.uapi.names import cmd_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Host
    from rawbpf.testing.naming import Objects
    from rawbpf.uapi.layout import Layout

_LONGEST_PATH = 4096
_MOST = 1 << 28
_NOWHERE = 1
"""An address that nothing is ever mapped at (vm.mmap_min_addr)."""


class Side:
    """The kernel at one end of a recording: its objects by name, and how its numbers lie in memory."""

    def __init__(self, host: Host, objects: Objects) -> None:
        self.cpus = host.possible_cpus
        self.order = "<" if host.byteorder == "little" else ">"
        self.word = naming.word(self.order)
        self.objects = objects
        self.memory = Memory()
        self._directories: dict[tuple[int, bytes], str] = {}

    def path_text(self, path: bytes, path_fd: int) -> bytes:
        """Return a path with a name in place of its directory."""
        directory, slash, name = path.rpartition(b"/")
        found = self._directories.setdefault((path_fd, directory + slash), "") or self.objects.new_name("dir")
        self._directories[path_fd, directory + slash] = found
        return f"{found}/".encode() + name


class Capture:
    """A call that is about to be made. Raises: Refused for an attr that cannot be read."""

    def __init__(self, side: Side, cmd: int, address: int, size: int) -> None:
        self.cmd = cmd
        self.address = address
        self.size = size
        self._side = side
        self._layout = LAYOUTS[cmd]
        attr = side.memory.read(address, size)
        self.fields = self._layout.unpack(attr)
        subject = subject_field(cmd)
        self.shape = side.objects.shape(self.fields[subject]) if subject else Shape()
        found = pointees(cmd, self.fields, self.shape, side.cpus)
        self.pointees = {each.name: (each, self._pointer(attr, each)) for each in found}
        if info := self._content(*self.pointees.get("info", (None, 0))):
            nested = info_pointees(self.shape, info)
            self.pointees |= {each.name: (each, self._pointer(info, each)) for each in nested}
        self.before = self._image(attr, self._contents(), {})

    def after(self, succeeded: bool) -> Image:
        """Return the image of the memory now that the call was made."""
        attr, contents = self._side.memory.read(self.address, self.size), self._contents()
        fields = self._layout.unpack(attr)
        ids = {}
        if succeeded:
            ids = {(name, at): kind for name, at, kind in naming.id_places(self.cmd, fields, self.shape, contents)}
        return self._image(attr, contents, ids)

    def _pointer(self, container: bytes, each: Pointee) -> int:
        return int(struct.unpack_from("=Q", container.ljust(each.offset + 8, b"\0"), each.offset)[0])

    def _contents(self) -> dict[str, bytes | None]:
        return {name: self._content(each, at) for name, (each, at) in self.pointees.items() if at}

    def _content(self, each: Pointee | None, address: int) -> bytes | None:
        if each is None or not address or each.size > _MOST:
            return None
        try:
            if each.size == TEXT:
                return self._side.memory.string(address, _LONGEST_PATH) + b"\0"
            return self._side.memory.read(address, each.size)
        except Refused:
            return None

    def _image(self, attr: bytes, contents: Mapping[str, bytes | None], ids: Mapping[tuple[str, int], str]) -> Image:
        image = Image()
        rest = bytearray(attr)
        fields = first_fields(self.cmd, attr)
        for name, (offset, form, value) in fields.items():
            rest[offset : offset + struct.calcsize(form)] = bytes(struct.calcsize(form))
            if name in pointers_of(self.cmd):
                continue
            plain = value.rstrip(b"\0").decode("latin-1") if isinstance(value, bytes) else value
            if plain:
                image.attr[name] = plain
        numbers = {name: value for name, value in image.attr.items() if isinstance(value, int)}
        objects = self._side.objects
        for name in naming.descriptor_fields(self.cmd, numbers):
            if naming.taken(numbers[name]):
                image.attr[name] = objects.fd_name(numbers[name])
        for name, kind in naming.id_fields(self.cmd, numbers).items():
            if naming.taken(numbers.get(name, 0)):
                image.attr[name] = objects.id_name(kind, numbers[name])
        image.rest = bytes(rest).rstrip(b"\0")
        self._add_memory(image, contents, ids)
        return image

    def _add_memory(
        self, image: Image, contents: Mapping[str, bytes | None], ids: Mapping[tuple[str, int], str]
    ) -> None:
        side, places = self._side, dict(ids)
        for name, at in naming.descriptor_places(self.cmd, self.shape, contents, side.order):
            places.setdefault((name, at), "fd")
        blank = {name: None if content is None else bytearray(content) for name, content in contents.items()}
        for (name, at), kind in places.items():
            content = blank[name]
            assert content is not None
            number = side.word.unpack_from(content, at)[0]
            if naming.taken(number):
                known = side.objects.fd_name(number) if kind == "fd" else side.objects.id_name(kind, number)
                image.references[f"{name}@{at}"] = known
                side.word.pack_into(content, at, 0)
        for each, _ in self.pointees.values():
            container = blank.get(each.within)
            if container is not None and each.offset + 8 <= len(container):
                container[each.offset : each.offset + 8] = bytes(8)
        if path := blank.get("pathname"):
            blank["pathname"] = bytearray(side.path_text(bytes(path), self.fields["path_fd"]))
        image.memory = {name: None if content is None else bytes(content) for name, content in blank.items()}


def first_fields(cmd: int, attr: bytes) -> dict[str, tuple[int, str, Any]]:
    """Return the fields of an attr: offset, format and value. Of a union's members the first stands for all."""
    offsets = {offset: (name, form) for name, offset, form in reversed(LAYOUTS[cmd].fields)}
    return {
        name: (offset, "=" + form, struct.unpack_from("=" + form, attr, offset)[0])
        for offset, (name, form) in sorted(offsets.items())
        if offset + struct.calcsize("=" + form) <= len(attr)
    }


class Built:
    """An event as a call that can be made: `attr`, and the buffers that it points to, which it keeps alive.

    `number` gives the descriptor or id of a name on this side. No buffer is smaller than what the kernel of
    this side may write there, whatever the event says.
    """

    def __init__(self, side: Side, cmd: int, event: Event, number: Callable[[str], int]) -> None:
        layout = LAYOUTS[cmd]
        self.attr = ctypes.create_string_buffer(max(event.size, ATTR_SIZE))
        memoryview(self.attr).cast("B")[: len(event.before.rest)] = event.before.rest
        forms = {name: form for name, _, form in layout.fields}
        for name, value in event.before.attr.items():
            if isinstance(value, str):
                is_text = forms.get(name, "").endswith("s")
                layout.set(self.attr, name, value.encode("latin-1") if is_text else _word(layout, name, number(value)))
            else:
                layout.set(self.attr, name, value)
        fields = layout.unpack(self.attr)
        subject = subject_field(cmd)
        shape = side.objects.shape(fields[subject]) if subject else Shape()
        self.memory: dict[str, ctypes.Array[ctypes.c_char]] = {}
        self._place(pointees(cmd, fields, shape, side.cpus), event, side, number)
        if "info" in self.memory:
            self._place(info_pointees(shape, self.memory["info"].raw), event, side, number)

    def _place(self, found: Iterable[Pointee], event: Event, side: Side, number: Callable[[str], int]) -> None:
        for each in found:
            if each.name not in event.before.memory:
                continue
            content = event.before.memory[each.name]
            address = _NOWHERE
            if content is not None:
                if each.size > _MOST:
                    raise ValueError(f"{event.call}: {each.name} has {each.size} bytes: more than a test should take")
                buffer = ctypes.create_string_buffer(content, max(each.size, len(content), 8))
                for at, name in event.before.references.items():
                    where, _, offset = at.partition("@")
                    if where == each.name:
                        side.word.pack_into(buffer, int(offset), number(name) & 0xFFFF_FFFF)
                self.memory[each.name] = buffer
                address = ctypes.addressof(buffer)
            container = self.memory[each.within] if each.within else self.attr
            struct.pack_into("=Q", container, each.offset, address)


def _word(layout: Layout, name: str, number: int) -> int:
    return number if number >= 0 or layout.is_signed(name) else number & 0xFFFF_FFFF


def described(shape: Shape, objects: Objects) -> dict[str, int | str]:
    """Return what an event says of the descriptor that it opened."""
    if not shape.kind:
        return {}
    found: dict[str, int | str] = {"kind": shape.kind, "id": objects.id_name(shape.kind, shape.id)}
    if shape.kind == "map":
        found |= {name: getattr(shape, name) for name in ("type", "key_size", "value_size", "flags")}
    return found


def is_input(direction: int) -> bool:
    """Return whether a call reads what is there."""
    return direction in (IN, BOTH)


def opaque(cmd: int) -> Event:
    """Return the event of a call that cannot be made again: what its pointers lead to is not known."""
    return Event(cmd_name(cmd).replace(" ", "_"), described={"opaque": 1})
