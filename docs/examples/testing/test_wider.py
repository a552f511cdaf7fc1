"""A map that several tests share, in a kernel of its own."""

# [start:wider]
import pytest

import rawbpf
from rawbpf.sim import Simulator


@pytest.fixture(scope="module")
def squares():
    with Simulator() as kernel, rawbpf.ArrayMap.create(value="u64", max_entries=100, backend=kernel) as m:
        m.update({n: n * n for n in range(100)})
        yield m


def test_a_square(squares):
    assert squares[12] == 144


# [end:wider]
