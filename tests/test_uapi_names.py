"""Words, enums and first releases belong to the kernel's numbers; a misspelt word is answered with close ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from enum import IntEnum

import pytest

from rawbpf.uapi import constants as c
from rawbpf.uapi import enums, helper, names, since


@pytest.mark.parametrize(
    ("call", "wrong", "words"),
    [
        (names.map_type_number, "hsah", "no map type 'hsah': did you mean hash"),
        (names.map_type_number, "xyzzy?", "no map type 'xyzzy[?]': known are unspec, hash"),
        (names.prog_type_number, "trace_point", "no program type 'trace_point': did you mean tracepoint"),
        (names.attach_type_number, "fentry", "no attach type 'fentry': did you mean .*trace_fentry"),
        (names.link_type_number, "perf", "no link type 'perf': did you mean perf_event"),
        (names.cmd_number, "MAP_CREATE", "no bpf command 'MAP_CREATE': did you mean map_create"),
        (helper.helper_number, "bpf_map_lookup", "no helper 'bpf_map_lookup': did you mean bpf_map_lookup_elem"),
    ],
)
def test_an_unknown_word_is_answered_with_close_names(call: Callable[[str], int], wrong: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(wrong)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (names.map_type_name, "type 77"),
        (names.prog_type_name, "type 77"),
        (names.attach_type_name, "type 77"),
        (names.link_type_name, "type 77"),
        (names.cmd_name, "command 77"),
    ],
)
def test_an_unknown_number_is_shown_as_it_is(call: Callable[[int], str], text: str) -> None:
    assert call(77) == text
    assert call(-1).endswith(" -1")


def test_other_spellings_are_known() -> None:
    assert names.map_type_number("bloom") == c.BPF_MAP_TYPE_BLOOM_FILTER
    assert names.cmd_number("prog_run") == c.BPF_PROG_TEST_RUN
    assert helper.helper_number("ktime_get_ns") == helper.helper_number("bpf_ktime_get_ns") == 5
    assert helper.helper_name(5) == "bpf_ktime_get_ns"
    assert [helper.helper_name(number) for number in (0, -1, 999)] == ["helper 0", "helper -1", "helper 999"]


def test_a_number_without_a_member_stays_a_number() -> None:
    assert enums.member_or_int(enums.MapType, 1) is enums.MapType.HASH
    assert enums.member_or_int(enums.MapType, 777) == 777


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (enums.MapType, "BPF_MAP_TYPE_"),
        (enums.ProgType, "BPF_PROG_TYPE_"),
        (enums.Cmd, "BPF_"),
        (enums.LinkType, "BPF_LINK_TYPE_"),
    ],
)
def test_enum_members_are_the_constants_without_their_prefix(kind: type[IntEnum], prefix: str) -> None:
    assert all(getattr(c, prefix + name) == member for name, member in kind.__members__.items())


def release(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


@pytest.mark.parametrize(
    ("table", "number"),
    [
        (since.COMMANDS, names.cmd_number),
        (since.MAP_TYPES, names.map_type_number),
        (since.PROG_TYPES, names.prog_type_number),
    ],
    ids=["commands", "map types", "program types"],
)
def test_numbers_were_handed_out_in_the_order_of_releases(table: dict[str, str], number: Callable[[str], int]) -> None:
    ordered = sorted(table, key=number)
    assert [release(table[word]) for word in ordered] == sorted(release(table[word]) for word in ordered)


@pytest.mark.parametrize(
    ("table", "count"),
    [
        (since.COMMANDS, len(enums.Cmd)),
        (since.MAP_TYPES, len(names._MAP_TYPES) - 1),
        (since.PROG_TYPES, len(enums.ProgType) - 1),
    ],
    ids=["commands", "map types", "program types"],
)
def test_a_first_release_is_known_for_each(table: dict[str, str], count: int) -> None:
    assert len(table) == count


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("map_lookup_elem", "3.19"),
        ("map_delete_elem", "3.19"),
        ("probe_read", "4.1"),
        ("get_current_comm", "4.2"),
        ("perf_event_output", "4.4"),
        ("probe_read_kernel", "5.5"),
        ("read_branch_records", None),
        ("ringbuf_output", "5.8"),
        ("loop", "5.17"),
        ("cgrp_storage_delete", "6.2"),
    ],
)
def test_the_first_release_of_a_helper(name: str, first: str | None) -> None:
    assert since.helper(helper.helper_number(name)) == first


def test_nothing_is_known_of_helpers_that_do_not_exist() -> None:
    assert since.helper(0) is None
    assert since.helper(len(helper.HELPERS)) is None


HEAVY = ("typing", "dataclasses", "enum", "re", "pathlib", "subprocess", "functools", "collections", "json", "inspect")


@pytest.mark.parametrize(
    "module",
    [
        "uapi.constants",
        "uapi.names",
        "uapi.attr",
        "uapi.info",
        "syscall.map",
        "syscall.obj",
        "syscall.btf",
        "syscall.prog",
    ],
)
def test_the_path_of_a_map_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, rawbpf.{module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == ""
