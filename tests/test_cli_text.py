"""Values as text and as JSON, names beside numbers, and the lines that they make. No kernel."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, cast

import pytest

from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.cli.leaf import COUNT, GID, KTIME, OTHER, PID, SIGNAL, UID
from rawbpf.cli.lines import Json, Lines
from rawbpf.cli.names import Names
from rawbpf.cli.table import Layout
from rawbpf.cli.text import plain, printable, text
from rawbpf.codec import Codec, PerCpu, PerCpuCodec, codec_for

if TYPE_CHECKING:
    from rawbpf.cli.output import Output


class _Word(ctypes.Union):
    _fields_ = [("word", ctypes.c_uint32), ("half", ctypes.c_uint16)]


def enum_codec() -> Codec[object]:
    builder = Builder()
    number = builder.enum("state", [("OFF", 0), ("ON", 1)])
    return codec_for(Btf.from_bytes(builder.to_bytes())[number])


STATE = enum_codec()
RECORD = codec_for({"a": "u32", "b": "char[4]"})({"a": 1, "b": "x"})
UNION = codec_for(_Word).unpack((7).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("value", "shown", "in_json"),
    [
        pytest.param(5, "5", 5, id="int"),
        pytest.param(True, "true", True, id="bool"),
        pytest.param(0.5, "0.5", 0.5, id="float"),
        pytest.param(math.inf, "inf", None, id="infinity"),
        pytest.param(b"\x01\xff", "01ff", "01ff", id="bytes"),
        pytest.param("bash", "bash", "bash", id="text"),
        pytest.param("a\x1b[2Jb\n", r"a\x1b[2Jb\x0a", "a\x1b[2Jb\n", id="control-characters"),
        pytest.param("\udcff", r"\xff", r"\xff", id="no-utf-8"),
        pytest.param("żółw", "żółw", "żółw", id="letters"),
        pytest.param((1, 2), "[1 2]", [1, 2], id="array"),
        pytest.param(RECORD, "{a=1 b=x}", {"a": 1, "b": "x"}, id="record"),
        pytest.param(UNION, "{word=7 half=7}", {"word": 7, "half": 7}, id="union"),
        pytest.param(STATE(1), "ON", "ON", id="enumerator"),
        pytest.param(STATE(9), "9", 9, id="unknown-enumerator"),
        pytest.param(IPv4Address("10.0.0.1"), "10.0.0.1", "10.0.0.1", id="address"),
    ],
)
def test_a_value_is_shown_and_is_json(value: object, shown: str, in_json: object) -> None:
    assert text(value, OTHER) == shown
    assert plain(value) == in_json
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == in_json


def test_fields_that_python_renames_keep_their_names_in_json() -> None:
    record = codec_for({"class": "u32"})({"class": 1})
    assert plain(record) == {"class": 1}


def test_a_kernel_time_is_shown_as_the_wall_clock() -> None:
    before = time.time()
    shown = text(time.clock_gettime_ns(time.CLOCK_MONOTONIC), KTIME)
    moment = time.mktime(time.strptime(shown.partition(".")[0], "%Y-%m-%d %H:%M:%S"))
    assert before - 2 < moment < before + 2


@pytest.mark.parametrize(
    ("ktime", "shown"), [pytest.param(0, "-", id="never"), pytest.param(2**80, str(2**80), id="no-time")]
)
def test_what_is_no_time_is_not_shown_as_one(ktime: int, shown: str) -> None:
    assert text(ktime, KTIME) == shown


@pytest.mark.parametrize(
    ("kind", "number", "name"),
    [
        pytest.param(UID, 0, "root", id="user"),
        pytest.param(GID, 0, "root", id="group"),
        pytest.param(UID, 4294967295, "", id="no-user"),
        pytest.param(SIGNAL, int(signal.SIGKILL), "SIGKILL", id="signal"),
        pytest.param(SIGNAL, int(signal.SIGRTMIN) + 3, "SIGRTMIN+3", id="real-time-signal"),
        pytest.param(SIGNAL, 99, "", id="no-signal"),
        pytest.param(PID, 2**31 - 1, "", id="no-process"),
        pytest.param(COUNT, 9, "", id="nothing-with-a-name"),
    ],
)
def test_numbers_have_names(kind: str, number: int, name: str) -> None:
    assert Names().of(kind, number) == name


def test_a_process_is_named_by_its_comm() -> None:
    with open("/proc/self/comm", encoding="utf-8") as file:
        assert Names().of(PID, os.getpid()) == file.read().rstrip("\n")


def test_printable_text_is_left_alone() -> None:
    assert printable("a b") == "a b"


class Collected:
    """Takes what a view writes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    @property
    def lines(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.text.splitlines()]


def uid_codec() -> Codec[object]:
    builder = Builder()
    number = builder.typedef("uid_t", builder.int("unsigned int", 4))
    return codec_for(Btf.from_bytes(builder.to_bytes())[number])


def layout(value: Codec[object], *, key: Codec[object] | None = None, is_array: bool = False) -> Layout:
    return Layout("m", key or codec_for("u32"), value, words="hash", max_entries=9, is_array=is_array)


def test_a_line_has_each_column_by_name_and_names_in_parentheses() -> None:
    output = Collected()
    codec = codec_for({"calls": "u64", "comm": "char[16]"})
    table = layout(codec, key=uid_codec()).read([(0, codec(3, "my prog")), (43219, codec(9, ""))])
    Lines(cast("Output", output)).show([table], time.time())
    assert output.lines == ['m uid=43219 calls=9 comm=""', 'm uid=0(root) calls=3 comm="my prog"']


def test_lines_of_a_low_terminal_say_how_many_are_left_out() -> None:
    output = Collected()
    Lines(cast("Output", output), height=5).show([layout(codec_for("u64")).read((k, k) for k in range(50))], 0)
    assert output.lines == [*(f"m key={k} value={k}" for k in (49, 48, 47, 46)), "m has 46 more, not shown"]


@pytest.mark.parametrize(
    ("items", "line"),
    [pytest.param([], "m has no elements", id="empty"), pytest.param([(0, 0), (1, 0)], "m has only zeros", id="zeros")],
)
def test_a_map_with_nothing_to_show_says_so(items: list[tuple[object, object]], line: str) -> None:
    output = Collected()
    Lines(cast("Output", output)).show([layout(codec_for("u64"), is_array=bool(items)).read(items)], 0)
    assert output.lines == [line]


def test_json_has_all_elements_the_zeros_too_and_the_total_of_cpus() -> None:
    output = Collected()
    tables = [
        layout(codec_for("u64"), is_array=True).read([(0, 0), (1, 5)]),
        Layout("p", codec_for("u32"), PerCpuCodec(codec_for("u64"), 2), words="", max_entries=1, is_array=False).read(
            [(1, PerCpu([2, 3]))]
        ),
    ]
    Json(cast("Output", output)).show(tables, 12.5)
    assert json.loads(output.text) == {
        "time": 12.5,
        "maps": {
            "m": [{"key": 0, "value": 0}, {"key": 1, "value": 5}],
            "p": [{"key": 1, "value": {"total": 5, "cpus": [2, 3]}}],
        },
        "variables": {},
    }
    assert output.text.count("\n") == 1
