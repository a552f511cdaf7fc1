"""The program that each user started last, when, and how many there were: records from a map of structs."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/exec_details.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print a line per user every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("recording executions", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            for uid, last in obj.maps["exec_details"].items():
                when = rawbpf.clock.wall(last.last_ns)
                print(f"uid {uid}: {last.count} programs, {last.comm} at {when:%H:%M:%S.%f}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
