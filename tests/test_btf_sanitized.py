"""Where a kernel lacks kinds of BTF, others stand in for them: ids and sizes stay, and maps keep their types."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

import pytest
from support.btf_samples import ByteOrder, sample
from support.objects import native

import rawbpf
from rawbpf import features
from rawbpf.btf import Btf, Builder, Int, Type, size_of
from rawbpf.btf.build import assemble
from rawbpf.btf.sanitize import FEATURES, sanitize
from rawbpf.errors import FormatError
from rawbpf.features import Answer
from rawbpf.sim import Simulator
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.fault import FaultBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

ORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])
TAGGED = "tagged"
# What the kernel has, before each release and from it on.
SINCE = {
    "func": "5.0",
    "func_global": "5.6",
    "datasec": "5.2",
    "datasec_name": "6.9",
    "float": "5.13",
    "decl_tag": "5.16",
    "type_tag": "5.17",
    "enum64": "6.0",
    "tag_attribute": "6.14",
}
RELEASES = ["4.18", "5.0", "5.2", "5.5", "5.10", "5.13", "5.16", "5.17", "6.0", "6.9", "6.14"]


def numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def newest(byteorder: ByteOrder = "little") -> tuple[Btf, dict[str, int]]:
    """Return types of all kinds, and those that only recent kernels take; the ids by a word for each."""
    data, ids = sample(byteorder)
    btf = Btf.from_bytes(data)
    strings = bytearray(btf.strings)
    words = array("I", btf.words)

    def add(word: str, name: str, *rest: int) -> None:
        ids[word] = len(btf) + len(ids) - known
        words.extend((len(strings), *rest))
        strings.extend(name.encode() + b"\0")

    known = len(ids)
    add("odd section", "?.odd", 15 << 24 | 1, 8, ids["var"], 0, 8)
    add("attribute", "address_space(1)", 1 << 31 | 18 << 24, ids["int"])
    add(TAGGED, "deprecated", 1 << 31 | 17 << 24, ids["struct"], 0xFFFFFFFF)
    return Btf.from_bytes(assemble(words, bytes(strings), byteorder)), ids


def sizes(btf: Btf) -> list[int | None]:
    found: list[int | None] = []
    for type in btf:
        try:
            found.append(size_of(type))
        except FormatError:
            found.append(None)
    return found


REPLACED: list[tuple[str, dict[str, str]]] = [
    ("func", {"func": "typedef", "static func": "typedef", "func_proto": "int", "variadic": "int"}),
    ("func_global", {"func": "func", "static func": "func"}),
    ("datasec", {"var": "int", "static var": "int", "datasec": "struct", "odd section": "struct"}),
    ("datasec_name", {"odd section": "datasec"}),
    ("float", {"double": "struct"}),
    ("decl_tag", {"decl_tag": "int", "member tag": "int", TAGGED: "int"}),
    ("type_tag", {"type_tag": "const", "attribute": "const"}),
    ("enum64", {"enum64": "int", "enum": "enum"}),
    ("tag_attribute", {"attribute": "const", TAGGED: "int"}),
]


@ORDERS
@pytest.mark.parametrize(("feature", "kinds"), REPLACED, ids=[case[0] for case in REPLACED])
def test_what_is_lacking_is_replaced_and_nothing_else(
    feature: str, kinds: dict[str, str], byteorder: ByteOrder
) -> None:
    btf, ids = newest(byteorder)
    got = Btf.from_bytes(sanitize(btf.raw, [feature]))
    assert got.byteorder == byteorder
    assert len(got) == len(btf)
    assert {word: got[ids[word]].kind_name for word in kinds} == kinds
    touched = {ids[word] for word in kinds}
    assert [list(got.record(id)) for id in range(len(got)) if id not in touched] == [
        list(btf.record(id)) for id in range(len(btf)) if id not in touched
    ]


@ORDERS
def test_an_enumeration_of_64_bits_stays_a_number_of_as_many(byteorder: ByteOrder) -> None:
    btf, ids = newest(byteorder)
    number = Btf.from_bytes(sanitize(btf.raw, ["enum64"]))[ids["enum64"]]
    assert isinstance(number, Int)
    assert (number.name, number.size, number.bits, number.offset) == ("big", 8, 64, 0)


def test_a_section_keeps_what_every_kernel_takes_of_its_name() -> None:
    btf, ids = newest()
    assert Btf.from_bytes(sanitize(btf.raw, ["datasec_name"]))[ids["odd section"]].name == "_.odd"


@ORDERS
def test_ids_and_sizes_stay_when_everything_is_lacking(byteorder: ByteOrder) -> None:
    btf, ids = newest(byteorder)
    got = Btf.from_bytes(sanitize(btf.raw, FEATURES))
    # What stands for a prototype, a variable or a tag has a size where that had none, or another.
    others = {type.id for type in btf if type.kind_name in {"func", "func_proto", "var", "decl_tag"}}
    assert [size for id, size in enumerate(sizes(got)) if id not in others] == [
        size for id, size in enumerate(sizes(btf)) if id not in others
    ]
    names = {"var": "total", "func": "count", "datasec": "_data", "odd section": "__odd", "enum64": "big", "double": ""}
    assert {word: got[ids[word]].name for word in names} == names
    assert [(name, offset) for name, _, offset, _ in members(got[ids["datasec"]])] == [("total", 0), ("hidden", 64)]


def members(type: Type) -> tuple[tuple[str, Type, int, int], ...]:
    assert isinstance(type, rawbpf.btf.Struct)
    return type.members


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_is_found_to_lack_what_came_later(release: str) -> None:
    with Simulator(release=release) as old:
        answers = {feature: features.btf_feature(feature, backend=old).answer for feature in FEATURES}
    had = {feature for feature, first in SINCE.items() if numbers(first) <= numbers(release)}
    assert {feature for feature, answer in answers.items() if answer is Answer.SUPPORTED} == had
    assert {feature for feature, answer in answers.items() if answer is Answer.UNSUPPORTED} == SINCE.keys() - had


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_takes_what_it_lacks_nothing_of_any_more(release: str) -> None:
    with Simulator(release=release) as old:
        lacking = [feature for feature in FEATURES if not features.btf_feature(feature, backend=old)]
        old.close(btf_load(old, sanitize(newest()[0].raw, lacking)))


@pytest.mark.guest
def test_the_kernel_takes_what_it_is_found_to_have(backend: Backend) -> None:
    lacking = [feature for feature in FEATURES if features.btf_feature(feature) == Answer.UNSUPPORTED]
    backend.close(btf_load(backend, sanitize(newest(sys.byteorder)[0].raw, lacking)))


@pytest.mark.guest
def test_a_kernel_with_every_kind_replaced_takes_the_rest(backend: Backend) -> None:
    for each in FEATURES:
        lacking = {each, *(name for name in FEATURES if features.btf_feature(name) == Answer.UNSUPPORTED)}
        backend.close(btf_load(backend, sanitize(newest(sys.byteorder)[0].raw, lacking)))


@pytest.mark.parametrize(
    ("number", "answer"), [(1, Answer.NO_PERMISSION), (12, Answer.UNKNOWN)], ids=["EPERM", "ENOMEM"]
)
def test_a_probe_that_fails_for_another_reason_says_nothing_of_the_kernel(
    backend: Backend, number: int, answer: Answer
) -> None:
    other = FaultBackend(backend, {c.BPF_BTF_LOAD: [(1, number)]})
    assert features.btf_feature("func", backend=other).answer is answer


def test_an_unknown_feature_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="'enums' is none of what BTF may have: func, func_global, "):
        features.btf_feature("enums")


# Loading --------------------------------------------------------------------------


def object_with_newest_types() -> rawbpf.ObjectSpec:
    """Return the object `execcount` with types added that the simulated releases learned one by one."""
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    content = spec._content
    btf = Btf.from_bytes(content.btf_bytes)
    extra = Builder(btf.byteorder)
    extra.enum64("wide", [("WIDE", 1 << 40)])
    extra.float("double", 8)
    # Names are those of the object: what is added has none, but the constant that needs one.
    some = next(word for word in (btf.record(type.id)[0] for type in btf if type.id) if word)
    words = array("I", btf.words)
    words.extend((some, 19 << 24 | 1, 8, some, 0, 256))
    words.extend((some, 16 << 24, 8))
    words.extend((some, 18 << 24, 1))
    words.extend((some, 17 << 24, next(type.id for type in btf if type.kind_name == "struct"), 0xFFFFFFFF))
    content.btf_bytes = assemble(words, btf.strings, btf.byteorder)
    return spec


@pytest.mark.guest
@pytest.mark.needs("module:elftools")
def test_maps_of_an_object_with_the_newest_types_keep_their_own(backend: Backend) -> None:
    with object_with_newest_types().load() as obj, rawbpf.Map.from_id(obj.maps["exec_count"].id) as again:
        assert (again.key_type.name, again.value_type.name) == ("u32", "u64")


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize("release", [release for release in RELEASES if numbers(release) >= (5, 5)])
def test_maps_keep_their_types_on_old_releases(release: str) -> None:
    with Simulator(release=release) as old, rawbpf.using(old), object_with_newest_types().load() as obj:
        with rawbpf.Map.from_id(obj.maps["exec_count"].id) as again:
            assert (again.key_type.name, again.value_type.name) == ("u32", "u64")
        assert obj.variables["min_uid"].value == 0


@pytest.mark.needs("module:elftools")
def test_where_functions_are_lacking_maps_have_types_and_programs_have_none(backend: Backend) -> None:
    # The first load, and the first probe.
    other = FaultBackend(backend, {c.BPF_BTF_LOAD: [(1, 22), (2, 22)]})
    with rawbpf.ObjectSpec.from_file(native("execcount")).load(backend=other) as obj:
        assert obj.maps["exec_count"].info.btf_id
        assert not obj.programs["count_execve"].info.btf_id


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize(
    ("refused", "typed"),
    # The first load, nine probes, the second load.
    [([], True), ([1], False), ([1, 7], True), ([1, 7, 11], False)],
    ids=["taken", "refused for no reason", "refused for one kind", "refused again"],
)
@pytest.mark.parametrize("number", [22, 524], ids=["EINVAL", "ENOTSUPP"])
def test_an_object_loads_whatever_becomes_of_its_types(
    backend: Backend, refused: list[int], typed: bool, number: int
) -> None:
    other = FaultBackend(backend, {c.BPF_BTF_LOAD: [(at, 22 if at == 7 else number) for at in refused]})
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    with spec.load(only=[], backend=other) as obj:
        assert bool(obj.maps["exec_count"].info.btf_id) is typed
