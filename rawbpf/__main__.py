"""`python -m rawbpf`: the command `rawbpf` where its script is not on PATH."""

from __future__ import annotations

import sys

from rawbpf.cli import main

if __name__ == "__main__":
    sys.exit(main())
