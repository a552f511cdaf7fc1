"""How this process maps the memory of maps, as /proc tells it."""

from __future__ import annotations

from pathlib import Path


def of_maps() -> list[str]:
    """Return, for each mapping of a map's memory, "r--s" where it is for reading alone and "rw-s" for writing.

    A simulated kernel lives in this process and maps such memory itself, once: that is left out.
    """
    found, simulated = [], set()
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        _, access, _, _, inode, *name = line.split()
        if name[:1] == ["/memfd:bpf-map"] and access == "rw-s" and inode not in simulated:
            simulated.add(inode)
        elif name and (name[0].endswith("bpf-map")):
            found.append(access)
    return found
