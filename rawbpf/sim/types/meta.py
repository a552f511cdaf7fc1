"""What each record of a BTF must be like by itself: sizes, names, flags, offsets.

Source: kernel/bpf/btf.c: the kinds' check_meta functions, named after the kinds (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from rawbpf.sim.error import ENOTSUPP
from rawbpf.sim.types import record as r
from rawbpf.sim.types.record import Record, Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rawbpf.sim.release import Release
    from rawbpf.sim.types.log import Log

_INFO = 0x9F00FFFF
_INT = 0x0FFFFFFF
_NAME_LIMIT = 512
_INT_BITS = 128
_ENCODINGS = (0, 1, 2, 4)
_FLOAT_SIZES = (2, 4, 8, 12, 16)
_FUNC_GLOBAL = 1
_VAR_LINKAGES = (0, 1)
_U32 = 0xFFFFFFFF
# The kernel's ctype table knows Latin-1. Source: lib/ctype.c (v6.12)
_ALPHA = frozenset(
    [*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", *(set(range(0xC0, 0x100)) - {0xD7, 0xF7})]
)
_FIRST = _ALPHA | frozenset(b"_.")
_REST = _FIRST | frozenset(b"0123456789")
_PRINTABLE = frozenset([*range(0x20, 0x7F), *range(0xA0, 0x100)])


class Meta:
    """Reads a type section record by record, and refuses what is no type to a kernel of that `release`."""

    def __init__(self, records: Records, log: Log, release: Release) -> None:
        self._records = records
        self._log = log
        self._release = release
        self._checks: dict[int, Callable[[Record], None]] = {
            r.INT: self._int,
            r.ARRAY: self._array,
            r.STRUCT: self._composite,
            r.UNION: self._composite,
            r.ENUM: self._enum,
            r.ENUM64: self._enum,
            r.FWD: self._fwd,
            r.FUNC: self._func,
            r.FUNC_PROTO: self._func_proto,
            r.VAR: self._var,
            r.DATASEC: self._datasec,
            r.FLOAT: self._float,
            r.DECL_TAG: self._decl_tag,
        }

    def read(self, section: bytes) -> None:
        """Add all records of the section. Raises: Refused. Source: btf_check_all_metas."""
        at = 0
        while at < len(section):
            at = self._one(section, at)

    def _one(self, section: bytes, at: int) -> int:
        number = len(self._records)
        if len(section) - at < r.HEAD.size:
            raise self._log.refused(EINVAL, f"[{number}] meta_left:{len(section) - at} meta_needed:{r.HEAD.size}")
        name_offset, info, size = r.HEAD.unpack_from(section, at)
        record = Record(name_offset, info, size)
        self._need(not info & ~_INFO, record, f"Invalid btf_info:{info:x}")
        self._need(0 < record.kind <= self._release.last_btf_kind, record, f"Invalid kind:{record.kind}")
        self._need(self._is_offset(name_offset), record, f"Invalid name_offset:{name_offset}")
        at += r.HEAD.size
        extra, each = r.EXTRAS.get(record.kind), r.ELEMENTS.get(record.kind)
        needed = extra.size if extra else each.size * record.vlen if each else 0
        self._need(len(section) - at >= needed, record, f"meta_left:{len(section) - at} meta_needed:{needed}")
        if extra:
            record.extra = extra.unpack_from(section, at)
        elif each:
            record.elements = list(each.iter_unpack(section[at : at + needed]))
        self._checks.get(record.kind, self._reference)(record)
        name = self._records.name(name_offset).decode("latin-1")
        self._log.write(f"[{number}] {r.NAMES[record.kind]} {name or '(anon)'} vlen={record.vlen} size={record.size}")
        if number > r.MAX_ID:
            raise self._log.refused(E2BIG, "BTF too many types")
        self._records.add(record)
        return at + needed

    def _need(self, holds: bool, record: Record, message: str, errno: int = EINVAL) -> None:
        if not holds:
            kind = r.NAMES[record.kind] if record.kind < len(r.NAMES) else "UNKNOWN"
            raise self._log.refused(errno, f"[{len(self._records)}] {kind} {message}")

    # Names --------------------------------------------------------------------

    def _is_offset(self, offset: int) -> bool:
        return offset <= r.MAX_NAME_OFFSET and offset < len(self._records.strings)

    def _is_identifier(self, offset: int) -> bool:
        return is_identifier(self._records.name(offset))

    def _no_name(self, record: Record) -> None:
        self._need(not record.name_offset, record, "Invalid name")

    def _named(self, record: Record) -> None:
        self._need(bool(record.name_offset) and self._is_identifier(record.name_offset), record, "Invalid name")

    def _maybe_named(self, record: Record) -> None:
        self._need(not record.name_offset or self._is_identifier(record.name_offset), record, "Invalid name")

    # Kinds --------------------------------------------------------------------

    def _no_vlen(self, record: Record) -> None:
        self._need(not record.vlen, record, "vlen != 0")

    def _no_flag(self, record: Record) -> None:
        self._need(not record.flag, record, "Invalid btf_info kind_flag")

    def _reference(self, record: Record) -> None:
        # Pointers, modifiers, typedefs and type tags. Source: btf_ref_type_check_meta.
        self._no_vlen(record)
        if record.kind != r.TYPE_TAG or not self._release.has_flagged_tags:
            self._no_flag(record)
        self._need(record.size <= r.MAX_ID, record, "Invalid type_id")
        if record.kind == r.TYPEDEF:
            self._named(record)
        elif record.kind == r.TYPE_TAG:
            self._need(bool(self._records.name(record.name_offset)), record, "Invalid name")
        else:
            self._no_name(record)

    def _int(self, record: Record) -> None:
        self._no_vlen(record)
        self._no_flag(record)
        (content,) = record.extra
        self._need(not content & ~_INT, record, f"Invalid int_data:{content:x}")
        bits = record.int_bits + record.int_offset
        self._need(bits <= _INT_BITS, record, "nr_bits exceeds 128")
        self._need(-(-bits // 8) <= record.size, record, "nr_bits exceeds type_size")
        self._need(content >> 24 & 0xF in _ENCODINGS, record, "Unsupported encoding", ENOTSUPP)

    def _float(self, record: Record) -> None:
        self._no_vlen(record)
        self._no_flag(record)
        self._need(record.size in _FLOAT_SIZES, record, "Invalid type_size")

    def _array(self, record: Record) -> None:
        self._no_name(record)
        self._no_vlen(record)
        self._no_flag(record)
        self._need(not record.size, record, "size != 0")
        element, index, _ = record.extra
        self._need(0 < element <= r.MAX_ID, record, "Invalid elem")
        self._need(0 < index <= r.MAX_ID, record, "Invalid index")

    def _composite(self, record: Record) -> None:
        self._maybe_named(record)
        last = 0
        for member in record.elements:
            name, number, _ = member
            self._need(self._is_offset(name), record, f"Invalid member name_offset:{name}")
            self._need(not name or self._is_identifier(name), record, "Invalid name")
            self._need(0 < number <= r.MAX_ID, record, "Invalid type_id")
            offset = record.bit_offset(member)
            self._need(record.kind == r.STRUCT or not offset, record, "Invalid member bits_offset")
            self._need(last <= offset, record, "Invalid member bits_offset")
            self._need(-(-offset // 8) <= record.size, record, "Member bits_offset exceeds its struct size")
            last = offset

    def _enum(self, record: Record) -> None:
        if not self._release.has_signed_enums:
            self._no_flag(record)
        self._need(record.size in (1, 2, 4, 8), record, "Unexpected size")
        self._maybe_named(record)
        for name, *_ in record.elements:
            self._need(self._is_offset(name), record, f"Invalid name_offset:{name}")
            self._need(bool(name) and self._is_identifier(name), record, "Invalid name")

    def _fwd(self, record: Record) -> None:
        self._no_vlen(record)
        self._need(not record.size, record, "type != 0")
        self._named(record)

    def _func(self, record: Record) -> None:
        self._named(record)
        if not self._release.has_function_linkage:
            self._no_vlen(record)
        self._need(record.vlen <= _FUNC_GLOBAL, record, "Invalid func linkage")
        self._no_flag(record)

    def _func_proto(self, record: Record) -> None:
        self._no_name(record)
        self._no_flag(record)

    def _var(self, record: Record) -> None:
        self._no_vlen(record)
        self._no_flag(record)
        self._named(record)
        self._need(0 < record.size <= r.MAX_ID, record, "Invalid type_id")
        self._need(record.extra[0] in _VAR_LINKAGES, record, "Linkage not supported")

    def _datasec(self, record: Record) -> None:
        self._need(bool(record.size), record, "size == 0")
        self._no_flag(record)
        name = self._records.name(record.name_offset)
        valid = is_identifier(name)
        if self._release.has_printable_sections:
            valid = bool(name) and len(name) <= _NAME_LIMIT and _PRINTABLE.issuperset(name)
        self._need(bool(record.name_offset) and valid, record, "Invalid name")
        end = total = 0
        for number, offset, size in record.elements:
            self._need(0 < number <= r.MAX_ID, record, "Invalid type_id")
            self._need(end <= offset < record.size, record, "Invalid offset")
            self._need(0 < size <= record.size, record, "Invalid size")
            end = offset + size & _U32
            self._need(end <= record.size, record, "Invalid offset+size")
            total += size
        self._need(total <= record.size, record, "Invalid btf_info size")

    def _decl_tag(self, record: Record) -> None:
        self._need(bool(self._records.name(record.name_offset)), record, "Invalid value")
        self._no_vlen(record)
        if not self._release.has_flagged_tags:
            self._no_flag(record)
        self._need(record.extra[0] >= -1, record, "Invalid component_idx")


def is_identifier(name: bytes) -> bool:
    """Return whether the kernel takes `name` for something that C declares. Source: __btf_name_valid."""
    return bool(name) and len(name) <= _NAME_LIMIT and name[0] in _FIRST and _REST.issuperset(name)
