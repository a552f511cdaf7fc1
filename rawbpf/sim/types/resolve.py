"""Whether the records of a BTF fit together: what they refer to exists, has a size, and makes no loop.

A stack machine, step by step as the kernel's: what it finds depends on the order in which types are visited.
Source: kernel/bpf/btf.c:btf_check_all_types, btf_resolve, btf_check_type_tags (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EEXIST, EINVAL, ELOOP

from rawbpf.sim.types import record as r
from rawbpf.sim.types.member import problem
from rawbpf.sim.types.meta import is_identifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.types.log import Log
    from rawbpf.sim.types.record import Record, Records

_MAX_DEPTH = 32
_U32 = 0xFFFFFFFF
_OPEN, _POINTER, _CONTAINER = range(3)
_RESOLVED_KINDS = (*r.MODIFIERS, r.PTR, *r.COMPOSITES, r.ARRAY, r.VAR, r.FUNC, r.DECL_TAG, r.DATASEC)
_TAG_TARGETS = (r.FUNC, *r.COMPOSITES, r.VAR, r.TYPEDEF)
_AS_POINTEES = (r.VOID, r.FWD, r.FUNC_PROTO)


class _Step:
    __slots__ = ("next_member", "number", "record")

    def __init__(self, number: int, record: Record) -> None:
        self.number = number
        self.record = record
        self.next_member = 0


class Resolver:
    """Resolves all of `records`, and notes there where its types lead."""

    def __init__(self, records: Records, log: Log) -> None:
        self._records = records
        self._log = log
        self._visited: set[int] = set()
        self._done: set[int] = set()
        self._stack: list[_Step] = []
        self._mode = _OPEN
        self._steps: dict[int, Callable[[_Step], None]] = {
            r.PTR: self._pointer,
            r.ARRAY: self._array,
            r.STRUCT: self._composite,
            r.UNION: self._composite,
            r.VAR: self._var,
            r.FUNC: self._func,
            r.DECL_TAG: self._decl_tag,
            r.DATASEC: self._datasec,
        }

    def check(self) -> None:
        """Check every type. Raises: Refused (EINVAL; EEXIST: a loop; E2BIG: too deep; ELOOP)."""
        for number in range(1, len(self._records)):
            self._ensure(number)
            if self._records[number].kind == r.FUNC_PROTO:
                self._func_proto(number)
        self._check_tags()

    def _need(self, holds: object, number: int, message: str, errno: int = EINVAL) -> None:
        if not holds:
            raise self._log.refused(errno, f"[{number}] {r.NAMES[self._records[number].kind]} {message}")

    def _ensure(self, number: int) -> None:
        # Resolve one type and what it needs. Source: btf_resolve.
        if self._records[number].kind not in _RESOLVED_KINDS or number in self._done:
            return
        self._mode = _OPEN
        self._push(number)
        while self._stack:
            step = self._stack[-1]
            self._steps.get(step.record.kind, self._modifier)(step)
        self._need(self._is_valid(number), number, "Invalid resolve state")

    def _push(self, number: int) -> None:
        self._need(len(self._stack) < _MAX_DEPTH, number, f"Exceeded max resolving depth:{_MAX_DEPTH}", E2BIG)
        self._need(number not in self._visited, number, "Loop detected", EEXIST)
        self._visited.add(number)
        record = self._records[number]
        self._stack.append(_Step(number, record))
        if self._mode == _OPEN and record.kind == r.PTR:
            self._mode = _POINTER
        elif self._mode == _OPEN and record.kind in (*r.COMPOSITES, r.ARRAY):
            self._mode = _CONTAINER

    def _pop(self, leads_to: int = 0, size: int = 0) -> None:
        number = self._stack.pop().number
        self._records.resolved_ids[number] = leads_to
        self._records.resolved_sizes[number] = size
        self._done.add(number)

    def _waits(self, number: int, record: Record) -> bool:
        # Whether the type on the stack must wait for this one, which then is pushed.
        if number in self._done or self._is_sink(record.kind):
            return False
        self._push(number)
        return True

    def _is_sink(self, kind: int) -> bool:
        if self._mode == _OPEN:
            return kind not in _RESOLVED_KINDS
        if self._mode == _POINTER:
            return kind not in r.MODIFIERS and kind != r.PTR
        return kind not in r.MODIFIERS and kind not in (r.ARRAY, *r.COMPOSITES)

    def _waits_for_pointer(self, number: int) -> bool:
        # A modifier may have stopped at a pointer, from which there might be a way back.
        if self._records[number].kind not in r.MODIFIERS:
            return False
        behind, record = self._records.resolved(number)
        return record.kind == r.PTR and self._waits(behind, record)

    def _modifier(self, step: _Step) -> None:
        target, record = self._target(step)
        if not self._waits(target, record):
            self._pop(self._behind(step, target, record))

    def _pointer(self, step: _Step) -> None:
        target, record = self._target(step)
        if not self._waits(target, record) and not self._waits_for_pointer(target):
            self._pop(self._behind(step, target, record))

    def _var(self, step: _Step) -> None:
        target, record = self._target(step)
        if not self._waits(target, record) and not self._waits_for_pointer(target):
            found = self._records.sized(target)
            self._need(found, step.number, "Invalid type_id")
            self._pop(found[1] if found else 0)

    def _target(self, step: _Step) -> tuple[int, Record]:
        target = step.record.size
        record = self._records.get(target)
        self._need(record and record.kind not in r.SOURCES_ONLY, step.number, "Invalid type_id")
        return target, self._records[target]

    def _behind(self, step: _Step, target: int, record: Record) -> int:
        found = self._records.sized(target)
        if found is not None:
            return found[1]
        if target in self._done:
            target, record = self._records.resolved(target)
        self._need(record.kind in _AS_POINTEES, step.number, "Invalid type_id")
        return target

    def _part(self, step: _Step, number: int, what: str) -> Record:
        record = self._records.get(number)
        usable = record and record.kind not in r.SIZELESS and record.kind not in r.SOURCES_ONLY
        self._need(usable, step.number, what)
        return self._records[number]

    def _array(self, step: _Step) -> None:
        element, index, length = step.record.extra
        if self._waits(index, self._part(step, index, "Invalid index")):
            return
        found = self._records.sized(index)
        self._need(found and found[0].is_regular_int, step.number, "Invalid index")
        if self._waits(element, self._part(step, element, "Invalid elem")):
            return
        found = self._records.sized(element)
        if found is None:
            raise self._log.refused(EINVAL, f"[{step.number}] ARRAY Invalid elem")
        record, number, size = found
        self._need(record.kind != r.INT or record.is_regular_int, step.number, "Invalid array of int")
        self._need(size * length <= _U32, step.number, "Array size overflows U32_MAX")
        self._pop(number, size * length)

    def _composite(self, step: _Step) -> None:
        members = step.record.elements
        # The member that was waited for is checked first.
        for at in range(max(step.next_member - 1, 0), len(members)):
            number = members[at][1]
            if at >= step.next_member:
                record = self._part(step, number, "Invalid member")
                step.next_member = at + 1
                if self._waits(number, record):
                    return
            wrong = problem(self._records, step.record, members[at])
            self._need(not wrong, step.number, wrong)
        self._pop()

    def _datasec(self, step: _Step) -> None:
        self._mode = _OPEN
        for at in range(step.next_member, len(step.record.elements)):
            number, _, size = step.record.elements[at]
            record = self._records.get(number)
            self._need(record and record.kind == r.VAR, step.number, "Not a VAR kind member")
            step.next_member = at + 1
            # A variable that was waited for is not looked at again.
            if self._waits(number, self._records[number]):
                return
            found = self._records.sized(self._records[number].size)
            self._need(found, step.number, "Invalid type")
            self._need(found and size >= found[2], step.number, "Invalid size")
        self._pop()

    def _func(self, step: _Step) -> None:
        proto = self._records.get(step.record.size)
        self._need(proto and proto.kind == r.FUNC_PROTO, step.number, "Invalid type_id")
        named = all(name or not number for name, number in self._records[step.record.size].elements)
        self._need(named, step.number, "Invalid arg")
        self._pop(step.record.size)

    def _decl_tag(self, step: _Step) -> None:
        target = self._records.get(step.record.size)
        self._need(target and target.kind in _TAG_TARGETS, step.number, "Invalid type_id")
        record = self._records[step.record.size]
        if self._waits(step.record.size, record):
            return
        component = step.record.extra[0]
        if component != -1:
            self._need(record.kind not in (r.VAR, r.TYPEDEF), step.number, "Invalid component_idx")
            parts = record if record.kind in r.COMPOSITES else self._records[record.size]
            self._need(0 <= component < parts.vlen, step.number, "Invalid component_idx")
        self._pop(step.record.size)

    def _func_proto(self, number: int) -> None:
        record = self._records[number]
        if record.size:
            self._value(number, record.size, "Invalid return type")
        parameters = record.elements
        if parameters and not parameters[-1][1]:
            self._need(not parameters[-1][0], number, f"Invalid arg#{len(parameters)}")
            parameters = parameters[:-1]
        for at, (name, own) in enumerate(parameters, 1):
            wrong = f"Invalid arg#{at}"
            known = self._records.get(own)
            self._need(known and known.kind not in r.SOURCES_ONLY, number, wrong)
            if name:
                self._need(name < len(self._records.strings), number, wrong)
                self._need(is_identifier(self._records.name(name)), number, wrong)
            self._value(number, own, wrong)

    def _value(self, by: int, number: int, wrong: str) -> None:
        record = self._records.get(number)
        self._need(record and record.kind not in r.SOURCES_ONLY, by, wrong)
        self._ensure(number)
        self._need(self._records.sized(number), by, wrong)

    def _is_valid(self, number: int) -> bool:
        # Source: btf_resolve_valid.
        kind = self._records[number].kind
        if kind in r.MODIFIERS or kind in (r.PTR, r.VAR):
            behind = self._records.resolved(number)[1].kind
            return behind not in r.MODIFIERS and behind not in (r.VAR, r.DATASEC)
        return True

    def _check_tags(self) -> None:
        # Type tags stand before other modifiers, and chains of modifiers end.
        for first in range(1, len(self._records)):
            number, tagging, left = first, self._records[first].kind == r.TYPE_TAG, _MAX_DEPTH
            while self._records[number].kind in r.MODIFIERS:
                self._need(left, first, "Max chain length or cycle detected", ELOOP)
                left -= 1
                if self._records[number].kind == r.TYPE_TAG:
                    self._need(tagging, first, "Type tags don't precede modifiers")
                else:
                    tagging = False
                number = self._records[number].size
