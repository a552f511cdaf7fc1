"""How often each signal was sent: an array whose index is the signal's number."""

import signal
import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/signal_stats.bpf.o"


def signal_name(number: int) -> str:
    """Return the name of signal `number`; the real-time signals between the ends have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def main(duration: float = 10.0, interval: float = 1.0) -> None:
    """Print the signals seen so far every `interval` seconds for `duration` seconds."""
    with rawbpf.load(OBJECT) as obj:
        obj.attach()
        print("counting signals", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            seen = {number: count for number, count in obj.maps["signal_count"].items() if count}
            print(", ".join(f"{signal_name(number)} {count}" for number, count in seen.items()), flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
