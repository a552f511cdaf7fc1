"""From the bytes of a BTF_LOAD to records: header, sections, types, in the order in which the kernel checks.

Source: kernel/bpf/btf.c:btf_parse, btf_parse_hdr, btf_check_sec_info, btf_parse_str_sec (v6.12).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL
from struct import Struct
from sys import byteorder

from rawbpf.sim.error import ENOTSUPP
from rawbpf.sim.types import record as r
from rawbpf.sim.types.meta import Meta
from rawbpf.sim.types.record import Records
from rawbpf.sim.types.resolve import Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.release import Release
    from rawbpf.sim.types.log import Log

_HEADER = Struct("=HBBIIIII")
_UP_TO_LENGTH = 8
_MAGIC = 0xEB9F
_VERSION = 1


def parse(content: bytes, log: Log, release: Release) -> Records:
    """Return the records of a BTF that is in order. Raises: Refused (EINVAL, E2BIG, ENOTSUPP, EEXIST, ELOOP)."""
    types, strings = _sections(content, log)
    records = Records(strings)
    Meta(records, log, release).read(types)
    Resolver(records, log).check()
    return records


def _sections(content: bytes, log: Log) -> tuple[bytes, bytes]:
    if len(content) < _UP_TO_LENGTH:
        raise log.refused(EINVAL, "hdr_len not found")
    header_size = int.from_bytes(content[4:8], byteorder)
    if len(content) < header_size:
        raise log.refused(EINVAL, "btf_header not found")
    if content[_HEADER.size : header_size].strip(b"\0"):
        raise log.refused(E2BIG, "Unsupported btf_header")
    header = content[: min(header_size, _HEADER.size)].ljust(_HEADER.size, b"\0")
    magic, version, flags, _, type_at, type_size, text_at, text_size = _HEADER.unpack(header)
    log.write(f"magic: {magic:#x}\nversion: {version}\nflags: {flags:#x}\nhdr_len: {header_size}")
    log.write(f"type_off: {type_at}\ntype_len: {type_size}\nstr_off: {text_at}\nstr_len: {text_size}")
    log.write(f"btf_total_size: {len(content)}")
    if magic != _MAGIC:
        raise log.refused(EINVAL, "Invalid magic")
    if version != _VERSION:
        raise log.refused(ENOTSUPP, "Unsupported version")
    if flags:
        raise log.refused(ENOTSUPP, "Unsupported flags")
    body = content[header_size:]
    if not body:
        raise log.refused(EINVAL, "No data")
    total = 0
    for at, size in sorted([(type_at, type_size), (text_at, text_size)]):
        if at > len(body):
            raise log.refused(EINVAL, "Invalid section offset")
        if at != total:
            raise log.refused(EINVAL, "Unsupported section found" if total < at else "Section overlap found")
        if size > len(body) - total:
            raise log.refused(EINVAL, "Total section length too long")
        total += size
    if total != len(body):
        raise log.refused(EINVAL, "Unsupported section found")
    if text_at + text_size != len(body):
        raise log.refused(EINVAL, "String section is not at the end")
    strings = body[text_at:]
    if not strings or len(strings) - 1 > r.MAX_NAME_OFFSET or strings[-1] or strings[0]:
        raise log.refused(EINVAL, "Invalid string section")
    if type_at % 4:
        raise log.refused(EINVAL, "Unaligned type_off")
    if not type_size:
        raise log.refused(EINVAL, "No type found")
    return body[type_at : type_at + type_size], strings
