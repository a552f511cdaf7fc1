"""Edits of a specification change what is loaded, and loading changes no specification."""

from __future__ import annotations

import errno
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.objects import CALLBACKS, native

import rawbpf
from rawbpf.map.create import create_from_spec
from rawbpf.spec.map import MapSpec
from rawbpf.syscall.fault import FaultBackend
from rawbpf.syscall.wrapper import Wrapper
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from ctypes import _CArgObject as ByRef

    from rawbpf.syscall.protocol import Backend

BPF = Path(__file__).resolve().parents[1] / "bpf"

pytestmark = [pytest.mark.guest, pytest.mark.needs("module:elftools")]


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(native("execcount"))


def _state(spec: rawbpf.ObjectSpec) -> tuple[object, ...]:
    maps = {
        name: (m.max_entries, m.map_flags, None if m.contents is None else bytes(m.contents))
        for name, m in spec.maps.items()
    }
    programs = {name: (p.prog_type, [str(i) for i in p.instructions]) for name, p in spec.programs.items()}
    return maps, programs, {name: v.value for name, v in spec.variables.items()}


def test_loading_leaves_the_specification_as_it_was(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.variables["min_uid"].value = 5
    before = _state(spec)
    for _ in range(2):
        with spec.load() as obj:
            obj.variables["dropped"].value = 9
            obj.maps["exec_count"][1] = 1
        assert _state(spec) == before


def test_edited_maps_are_created_as_edited(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.maps["exec_count"].max_entries = 17
    spec.maps["exec_count"].map_flags |= c.BPF_F_NO_PREALLOC
    with spec.load() as obj:
        info = obj.maps["exec_count"].info
        assert (info.max_entries, info.map_flags) == (17, c.BPF_F_NO_PREALLOC)


@pytest.mark.parametrize("typed", [True, False], ids=["with BTF", "where the kernel takes no BTF"])
def test_a_map_whose_value_was_made_larger_holds_bytes(backend: Backend, spec: rawbpf.ObjectSpec, typed: bool) -> None:
    spec.maps["exec_count"].value_size = 640
    other = FaultBackend(backend, {} if typed else {c.BPF_BTF_LOAD: [(1, 22)]})
    with spec.load(only=[], backend=other) as obj:
        obj.maps["exec_count"][1] = b"x" * 640
        assert obj.maps["exec_count"].snapshot() == {1: b"x" * 640}


def test_slots_of_a_devmap_may_be_of_eight_bytes(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    devices = MapSpec("devices", c.BPF_MAP_TYPE_DEVMAP, 4, 8, 2)
    made: Any = create_from_spec(backend, devices, name="devices")
    with made as m:
        m[0] = 1  # the loopback interface
        assert m[0] == (1, None)
        assert m.raw[bytes(4)] == struct.pack("=II", 1, 0)


def test_edited_variables_start_with_their_new_values(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.variables["min_uid"].value = 77
    spec.variables["dropped"].value = 2**40
    with spec.load() as obj:
        assert obj.variables["min_uid"].value == 77
        assert obj.variables["dropped"].value == 2**40
        assert obj["dropped"].value == 2**40


def test_a_constant_cannot_be_changed_once_loaded(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load() as obj:
        with pytest.raises(rawbpf.PermissionDenied, match=r"before load\(\)"):
            obj.variables["min_uid"].value = 1
        with pytest.raises(rawbpf.PermissionDenied):
            obj.maps[".rodata"].raw[0] = bytes(4)


def test_values_that_do_not_fit_a_variable_are_refused(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with pytest.raises(OverflowError, match="min_uid"):
        spec.variables["min_uid"].value = -1
    with pytest.raises(TypeError, match="min_uid"):
        spec.variables["min_uid"].value = "x"
    with spec.load() as obj:
        with pytest.raises(OverflowError, match="dropped"):
            obj.variables["dropped"].value = 2**64
        assert obj.variables["dropped"].value == 0


def test_only_some_programs_may_be_loaded(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load(only=[]) as obj:
        assert obj.programs == {}
        assert obj.attach() == []
    with pytest.raises(rawbpf.SpecError, match="count_execve"):
        spec.load(only=["nope"])
    spec.programs["count_execve"].autoload = False
    with spec.load() as obj:
        assert obj.programs == {}
    with spec.load(only=["count_execve"]) as obj:
        assert list(obj.programs) == ["count_execve"]


def test_a_map_of_the_callers_replaces_the_objects_own(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=10240) as mine:
        with spec.load(maps={"exec_count": mine}) as obj:
            assert obj.maps["exec_count"].same_as(mine)
            obj.maps["exec_count"][3] = 4
        assert mine[3] == 4
    with rawbpf.HashMap.create(key="u64", value="u64", max_entries=5) as other:
        with pytest.raises(rawbpf.SpecError, match=r"key_size 8 instead of 4.*max_entries 5 instead of 10240"):
            spec.load(maps={"exec_count": other})
        with pytest.raises(rawbpf.SpecError, match="exec_count"):
            spec.load(maps={"nope": other})


def test_what_is_not_made_is_given_or_not_referred_to(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.maps["exec_count"].autocreate = False
    with pytest.raises(rawbpf.SpecError, match=r"'count_execve' refers to map 'exec_count', which .* does not make"):
        spec.load()
    with spec.load(only=[]) as obj:
        assert "exec_count" not in obj.maps
    with (
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=10240) as mine,
        spec.load(maps={"exec_count": mine}) as obj,
    ):
        assert obj.maps["exec_count"].same_as(mine)
        assert "count_execve" in obj.programs


@pytest.fixture
def pins(backend: Backend) -> Iterator[Path]:
    from support.bpffs import bpffs

    with bpffs(backend) as path:
        yield path


def test_a_map_pinned_by_name_is_shared_by_those_who_load_it(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    spec.maps["exec_count"].pinning = 1
    with spec.load(pin_dir=pins) as first, spec.load(pin_dir=pins) as second:
        first.maps["exec_count"][5] = 6
        assert second.maps["exec_count"][5] == 6
        assert first.maps["exec_count"].same_as(second.maps["exec_count"])
    with spec.load(pin_dir=pins) as third:
        assert third.maps["exec_count"][5] == 6
    spec.maps["exec_count"].max_entries = 7
    with pytest.raises(rawbpf.SpecError, match=r"exec_count.*max_entries 10240 instead of 7"):
        spec.load(pin_dir=pins)
    (pins / "exec_count").unlink()


def test_a_pin_that_was_made_goes_away_when_loading_fails(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    spec.maps["exec_count"].pinning = 1
    failing = FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, 12), (2, 12)]})
    with pytest.raises(rawbpf.BpfError):
        spec.load(pin_dir=pins, backend=failing)
    assert not (pins / "exec_count").exists()
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=10240, pin=pins / "exec_count") as older:
        with pytest.raises(rawbpf.BpfError):
            spec.load(pin_dir=pins, backend=FaultBackend(backend, {c.BPF_PROG_LOAD: [(1, 12), (2, 12)]}))
        # What others pinned is theirs.
        assert (pins / "exec_count").exists()
        older.unpin()


def test_a_pin_that_others_removed_does_not_hide_why_loading_failed(
    backend: Backend, spec: rawbpf.ObjectSpec, pins: Path
) -> None:
    class _Rival(FaultBackend):
        def bpf_blocking(self, cmd: int, attr: ByRef, size: int, /) -> int:
            if cmd == c.BPF_PROG_LOAD:
                (pins / "exec_count").unlink(missing_ok=True)
            return super().bpf_blocking(cmd, attr, size)

    spec.maps["exec_count"].pinning = 1
    failing = _Rival(backend, {c.BPF_PROG_LOAD: [(i, 12) for i in (1, 2, 3)]})
    with pytest.raises(rawbpf.BpfError) as caught:
        spec.load(pin_dir=pins, backend=failing)
    assert caught.value.errno == 12


def test_a_reused_pin_is_typed_by_the_object(backend: Backend, pins: Path) -> None:
    spec = rawbpf.ObjectSpec.from_file(native("exec_details"))
    spec.maps["exec_details"].pinning = 1
    size = spec.maps["exec_details"].value_size
    with rawbpf.HashMap.create(key=4, value=size, max_entries=1024, pin=pins / "exec_details") as untyped:
        untyped[bytes(4)] = bytes(size)
        with spec.load(pin_dir=pins) as obj:
            assert obj.maps["exec_details"][0].comm == ""
        untyped.unpin()


@pytest.mark.needs(*CALLBACKS)
def test_a_program_array_starts_with_the_programs_that_the_object_says(backend: Backend, pins: Path) -> None:
    shapes = rawbpf.ObjectSpec.from_file(native("shapes"))
    index, name = next(iter(shapes.maps["jumps"].values.items()))
    with shapes.load(pin_dir=pins) as obj:
        assert obj.maps["jumps"][index] == obj.programs[name].id
    with pytest.raises(rawbpf.SpecError, match=f"'jumps' starts with '{name}'"):
        shapes.load(only=[], pin_dir=pins)


@pytest.mark.needs(*CALLBACKS)
def test_a_map_of_maps_starts_with_the_maps_that_the_object_says_and_knows_its_template(
    backend: Backend, pins: Path
) -> None:
    shapes = rawbpf.ObjectSpec.from_file(native("shapes"))
    with (
        shapes.load(pin_dir=pins) as obj,
        rawbpf.Map.create("array", value="u64", max_entries=1, flags=0) as plain,
        rawbpf.Map.create("array", value="u64", max_entries=1) as mappable,
    ):
        outer = obj.maps["outer"]
        assert outer.snapshot() == {1: obj.maps["first"].id, 3: obj.maps["third"].id}
        outer[1] = plain
        with pytest.raises(rawbpf.BpfError, match=r"map_flags 0x400 instead of 0x0; Map\.create makes arrays"):
            outer[1] = mappable
        assert outer[1] == plain.id


def test_types_come_from_the_object_and_reach_the_kernel(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load() as obj, rawbpf.Map.from_id(obj.maps["exec_count"].id) as again:
        info = obj.maps["exec_count"].info
        assert info.btf_id
        assert info.key_type_id
        assert info.value_type_id
        again[1] = 2
        assert obj.maps["exec_count"].snapshot() == {1: 2}
        program = obj.programs["count_execve"].info
        assert program.btf_id
        assert obj.maps[".bss"].info.name == "execcoun.bss"


def test_what_was_taken_outlives_the_object(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load() as obj:
        taken = obj.take("exec_count")
        with pytest.raises(KeyError, match="nope"):
            obj.take("nope")
    with taken:
        taken[1] = 2
        assert taken[1] == 2


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_closing_the_object_detaches_what_its_programs_were_attached_by(
    backend: Backend, spec: rawbpf.ObjectSpec
) -> None:
    with spec.load() as obj:
        link = obj.programs["count_execve"].attach()
        with obj.programs["count_execve"].attach_tracepoint("syscalls", "sys_enter_execveat") as other:
            assert not other.closed
        states = [link.closed]
    assert [*states, link.closed] == [False, True]
    with spec.load() as obj:
        program = obj.take("count_execve")
        link = program.attach()
    with program:
        assert not link.closed
        link.close()


def test_a_name_that_is_nowhere_lists_those_that_are(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load() as obj, pytest.raises(KeyError, match=r"exec_count.*count_execve.*min_uid"):
        obj["nope"]


@pytest.mark.parametrize(
    ("cmd", "nth"),
    [
        pytest.param(c.BPF_BTF_LOAD, 1, id="types"),
        pytest.param(c.BPF_MAP_CREATE, 1, id="first map"),
        pytest.param(c.BPF_MAP_CREATE, 3, id="third map"),
        pytest.param(c.BPF_MAP_FREEZE, 1, id="freezing the constants"),
        pytest.param(c.BPF_MAP_UPDATE_ELEM, 1, id="filling the constants"),
        pytest.param(c.BPF_PROG_LOAD, 1, id="loading the program"),
    ],
)
def test_nothing_stays_behind_when_loading_fails(backend: Backend, spec: rawbpf.ObjectSpec, cmd: int, nth: int) -> None:
    # The leak check of every test looks for what stayed.
    spec.variables["min_uid"].value = 1
    failing = FaultBackend(backend, {cmd: [(nth + i, 12) for i in range(3)]})
    with pytest.raises(rawbpf.BpfError) as caught:
        spec.load(backend=failing)
    assert caught.value.errno == 12


def test_closing_lets_go_of_the_variables_memory(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    before = os.listdir("/proc/self/fd")
    with spec.load() as obj:
        assert [variable.value for variable in obj.variables.values()] == [0, 0]
    # A mapping holds a descriptor of its own, and the map in the kernel.
    assert os.listdir("/proc/self/fd") == before
    for variable in obj.variables.values():
        with pytest.raises(rawbpf.Closed):
            _ = variable.value


class _RefusingClose(Wrapper):
    of = -1

    def close(self, fd: int) -> None:
        super().close(fd)
        if fd == self.of:
            raise OSError(errno.EIO, "on purpose")


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_what_cannot_be_closed_keeps_nothing_else_open(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    refusing = _RefusingClose(backend)
    obj = spec.load(backend=refusing)
    links = obj.attach()
    refusing.of = links[0].fileno()
    with pytest.raises(OSError, match="on purpose"):
        obj.close()
    assert all(each.closed for each in (*links, *obj.programs.values(), *obj.maps.values()))


@pytest.mark.real_kernel("nothing can be attached to a simulated kernel")
def test_nothing_stays_attached_when_attaching_fails(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    failing = FaultBackend(backend, {c.BPF_LINK_CREATE: [(1, 16)]})
    with spec.load(backend=failing) as obj:
        with pytest.raises(rawbpf.BpfError):
            obj.attach()
        assert len(obj.attach()) == 1


def test_an_object_of_the_other_byte_order_is_parsed_and_not_loaded(backend: Backend) -> None:
    other = rawbpf.ObjectSpec.from_file(
        BPF / ("execcount.bpfeb.o" if backend.host.byteorder == "little" else "execcount.bpf.o")
    )
    assert list(other.programs) == ["count_execve"]
    assert other.maps["exec_count"].max_entries == 10240
    with pytest.raises(rawbpf.SpecError, match="-endian"):
        other.load()


def test_a_specification_survives_pickling(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    spec.variables["min_uid"].value = 12
    copy: Any = pickle.loads(pickle.dumps(spec))
    assert str(copy) == str(spec)
    with copy.load() as obj:
        assert obj.variables["min_uid"].value == 12


def test_an_object_dropped_open_warns_and_closes(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed <Object 'execcount.bpf(eb)?.o'.*test_loader_edits"):
        spec.load()
