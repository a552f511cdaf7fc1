"""Processes and threads created per second: one number, in an array of one element."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/global_counter.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print the count and its growth every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("counting forks", flush=True)
        fork_count = obj.maps["fork_count"]
        end = time.monotonic() + duration
        while time.monotonic() < end:
            before = fork_count[0]
            time.sleep(interval)
            now = fork_count[0]
            print(f"{now} in all, {(now - before) / interval:.1f} per second", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
