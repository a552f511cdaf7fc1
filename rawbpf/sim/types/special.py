"""Fields that belong to the kernel: locks, timers, kernel pointers, lists and trees in a struct.

Found by the names of their types, as the kernel does. Source: kernel/bpf/btf.c:btf_parse_fields and
what it calls, btf_parse_struct_metas, btf_check_and_fixup_fields (v6.12; bpf_task_work: v6.18).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT

from rawbpf.sim.error import Refused
from rawbpf.sim.types import record as r

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.types.record import Record, Records

(
    SPIN_LOCK, RES_SPIN_LOCK, TIMER, WORKQUEUE, TASK_WORK, LIST_HEAD, LIST_NODE, RB_ROOT, RB_NODE, REFCOUNT,
    KPTR_UNREF, KPTR_REF, KPTR_PERCPU, UPTR,
) = (1 << bit for bit in range(14))  # fmt: skip
KPTR = KPTR_UNREF | KPTR_REF | KPTR_PERCPU
LOCKS = SPIN_LOCK | RES_SPIN_LOCK
ROOTS = LIST_HEAD | RB_ROOT
NODES = LIST_NODE | RB_NODE

# The struct's name, its size, its alignment, and whether a struct may have only one.
_NAMED = {
    b"bpf_spin_lock": (SPIN_LOCK, 4, 4, True),
    b"bpf_res_spin_lock": (RES_SPIN_LOCK, 4, 4, True),
    b"bpf_timer": (TIMER, 16, 8, True),
    b"bpf_wq": (WORKQUEUE, 16, 8, True),
    b"bpf_task_work": (TASK_WORK, 8, 8, True),
    b"bpf_list_head": (LIST_HEAD, 16, 8, False),
    b"bpf_list_node": (LIST_NODE, 24, 8, False),
    b"bpf_rb_root": (RB_ROOT, 16, 8, False),
    b"bpf_rb_node": (RB_NODE, 32, 8, False),
    b"bpf_refcount": (REFCOUNT, 4, 4, False),
}
_TAGS = {b"kptr_untrusted": KPTR_UNREF, b"kptr": KPTR_REF, b"percpu_kptr": KPTR_PERCPU, b"uptr": UPTR}
_ALLOCATED = (b"bpf_spin_lock", b"bpf_list_head", b"bpf_list_node", b"bpf_rb_root", b"bpf_rb_node", b"bpf_refcount")
_REPEATABLE = KPTR | UPTR | ROOTS
_MAX_FIELDS = 11
_MAX_DEPTH = 32
_PAGE = 4096
_CONTAINS = b"contains:"

IN_MAPS = LOCKS | TIMER | WORKQUEUE | TASK_WORK | KPTR | UPTR | ROOTS | REFCOUNT
"""What a map's value may have."""
IN_STRUCTS = LOCKS | ROOTS | NODES | REFCOUNT | KPTR
"""What is looked for in every struct of a BTF."""


class Field:
    """One field: its kind, where it lies, its size, and for a pointer, list or tree what it leads to."""

    __slots__ = ("kind", "node", "of_kernel", "offset", "size", "type_id")

    def __init__(self, kind: int, offset: int, size: int, type_id: int = 0, node: bytes = b"") -> None:
        self.of_kernel = False
        self.kind = kind
        self.offset = offset
        self.size = size
        self.type_id = type_id
        self.node = node

    def moved(self, by: int) -> Field:
        """Return the same field `by` bytes further on."""
        return Field(self.kind, self.offset + by, self.size, self.type_id, self.node)


