"""Errors as objects: their text, and that they travel between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from rawbpf import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BpfError) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickling_and_copying(kind: type[errors.BpfError], through: object) -> None:
    assert callable(through)
    error = kind(2, call="map_lookup_elem", cmd=1, subject="'m' (hash)", hint="why", backend="other")
    error.applied = 3
    if isinstance(error, (errors.KeyNotFound, errors.KeyExists)):
        error.key = (1, "a")
    if isinstance(error, errors.VerifierError):
        error.log, error.summary, error.instruction, error.source_line = "log", "summary", 4, "a.c:1: x"
    again = through(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert (again.errno, again.cmd, again.strerror) == (error.errno, error.cmd, error.strerror)


def test_a_format_error_survives_pickling_with_its_offset() -> None:
    again = pickle.loads(pickle.dumps(errors.FormatError("bad", 12)))
    assert (str(again), again.offset) == ("bad (at byte 12)", 12)


@pytest.mark.parametrize(
    ("number", "name"), [(524, "ENOTSUPP"), (95, "EOPNOTSUPP"), (1, "EPERM"), (11, "EAGAIN"), (4000, "errno 4000")]
)
def test_an_errno_has_the_kernels_name(number: int, name: str) -> None:
    assert errors.errno_name(number) == name
    assert f": {name}: " in str(errors.BpfError(number, call="x"))
