"""What compilers leave to the loader in an object file's BTF, because only the linked file has it.

clang writes DATASECs without a size and with the offsets of static variables only, declares
variables and functions of the kernel `extern`, and the kernel refuses all of that. So it does what
gcc 12 writes: functions without a name, characters with a sign, a type behind what was only declared.
Knows BTF and numbers from an ELF file, not the file.

Source: kernel/bpf/btf.c:btf_datasec_check_meta, btf_var_check_meta, btf_func_check_meta, btf_int_check_meta,
btf_fwd_check_meta (v6.12)
"""

from __future__ import annotations

from array import array

from rawbpf.btf.btf import Btf
from rawbpf.btf.build import assemble
from rawbpf.btf.layout import align_of, size_of
from rawbpf.btf.types import Const, Datasec, Func, FuncProto, Fwd, Int, Type, Var
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KSYMS = ".ksyms"
_STATIC, _GLOBAL, _EXTERN = 0, 1, 2
_CHAR = 2 << 24  # that an integer is a character
_PLACEHOLDER = "ksym"
_PLACEHOLDER_SIZE = 4


def fixup_datasecs(data: bytes, sections: Mapping[str, tuple[int, Mapping[str, int]]]) -> bytes:
    """Return the BTF in `data` as the kernel accepts it; ids and string offsets stay what they were.

    `sections`: for each section its size and the offsets of its global variables, in bytes, as the
    ELF file says them. Variables are sorted by offset, static ones keep theirs. A section that is not
    among them, such as `.kconfig`, gets its variables one after the other, as libbpf lays them out: those of
    the greatest alignment first, then the smaller ones, then by name. What `.ksyms` declares
    stands there as an `int`: the true types are in `data`, where the loader looks them up.

    Raises: FormatError when `data` is no BTF, or a section's variables are broken.
    """
    btf = Btf.from_bytes(data)
    words = array("I", btf.words)
    tail = _Tail(btf)
    for type in btf:
        if isinstance(type, Func):
            _fix_func(words, type, tail)
        elif isinstance(type, Datasec):
            _fix(words, type, sections.get(type.name), tail)
        elif isinstance(type, Int) and type.is_char and type.signed:
            words[type._at + 3] ^= _CHAR
        elif isinstance(type, Fwd):
            words[type._at + 2] = 0
    words.extend(tail.words)
    return assemble(words, btf.strings + bytes(tail.strings), btf.byteorder)


def add_strings(data: bytes, texts: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    """Return the BTF in `data` with `texts` among its strings, and where each lies.

    Raises: FormatError when `data` is no BTF; ValueError for a NUL in a text.
    """
    btf = Btf.from_bytes(data)
    strings = bytearray(btf.strings)
    offsets = {"": 0}
    for text in texts:
        if text in offsets:
            continue
        if "\0" in text:
            raise ValueError(f"a string in BTF cannot hold a NUL: {text!r}")
        encoded = text.encode("utf-8", "replace") + b"\0"
        offset = strings.find(b"\0" + encoded) + 1
        if not offset:
            offset = len(strings)
            strings += encoded
        offsets[text] = offset
    return assemble(array("I", btf.words), bytes(strings), btf.byteorder), offsets


class _Tail:
    # Types and strings that are added behind the existing ones: stand-ins for what `.ksyms` declares.
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._name = 0
        self._int = 0
        self._var = 0
        self._next = len(btf)
        self.named: set[int] = set()
        self.words = array("I")
        self.strings = bytearray()

    def name(self) -> int:
        # Where the name lies of whatever has none and needs one.
        if not self._name:
            self._name = self._string(_PLACEHOLDER)
        return self._name

    def int_id(self) -> int:
        # The id of a 32-bit integer.
        if not self._int:
            existing = self._btf.find("int", Int)
            if existing is not None and existing.size == _PLACEHOLDER_SIZE:
                self._int = existing.id
            else:
                self._int = self._add(self._string("int"), Int, _PLACEHOLDER_SIZE, 1 << 24 | 32)
        return self._int

    def var_id(self) -> int:
        # The id of a variable that stands for a function, which a DATASEC of the kernel cannot hold.
        if not self._var:
            self._var = self._add(self.name(), Var, self.int_id(), _GLOBAL)
        return self._var

    def _add(self, name: int, kind: type[Type], *rest: int) -> int:
        self.words.extend((name, kind.kind << 24, *rest))
        self._next += 1
        return self._next - 1

    def _string(self, text: str) -> int:
        offset = len(self._btf.strings) + len(self.strings)
        self.strings += text.encode() + b"\0"
        return offset


def _fix_func(words: array[int], func: Func, tail: _Tail) -> None:
    if not words[func._at]:
        # The id stays taken, by a type that is nobody's.
        words[func._at + 1], words[func._at + 2] = Const.kind << 24, 0
        return
    if words[func._at + 1] & 0xFFFF == _EXTERN:
        words[func._at + 1] += _GLOBAL - _EXTERN
    # Declarations may leave parameters without a name; functions of the kernel's BTF may not.
    proto = func.type
    if isinstance(proto, FuncProto) and proto.id not in tail.named:
        tail.named.add(proto.id)
        first = proto._at + 3
        for at in range(first, first + 2 * len(proto.params), 2):
            words[at] = words[at] or tail.name()


def _fix(words: array[int], section: Datasec, known: tuple[int, Mapping[str, int]] | None, tail: _Tail) -> None:
    name = section.name
    size, offsets = known if known is not None else (0, {})
    entries = []
    end = 0
    variables = section.variables
    if known is None and name != KSYMS:
        variables = tuple(sorted(variables, key=_order))
    for entry in variables:
        variable = entry[0]
        if name == KSYMS or isinstance(variable, Func):
            id, offset, own_size = _place_ksym(words, variable, end, tail)
        elif known is None:
            id, offset, own_size = _place_after(variable, entry[2], end)
        else:
            static = words[variable._at + 3] == _STATIC
            id, offset, own_size = variable.id, entry[1], entry[2]
            offset = offset if static else offsets.get(variable.name, offset)
        if isinstance(variable, Var) and words[variable._at + 3] == _EXTERN:
            words[variable._at + 3] = _GLOBAL
        end = max(end, offset + own_size)
        entries.append((offset, id, own_size))
    if max(size, end) >= 1 << 32:
        raise FormatError(f"section {name!r} takes {max(size, end)} bytes; 4 GiB are possible")
    words[section._at + 2] = size or end
    entries.sort()
    at = section._at + 3
    for offset, id, own_size in entries:
        words[at], words[at + 1], words[at + 2] = id, offset, own_size
        at += 3


def _place_ksym(words: array[int], variable: Var | Func, end: int, tail: _Tail) -> tuple[int, int, int]:
    offset = _round_up(end, _PLACEHOLDER_SIZE)
    if isinstance(variable, Func):
        return tail.var_id(), offset, _PLACEHOLDER_SIZE
    words[variable._at + 2] = tail.int_id()
    return variable.id, offset, _PLACEHOLDER_SIZE


def _order(entry: tuple[Var | Func, int, int]) -> tuple[int, int, str]:
    # As libbpf sorts what it has to place. Source: tools/lib/bpf/libbpf.c:cmp_externs (v6.12)
    variable, _, size = entry
    if isinstance(variable, Func):
        return 0, 0, variable.name
    return -align_of(variable), size or size_of(variable), variable.name


def _place_after(variable: Var, size: int, end: int) -> tuple[int, int, int]:
    return variable.id, _round_up(end, align_of(variable)), size or size_of(variable)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
