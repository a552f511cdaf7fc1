"""Compile openers.bpf.c as the page says; run it in the directory that has docs/ and bpf/."""

import subprocess
import sys
import tempfile

SOURCE = "docs/examples/how_to/openers.bpf.c"

with tempfile.TemporaryDirectory() as folder:
    rawbpf = [sys.executable, "-m", "rawbpf"]
    subprocess.run(
        [*rawbpf, "cc", SOURCE, "-o", f"{folder}/openers.bpf.o", "--", "-Ibpf"], check=True, stderr=subprocess.DEVNULL
    )
