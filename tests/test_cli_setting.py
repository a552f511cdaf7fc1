"""`--set VAR=VALUE`: text becomes what the variable's C type takes. No kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rawbpf.btf import Btf
from rawbpf.btf.build import Builder
from rawbpf.cli.failure import Failure
from rawbpf.cli.setting import apply
from rawbpf.spec.map import MapSpec
from rawbpf.spec.variable import VariableSpec

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES: dict[str, tuple[int, Callable[[Builder], int]]] = {
    "u32": (4, lambda b: b.typedef("uid_t", b.int("unsigned int", 4))),
    "s8": (1, lambda b: b.int("signed char", 1, signed=True)),
    "bool": (1, lambda b: b.int("_Bool", 1, bool=True)),
    "double": (8, lambda b: b.float("double", 8)),
    "text": (8, lambda b: b.array(b.int("char", 1, signed=True), 8)),
    "mode": (4, lambda b: b.enum("mode", [("OFF", 0), ("ON", 1)])),
    "numbers": (8, lambda b: b.array(b.int("unsigned int", 4), 2)),
}


def variables() -> dict[str, VariableSpec]:
    builder = Builder()
    ids = {name: make(builder) for name, (_, make) in TYPES.items()}
    btf = Btf.from_bytes(builder.to_bytes())
    section = MapSpec(".data", 2, 4, 8 * (len(TYPES) + 1), 1, section=".data")
    made = {
        name: VariableSpec(name, section, 8 * index, size, btf[ids[name]])
        for index, (name, (size, _)) in enumerate(TYPES.items())
    }
    return made | {"bare": VariableSpec("bare", section, 8 * len(TYPES), 8)}


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        pytest.param("u32", "1000", 1000, id="decimal"),
        pytest.param("u32", "0x1F", 31, id="hexadecimal"),
        pytest.param("u32", "0b11", 3, id="binary"),
        pytest.param("u32", "true", 1, id="a-flag-that-is-a-number"),
        pytest.param("s8", "-128", -128, id="negative"),
        pytest.param("bool", "true", True, id="true"),
        pytest.param("bool", "false", False, id="false"),
        pytest.param("bool", "1", True, id="one-for-true"),
        pytest.param("double", "0.25", 0.25, id="float"),
        pytest.param("double", "1e3", 1000.0, id="exponent"),
        pytest.param("text", "eth0", "eth0", id="text"),
        pytest.param("text", "a=b", "a=b", id="equals-sign"),
        pytest.param("text", "", "", id="no-text"),
        pytest.param("mode", "ON", 1, id="enumerator"),
        pytest.param("mode", "0", 0, id="enumerator-by-number"),
        pytest.param("mode", "7", 7, id="number-without-enumerator"),
    ],
)
def test_text_becomes_the_value_of_its_type(name: str, written: str, value: object) -> None:
    among = variables()
    apply([(name, written)], among)
    assert among[name].value == value


@pytest.mark.parametrize(
    ("name", "written", "because"),
    [
        pytest.param("u32", "ten", "expected a number (u32)", id="no-number"),
        pytest.param("u32", "1.5", "expected a number (u32)", id="fraction"),
        pytest.param("u32", "-1", "expected an int in 0..4294967295", id="negative"),
        pytest.param("s8", "128", "expected an int in -128..127", id="too-great"),
        pytest.param("bool", "yes", "expected true or false", id="no-truth"),
        pytest.param("double", "x", "expected a number (f64)", id="no-float"),
        pytest.param("text", "longer than 8", "expected at most 8 bytes", id="too-long"),
        pytest.param("mode", "MAYBE", "expected one of OFF, ON, or a number", id="no-enumerator"),
        pytest.param("numbers", "1", "u32[2] cannot be written on the command line", id="array"),
        pytest.param("bare", "1", "compile with -g", id="no-type"),
        pytest.param("nope", "1", "its variables are bare, bool, double", id="no-variable"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, written: str, because: str) -> None:
    with pytest.raises(Failure) as caught:
        apply([(name, written)], variables())
    assert str(caught.value).startswith(f"--set {name}")
    assert because in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_object_without_variables_says_so() -> None:
    with pytest.raises(Failure, match="it has no variables"):
        apply([("x", "1")], {})
