"""When each user last started a program: the kernel's monotonic nanoseconds as wall-clock time."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/last_seen.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print the users, the most recent first, every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("watching users", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            for uid, ktime_ns in sorted(obj.maps["last_seen"].items(), key=lambda item: -item[1]):
                print(f"uid {uid} at {rawbpf.clock.wall(ktime_ns):%Y-%m-%d %H:%M:%S.%f}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
