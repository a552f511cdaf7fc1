"""The comparison with libbpf sees what differs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from peer import libbpf
from peer.compare import differing, differing_code, map_name
from support.needs import require
from support.objects import native

from rawbpf import ObjectSpec
from rawbpf.asm import Instruction, Line, decode
from rawbpf.spec.section import Section, find_section, sections

Code = dict[str, list[Instruction]]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> libbpf.Libbpf:
    require(*libbpf.NEEDS)
    return libbpf.Libbpf(tmp_path_factory.mktemp("libbpf"))


@pytest.fixture
def answer(peer: libbpf.Libbpf) -> libbpf.Answer:
    return peer.relocated(native("shapes"))


def _code(answer: libbpf.Answer) -> Code:
    # As libbpf's: maps stand in it by their places, and nothing says where functions and lines begin.
    for each in answer["programs"]:
        each["functions"] = each["lines"] = ""
    return {
        each["name"]: decode(bytes.fromhex(each["code"]), sys.byteorder)
        for each in answer["programs"]
        if each["code"] is not None
    }


def test_an_object_is_what_libbpf_makes_of_it(answer: libbpf.Answer) -> None:
    assert answer["is_whole"]
    assert differing(ObjectSpec.from_file(native("shapes")), answer) == []
    assert list(differing_code(_code(answer), answer)) == []


@pytest.mark.parametrize(
    ("kind", "name", "field", "value"),
    [
        ("map", "events", "map_type", 9),
        ("map", "events", "max_entries", 1),
        ("map", "events", "value_type_id", 1),
        ("map", "shared", "map_flags", 0),
        ("map", "shared", "pinning", 0),
        ("map", "shared", "numa_node", 1),
        ("program", "sum_up", "prog_type", 1),
        ("program", "sum_up", "expected_attach_type", 1),
        ("program", "sum_up", "section", "tp/other"),
        ("program", "on_request", "autoload", True),
    ],
)
def test_every_property_is_compared(answer: libbpf.Answer, kind: str, name: str, field: str, value: object) -> None:
    spec = ObjectSpec.from_file(native("shapes"))
    edited = spec.maps[name] if kind == "map" else spec.programs[name]
    setattr(edited, field, value)
    found = [what for what, _ in differing(spec, answer)]
    assert found[0] == f"{kind} {name}: {field}"
    # What the kernel is asked for follows; another type also asks for other flags.
    assert all(what.startswith(f"{kind} {name}: created ") for what in found[1:])
    assert (f"{kind} {name}: created {field}" in found) == (field in answer["created"]["shared"])


def test_what_is_in_maps_at_first_is_compared(answer: libbpf.Answer) -> None:
    spec = ObjectSpec.from_file(native("shapes"))
    spec.maps["outer"].values[1] = "third"
    spec.maps["jumps"].values.clear()
    spec.variables["min_uid"].value = 1
    spec.variables["custom"].value = 1
    assert {what for what, _ in differing(spec, answer)} == {
        "map outer: contents", "map jumps: contents", "map .rodata: contents", "map .data.custom: contents"
    }  # fmt: skip


def test_templates_of_inner_maps_are_compared(answer: libbpf.Answer) -> None:
    spec = ObjectSpec.from_file(native("shapes"))
    template = spec.maps["outer"].inner
    assert template is not None
    template.max_entries += 1
    assert [what for what, _ in differing(spec, answer)] == ["map outer: inner max_entries"]
    spec.maps["outer"].inner = None
    assert [what for what, _ in differing(spec, answer)] == ["map outer: inner"]


def test_what_only_one_side_has_differs(answer: libbpf.Answer) -> None:
    spec = ObjectSpec.from_file(native("shapes"))
    del spec.maps["first"], spec.programs["sum_up"]
    assert [what for what, _ in differing(spec, answer)] == ["map first: missing", "program sum_up: missing"]
    spec = ObjectSpec.from_file(native("shapes"))
    lost = map_name(answer["maps"].pop()), answer["programs"].pop()["name"]
    found = [what for what, _ in differing(spec, answer)]
    assert found == [f"map {lost[0]}: only here", f"program {lost[1]}: only here"]


@pytest.mark.parametrize("edit", ["one", "fewer", "more", "functions", "lines"])
def test_instructions_are_compared_to_the_last(answer: libbpf.Answer, edit: str) -> None:
    code = _code(answer)
    last = code["count_execve"].pop()
    code["count_execve"] += {
        "one": [last.replace(dst=1)],
        "fewer": [],
        "more": [last, last],
        "functions": [last.replace(function=1)],
        "lines": [last.replace(line=Line("a.c", "return 0;", 1))],
    }[edit]
    what = edit if edit in {"functions", "lines"} else "instructions"
    assert [found for found, _ in differing_code(code, answer)] == [f"program count_execve: {what}"]


def test_a_program_that_is_not_relocated_differs(answer: libbpf.Answer) -> None:
    code: dict[str, list[Instruction] | Exception] = {**_code(answer), "sum_up": ValueError("unknown type")}
    del code["on_request"]
    assert dict(differing_code(code, answer)) == {
        "program sum_up: instructions": "not relocated: ValueError('unknown type')",
        "program on_request: instructions": "not relocated: None",
    }


def test_what_libbpf_does_not_open_is_refused_with_its_words(peer: libbpf.Libbpf, tmp_path: Path) -> None:
    (tmp_path / "empty.o").write_bytes(b"")
    with pytest.raises(libbpf.Refused, match=r"empty\.o"):
        peer.relocated(tmp_path / "empty.o")


def test_sections_are_what_libbpf_takes_them_for(peer: libbpf.Libbpf) -> None:
    names = [name for each in sections() for name in _names(each)]
    theirs = {name: tuple(found) for name, found in peer.sections(names).items() if found}
    mine = {name: found for name in theirs if (found := find_section(name)) is not None}
    assert {name: (found.prog_type, found.expected_attach_type) for name, found in mine.items()} == theirs
    assert len(theirs) > 100  # older ones do not know all


def _names(section: Section) -> list[str]:
    if not section.pattern.endswith("+"):
        return [section.pattern]
    return [section.pattern[:-1], f"{section.pattern[:-1]}/target"]


def test_what_is_no_section_for_libbpf_is_none(peer: libbpf.Libbpf) -> None:
    names = ["", "kprobes", "kprobe.multi.s/x", "xdp/other", "cgroup", "socket/x", "tp_btf2/x", "license", ".text"]
    assert set(peer.sections(names).values()) == {None}
    assert {find_section(name) for name in names} == {None}
