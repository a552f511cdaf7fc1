"""The first process of a guest: it mounts, loads modules, runs the tests, says how it went and switches the power off.

It stands alone in the guest, so it imports nothing of this package. Every way out but the last one is an exception
in process 1: the kernel panics, QEMU ends, and the host sees no status.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from pathlib import Path

_MOUNTS = (
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
)
_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF of include/uapi/linux/reboot.h (v6.12)
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do all of it."""
    for kind, where in _MOUNTS:
        os.makedirs(where, exist_ok=True)
        if _libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None):
            raise OSError(ctypes.get_errno(), f"mount {kind} on {where}")
    for module in Path("/modules/order").read_text(encoding="ascii").split():
        subprocess.run(["insmod", f"/modules/{module}"], check=False)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ports = {
        (port / "name").read_text(encoding="ascii").strip(): f"/dev/{port.name}"
        for port in Path("/sys/class/virtio-ports").iterdir()
    }
    job = json.loads(Path("/job.json").read_text(encoding="utf-8"))
    say(ports["report"], f"started {uptime()}")
    with open(ports["output"], "wb", buffering=0) as output:
        done = subprocess.run(
            job["command"],
            cwd=job["folder"],
            env=job["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    result = Path(job["result"])
    if result.is_file():
        Path(ports["result"]).write_bytes(result.read_bytes())
    say(ports["report"], f"ended {uptime()}")
    say(ports["report"], f"status {done.returncode}")
    os.sync()
    _libc.reboot(_POWER_OFF)


def say(port: str, line: str) -> None:
    """Write one line to the host."""
    Path(port).write_text(f"{line}\n", encoding="ascii")


def uptime() -> str:
    """Return the seconds since the kernel started."""
    return Path("/proc/uptime").read_text(encoding="ascii").split()[0]


if __name__ == "__main__":
    main()
