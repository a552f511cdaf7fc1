"""Executions per user, counted by bpf/execcount.bpf.c and shown as they happen."""

import pwd
import sys
import time
from pathlib import Path

import rawbpf

OBJECT = Path(__file__).resolve().parents[2] / "bpf/execcount.bpf.o"


def user_name(uid: int) -> str:
    """Return the name of user `uid`, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def main(duration: float = 10.0, interval: float = 1.0, *, min_uid: int = 0) -> None:
    """Print a table every `interval` seconds for `duration` seconds; users below `min_uid` are not counted."""
    spec = rawbpf.ObjectSpec.from_file(OBJECT)
    spec.variables["min_uid"].value = min_uid
    with spec.load() as obj:
        obj.attach()
        print("counting executions", flush=True)
        end = time.monotonic() + duration
        while time.monotonic() < end:
            time.sleep(interval)
            for uid, count in sorted(obj.maps["exec_count"].items()):
                print(f"{user_name(uid):>16} {count:8}", flush=True)
        print("not counted, the map was full:", obj.variables["dropped"].value)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]), min_uid=int(sys.argv[3]) if sys.argv[3:] else 0)
