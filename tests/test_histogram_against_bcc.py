"""Histograms are drawn as BCC draws them: its own Python prints the same counts, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawbpf import Histogram
from rawbpf.histogram.text import stars

PACKAGES = "/usr/lib/python3/dist-packages"

pytestmark = pytest.mark.needs(f"file:{PACKAGES}/bcc/table.py")

# Answers each line, [kind, [[slot, count] or [section, slot, count], ...], unit, strip], with what BCC prints.
PEER = """
import contextlib, ctypes, io, json, sys
sys.path.append(sys.argv[1])
from bcc import table

class Key(ctypes.Structure):
    _fields_ = [("section", ctypes.c_uint32), ("slot", ctypes.c_uint32)]

class Table(table.TableBase):
    def __init__(self, key, elements):
        self.Key, self.elements = key, elements
    def items(self):
        return [(key, ctypes.c_uint64(count)) for key, count in self.elements]
    __getitem__ = __setitem__ = __delitem__ = __iter__ = __len__ = None

for line in sys.stdin:
    kind, elements, unit, strip = json.loads(line)
    if kind == "stars":
        print(json.dumps(table._stars(*elements)), flush=True)
        continue
    if elements and len(elements[0]) == 3:
        one = Table(Key, [(Key(section, slot), count) for section, slot, count in elements])
    else:
        one = Table(ctypes.c_uint32, [(ctypes.c_uint32(slot), count) for slot, count in elements])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        draw = getattr(one, f"print_{kind}_hist")
        draw(unit, "id", strip_leading_zero=strip, bucket_sort_fn=sorted)
    print(json.dumps(printed.getvalue()), flush=True)
"""


@contextmanager
def bcc() -> Iterator[Callable[..., str]]:
    """Yield what asks BCC to draw, as long as the block lasts."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", PEER, PACKAGES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        stdin, stdout = peer.stdin, peer.stdout

        def ask(*question: object) -> str:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            answer = json.loads(stdout.readline())
            assert isinstance(answer, str)
            return answer

        yield ask


counts = st.integers(0, 2**64 - 1) | st.integers(0, 20)
SLOTS = {"log2": st.integers(1, 64) | st.integers(1, 34), "linear": st.integers(0, 1024) | st.integers(0, 20)}
MAKERS: dict[str, Callable[..., Histogram]] = {"log2": Histogram.log2, "linear": Histogram.linear}
units = st.sampled_from(["value", "usecs", "nsecs of something very long"])
# The process that answers is started once for all of a test's examples.
examples = settings(deadline=None, max_examples=150)


@pytest.mark.parametrize("kind", list(MAKERS))
def test_one_histogram_is_printed_alike(kind: str) -> None:
    with bcc() as ask:

        @examples
        @given(st.dictionaries(SLOTS[kind], counts, max_size=20), units, st.booleans())
        def printed_alike(elements: dict[int, int], unit: str, strip: bool) -> None:
            drawn = MAKERS[kind](elements)
            expected = ask(kind, list(elements.items()), unit, strip)
            if drawn.count:
                assert drawn.text(unit, strip_leading_zero=strip) + "\n" == expected
            else:
                assert not expected

        printed_alike()


# BCC gives each section as many slots as a log2 histogram has.
@pytest.mark.parametrize(("kind", "last"), [("log2", 64), ("linear", 64)])
def test_sections_are_printed_alike(kind: str, last: int) -> None:
    slots = st.integers(1, last)
    positive = st.integers(1, 2**64 - 1) | st.integers(1, 20)

    with bcc() as ask:

        @examples
        @given(st.dictionaries(st.tuples(st.integers(0, 5), slots), positive, min_size=1, max_size=20), units)
        def printed_alike(elements: dict[tuple[int, int], int], unit: str) -> None:
            expected = ask(kind, [(*key, count) for key, count in elements.items()], unit, False)
            assert MAKERS[kind](elements).text(unit, label="id") + "\n" == expected

        printed_alike()


def test_bars_beyond_the_full_one_are_cut_alike() -> None:
    with bcc() as ask:

        @examples
        @given(counts, st.integers(1, 2**64 - 1) | st.integers(1, 20), st.sampled_from([20, 40]))
        def cut_alike(count: int, full: int, length: int) -> None:
            assert stars(count, full, length) == ask("stars", [count, full, length], "", False)

        cut_alike()


def test_the_peer_is_asked() -> None:
    with bcc() as ask:
        printed = ask("log2", [(1, 1), (3, 10), (4, 5)], "usecs", False)
    assert printed.splitlines()[1] == "         0 -> 1          : 1        |****                                    |"
