"""Every program that is started, by whom and from which file: events from a ring buffer, as they come."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/exec_events.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print a line per program for `duration` seconds; after `interval` seconds without one, what found no room."""
    with rawbpf.load(OBJECT) as obj, obj.maps["exec_events"].reader("exec_event") as events:
        obj.attach()
        print("watching executions", flush=True)
        dropped, end = 0, time.monotonic() + duration
        while time.monotonic() < end:
            started = events.read(timeout=interval)
            if started is not None:
                who = f"{started.pid} of {started.ppid}, uid {started.uid}"
                print(f"{who}: {started.comm} from {started.filename}", flush=True)
            elif obj.variables["dropped"].value > dropped:
                dropped = obj.variables["dropped"].value
                print(f"{dropped} programs found no room in the ring", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
