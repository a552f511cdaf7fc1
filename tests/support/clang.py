"""Objects that a test compiles: C with what libbpf's headers define, without the headers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NEEDS = ("tool:clang", "module:elftools")
"""What a test needs that compiles an object and reads it."""

PRELUDE = """
#define SEC(name) __attribute__((section(name), used))
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
#define __hidden __attribute__((visibility("hidden")))
#define __noinline __attribute__((noinline))
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef signed char s8; typedef int s32; typedef long long s64;
enum libbpf_tristate { TRI_NO = 0, TRI_YES = 1, TRI_MODULE = 2 };
char LICENSE[] SEC("license") = "GPL";
"""


def compiled(source: str, directory: Path, *, big_endian: bool = sys.byteorder == "big") -> bytes:
    """Return the object that clang makes of `PRELUDE` and `source`; it works in `directory`."""
    (directory / "it.bpf.c").write_text(PRELUDE + source)
    target = "bpfeb" if big_endian else "bpfel"
    command = ["clang", "-O2", "-g", "-target", target, "-Wno-everything", "-c", "it.bpf.c", "-o", "it.bpf.o"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return (directory / "it.bpf.o").read_bytes()
