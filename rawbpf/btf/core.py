"""CO-RE: what a program's instructions have to hold for the kernel that it meets.

A compiler that is told to (`preserve_access_index`, `__builtin_preserve_*`) writes a record for each
instruction that depends on how types are laid out: a type of the program, a way into it, and what is
asked of that place, such as its offset. The answer is computed twice, from the program's types (what
the instruction holds) and from those of the kernel that have the same name (what it is to hold).
Pure: knows types and nothing of instructions or where the kernel's types came from.

Source: tools/lib/bpf/relo_core.c:bpf_core_calc_relo_insn, tools/lib/bpf/libbpf.c:bpf_core_find_cands (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.core_access import follow, match, numbers, spell
from rawbpf.btf.core_compare import Comparison, essential_name, same_kind
from rawbpf.btf.core_value import NAMES, Value, enumerator_value, field_value, type_value
from rawbpf.btf.types import Enum, Int, Ptr, strip
from rawbpf.errors import FormatError, SpecError
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rawbpf.btf.btf import Btf
    from rawbpf.btf.types import Type

    Record = tuple[int, int, int]

_FIELDS = (
    c.BPF_CORE_FIELD_BYTE_OFFSET,
    c.BPF_CORE_FIELD_BYTE_SIZE,
    c.BPF_CORE_FIELD_EXISTS,
    c.BPF_CORE_FIELD_SIGNED,
    c.BPF_CORE_FIELD_LSHIFT_U64,
    c.BPF_CORE_FIELD_RSHIFT_U64,
)
_ENUMERATORS = (c.BPF_CORE_ENUMVAL_EXISTS, c.BPF_CORE_ENUMVAL_VALUE)
_TYPES = (
    c.BPF_CORE_TYPE_ID_LOCAL,
    c.BPF_CORE_TYPE_ID_TARGET,
    c.BPF_CORE_TYPE_EXISTS,
    c.BPF_CORE_TYPE_SIZE,
    c.BPF_CORE_TYPE_MATCHES,
)
# What is asked whether it is there: for all else, what is not there has no answer.
_ANSWERED_BY_0 = (c.BPF_CORE_FIELD_EXISTS, c.BPF_CORE_ENUMVAL_EXISTS, *_TYPES)


class Fixup:
    """What an instruction holds, `old`, and is to hold, `new`: 64 bits without a sign; None for what the kernel lacks.

    `checked`: the instruction is known to hold `old`; of bit-fields and type ids it may be another number.
    `old_size`, `new_size`: bytes of the field that is loaded or stored, where the number is its offset.
    `resizable`: these are the same, or the access may be made wider or narrower without changing what is read.
    """

    __slots__ = ("checked", "new", "new_size", "old", "old_size", "resizable")

    def __init__(self, old: Value, new: Value | None) -> None:
        self.old = old.number
        self.new = None if new is None else new.number
        self.checked = old.checked
        self.old_size = old.size
        self.new_size = old.size if new is None else new.size
        self.resizable = new is None or old.size == new.size or _zero_extended(old, new)

    def __repr__(self) -> str:
        return f"<Fixup {self.old} -> {'none' if self.new is None else self.new}>"


class Core:
    """The relocations of one program file, whose types are `local`, against those of a kernel.

    `targets`: the kernel's types, and then those of its modules, which are asked for what the kernel itself lacks;
    iterated over as far as needed. Records are (type id, offset of the access string, kind). Of several types with a
    name those that lack what one record asks for are out for the next ones, so that the order of records matters.
    """

    def __init__(self, local: Btf, targets: Iterable[Btf]) -> None:
        self._local = local
        self._unseen: Iterator[Btf] = iter(targets)
        self._seen: list[Btf] = []
        self._candidates: dict[int, list[Type]] = {}
        self._comparison = Comparison()

    def fixup(self, record: Record) -> Fixup:
        """Return what `record` comes to.

        Raises: SpecError when types of the kernel contradict one another, or the record asks for what cannot be
        had; FormatError for records and types that are damaged; whatever asking for `targets` raises.
        """
        root, access, kind = self._read(record)
        old, find = self._question(root, access, kind)
        if kind == c.BPF_CORE_TYPE_ID_LOCAL:
            return Fixup(old, old)
        if not root.name:
            raise SpecError(f"CO-RE: {root!r} has no name by which to find it in the kernel")
        new = None
        fitting = []
        for candidate in self._named_like(root):
            value = find(candidate)
            if value is None:
                continue
            fitting.append(candidate)
            if new is not None and (value.number, value.bit_offset) != (new.number, new.bit_offset):
                what, one, other = NAMES[kind], new.number, value.number
                if one == other:
                    what, one, other = "first bit", new.bit_offset, value.bit_offset
                raise SpecError(
                    f"CO-RE: {self.spell(record)} is ambiguous: the kernel has several types {root.name!r}, and "
                    f"its {what} is {one} in {fitting[0]!r}, but {other} in {candidate!r}"
                )
            new = new or value
        if fitting:
            self._candidates[root.id] = fitting
        elif kind in _ANSWERED_BY_0:
            new = Value(0)
        return Fixup(old, new)

    def explain(self, record: Record) -> str:
        """Return why the kernel's types have no answer to `record`. Raises: as `fixup`."""
        what = self.spell(record)
        fixup = self.fixup(record)
        if fixup.new is not None:
            return (
                f"CO-RE: {what} has {fixup.new_size} bytes in the kernel's types and {fixup.old_size} in the "
                "program's, and of another width only pointers and integers without a sign can be loaded: read it with "
                "bpf_probe_read_kernel()"
            )
        question = "bpf_core_enum_value_exists" if record[2] in _ENUMERATORS else "bpf_core_field_exists"
        return (
            f"CO-RE: the kernel's types have no {what} that suits the program: "
            f"guard its use by {question}(), or declare it as the kernel has it"
        )

    def spell(self, record: Record) -> str:
        """Return what `record` is about, as C spells it: `struct task_struct.comm[3]`. Raises: FormatError."""
        root, access, kind = self._read(record)
        text = f"{root.kind_name} " if root.kind_name in ("struct", "union", "enum") else ""
        if kind in _FIELDS:
            return text + spell(root, follow(root, access)[0])
        return f"{text}{root.name}::{_enumerator(root, access)[1]}" if kind in _ENUMERATORS else text + root.name

    def _read(self, record: Record) -> tuple[Type, str, int]:
        type_id, access, kind = record
        if not type_id < len(self._local):
            raise FormatError(f"a CO-RE relocation is of type {type_id}, but ids end at {len(self._local) - 1}")
        if kind >= len(NAMES):
            raise SpecError(f"a CO-RE relocation is of kind {kind}, but kinds end at {len(NAMES) - 1}")
        return self._local[type_id], self._local.string(access), kind

    def _question(self, root: Type, access: str, kind: int) -> tuple[Value, Callable[[Type], Value | None]]:
        # The answer of the program's own types, and what gives that of a type of the kernel, None if it has none.
        order = self._local.byteorder
        if kind in _FIELDS:
            steps, place = follow(root, access)

            def field(candidate: Type) -> Value | None:
                found = match(steps, candidate)
                return None if found is None else field_value(kind, found, order)

            return field_value(kind, place, order), field
        if kind in _ENUMERATORS:
            enum, name, number = _enumerator(root, access)

            def enumerator(candidate: Type) -> Value | None:
                at, plain = strip(candidate), essential_name(name)
                if isinstance(at, Enum):
                    for other, value in at.values:
                        if essential_name(other) == plain:
                            return enumerator_value(kind, at, value)
                return None

            return enumerator_value(kind, enum, number), enumerator
        if access != "0":
            raise FormatError(f"{access!r} is no way into {root!r}: of a type itself it is '0'")
        alike = self._comparison.matching if kind == c.BPF_CORE_TYPE_MATCHES else self._comparison.compatible

        def whole(candidate: Type) -> Value | None:
            return type_value(kind, candidate) if alike(root, candidate) else None

        return type_value(kind, root), whole

    def _named_like(self, root: Type) -> list[Type]:
        found = self._candidates.get(root.id)
        if found is None:
            name = essential_name(root.name)
            found = self._candidates[root.id] = []
            for target in self._targets():
                found += [type for type in target.find_flavors(name) if same_kind(root, type)]
                if found and target is self._seen[0]:
                    break
        return found

    def _targets(self) -> Iterator[Btf]:
        yield from self._seen
        for target in self._unseen:
            self._seen.append(target)
            yield target
        if not self._seen:
            raise SpecError("CO-RE: there are no types to relocate against")


def _enumerator(root: Type, access: str) -> tuple[Enum, str, int]:
    at = strip(root)
    number, *more = numbers(access, root)
    if more or not isinstance(at, Enum) or number >= len(at.values):
        raise FormatError(f"{access!r} is no enumerator of {root!r}")
    return at, *at.values[number]


def _zero_extended(old: Value, new: Value) -> bool:
    # Whether a load of another width still gives the number: pointers, and integers without a sign.
    if isinstance(old.type, Ptr) and isinstance(new.type, Ptr):
        return True
    return (
        isinstance(old.type, Int)
        and isinstance(new.type, Int)
        and not (_plain_signed(old.type) or _plain_signed(new.type))
    )


def _plain_signed(type: Int) -> bool:
    return type.signed and not (type.is_char or type.is_bool)
