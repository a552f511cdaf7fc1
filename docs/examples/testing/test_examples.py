"""Tests with many examples: with a kernel each, and with one for all."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rawbpf
from rawbpf.sim import Simulator


# [start:own]
@given(st.integers(0, 2**32 - 1))
def test_a_key_is_found(key):
    with Simulator() as kernel, rawbpf.HashMap.create(key="u32", value="u64", max_entries=2, backend=kernel) as m:
        m[key] = 1
        assert key in m


# [end:own]
# [start:shared]
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_a_key_is_found_on_any_kernel(bpf_backend, key):
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=2) as m:
        m[key] = 1
        assert key in m


# [end:shared]
