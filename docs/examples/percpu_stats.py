"""Calls of write(2) per user: each CPU counts for itself, `PerCpu.sum()` adds the records field by field."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/percpu_stats.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print a line per user every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("counting writes", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            for uid, per_cpu in obj.maps["write_stats"].items():
                total = per_cpu.sum()
                busiest = max(range(len(per_cpu)), key=lambda cpu: per_cpu[cpu].calls)
                print(f"uid {uid}: {total.calls} calls, {total.bytes} bytes, {total.errors} errors,", end=" ")
                print(f"most on CPU {busiest}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
