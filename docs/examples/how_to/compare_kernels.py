"""Ask two kernels the same, let a model judge the answers, and let Hypothesis do the asking."""

# [start:imports]
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from rawbpf.sim import Simulator
from rawbpf.syscall.kernel import KernelBackend
from rawbpf.testing import MapMachine, MapSpec, Operation, Stage, agree
from rawbpf.testing.party import Disagreement, Meeting
from rawbpf.uapi.constants import BPF_F_ZERO_SEED

# [end:imports]
# [start:agree]
kernel = KernelBackend()
cpus = kernel.host.possible_cpus

spec = MapSpec("hash", key_size=4, value_size=4, max_entries=1, flags=BPF_F_ZERO_SEED)
asked = [
    Operation("update", b"key1", b"abcd"),
    Operation("lookup_and_delete", b"key1"),
    Operation("next_key"),
]
with Simulator(cpus=cpus) as sim, Stage(kernel, "hash") as real, Stage(sim, "hash") as simulated:
    agree(spec, asked, [real, simulated])
# [end:agree]

# [start:differ]
with Simulator("5.10", cpus) as sim, Stage(kernel, "hash") as real, Stage(sim, "hash") as simulated:
    try:
        agree(spec, asked, [real, simulated])
    except Disagreement as difference:
        print(difference)
# [end:differ]

# [start:meeting]
with Stage(kernel, "hash") as real, Meeting(spec, [real]) as meeting:
    print(meeting.perform(Operation("update", b"key1", b"abcd")))
    print(meeting.perform(Operation("update", b"key2", b"abcd")))
    print(meeting.perform(Operation("lookup", b"key1")))
# [end:meeting]


# [start:machine]
class Queues(MapMachine):
    """The running kernel and a simulated one, on queues and stacks."""

    types = ("queue", "stack")

    def backends(self) -> tuple[KernelBackend, Simulator]:
        """Return the kernels to compare."""
        return kernel, simulator


with Simulator(cpus=cpus) as simulator:
    run_state_machine_as_test(Queues, settings=settings(Queues.TestCase.settings, max_examples=20))
# [end:machine]
