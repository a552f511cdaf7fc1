"""The programs that were started most recently: an LRU map forgets the oldest, and is never full."""

import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/lru_cache.bpf.o"


def main(duration: float = 10.0, interval: float = 1.0, *, rows: int = 10) -> None:
    """Print the last `rows` programs every `interval` seconds for `duration` seconds."""
    spec = rawbpf.ObjectSpec.from_file(OBJECT)
    spec.maps["recent_execs"].max_entries = 256
    with spec.load() as obj:
        obj.attach()
        print("remembering executions", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            recent = sorted(obj.maps["recent_execs"].items(), key=lambda item: item[1].started_ns)
            for pid, started in recent[-rows:]:
                when = rawbpf.clock.wall(started.started_ns)
                print(f"{when:%H:%M:%S.%f} uid {started.uid} gid {started.gid} {pid} {started.comm}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]), rows=int(sys.argv[3]) if sys.argv[3:] else 10)
