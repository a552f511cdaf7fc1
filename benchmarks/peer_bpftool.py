"""bpftool: a process for each question, measured apart, start and all."""

from __future__ import annotations

import shutil
import subprocess
import time


class PeerBpftool:
    """The command. Raises: OSError, which says what is missing."""

    def __init__(self) -> None:
        if shutil.which("bpftool") is None:
            raise OSError("bpftool is left out: there is none")

    def dump(self, map_id: int, entries: int) -> float:
        """Return nanoseconds per element of `bpftool map dump`, its output thrown away."""
        command = ["bpftool", "--json", "map", "dump", "id", str(map_id)]
        start = time.perf_counter_ns()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter_ns() - start) / entries
