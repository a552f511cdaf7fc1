"""Whatever the bytes of BTF say, a codec is made or FormatError raised, soon; one that is made keeps its laws."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rawbpf.btf import Btf, Builder
from rawbpf.codec import codec_for
from rawbpf.errors import FormatError


def _sample() -> bytes:
    b = Builder("little")
    u32, char = b.int("unsigned int", 4), b.int("char", 1, signed=True)
    state = b.enum("state", [("ON", 1), ("OFF", 0)])
    pos = b.struct("pos", 8, [("x", u32, 0), ("y", b.typedef("__be32", u32), 32)])
    either = b.union("", 8, [("pos", pos, 0), ("name", b.array(char, 8), 0)])
    event = b.struct(
        "event", 48, [("pid", u32, 0), ("", either, 64), ("state", state, 128), ("all", b.array(pos, 3), 160)]
    )
    flags = b.struct("flags", 4, [("a", u32, 0, 3), ("b", u32, 3, 29)])
    b.datasec(".data", 52, [(b.var("e", event), 0, 48), (b.var("f", flags), 48, 4)])
    b.typedef("mac", b.array(b.int("unsigned char", 1), 6))
    b.ptr(b.const(event))
    return b.to_bytes()


SAMPLE = _sample()
HEADER = 24
POKES = st.lists(st.tuples(st.integers(HEADER, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=6)


@given(pokes=POKES)
@settings(max_examples=300, deadline=None)
def test_damaged_btf_gives_codecs_or_format_errors(pokes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, value in pokes:
        data[at] = value
    try:
        btf = Btf.from_bytes(bytes(data))
        types = list(btf)
    except FormatError:
        return
    for type in types:
        try:
            codec: Any = codec_for(type)
        except FormatError:
            continue
        assert codec.name
        assert codec.size >= 0
        if codec.size <= 4096:
            for raw in (bytes(codec.size), bytes(at % 255 + 1 for at in range(codec.size))):
                value = codec.unpack(raw)
                assert repr(value) == repr(codec.decode(raw))
                assert codec.pack(value) == codec.encode(value, "") == raw
            codec.explain()
