"""Objects that a test compiles itself; it needs `tool:clang`."""

from __future__ import annotations

import subprocess
from pathlib import Path

PRELUDE = """
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
#define field(of, kind) __builtin_preserve_field_info(of, kind)
#define exists(of) field(of, 2)
#define whole(type, kind) __builtin_preserve_type_info(*(type *)0, kind)
#define enumerator(type, name, kind) __builtin_preserve_enum_value(*(type *)name, kind)
char _license[] SEC("license") = "GPL";
"""
"""What sources may use: sections, and what bpf_core_read.h has macros for."""

LIBBPF = """
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
"""Another one, of what bpf_helpers.h and vmlinux.h have."""


def compiled(directory: Path, source: str, *, target: str = "bpf", prelude: str = PRELUDE) -> Path:
    """Return the object that clang makes of `source` in `directory`, with the `prelude` before it."""
    (directory / "made.bpf.c").write_text(f"{prelude}\n#line 1\n{source.strip()}\n")
    made = directory / f"made.{target}.o"
    command = ["clang", "-O2", "-g", "-mcpu=v2", "-target", target, "-c", "made.bpf.c", "-o", made.name]
    subprocess.run(command, cwd=directory, check=True)
    return made
