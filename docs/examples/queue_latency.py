"""How long threads wait for a CPU: a log2 histogram for each of the names that waited most often."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/queue_latency.bpf.o"


def busiest(sections: Mapping[str, rawbpf.Histogram]) -> list[str]:
    """Return the three names that waited most often, the first one first."""
    return sorted(sections, key=lambda name: -sections[name].count)[:3]


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print what came in every `interval` seconds for `duration` seconds, and the percentiles of all at the end."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("watching run queues", flush=True)
        before = now = rawbpf.Histogram.log2({})
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            now = rawbpf.Histogram.log2(obj.maps["queue_latency"])
            print((now - before).text("usecs", sort=busiest), flush=True)
            before = now
        for p in (50, 90, 99) if now.count else ():
            print(f"{p} % of {now.count} waits took at most {now.percentile(p)[1]} usecs")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