class Finder:
    """Finds the fields of one BTF's types.

    `known`: the kinds of field that the kernel has. `check_kernel`: says whether a struct is the kernel's own, and
    refuses a pointer of that kind to one that the kernel does not give away.
    """

    def __init__(self, records: Records, known: int, check_kernel: Callable[[bytes, int], bool]) -> None:
        self._records = records
        self._known = known
        self._check_kernel = check_kernel
        self._structs: dict[int, int] = {}

    def check_structs(self) -> None:
        """Check every struct that has such fields. Raises: Refused. Source: btf_parse_struct_metas."""
        wanted = {self._records.find(name, r.STRUCT) for name in _ALLOCATED} - {0}
        for number in range(1, len(self._records)):
            try:
                if self._pointer(self._records[number], 0, KPTR):
                    wanted.add(number)
            except Refused:
                continue
        found = {}
        for number in range(1, len(self._records)):
            record = self._records[number]
            if record.kind == r.STRUCT and any(member[1] in wanted for member in record.elements):
                fields = self.fields(number, IN_STRUCTS, record.size)
                if not fields:
                    raise Refused(EFAULT)
                found[number] = fields
                self._structs[number] = mask(fields)
        for fields in found.values():
            self.check_owners(fields)

    def fields(self, number: int, wanted: int, size: int) -> list[Field]:
        """Return the fields of a struct or section in the order of offsets. Raises: Refused: not in order."""
        record = self._records[number]
        if record.kind == r.STRUCT:
            found = self._members(record, wanted & self._known, 0, _MAX_FIELDS)
        elif record.kind == r.DATASEC:
            found = self._variables(record, wanted & self._known)
        else:
            raise Refused(EINVAL)
        end = 0
        for field in found:
            if field.offset + field.size > size:
                raise Refused(EFAULT)
            if field.offset < end:
                raise Refused(EEXIST)
            end = field.offset + field.size
            if field.kind & (KPTR | UPTR):
                field.of_kernel = self._check_kernel(
                    self._records.name(self._records[field.type_id].name_offset), field.kind
                )
            elif field.kind & ROOTS:
                self._check_node(field)
        kinds = mask(found)
        if kinds & LOCKS == LOCKS:
            raise Refused(EINVAL)
        if kinds & ROOTS and not kinds & LOCKS:
            raise Refused(EINVAL)
        if kinds & NODES == NODES and not kinds & REFCOUNT:
            raise Refused(EINVAL)
        return found

    def check_owners(self, fields: list[Field]) -> None:
        """Check what lists, trees and user pointers lead to. Raises: Refused. Source: btf_check_and_fixup_fields."""
        for field in fields:
            if field.kind == UPTR:
                size = self._records[field.type_id].size
                if field.of_kernel:
                    raise Refused(EINVAL)
                if not 0 < size <= _PAGE:
                    raise Refused(E2BIG if size else EINVAL)
            elif field.kind & ROOTS:
                owned = self._structs.get(field.type_id)
                if owned is None:
                    raise Refused(EFAULT)
                if mask(fields) & NODES and owned & ROOTS:
                    raise Refused(ELOOP)

    def _members(self, record: Record, wanted: int, level: int, room: int) -> list[Field]:
        found: list[Field] = []
        seen: set[int] = set()
        for at, member in enumerate(record.elements):
            offset = record.bit_offset(member)
            if offset % 8:
                raise Refused(EINVAL)
            where = (record, at, offset // 8)
            found += self._one(where, member[1], 0, wanted, seen, level, room - len(found))
        return found

    def _variables(self, record: Record, wanted: int) -> list[Field]:
        found: list[Field] = []
        seen: set[int] = set()
        for number, offset, size in record.elements:
            variable = self._records[number]
            where = (variable, -1, offset)
            found += self._one(where, variable.size, size, wanted, seen, 0, _MAX_FIELDS - len(found))
        return found

    def _one(
        self,
        where: tuple[Record, int, int],
        number: int,
        expected: int,
        wanted: int,
        seen: set[int],
        level: int,
        room: int,
    ) -> list[Field]:
        # The fields of one member or variable. Source: btf_find_field_one.
        holder, at, offset = where
        record, count = self._records[number], 1
        for _ in range(_MAX_DEPTH):
            if record.kind != r.ARRAY:
                break
            count = count * record.extra[2] & 0xFFFFFFFF
            record = self._records[record.extra[0]]
        else:
            raise Refused(E2BIG)
        if not count:
            return []
        kind, size, alignment, single = _NAMED.get(self._records.name(record.name_offset), (0, 0, 1, False))
        kind &= wanted
        if kind and single:
            if kind in seen:
                raise Refused(E2BIG)
            seen.add(kind)
        if not kind and record.kind == r.STRUCT:
            if expected and expected != record.size * count:
                return []
            if level + 1 >= _MAX_DEPTH:
                raise Refused(E2BIG)
            inner = self._members(record, wanted, level + 1, room)
            return _repeated([field.moved(offset) for field in inner], count, record.size, room)
        if not kind:
            if not wanted & (KPTR | UPTR):
                return []
            size = alignment = r.POINTER_SIZE
        if (expected and expected != size * count) or offset % alignment:
            return []
        if not kind:
            field = self._pointer(record, offset, wanted)
        elif record.kind != r.STRUCT or record.size != size:
            return []
        elif kind & ROOTS:
            field = self._root(holder, at, kind, offset, size)
        else:
            field = Field(kind, offset, size)
        if field is None:
            return []
        if room <= 0:
            raise Refused(E2BIG)
        return _repeated([field], count, size, room)

    def _pointer(self, record: Record, offset: int, wanted: int) -> Field | None:
        # Source: btf_find_kptr.
        if record.kind == r.VOLATILE:
            record = self._records[record.size]
        if record.kind != r.PTR:
            return None
        tag = self._records[record.size]
        if tag.kind != r.TYPE_TAG or tag.flag:
            return None
        if self._records[tag.size].kind == r.TYPE_TAG:
            raise Refused(EINVAL)
        kind = _TAGS.get(self._records.name(tag.name_offset), 0) & self._known
        if kind and not kind & wanted:
            return None
        number, target = self._records.skip_modifiers(tag.size)
        if not kind or target.kind != r.STRUCT:
            raise Refused(EINVAL)
        return Field(kind, offset, r.POINTER_SIZE, number)

    def _root(self, holder: Record, at: int, kind: int, offset: int, size: int) -> Field:
        # What a list or tree holds says a tag on the member. Source: btf_find_graph_root, btf_find_decl_tag_value.
        tags = [self._records.name(tag.name_offset) for tag in self._tags(holder, at)]
        values = [tag.removeprefix(_CONTAINS) for tag in tags if tag.startswith(_CONTAINS)]
        if len(values) != 1:
            raise Refused(EINVAL)
        name, colon, node = values[0].partition(b":")
        if not colon:
            raise Refused(EINVAL)
        number = self._records.find(name, r.STRUCT)
        if not number:
            raise Refused(ENOENT)
        if not node:
            raise Refused(EINVAL)
        return Field(kind, offset, size, number, node)

    def _tags(self, holder: Record, at: int) -> list[Record]:
        return [
            record
            for record in (self._records[number] for number in range(1, len(self._records)))
            if record.kind == r.DECL_TAG and record.extra[0] == at and self._records[record.size] is holder
        ]

    def _check_node(self, field: Field) -> None:
        # Source: btf_parse_graph_root.
        wanted = b"bpf_list_node" if field.kind == LIST_HEAD else b"bpf_rb_node"
        record = self._records[field.type_id]
        members = [member for member in record.elements if self._records.name(member[0]) == field.node]
        if not members:
            raise Refused(ENOENT)
        for member in members:
            node = self._records[member[1]]
            if node.kind != r.STRUCT or self._records.name(node.name_offset) != wanted:
                raise Refused(EINVAL)
            if record.bit_offset(member) % 64:
                raise Refused(EINVAL)
        if len(members) > 1:
            raise Refused(EINVAL)


def mask(fields: list[Field]) -> int:
    """Return the kinds of all fields together."""
    kinds = 0
    for field in fields:
        kinds |= field.kind
    return kinds


def _repeated(fields: list[Field], count: int, size: int, room: int) -> list[Field]:
    # Source: btf_repeat_fields.
    if count == 1 or not fields:
        return fields
    if any(not field.kind & _REPEATABLE for field in fields):
        raise Refused(EINVAL)
    if len(fields) * count > room:
        raise Refused(E2BIG)
    return [field.moved(size * at) for at in range(count) for field in fields]
