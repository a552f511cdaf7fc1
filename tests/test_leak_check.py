"""The leak check fails what leaves something behind, and names it; each suite runs in a process of its own."""

from __future__ import annotations

import pytest
from support.suite import run_suite

# Made without rawbpf, whose mistakes the check is there to see: an array with 4-byte keys and values.
MAKE_MAP = """
import ctypes, os, struct
from rawbpf.syscall.kernel import syscall_numbers

def make_map():
    attr = ctypes.create_string_buffer(struct.pack("=5I", 2, 4, 4, 1, 0), 128)
    return ctypes.CDLL(None).syscall(syscall_numbers(os.uname().machine)[0], 0, attr, 128)
"""

LEAKS = """
import gc, os, threading

kept = []

def test_descriptor():
    kept.append(os.open("/dev/null", os.O_RDONLY))

def test_child_process():
    if not os.fork():
        os._exit(0)

def test_thread():
    threading.Thread(target=threading.Event().wait, name="idle", daemon=True).start()

def test_unclosed_file():
    open("/dev/null")

def test_nothing():
    os.close(os.open("/dev/null", os.O_RDONLY))
"""


def test_what_outlives_a_test_fails_it_and_is_named(pytester: pytest.Pytester) -> None:
    result = run_suite(pytester, LEAKS)
    text = result.stdout.str()
    assert "left behind by this test: descriptor" in text
    assert "-> /dev/null" in text
    assert "left behind by this test: child process" in text
    assert "left behind by this test: thread idle" in text
    assert "ResourceWarning: unclosed file" in text
    outcomes = result.parseoutcomes()
    # The child is the session's too: nobody waits for it.
    assert (outcomes["passed"], outcomes["failed"], outcomes["errors"]) == (4, 1, 4)


@pytest.mark.real_kernel("the ids of the running kernel are compared")
def test_a_map_that_outlives_the_session_fails_it_and_is_named(pytester: pytest.Pytester, backend: object) -> None:
    result = run_suite(pytester, MAKE_MAP + "fds = []\n\ndef test_it():\n    fds.append(make_map())\n")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*left behind by the session: *map *first seen after *test_it*"])


@pytest.mark.real_kernel("the ids of the running kernel are compared")
def test_a_map_that_was_closed_passes(pytester: pytest.Pytester, backend: object) -> None:
    assert run_suite(pytester, MAKE_MAP + "\ndef test_it():\n    os.close(make_map())\n").ret == 0
