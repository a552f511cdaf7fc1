"""An edited specification is written as an object file, or pickled, and reads back equal; or the edit is refused."""

from __future__ import annotations

import glob
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bpffs import bpffs
from support.btf_samples import sample
from support.clang import LIBBPF, compiled
from support.congestion import PROGRAMS, STRUCT, table
from support.needs import PATH
from support.objects import BPF, OBJECTS, native

import rawbpf
from rawbpf.btf import Btf
from rawbpf.btf.extend import Extension
from rawbpf.cli.skeleton import skeleton
from rawbpf.loader.types import ObjectTypes
from rawbpf.spec.difference import differences
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("module:elftools")

ALL = sorted([*BPF.glob("*.o"), *OBJECTS.glob("*.o")])
EACH = pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in ALL])

Edit = Callable[[rawbpf.ObjectSpec], object]


def different(one: rawbpf.ObjectSpec, other: rawbpf.ObjectSpec) -> list[str]:
    return list(differences(one._content, other._content))


def again(spec: rawbpf.ObjectSpec) -> rawbpf.ObjectSpec:
    """Return what is read of what `spec` is written as."""
    return rawbpf.ObjectSpec.from_bytes(spec.to_bytes(), name=spec.name)


def test_names_that_types_have_are_not_written_twice() -> None:
    data, _ = sample()
    added = Extension(data)
    for name in ("", "total"):
        assert added.btf.string(added.string(name)) == name
    assert added.string("fresh") == added.string("fresh") == len(added.btf.strings)
    assert Btf.from_bytes(added.to_bytes()).strings == added.btf.strings + b"fresh\0"


