"""Maps, programs and variables are found by name, and assigning to a name does nothing in silence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rawbpf

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

BPF = Path(__file__).resolve().parents[1] / "bpf"

pytestmark = pytest.mark.needs("module:elftools")


@pytest.fixture
def spec() -> rawbpf.ObjectSpec:
    return rawbpf.ObjectSpec.from_file(BPF / "execcount.bpf.o")


def _assign(mapping: Any, name: str) -> None:
    mapping[name] = 1000


def _merge(mapping: Any, name: str) -> None:
    mapping |= {name: 1000}


WAYS = pytest.mark.parametrize(
    "assign",
    [
        pytest.param(_assign, id="assigning"),
        pytest.param(lambda mapping, name: mapping.update({name: 1000}), id="update"),
        pytest.param(lambda mapping, name: mapping.update(**{name: 1000}), id="update by keyword"),
        pytest.param(_merge, id="merging"),
    ],
)


@WAYS
def test_a_specification_says_how_to_edit_instead(spec: rawbpf.ObjectSpec, assign: Callable[[Any, str], None]) -> None:
    with pytest.raises(TypeError, match=r'set spec\.variables\["min_uid"\]\.value'):
        assign(spec.variables, "min_uid")
    with pytest.raises(TypeError, match=r'spec\.maps\["exec_count"\]\.max_entries'):
        assign(spec.maps, "exec_count")
    with pytest.raises(TypeError, match=r'spec\.programs\["count_execve"\]\.autoload'):
        assign(spec.programs, "count_execve")
    with pytest.raises(KeyError, match=r"min_uit.*min_uid"):
        assign(spec.variables, "min_uit")
    assert spec.variables["min_uid"].value == 0


@WAYS
def test_an_object_says_what_to_do_instead(
    backend: Backend, spec: rawbpf.ObjectSpec, assign: Callable[[Any, str], None]
) -> None:
    with spec.load() as obj:
        with pytest.raises(TypeError, match=r'set obj\.variables\["dropped"\]\.value'):
            assign(obj.variables, "dropped")
        with pytest.raises(TypeError, match=r'obj\.maps\["exec_count"\]\[key\]'):
            assign(obj.maps, "exec_count")
        with pytest.raises(TypeError, match=r"obj\.programs"):
            assign(obj.programs, "count_execve")
        assert obj.variables["dropped"].value == 0


@pytest.mark.parametrize(
    "miss",
    [
        pytest.param(lambda mapping: mapping["nope"], id="getting"),
        pytest.param(lambda mapping: mapping.__delitem__("nope"), id="deleting"),
        pytest.param(lambda mapping: mapping.pop("nope"), id="pop"),
        pytest.param(lambda mapping: mapping.setdefault("nope", 1), id="setdefault"),
    ],
)
def test_an_unknown_name_lists_those_that_there_are(
    backend: Backend, spec: rawbpf.ObjectSpec, miss: Callable[[Any], object]
) -> None:
    with spec.load() as obj:
        for owner in (spec, obj):
            with pytest.raises(KeyError, match=r"maps has no 'nope'; it has exec_count, \.rodata, \.bss"):
                miss(owner.maps)
            with pytest.raises(KeyError, match=r"programs has no 'nope'; it has count_execve"):
                miss(owner.programs)
            with pytest.raises(KeyError, match=r"variables has no 'nope'; it has min_uid, dropped"):
                miss(owner.variables)


def test_entries_can_be_deleted(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    del spec.programs["count_execve"]
    assert spec.variables.pop("dropped").name == "dropped"
    assert spec.variables.pop("dropped", None) is None
    with spec.load() as obj:
        assert list(obj.programs) == []
        assert list(obj.variables) == ["min_uid"]


@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(lambda spec: spec.copy(), id="copy()"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda spec: pickle.loads(pickle.dumps(spec)), id="pickle"),
    ],
)
def test_a_copy_refuses_as_well(spec: rawbpf.ObjectSpec, duplicate: Callable[[Any], Any]) -> None:
    other = duplicate(spec)
    assert list(other.maps) == list(spec.maps)
    with pytest.raises(TypeError, match=r"\.value"):
        other.variables["min_uid"] = 1
    other.variables["min_uid"].value = 7
    assert spec.variables["min_uid"].value == 0
    assert other.variables["min_uid"].map is other.maps[".rodata"]


def test_an_object_knows_its_names_and_is_no_row_of_them(backend: Backend, spec: rawbpf.ObjectSpec) -> None:
    with spec.load() as obj:
        assert [name in obj for name in ("exec_count", "count_execve", "dropped", "nope")] == [True, True, True, False]
        with pytest.raises(TypeError, match="not iterable"):
            list(obj)  # type: ignore[call-overload]
