"""`python -m rawbpf`: the command `rawbpf` where its script is not on PATH."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from rawbpf.cli import main

        status = main()
    except KeyboardInterrupt:  # before main() could take care of it
        status = 0 if sys.argv[1:2] in (["run"], ["bench"]) else 130
    sys.exit(status)
