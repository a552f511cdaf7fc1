"""Tests of Quota, on a simulated kernel or on the real one."""

# [start:imports]
import errno
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from quota import Quota

from rawbpf.testing import faults


# [end:imports]
# [start:first]
@pytest.fixture
def quota(bpf_backend) -> Iterator[Quota]:
    made = Quota(users=2, limit=3)
    yield made
    made.close()


def test_a_user_may_as_often_as_the_limit_says(quota):
    assert [quota.take(1000) for _ in range(4)] == [True, True, True, False]
    assert quota.left(1000) == 0


# [end:first]
# [start:full]
def test_when_the_map_is_full_others_keep_their_quota(quota):
    assert quota.take(1) and quota.take(2)
    assert not quota.take(3)
    assert quota.take(1)


# [end:full]
# [start:fault]
def test_a_kernel_without_memory_is_an_error_and_no_refusal(bpf_backend):
    with faults({"map_update_elem": errno.ENOMEM}):
        poor = Quota(users=2, limit=3)
    with pytest.raises(OSError, match="ENOMEM"):
        poor.take(1)
    poor.close()


# [end:fault]
# [start:machine]
class Quotas(RuleBasedStateMachine):
    """Whatever is done in whatever order, the quota is what a dict says."""

    def __init__(self):
        super().__init__()
        self.quota = Quota(users=3, limit=2)
        self.model = {}

    @rule(uid=st.integers(0, 4))
    def take(self, uid):
        fits = uid in self.model or len(self.model) < 3
        may = fits and self.model.get(uid, 0) < 2
        assert self.quota.take(uid) == may
        if may:
            self.model[uid] = self.model.get(uid, 0) + 1

    @rule()
    def reset(self):
        self.quota.reset()
        self.model.clear()

    @invariant()
    def the_map_is_the_dict(self):
        assert self.quota.used.snapshot() == self.model

    def teardown(self):
        self.quota.close()


def test_a_quota_is_what_a_dict_says(bpf_backend):
    run_state_machine_as_test(Quotas, settings=settings(max_examples=30, deadline=None))


# [end:machine]
