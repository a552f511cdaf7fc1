"""The processes that open the most files; what was read is removed, so the map never fills up."""

import sys
import time
from collections import Counter
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/process_count.bpf.o"


def command(pid: int) -> str:
    """Return the name of process `pid`, "(ended)" if it is no more."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "(ended)"


def main(duration: float = 10.0, interval: float = 1.0, *, rows: int = 10) -> None:
    """Print the first `rows` processes every `interval` seconds for `duration` seconds."""
    opened: Counter[int] = Counter()
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("counting opened files", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            for pid, count in obj.maps["open_count"].drain():
                opened[pid] += count
            for pid, count in opened.most_common(rows):
                print(f"{pid:>8} {command(pid):16} {count:8}", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]), rows=int(sys.argv[3]) if sys.argv[3:] else 10)
