"""Every program that is started, by whom and from which file: events from a perf buffer for each CPU."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/exec_events_perf.bpf.o"


def lost(cpu: int, count: int) -> None:
    """Say how many events found no room."""
    print(f"{count} events of CPU {cpu} found no room", flush=True)


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print a line per program for `duration` seconds; wait for the next at most `interval` seconds at a time."""
    with rawbpf.load(OBJECT) as obj, obj.maps["exec_events"].reader("exec_event", on_lost=lost) as events:
        obj.attach()
        print("watching executions", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            started = events.read(timeout=interval)
            if started is not None:
                who = f"{started.pid} of {started.ppid}, uid {started.uid}"
                print(f"{who}: {started.comm} from {started.filename}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
