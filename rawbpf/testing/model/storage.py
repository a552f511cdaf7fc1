"""Storage in sockets, inodes, tasks and cgroups, and the maps that only programs fill.

Source: kernel/bpf/bpf_local_storage.c, kernel/bpf/local_storage.c, kernel/bpf/stackmap.c (v6.18).
"""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

from rawbpf.testing.model.base import Model
from rawbpf.testing.model.object import answer
from rawbpf.testing.named import Named
from rawbpf.testing.operation import Value
from rawbpf.testing.spec import MapSpec


class LocalStorage(Model):
    """A value for each object; the key is the object's descriptor."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        super().__init__(spec, cpus)
        self.elements: dict[str, Value] = {}

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        assert isinstance(key, Named)
        return answer(self.spec.map_type, key) or ("existing" if key.name in self.elements else "missing")

    def value_of(self, key: Value) -> Value:
        """Return the value."""
        assert isinstance(key, Named)
        return self.elements[key.name]

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        case = self.lookup_case(key)
        return self.flagged(flags, case) if case in {"existing", "missing"} else case

    def store(self, key: Value, value: Value) -> None:
        """Store the value."""
        assert isinstance(key, Named)
        self.elements[key.name] = self.clean(value)

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return self.lookup_case(key)

    def remove(self, key: Value) -> None:
        """Remove the value."""
        assert isinstance(key, Named)
        del self.elements[key.name]


class CgroupStorage(Model):
    """What a program attached to a cgroup keeps: empty until one is."""

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "missing"

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        return self.flagged(flags, "missing")

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return that there is none."""
        return "empty", None


class StackTraces(Model):
    """Stacks that programs store: empty until one does."""

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "missing" if self.index(key) < 1 << (self.spec.max_entries - 1).bit_length() else "out of range"

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return self.lookup_case(key)

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return that there is none."""
        return "empty", None
