"""Arrays whose slots hold objects, or nothing: a dict of indices.

Source: kernel/bpf/arraymap.c:bpf_fd_array_map_update_elem, kernel/bpf/reuseport_array.c, net/core/sock_map.c,
net/xdp/xskmap.c (v6.18)
"""

from __future__ import annotations

from rawbpf.testing.model.array import Indexed
from rawbpf.testing.model.object import answer, is_beyond, kind
from rawbpf.testing.named import Named
from rawbpf.testing.operation import Value
from rawbpf.testing.spec import MapSpec
from rawbpf.uapi.constants import BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST


class Slots(Indexed):
    """An array of which some slots are filled."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.elements: dict[int, Value] = {}

    def state(self, key: Value) -> str:
        """Return what is in the slot."""
        index = self.index(key)
        if index >= self.spec.max_entries:
            return "out of range"
        return "existing" if index in self.elements else "missing"

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup: of some types, always the same."""
        return self.state(key) if self.has_case("lookup", "missing") else "always"

    def value_of(self, key: Value) -> Value:
        """Return the value."""
        return self.elements[self.index(key)]

    def store(self, key: Value, value: Value) -> None:
        """Fill the slot."""
        self.elements[self.index(key)] = value

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return self.state(key)

    def remove(self, key: Value) -> None:
        """Empty the slot."""
        self.elements.pop(self.index(key), None)


class DescriptorArray(Slots):
    """Programs, perf events or cgroups: flags first, then the index, then the descriptor."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self._owner = ""  # the kind of the first program, which others must be like

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        state = self.state(key)
        if flags or state == "out of range":
            return self.flagged(flags, state)
        assert isinstance(value, Named)
        case = answer(self.spec.map_type, value)
        if not case and self.spec.map_type == "prog_array":
            self._owner = self._owner or kind(value)
            case = "" if kind(value) == self._owner else "unlike the others"
        return case or state


class MapArray(DescriptorArray):
    """Maps, which must be like the template."""


class Sockets(Slots):
    """A sockmap: the socket is looked at first, and is read back as its cookie where the value has room for that."""

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "short value" if self.spec.value_size == 4 else self.state(key)

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        if is_beyond(value):
            return "beyond descriptors"
        assert isinstance(value, Named)
        return answer(self.spec.map_type, value, self.cells) or self.flagged(flags, self.state(key))


class XdpSockets(Slots):
    """An xskmap. The same socket again is welcome, whatever the flags."""

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        state, index = self.state(key), self.index(key)
        if flags & ~BPF_F_LOCK > BPF_EXIST or state == "out of range":
            return self.flagged(flags, state)
        assert isinstance(value, Named)
        same = self.elements.get(index) == value
        return answer(self.spec.map_type, value) or self.flagged(flags, "same" if same else state)


class Reuseport(Slots):
    """A socket may be in one slot of one map only."""

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "short value" if self.spec.value_size == 4 else self.state(key)

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        state = self.state(key)
        if flags > BPF_EXIST or state == "out of range":
            return self.flagged(flags, state)
        # Values of 4 bytes are taken as signed.
        if is_beyond(value) and self.spec.value_size == 8:
            return "beyond descriptors"
        assert isinstance(value, Named)
        case = answer(self.spec.map_type, value)
        if case in {"closed", "another kind"}:
            return case
        if (state == "existing" and flags == BPF_NOEXIST) or (state == "missing" and flags == BPF_EXIST):
            return self.flagged(flags, state)
        if case:
            return case
        if value in self.elements.values():
            return self.flagged(flags, "existing" if state == "existing" else "elsewhere")
        return self.flagged(flags, "replaced" if state == "existing" else state)
