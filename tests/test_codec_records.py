"""Records: tuples with named fields, immutable, hashable, and with the padding they were read with."""

from __future__ import annotations

import copy
import pickle

import pytest

from rawbpf.codec import Record, codec_for
from rawbpf.codec.record import make, record_class

EVENT = codec_for({"pid": "u32", "ts": "u64", "comm": "char[16]"}, byteorder="little", name="event")


def _dirty(fill: int = 0xAA) -> Record:
    record = EVENT.unpack(b"\1\0\0\0" + bytes([fill] * 4) + bytes(24))
    assert isinstance(record, Record)
    return record


def _clean() -> Record:
    record = EVENT.unpack(b"\1\0\0\0" + bytes(28))
    assert isinstance(record, Record)
    return record


@pytest.mark.guest_byte_order
def test_a_record_has_its_fields_by_name_by_index_and_by_unpacking() -> None:
    record = EVENT(pid=1, ts=2, comm="sh")
    assert isinstance(record, Record)
    assert (record.pid, record[1], record.comm) == (1, 2, "sh")
    pid, ts, comm = record
    for same in ((pid, ts, comm), EVENT(1, 2, "sh"), EVENT({"pid": 1, "ts": 2, "comm": "sh"})):
        assert record == same
    assert repr(record) == "event(pid=1, ts=2, comm='sh')"
    assert record.asdict() == {"pid": 1, "ts": 2, "comm": "sh"}
    assert record._fields == ("pid", "ts", "comm")
    assert hash(record) == hash((1, 2, "sh"))
    assert type(record).__match_args__ == ("pid", "ts", "comm")


def test_a_record_cannot_be_changed() -> None:
    for record in (_clean(), _dirty()):
        for name in ("pid", "other", "_padding", "_fields"):
            with pytest.raises(AttributeError):
                setattr(record, name, 5)
        with pytest.raises(AttributeError):
            del record.pid


def test_replace_gives_a_copy_with_other_values() -> None:
    record = _clean()._replace(ts=7, comm="x")
    assert record == (1, 7, "x")
    assert type(record) is type(_clean())
    with pytest.raises(TypeError, match="event has no field 'nope'; it has pid, ts, comm"):
        record._replace(nope=1)
    assert EVENT.pack(_dirty()._replace(pid=2))[:8] == b"\2\0\0\0\xaa\xaa\xaa\xaa"


@pytest.mark.guest_byte_order
def test_padding_that_holds_something_is_kept_and_told_apart() -> None:
    clean, dirty, other = _clean(), _dirty(), _dirty(0xBB)
    assert EVENT.pack(dirty)[4:8] == b"\xaa\xaa\xaa\xaa"
    assert EVENT.pack(clean)[4:8] == bytes(4)
    assert dirty == _dirty()
    assert hash(dirty) == hash(_dirty())
    assert len({clean, dirty, other, _dirty()}) == 3
    for one, two in ((clean, dirty), (dirty, clean), (dirty, other), (dirty, tuple(clean)), (tuple(clean), dirty)):
        assert one != two
        assert not one == two  # noqa: SIM201  # the other operator
    assert clean == tuple(dirty)
    assert isinstance(dirty, type(clean))
    assert (dirty.pid, dirty.ts, dirty.comm) == (1, 0, "")
    assert "padding=b'\\xaa\\xaa\\xaa\\xaa'" in repr(dirty)
    assert dirty.asdict() == clean.asdict()


def test_records_are_pickled_and_copied_with_their_padding() -> None:
    nested = codec_for({"pos": {"x": "u8", "y": "u32"}, "z": "u8"})
    for record in (_clean(), _dirty(), nested.unpack(bytes(range(1, nested.size + 1)))):
        for twin in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record)):
            assert twin == record
            assert type(twin) is type(record)
            assert repr(twin) == repr(record)


def test_the_same_struct_has_the_same_class() -> None:
    again = codec_for({"pid": "u32", "ts": "u64", "comm": "char[16]"}, byteorder="little", name="event")
    assert type(again.unpack(bytes(32))) is type(_clean())


NAMES = [
    (["count", "index"], ("count", "index")),
    (["class", "from", "def_"], ("class_", "from_", "def_")),
    (["class", "class_"], ("class_", "class__")),
    (["asdict", "_replace", "_fields", "_padding"], ("asdict_", "_replace_", "_fields_", "_padding_")),
    (["__class__", "__pad", "_x", "____"], ("__class___0", "__pad", "_x", "_____3")),
    (["__eq", "__eq", "__eq_", "__eq"], ("__eq", "__eq_", "__eq__2", "__eq_3")),
    (["", "a b", "2x"], ("_0", "_1", "_2")),
    (["x", "x"], ("x", "x_")),
    (["self", "cls", "values", "named"], ("self", "cls", "values", "named")),
]


@pytest.mark.parametrize(("names", "fields"), NAMES, ids=[" ".join(row[0]) for row in NAMES])
def test_every_field_is_an_attribute(names: list[str], fields: tuple[str, ...]) -> None:
    cls = record_class("s", names)
    assert cls._fields == fields
    record = cls(**{field: index for index, field in enumerate(fields)})
    assert [getattr(record, field) for field in fields] == list(range(len(fields)))
    assert list(record) == list(range(len(fields)))
    assert record._replace(**{fields[0]: 9})[0] == 9
    assert repr(make(cls, record, b"\1")).startswith(f"s({fields[0]}=0")


def test_a_field_may_be_written_by_its_name_in_c_or_in_python() -> None:
    codec = codec_for({"class": "u8", "count": "u8"})
    record = codec(class_=1, count=2)
    assert isinstance(record, Record)
    assert record.class_ == 1
    assert record[1] == getattr(record, "count") == 2  # noqa: B009  # tuple.count to type checkers
    assert codec.pack({"class": 1, "count": 2}) == codec.pack({"class_": 1, "count": 2}) == codec.pack(record)
    assert record.asdict() == {"class": 1, "count": 2}
    assert codec.pack(record.asdict()) == b"\1\2"


WRONG = [
    ((1, 2), {}, "event has 3 fields (pid, ts, comm), got 2"),
    ((), {"pid": 1, "ts": 2}, "event: field 'comm' is missing"),
    ((1,), {"pid": 1, "ts": 2, "comm": ""}, "event has no field 'pid'; it has pid, ts, comm"),
    ((1, 2, "x", 4), {}, "event has 3 fields (pid, ts, comm), got 4"),
]


@pytest.mark.parametrize(("values", "named", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_a_record_is_made_of_all_fields(values: tuple[object, ...], named: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        EVENT(*values, **named)
    assert str(caught.value) == message
