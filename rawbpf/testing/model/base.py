"""What is the same for every map: the syscall layer, which answers before the map type is asked and after.

A family says in which case an operation is (`lookup_case` and its siblings) and what it then does (`store`, `remove`);
the errno is the one that `rawbpf.testing.cells` has for that case. Where the kernel is free (which element of an
LRU map goes, in which order a hash table is walked), the model takes what it observed if the kernel may do that.

Source: kernel/bpf/syscall.c (v6.18)
"""

# ruff: noqa: ARG002  (a family overrides what it needs; the parameters are those of `Model`)

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rawbpf.btf.build import Builder
from rawbpf.testing.cells import CELLS, KEYLESS, VALUELESS, Cell
from rawbpf.testing.named import Named
from rawbpf.testing.operation import LAST, Operation, Outcome, Value
from rawbpf.testing.spec import BTF_SHAPES, PER_CPU, MapSpec
from rawbpf.uapi.constants import BPF_F_LOCK, BPF_F_RDONLY, BPF_F_WRONLY
from rawbpf.uapi.names import map_type_number

PREFIXES = ("", "NOEXIST, ", "EXIST, ")
"""What BPF_ANY, BPF_NOEXIST and BPF_EXIST add to a case of an update."""


class Model:
    """A map as plain data; `judge` says what an operation comes to, and does it."""

    exact = True
    """Whether two kernels must answer alike; if not, each may answer whatever the model allows."""

    kernel_flags = 0
    """What the kernel adds to map_flags."""

    cells: Mapping[Cell, str] = CELLS
    """The answers of the kernel that is judged."""

    def __init__(self, spec: MapSpec, cpus: int) -> None:
        self.spec = spec
        self.cpus = cpus
        self.locked = spec.btf == "lock"
        self.frozen = False
        self.cell = Cell(spec.map_type, "", "")
        self.cursor: bytes | None = None
        self.operation = Operation("info")
        self.observed = Outcome()
        self.keyless = spec.map_type in KEYLESS
        self.valueless = spec.map_type in VALUELESS

    def judge(self, operation: Operation, observed: Outcome) -> Outcome:
        """Return what `operation` must come to: `observed`, where that is one of several lawful outcomes.

        Afterwards the model is what the map is, and `cell` says which answer was given.
        """
        self.operation = operation
        self.observed = observed
        verb = operation.verb
        if verb == "lookup":
            return self._lookup(operation)
        if verb == "update":
            return self._update(operation)
        if verb == "delete":
            return self._delete(operation)
        if verb == "next_key":
            return self._next_key(operation)
        if verb == "lookup_and_delete":
            return self._lookup_and_delete(operation)
        if verb == "freeze":
            return self._freeze(operation)
        if verb == "info":
            self.say("info", "any")
            return Outcome(info=self.info())
        return self._batch(operation)

    def unsettled(self) -> Sequence[bytes]:
        """Return the keys that may or may not be there, for whoever drives to look up at once."""
        return ()

    def walked(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that a walk to the end should have come by and did not."""
        return set()

    # What a family answers. `key` has the map's size (b"" in maps without keys), `value` fits.

    def lookup_case(self, key: Value) -> str:
        """Return the case of a lookup."""
        return "always"

    def value_of(self, key: Value) -> Value:
        """Return what a lookup reads, where it succeeds."""
        raise NotImplementedError

    def update_case(self, key: Value, value: Value, flags: int) -> str:
        """Return the case of an update."""
        return "always"

    def store(self, key: Value, value: Value) -> None:
        """Do an update that succeeds."""
        raise NotImplementedError

    def delete_case(self, key: Value) -> str:
        """Return the case of a delete."""
        return "always"

    def remove(self, key: Value) -> None:
        """Do a delete that succeeds."""
        raise NotImplementedError

    def take_case(self, key: Value) -> str:
        """Return the case of a lookup_and_delete: of a lookup, where the type has the command."""
        return "always" if self.has_case("lookup_and_delete", "always") else self.lookup_case(key)

    def next_case(self, key: bytes | None) -> tuple[str, bytes | None]:
        """Return the case of a next_key and the key that comes next, where one does."""
        return "always", None

    def read_batch(self, operation: Operation, count: int) -> Outcome:
        """Return what a batch that reads comes to, once its flags and count are in order."""
        raise NotImplementedError

    def max_entries(self) -> int:
        """Return max_entries as info tells it."""
        return self.spec.max_entries

    # What families use.

    def say(self, verb: str, case: str) -> str:
        """Note the cell that an operation fell into; return its errno. Raises: LookupError where the tables lack it."""
        self.cell = cell = Cell(self.spec.map_type, verb, case)
        if cell not in self.cells:
            raise LookupError(f"no table has the case {cell}")
        return self.cells[cell]

    def has_case(self, verb: str, case: str) -> bool:
        """Return whether the tables know the case for this map type."""
        return Cell(self.spec.map_type, verb, case) in self.cells

    def flagged(self, flags: int, state: str) -> str:
        """Return the case of an update with `flags` on an element in `state`."""
        word = flags & ~BPF_F_LOCK
        return PREFIXES[word] + state if word < 3 else "flags"

    def index(self, key: Value) -> int:
        """Return a key of four bytes as a number."""
        assert isinstance(key, bytes)
        return int.from_bytes(key, sys.byteorder)

    def clean(self, value: Value) -> Value:
        """Return `value` as it reads back: without the lock, and with zeros where a CPU's slot is filled up."""
        if isinstance(value, Named):
            return value
        if self.locked:
            return bytes(4) + value[4:]
        if self.spec.map_type in PER_CPU and self.spec.value_size % 8:
            size, stride = self.spec.value_size, self.spec.value_size + 7 & ~7
            return b"".join(value[at : at + size] + bytes(stride - size) for at in range(0, len(value), stride))
        return value

    # The syscall layer.

    def _reads(self, operation: Operation) -> bool:
        return operation.mode != "w" and not self.spec.flags & BPF_F_WRONLY

    def _writes(self, operation: Operation) -> bool:
        return operation.mode != "r" and not self.spec.flags & BPF_F_RDONLY

    def _refused(self, operation: Operation, reads: bool, writes: bool) -> str:
        # The case in which a descriptor, or a frozen map, does not let the command through.
        if reads and not self._reads(operation):
            return "write-only"
        if writes and not self._writes(operation):
            return "read-only"
        return "frozen" if writes and self.frozen else ""

    def _bad_key(self, key: Value | None) -> str:
        if self.keyless:
            return "key given" if key is not None else ""
        return "null key" if key is None else ""

    def _lookup(self, operation: Operation) -> Outcome:
        verb, key, value, flags = operation[:4]
        case = (
            ("beyond the command" if flags and self.has_case(verb, "beyond the command") else "")
            or ("bad flags" if flags & ~BPF_F_LOCK else "")
            or self._refused(operation, reads=True, writes=verb != "lookup")
            or ("no lock" if flags and not self.locked else "")
            or self._bad_key(key)
        )
        if case:
            return Outcome(self.say(verb, case))
        return self._read(verb, b"" if key is None else key, value)

    def _read(self, verb: str, key: Value, value: Value | None) -> Outcome:
        error = self.say(verb, self.lookup_case(key) if verb == "lookup" else self.take_case(key))
        if error:
            return Outcome(error)
        found = self.value_of(key)
        if verb != "lookup":
            self.remove(key)
        if value is None:
            return Outcome(self.say(verb, "null value"))
        return Outcome(value=found)

    def _lookup_and_delete(self, operation: Operation) -> Outcome:
        return self._lookup(operation)

    def _update(self, operation: Operation) -> Outcome:
        _, key, value, flags = operation[:4]
        case = (
            self._refused(operation, reads=False, writes=True)
            or ("no lock" if flags & BPF_F_LOCK and not self.locked else "")
            or self._bad_key(key)
            or ("null value" if value is None and not self.valueless else "")
        )
        if case:
            return Outcome(self.say("update", case))
        key = b"" if key is None else key
        value = b"" if value is None else value
        error = self.say("update", self.update_case(key, value, flags))
        if not error:
            self.store(key, value)
        return Outcome(error)

    def _delete(self, operation: Operation) -> Outcome:
        key = operation.key
        case = (
            ("beyond the command" if operation.flags else "")
            or self._refused(operation, reads=False, writes=True)
            or self._bad_key(key)
        )
        if case:
            return Outcome(self.say("delete", case))
        key = b"" if key is None else key
        error = self.say("delete", self.delete_case(key))
        if not error:
            self.remove(key)
        return Outcome(error)

    def _next_key(self, operation: Operation) -> Outcome:
        _, key, value, flags = operation[:4]
        case = (
            ("beyond the command" if flags else "")
            or self._refused(operation, reads=True, writes=False)
            or ("key given" if self.keyless and key is not None else "")
        )
        if case:
            return Outcome(self.say("next_key", case))
        assert not isinstance(key, Named) or self.next_case(None)[0] == "always"
        case, found = self.next_case(key if isinstance(key, bytes) else None)
        error = self.say("next_key", case)
        if error:
            return Outcome(error)
        if value is None:
            return Outcome(self.say("next_key", "null value"))
        return Outcome(value=found)

    def _freeze(self, operation: Operation) -> Outcome:
        # Frozen twice is refused for want of permission: a frozen map is one that nobody may write.
        has_lock = self.locked and self.has_case("freeze", "lock")
        case = "lock" if has_lock else self._refused(operation, reads=False, writes=True) or "open"
        if case == "read-only" and self.frozen and not self.cells[Cell(self.spec.map_type, "freeze", case)]:
            case = "frozen"
        error = self.say("freeze", case)
        self.frozen = self.frozen or not error
        return Outcome(error)

    def info(self) -> tuple[tuple[str, int | bytes], ...]:
        """Return what must agree of the map's info."""
        spec, ids = self.spec, (0, 0)
        if spec.btf:
            ids = BTF_SHAPES[spec.btf](Builder(), spec)
        return (
            ("type", map_type_number(spec.map_type)),
            ("key_size", spec.key_size),
            ("value_size", spec.value_size),
            ("max_entries", self.max_entries()),
            ("map_flags", (spec.flags & ~(BPF_F_RDONLY | BPF_F_WRONLY)) | self.kernel_flags),
            ("map_extra", spec.map_extra),
            ("name", spec.name.ljust(16, b"\0")),
            ("ifindex", 0),
            ("btf_key_type_id", ids[0]),
            ("btf_value_type_id", ids[1]),
            ("btf_vmlinux_value_type_id", 0),
        )

    # Batches. Source: kernel/bpf/syscall.c:bpf_map_do_batch, generic_map_update_batch, generic_map_delete_batch

    def _batch(self, operation: Operation) -> Outcome:
        verb = operation.verb
        count = len(operation.keys or ()) if operation.count is None else operation.count
        reading = verb in {"lookup_batch", "lookup_and_delete_batch"}
        case = (
            self._refused(operation, reads=reading, writes=verb != "lookup_batch")
            or ("always" if self.has_case(verb, "always") else "")
            or ("bad element flags" if operation.elem_flags & ~BPF_F_LOCK else "")
            or ("no lock" if operation.elem_flags and not self.locked else "")
            or ("flags" if operation.flags and self.has_case(verb, "flags") else "")
        )
        if case:
            return Outcome(self.say(verb, case), count=count)
        if not count:
            return Outcome(self.say(verb, "no elements"), count=0)
        if not reading:
            return self._write_batch(operation, count)
        outcome = self.read_batch(operation, count)
        if outcome.cursor is not None:
            self.cursor = outcome.cursor
        return outcome

    def _write_batch(self, operation: Operation, count: int) -> Outcome:
        verb, keys, values = operation.verb, operation.keys, operation.values
        if keys is None or (values is None and verb == "update_batch"):
            return Outcome(self.say(verb, "null pointer"), count=0)
        for at in range(count):
            key = keys[at]
            self.batch_at(at)
            if verb == "update_batch":
                case = self.update_case(key, (values or ())[at], operation.elem_flags)
                refused = self.cells[Cell(self.spec.map_type, "update", case)]
            else:
                case = self.delete_case(key)
                refused = self.cells[Cell(self.spec.map_type, "delete", case)]
            if refused:
                return Outcome(self.say(verb, case), count=at)
            if verb == "update_batch":
                self.store(key, (values or ())[at])
            else:
                self.remove(key)
        return Outcome(self.say(verb, "all"), count=count)

    def batch_at(self, position: int) -> None:
        """Note that the element at `position` of a batch is about to be written."""

    def start(self, operation: Operation) -> bytes | None:
        """Return the cursor that a batch starts from, None for the beginning."""
        cursor = self.cursor if operation.cursor == LAST else operation.cursor
        assert not isinstance(cursor, Named)
        return cursor

    def read_in_order(self, operation: Operation, count: int) -> Outcome:
        """Return what a batch of a type whose walk is known comes to.

        Source: kernel/bpf/syscall.c:generic_map_lookup_batch
        """
        verb, cursor = operation.verb, self.start(operation)
        key = None if cursor is None else cursor.ljust(self.spec.key_size, b"\xa5")[: self.spec.key_size]
        keys: list[Value] = []
        values: list[Value] = []
        error = ""
        while len(keys) < count:
            case, found = self.next_case(key)
            if self.cells[Cell(self.spec.map_type, "next_key", case)]:
                error = "ENOENT"
                break
            assert found is not None
            key = found
            if self.cells[Cell(self.spec.map_type, "lookup", self.lookup_case(key))]:
                continue  # a slot without an element
            if operation.keys is None or operation.values is None:
                return Outcome(self.say(verb, "null pointer"), count=0)
            keys.append(key)
            values.append(self.value_of(key))
        if keys and not operation.out_batch:
            return Outcome(self.say(verb, "null pointer"), count=len(keys))
        self.say(verb, "end" if error else "some")
        return Outcome(error, None, tuple(keys), tuple(values), len(keys), key if keys else None)
