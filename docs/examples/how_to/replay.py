"""Record the bpf(2) traffic of a function, and make it again: on a simulated kernel, and without any kernel."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import rawbpf
from rawbpf.sim import Simulator
from rawbpf.testing import Recording, ReplayBackend, ReplayMismatch, record, replay

path = Path(tempfile.mkdtemp()) / "traffic.jsonl"


# [start:code]
def longest(words: Iterable[str]) -> int:
    """Return the length of the longest word, by way of a map."""
    with rawbpf.HashMap.create(key="char[16]", value="u32", max_entries=16, name="lengths") as m:
        for word in words:
            m[word] = len(word)
        return max(map(int, m.values()))


# [end:code]

# [start:record]
with record() as recording:
    print(longest(["a", "bee"]))
recording.save(path)
print(len(recording), "calls,", [event.call for event in recording][-3:])
# [end:record]

# [start:replay]
recording = Recording.load(path)
with Simulator(cpus=recording.possible_cpus) as simulator:
    differences = replay(recording, simulator)
print(differences)
# [end:replay]

# [start:answer]
with ReplayBackend(recording):
    print(longest(["a", "bee"]))
# [end:answer]

# [start:mismatch]
try:
    with ReplayBackend(recording):
        longest(["a", "ant"])
except ReplayMismatch as mismatch:
    print(mismatch)
# [end:mismatch]

path.unlink()
path.parent.rmdir()
