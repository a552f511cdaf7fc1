"""Compiles the layout of a struct to functions: one Struct call, and a tuple made of what it gives.

What a generated function does not take - a wrong type, a number out of range, padding that holds
something, a NaN - it hands to the walking codec, which is right and says what is wrong. Functions of
equal source share their code.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812

from rawbpf.codec.array import ArrayCodec
from rawbpf.codec.base import Codec
from rawbpf.codec.scalar import CODES, ORDER, FloatCodec, IntCodec
from rawbpf.codec.structure import StructCodec
from rawbpf.codec.text import ENCODING, ERRORS, BytesCodec, TextCodec, characters, exact, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from rawbpf.codec.base import ByteOrder, Raw
    from rawbpf.codec.record import Record
    from rawbpf.codec.structure import Field

# Structs of more fields than this, and arrays of more elements, are calls of their own codecs.
_INLINE_FIELDS = 64
_INLINE_ELEMENTS = 16
_INLINE_DEPTH = 6
_MOST_FIELDS = 1024
_KEPT = 256

_ERRORS = (StructError, TypeError, ValueError, OverflowError, KeyError, AttributeError)

_code: dict[str, CodeType] = {}


def compile_struct(codec: StructCodec) -> dict[str, Callable[..., object]]:
    """Return `pack`, `unpack` and `unpack_many` for `codec`, by name."""
    walking: dict[str, Callable[..., object]] = {
        "pack": codec.walk_pack,
        "unpack": codec.walk_unpack,
        "unpack_many": _walk_many(codec),
    }
    if not codec.size or len(codec.fields) > _MOST_FIELDS or not _ordered(codec):
        return walking
    source = _Source(codec.byteorder)
    decoded = source.struct(codec, "value", 0)
    struct = Struct("".join([ORDER[codec.byteorder], *source.formats]))
    assert struct.size == codec.size
    names = source.names
    names.update(
        new=tuple.__new__, size=codec.size, s_pack=struct.pack, s_unpack=struct.unpack, s_iter=struct.iter_unpack,
        walk_pack=walking["pack"], walk_unpack=walking["unpack"], walk_many=walking["unpack_many"],
        StructError=StructError, errors=_ERRORS, exact=exact, characters=characters, text=text,
        zero=b"\0", encoding=ENCODING,
    )  # fmt: skip
    exec(_compiled(source.functions(decoded)), names)  # noqa: S102  # made here of layouts, never of names
    return {name: names[name] for name in walking}  # type: ignore[misc]  # the functions just made


def _walk_many(codec: StructCodec) -> Callable[[Raw, int], list[Record]]:
    def unpack_many(buffer: Raw, count: int) -> list[Record]:
        return Codec.unpack_many(codec, buffer, count)

    return unpack_many


def _compiled(source: str) -> CodeType:
    code = _code.get(source)
    if code is None:
        if len(_code) >= _KEPT:
            _code.clear()
        code = _code[source] = compile(source, "<rawbpf codec>", "exec")
    return code


# Whether the fields follow one another: always, but in bytes that claim to be BTF, and in odd ctypes unions.
def _ordered(codec: StructCodec) -> bool:
    reached = 0
    for field in codec.fields:
        if field.bit_offset < reached:
            return False
        reached = field.bit_offset + (field.width or 8 * field.size)
    return True


class _Source:
    # Collects, in the order of the bytes: struct formats with a variable for each; statements that
    # take a value apart; what goes into Struct.pack; and what makes decoding give up.

    def __init__(self, byteorder: ByteOrder) -> None:
        self.byteorder = byteorder
        self.formats: list[str] = []
        self.slots: list[str] = []
        self.arguments: list[str] = []
        self.statements: list[str] = []
        self.doubts: list[str] = []
        self.names: dict[str, object] = {}
        self.count = 0

    def functions(self, decoded: str) -> str:
        slots = "".join(f"{slot}, " for slot in self.slots)
        doubt = " or ".join(self.doubts)
        lines = ["def unpack(buffer, /):", "    try:"]
        if not doubt and decoded == f"new(c0, ({slots}))":
            lines += ["        return new(c0, s_unpack(buffer))", "    except StructError:", "        pass"]
            many = ["    return [new(c0, fields) for fields in s_iter(view)]"]
        else:
            lines += [f"        {slots}= s_unpack(buffer)", "    except StructError:", "        pass", "    else:"]
            lines += [f"        if not ({doubt}):" if doubt else "        if True:", f"            return {decoded}"]
            many = ["    records = []", "    append = records.append", f"    for {slots}in s_iter(view):"]
            many += [f"        if {doubt}:", "            return walk_many(buffer, count)"] if doubt else []
            many += [f"        append({decoded})", "    return records"]
        lines += ["    return walk_unpack(buffer)", "def unpack_many(buffer, count):"]
        lines += ["    view = memoryview(buffer)[:count * size]", "    if len(view) != count * size:"]
        lines += ["        return walk_many(buffer, count)", *many]
        # What is refused is walked outside of the handler, or its error would come with a second traceback.
        lines += ["def pack(value, /):", "    try:", *(f"        {line}" for line in self.statements)]
        lines += [f"        return s_pack({', '.join(self.arguments)})", "    except errors:", "        pass"]
        lines += ["    return walk_pack(value)"]
        return "\n".join(lines)

    def slot(self, format: str, argument: str) -> str:
        name = self.name("v")
        self.formats.append(format)
        self.slots.append(name)
        self.arguments.append(argument)
        return name

    def name(self, letter: str, value: object = None) -> str:
        name = f"{letter}{self.count}"
        self.count += 1
        if value is not None:
            self.names[name] = value
        return name

    def give_up(self, condition: str) -> None:
        self.statements += [f"if {condition}:", "    raise StructError"]

    # Each of these adds what is needed for the value in variable `value`, and returns the expression
    # that gives it back.
    def any(self, codec: Codec[object], value: str, depth: int) -> str:
        if isinstance(codec, IntCodec) and codec.code and (codec.byteorder == self.byteorder or codec.size == 1):
            slot = self.slot(codec.code, value)
            return slot if codec.known is None else f"{self.name('k', codec.known)}.get({slot}, {slot})"
        if isinstance(codec, FloatCodec) and codec.byteorder == self.byteorder:
            slot = self.slot(codec.code, value)
            if codec.size == 4:
                self.doubts.append(f"{slot} != {slot}")
                self.give_up(f"{value} != {value}")
            return slot
        if type(codec) is TextCodec:
            slot = self.slot(f"{codec.size}s", f"characters({value}, {codec.size}, None)")
            if ERRORS != "surrogateescape":
                return f"text({slot})"
            # text(), without the call: no bytes are an error here.
            used = self.name("u")
            return f"({slot} if 0 in ({used} := {slot}.rstrip(zero)) else {used}.decode(encoding, 'surrogateescape'))"
        if type(codec) is BytesCodec:
            return self.slot(f"{codec.size}s", f"exact({value}, {codec.size}, None)")
        if isinstance(codec, StructCodec) and self.inline(codec, depth):
            return self.struct(codec, value, depth)
        if isinstance(codec, ArrayCodec) and 0 < codec.count <= _INLINE_ELEMENTS and depth < _INLINE_DEPTH:
            return self.array(codec, value, depth)
        own = self.name("c", codec)
        return f"{own}.unpack({self.slot(f'{codec.size}s', f'{own}.pack({value})')})"

    def inline(self, codec: StructCodec, depth: int) -> bool:
        if not codec.size or codec.byteorder != self.byteorder or depth >= _INLINE_DEPTH or not _ordered(codec):
            return False
        return len(self.slots) + len(codec.fields) <= _INLINE_FIELDS

    def array(self, codec: ArrayCodec, value: str, depth: int) -> str:
        elements = [self.name("e") for _ in range(codec.count)]
        self.give_up(f"type({value}) is not tuple and type({value}) is not list")
        self.statements.append(f"{', '.join(elements)}, = {value}")
        return f"({''.join(f'{self.any(codec.element, one, depth + 1)}, ' for one in elements)})"

    def struct(self, codec: StructCodec, value: str, depth: int) -> str:
        cls = self.name("c", codec.record)
        fields = [self.name("f") for _ in codec.fields]
        targets = "".join(f"{one}, " for one in fields)
        if fields:
            self.statements += [f"if type({value}) is {cls} or type({value}) is tuple:", f"    {targets}= {value}"]
            self.statements += [f"elif type({value}) is dict and len({value}) == {len(fields)}:"]
            self.statements += [
                f"    {one} = {value}[{self.name('n', field.name)}]"
                for one, field in zip(fields, codec.fields, strict=True)
            ]
            self.statements += ["else:", "    raise StructError"]
        else:
            self.give_up(f"type({value}) is not {cls}")
        decoded = self.members(codec, fields, depth)
        return f"new({cls}, ({''.join(f'{one}, ' for one in decoded)}))"

    # Runs of bit-fields share a slot, gaps have their own: what comes next is what starts first.
    def members(self, codec: StructCodec, variables: Sequence[str], depth: int) -> list[str]:
        decoded: list[str] = []
        loose = dict(codec.loose_bits)
        gaps = list(codec.gaps)
        pairs = list(zip(codec.fields, variables, strict=True))
        while pairs:
            field, variable = pairs.pop(0)
            while gaps and gaps[0][0] < field.offset:
                self.gap(*gaps.pop(0))
            if not field.width:
                decoded.append(self.any(field.codec, variable, depth + 1))
                continue
            run, end = [(field, variable)], field.end
            while pairs and pairs[0][0].width and pairs[0][0].offset < end:
                run.append(pairs.pop(0))
                end = max(end, run[-1][0].end)
            decoded += self.bits(run, field.offset, end, loose)
        for gap in gaps:
            self.gap(*gap)
        return decoded

    def gap(self, start: int, end: int) -> None:
        size = end - start
        if size in CODES:
            self.doubts.append(self.slot(CODES[size], "0"))
        else:
            self.doubts.append(self.slot(f"{size}s", "b''") + ".strip(zero)")

    def bits(self, run: Sequence[tuple[Field, str]], start: int, end: int, loose: dict[int, int]) -> list[str]:
        size, order = end - start, self.byteorder
        parts = []
        for field, variable in run:
            least, most = field.range
            self.give_up(f"not {least} <= {variable} <= {most}")
            shift = field.shift + 8 * (end - field.end if order == "big" else field.offset - start)
            parts.append((field, shift, (1 << field.width) - 1, variable))
        number = " | ".join(f"({variable} & {mask}) << {shift}" for _, shift, mask, variable in parts)
        if size in CODES:
            whole = self.slot(CODES[size], number)
        else:
            whole = f"int.from_bytes({self.slot(f'{size}s', f'({number}).to_bytes({size}, {order!r})')}, {order!r})"
        unused = int.from_bytes(bytes([loose.get(at, 0) for at in range(start, end)]), order)
        if unused:
            self.doubts.append(f"{whole} & {unused}")
        decoded = []
        for field, shift, mask, _ in parts:
            one = f"({whole} >> {shift} & {mask})"
            assert isinstance(field.codec, IntCodec)
            if field.codec.signed:
                sign = mask + 1 >> 1
                one = f"(({one} ^ {sign}) - {sign})"
            if field.codec.known is not None:
                known = self.name("k", field.codec.known)
                one = f"{known}.get({one}, {one})"
            decoded.append(one)
        return decoded