@EACH
def test_what_was_not_edited_is_the_file_that_was_read(path: Path, tmp_path: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(path)
    spec.save(tmp_path / "same.o")
    assert (tmp_path / "same.o").read_bytes() == path.read_bytes()
    assert os.listdir(tmp_path) == ["same.o"]


def _value(name: str, value: object) -> Edit:
    return lambda spec: _set(spec.variables[name], {"value": value})


def _map(name: str, /, **fields: object) -> Edit:
    return lambda spec: _set(spec.maps[name], fields)


def _inner(name: str, /, **fields: object) -> Edit:
    return lambda spec: _set(spec.maps[name].inner, fields)


def _program(name: str, /, **fields: object) -> Edit:
    return lambda spec: _set(spec.programs[name], fields)


def _set(spec: object, fields: dict[str, object]) -> None:
    for name, value in fields.items():
        setattr(spec, name, value)


EDITS: dict[str, Edit] = {
    "a constant": _value("min_uid", 4321),
    "text": _value("tag", "héé"),
    "a static variable": _value("local", -7),
    "a section of one's own": _value("custom", 12),
    "zeros in .data": _value("level", 0),
    "an array in .bss": _value("lost", (1, 2, 3, 1 << 60)),
    "zeros in .bss": _value("dropped", 0),
    "a larger section": _map(".bss", value_size=4096),
    "the size of a map": _map("events", max_entries=77),
    "no size": _map("events", max_entries=0),
    "the type of a map": _map("events", map_type=c.BPF_MAP_TYPE_LRU_HASH),
    "flags": _map("events", map_flags=c.BPF_F_NO_PREALLOC),
    "no flags": _map("shared", map_flags=0),
    "pinning": _map("events", pinning=1),
    "no pinning": _map("shared", pinning=0),
    "a NUMA node": _map("events", numa_node=0),
    "map_extra": _map("events", map_extra=5),
    "map_extra of 64 bits": _map("events", map_extra=(1 << 63) + 5),
    "all at once": _map("events", map_extra=5, map_flags=1, pinning=1, numa_node=3, max_entries=1 << 31),
    "sizes without types": _map("shared", key_size=8, value_size=24),
    "a map of maps": _map("outer", max_entries=9),
    "an inner map": _inner("outer", max_entries=9, map_flags=c.BPF_F_INNER_MAP),
    "a program that is not loaded": _program("on_request", autoload=True),
    "where it attaches": _program("on_request", attach_target="sys_exit"),
    "both": _program("on_request", attach_target="sys_exit", autoload=True),
}
REFUSED: dict[str, tuple[Edit, str]] = {
    "instructions": (
        lambda spec: spec.programs["sum_up"].instructions.pop(),
        r"no place for this edit: programs\['sum_up'\]\.instructions$",
    ),
    "a subprogram": (lambda spec: spec.functions["twice"].pop(), r": functions\['twice'\]\.instructions$"),
    "no such program": (lambda spec: spec.programs.pop("sum_up"), r"programs\['sum_up'\]: deleted$"),
    "no such map": (lambda spec: spec.maps.pop("events"), r"maps\['events'\]: deleted$"),
    "the name of a map": (_map("events", name="other"), r"maps\['events'\]\.name: 'other', was 'events'$"),
    "initial values": (lambda spec: spec.maps["outer"].values.update({2: "first"}), r"maps\['outer'\]\.values"),
    "flags of a data section": (_map(".data", map_flags=0), r"maps\['\.data'\]\.map_flags: 0, was 1024$"),
    "a size that its type has not": (_map("events", value_size=8), r"its value type has 24 bytes|value_size"),
    "programs of one section": (
        _program("sum_up", autoload=False),
        r"programs of section '(tp/\S+)' would be of several: 'sum_up' '\?\1' and 'count_execve' '\1'",
    ),
    "what no section says": (
        _program("on_request", prog_type=c.BPF_PROG_TYPE_XDP),
        r"program 'on_request': the name of a section says what a program is, and there is none for prog_type 6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", [OBJECTS / "shapes.bpf.o", OBJECTS / "shapes.bpfeb.o"], ids=["bpfel", "bpfeb"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_read_back(edit: Edit, path: Path, tmp_path: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(path)
    fresh = spec.copy()
    edit(spec)
    spec.save(tmp_path / path.name)
    read = rawbpf.ObjectSpec.from_file(tmp_path / path.name)
    assert different(spec, read) == []
    assert different(pickle.loads(pickle.dumps(spec)), read) == []
    assert read.to_bytes() == spec.to_bytes()
    # Only what was edited is another.
    assert len(different(fresh, read)) == len(different(fresh, spec))
    assert [name for name in read.variables if read.variables[name].value != spec.variables[name].value] == []


@pytest.mark.parametrize(("edit", "why"), REFUSED.values(), ids=REFUSED)
def test_an_edit_that_a_file_has_no_place_for_is_refused(edit: Edit, why: str, tmp_path: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("shapes"))
    edit(spec)
    (tmp_path / "old.o").write_text("old")
    with pytest.raises(rawbpf.SpecError, match=why):
        spec.save(tmp_path / "old.o")
    assert (tmp_path / "old.o").read_text() == "old"
    assert os.listdir(tmp_path) == ["old.o"]
    copy: rawbpf.ObjectSpec = pickle.loads(pickle.dumps(spec))
    assert different(copy, spec) == []


@pytest.mark.parametrize("path", [OBJECTS / "arena.bpf.o", OBJECTS / "arena.bpfeb.o"], ids=["bpfel", "bpfeb"])
def test_variables_of_an_arena_are_read_back(path: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(path)
    spec.variables["step"].value = 1 << 40
    back = again(spec)
    assert different(back, spec) == []
    assert (back.variables["step"].value, back.variables["first"].value) == (1 << 40, (0, 2))


@pytest.mark.needs("tool:clang")
@pytest.mark.parametrize("section", [".struct_ops", ".struct_ops.link", "?.struct_ops.link"])
def test_members_of_tables_are_read_back_and_their_functions_stay(tmp_path: Path, section: str) -> None:
    source = STRUCT + PROGRAMS + table("first", section, ".flags = 1") + table("second", section, ".flags = 2")
    spec = rawbpf.ObjectSpec.from_file(compiled(tmp_path, source, prelude=LIBBPF))
    flags = 3 * 8
    spec.maps["second"].write(flags, b"same")
    back = again(spec)
    assert different(back, spec) == []
    assert back.maps["second"].read(flags, 4) == b"same"


def test_what_was_made_of_no_file_cannot_be_saved() -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec._content.file = b""
    with pytest.raises(rawbpf.SpecError, match="was not read from an object file"):
        spec.to_bytes()


def test_types_that_only_debug_information_has_are_found_in_the_saved_file() -> None:
    spec = rawbpf.ObjectSpec.from_file(native("events"))
    spec.maps["headers"].max_entries = 5
    read = again(spec)
    before, after = (list(ObjectTypes(each._content).names()) for each in (spec, read))
    assert "started" in before
    assert after == before


numbers = st.integers(0, (1 << 32) - 1)


@st.composite
def edits(draw: st.DrawFn, path: Path) -> rawbpf.ObjectSpec:
    """Draw an edited specification of the object at `path`: whatever a file has a place for."""
    spec = rawbpf.ObjectSpec.from_file(path)
    for name in draw(st.sets(st.sampled_from([*spec.maps]))):
        each = spec.maps[name]
        if each.is_data:
            each.write(0, draw(st.binary(min_size=each.value_size, max_size=each.value_size)))
            continue
        if each.map_type == c.BPF_MAP_TYPE_STRUCT_OPS:
            continue  # a table has members in its place, and is as large as they are
        if each.section != ".maps" and any(name in outer.values.values() for outer in spec.maps.values()):
            continue  # the definition of another map's template is its own, which has no other
        each.max_entries = draw(numbers)
        each.map_flags = draw(numbers)
        if each.section != ".maps":  # of before BTF, which has no more
            continue
        each.map_extra = draw(st.integers(0, (1 << 64) - 1))
        each.numa_node = draw(st.none() | numbers)
        each.pinning = draw(st.sampled_from([0, 1]))
        if each.inner is not None:
            each.inner.max_entries = draw(numbers)
    for section in sorted({program.section for program in spec.programs.values()}):
        autoload = draw(st.booleans())
        for program in spec.programs.values():
            if program.section == section:
                program.autoload = autoload
    return spec


@EACH
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_edits_of_any_object_survive_a_file_and_a_pickle(path: Path, data: st.DataObject) -> None:
    """Whatever is edited and saved or pickled is what is read, and writing that again gives the same bytes."""
    spec = data.draw(edits(path))
    read = again(spec)
    assert different(spec, read) == []
    assert read.to_bytes() == spec.to_bytes()
    copy: rawbpf.ObjectSpec = pickle.loads(pickle.dumps(spec))
    assert different(spec, copy) == []
    assert copy.to_bytes() == spec.to_bytes()
    assert all(variable.map in copy.maps.values() for variable in copy.variables.values())


@settings(deadline=None, max_examples=60)
@given(
    path=st.sampled_from(ALL),
    changes=st.lists(st.tuples(st.integers(0, (1 << 14) - 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_whatever_an_object_says_it_is_shown_and_saved_or_refused(path: Path, changes: list[tuple[int, int]]) -> None:
    """Of a damaged object that can be read, text, listings, a module and a file are made, or it is refused."""
    content = bytearray(path.read_bytes())
    for at, value in changes:
        content[at % len(content)] = value
    try:
        spec = rawbpf.ObjectSpec.from_bytes(bytes(content))
        assert str(spec).startswith("object: ")
        for program in spec.programs.values():
            program.disassemble(spec.functions)
            program.autoload = not program.autoload
        compile(skeleton(spec), "module", "exec")
        for each in spec.maps.values():
            each.max_entries ^= 1
        spec.to_bytes()
    except (rawbpf.FormatError, rawbpf.SpecError):
        pass


INTERPRETERS = sorted(
    {sys.executable, *glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[1-3].*/bin/python"))},
    key=lambda path: path != sys.executable,
)
PASSES_ON = """
import pickle, sys
specs = pickle.load(sys.stdin.buffer)
for spec in specs:
    spec.maps  # of what it is made
    str(spec)
assert "elftools" not in sys.modules
pickle.dump(specs, sys.stdout.buffer)
"""


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_pickle_is_understood_by_other_processes_and_releases_of_python(interpreter: str) -> None:
    specs = [rawbpf.ObjectSpec.from_file(path) for path in ALL]
    for spec in specs:
        for each in spec.maps.values():
            each.max_entries += 1
        for program in spec.programs.values():
            program.autoload = False
            program.instructions.pop()
    path = str(Path(rawbpf.__file__).resolve().parents[1])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        done = subprocess.run(
            [interpreter, "-W", "error", "-c", PASSES_ON],
            input=pickle.dumps(specs, protocol), env={**os.environ, "PYTHONPATH": path},
            capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        for spec, read in zip(specs, pickle.loads(done.stdout), strict=True):
            assert different(spec, read) == []


@pytest.mark.parametrize("kind", ["fifo", "directory", "link to a directory", "slash at its end"])
def test_what_is_no_file_stays_and_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a directory":
        path.symlink_to(tmp_path)
    before = path.lstat().st_mode if path.exists() else None
    name = f"{path}/" if kind == "slash at its end" else str(path)
    with pytest.raises(OSError, match=r"(Is a directory|Not a regular file): '.*/there/?'$"):
        rawbpf.ObjectSpec.from_file(native("execcount")).save(name)
    assert (path.lstat().st_mode if path.exists() else None) == before
    assert os.listdir(tmp_path) == (["there"] if before else [])


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'.*/no/people.bpf.o'$"):
        rawbpf.ObjectSpec.from_file(native("execcount")).save(tmp_path / "no" / "people.bpf.o")


def test_a_saved_object_is_loaded(backend: Backend) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.maps["exec_count"].max_entries = 55
    spec.variables["min_uid"].value = 1234
    spec.variables["dropped"].value = 9
    # More properties than the definition had room for: the kernel still takes the types.
    spec.maps["exec_count"].map_flags = c.BPF_F_NO_PREALLOC
    spec.maps["exec_count"].numa_node = 0
    with again(spec).load() as obj:
        assert obj.maps["exec_count"].info.btf_id
        assert obj.maps["exec_count"].max_entries == 55
        assert obj.maps["exec_count"].key_type.name == "u32"
        assert {name: variable.value for name, variable in obj.variables.items()} == {"min_uid": 1234, "dropped": 9}


@pytest.mark.real_kernel("another tool is asked about the same objects")
@pytest.mark.needs("kernel", "tool:bpftool")
def test_bpftool_loads_a_saved_object_with_its_edits(backend: Backend, tmp_path: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    spec.maps["exec_count"].max_entries = 55
    spec.maps["exec_count"].map_flags = c.BPF_F_NO_PREALLOC
    spec.variables["min_uid"].value = 1234
    spec.programs["count_execve"].attach_target = "syscalls/sys_enter_execveat"
    spec.save(tmp_path / "saved.o")
    with bpffs(backend) as folder:
        command = ["bpftool", "prog", "loadall", str(tmp_path / "saved.o"), str(folder / "own")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": PATH})
        assert done.returncode == 0, done.stderr
        maps = {}
        with rawbpf.Program.from_pin(folder / "own/count_execve") as program:
            for number in program.info.map_ids:
                with rawbpf.Map.from_id(number) as each:
                    maps[each.name] = each.max_entries, each.info.map_flags, [*each.raw.values()]
    rodata = next(name for name in maps if name.endswith("rodata"))
    assert maps["exec_count"] == (55, c.BPF_F_NO_PREALLOC, [])
    assert maps[rodata][2] == [(1234).to_bytes(4, sys.byteorder)]
