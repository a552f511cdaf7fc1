"""A kernel makes the maps that the model of BPF_MAP_CREATE lets through, and refuses the others as it says."""

from __future__ import annotations

import pytest
from support import oracle

from rawbpf import features
from rawbpf.testing.model.creation import refusal
from rawbpf.testing.spec import MapSpec, create
from rawbpf.testing.strategies import MAP_TYPES, map_specs, odd_map_specs

_EXAMPLES = max(50, min(oracle.OPERATIONS // 5, 1000))


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_what_is_refused_and_why(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:

        @oracle.for_all(odd_map_specs(map_type), examples=_EXAMPLES)
        def agrees(spec: MapSpec) -> None:
            expected = refusal(spec)
            for stage in stages:
                fd, error = create(stage.backend, spec, stage.objects)
                if fd >= 0:
                    stage.backend.close(fd)
                assert error == (expected.error if expected else ""), (stage.backend.name, spec, expected)


@pytest.mark.parametrize("map_type", MAP_TYPES)
def test_what_is_drawn_can_be_made_and_the_feature_probe_says_so(map_type: str) -> None:
    oracle.require(map_type)
    with oracle.stages(map_type) as stages:
        for stage in stages:
            assert features.map_type(map_type, backend=stage.backend)

        @oracle.for_all(map_specs(map_type), examples=30)
        def can_be_made(spec: MapSpec) -> None:
            for stage in stages:
                fd, error = create(stage.backend, spec, stage.objects)
                assert not error, (spec, error)
                stage.backend.close(fd)


def test_a_type_that_does_not_exist_is_neither_made_nor_promised() -> None:
    oracle.require("hash")
    with oracle.parties() as backends:
        for backend in backends:
            assert not features.map_type(200, backend=backend)
            # A hash table's spec under the number of no type.
            assert create(backend, MapSpec("unspec", 4, 4, 1)) == (-1, "EINVAL")
