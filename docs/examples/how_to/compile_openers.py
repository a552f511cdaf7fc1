"""Compile openers.bpf.c as a build script does; run it in the directory that has docs/ and bpf/."""

import subprocess
import sys
import tempfile

source = "docs/examples/how_to/openers.bpf.c"
with tempfile.TemporaryDirectory() as build:
    # [start:script]
    cc = [sys.executable, "-m", "rawbpf", "cc"]
    subprocess.run([*cc, source, "-o", f"{build}/openers.bpf.o", "--", "-Ibpf"], check=True)
    # [end:script]
