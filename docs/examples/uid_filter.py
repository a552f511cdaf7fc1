"""Counting is switched on and off for one user, by a map, while the program stays attached."""

import os
import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/uid_filter.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0, *, uid: int) -> None:
    """Switch counting for user `uid` off or on every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        counted = obj.maps["counted_uids"]
        counted[uid] = True  # before attaching: counting starts with the first execution
        obj.attach()
        end = time.monotonic() + duration
        while time.monotonic() < end:
            before = obj.maps["exec_count"].get(uid, 0)
            print(f"uid {uid} is {'on' if counted[uid] else 'off'}", flush=True)
            time.sleep(interval)
            print(f"{obj.maps['exec_count'].get(uid, 0) - before} executions counted", flush=True)
            counted[uid] = not counted[uid]


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]), uid=int(sys.argv[3]) if sys.argv[3:] else os.getuid())
