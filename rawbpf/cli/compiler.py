"""Compilers that make objects for BPF: finding one, and where what C sources include lies on this machine.

Knows the names that distributions give them and the packages that they are in; runs them only to ask what they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from rawbpf.cli.failure import Failure, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TARGETS = {"little": "bpfel", "big": "bpfeb"}
# gcc 12 takes the number of a helper out of a register if one has it, and then refuses the indirect call. Its
# assembler (binutils 2.40) counts the place of a variable or function in its section twice: alone in it, it is at 0.
_GCC = (
    "-mco-re", "-fdata-sections", "-ffunction-sections", "-fno-gcse", "-fno-rerun-cse-after-loop", "-fdisable-rtl-cse1",
)  # fmt: skip
_NOTE = re.compile(r"^cc1: note: disable pass .*\n", re.MULTILINE)
_SECONDS = 30

# What bpf_tracing.h calls the machines whose registers it knows, by how `uname -m` begins.
_ARCHITECTURES = (
    ("x86_64", "x86"),
    ("i686", "x86"),
    ("aarch64", "arm64"),
    ("arm", "arm"),
    ("s390", "s390"),
    ("ppc", "powerpc"),
    ("riscv", "riscv"),
    ("loongarch", "loongarch"),
    ("mips", "mips"),
    ("sparc", "sparc"),
    ("arc", "arc"),
)

# What is missing when one of these headers is: the packages of Debian and of Fedora.
_PACKAGES = (
    ("bpf/", "libbpf's headers", "libbpf-dev", "libbpf-devel"),
    ("xdp/", "libxdp's headers", "libxdp-dev", "libxdp-devel"),
    ("linux/", "the kernel's headers", "linux-libc-dev", "kernel-headers"),
    ("asm/", "the kernel's headers", "linux-libc-dev", "kernel-headers"),
    ("asm-generic/", "the kernel's headers", "linux-libc-dev", "kernel-headers"),
    ("gnu/stubs", "the C library's headers for 32 bits", "libc6-dev-i386", "glibc-devel.i686"),
)
_MISSING = re.compile(r"fatal error: '?([^\s':]+)'?(?: file not found|: No such file)")
_COLORS = re.compile(r"\x1b\[[\d;]*[mK]")


class Compiler:
    """A compiler: `path`, its `version` as a number, and whether it is clang (gcc otherwise)."""

    def __init__(self, path: str, version: int, *, is_clang: bool) -> None:
        self.path = path
        self.version = version
        self.is_clang = is_clang

    def command(self, target: str, machine: str) -> list[str]:
        """Return how it is called for `target` (bpf, bpfel, bpfeb), with all options but source and output.

        `machine`: as `uname -m` says it; its registers are what programs see. Instructions are those of Linux 4.14.
        """
        options = [self.path, "-O2", "-g" if self.is_clang else "-gbtf", "-mcpu=v2", "-Wall"]
        if self.is_clang:
            options += ["-target", target]
        else:
            byteorder = {"bpfel": ["-mlittle-endian"], "bpfeb": ["-mbig-endian"]}.get(target, [])
            options += [*_GCC, *byteorder]
        name = next((name for start, name in _ARCHITECTURES if machine.startswith(start)), "")
        return [*options, *([f"-D__TARGET_ARCH_{name}"] if name else [])]


def find_compiler(asked: str | None) -> Compiler:
    """Return the compiler `asked` for, a name or path; else the one that $CLANG names, else the newest clang.

    Raises: Failure that says what to install.
    """
    asked = asked or os.environ.get("CLANG")
    if asked:
        path = shutil.which(asked)
        if path is None:
            package = "gcc-bpf" if asked == "bpf-gcc" else asked if re.fullmatch(r"clang(-\d+)?", asked) else ""
            advice = f": apt-get install {package} (Debian)" if package else ""
            raise Failure(f"no compiler {escaped(asked)} is on PATH{advice}")
        compiler = _look_at(path)
        if compiler is None:
            raise Failure(f"{escaped(asked)} is no compiler for BPF: neither a clang with the target bpf nor bpf-gcc")
        return compiler
    found = [compiler for path in _clangs() if (compiler := _look_at(path)) is not None]
    if not found:
        gcc = next(filter(None, map(shutil.which, ("bpf-gcc", "bpf-unknown-none-gcc"))), None)
        other = f"; there is {gcc}, which --compiler takes" if gcc else ""
        raise Failure(f"no clang with the target bpf is on PATH: {install('clang', 'clang')}{other}")
    return max(found, key=lambda compiler: compiler.version)


def _clangs() -> Iterator[str]:
    # Each once, also where /bin is /usr/bin; `clang` goes before others of its version, as it is the user's choice.
    seen: set[str] = set()
    paths = []
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = sorted(os.listdir(directory or "."))
        except OSError:
            continue
        paths += [os.path.join(directory, name) for name in names if re.fullmatch(r"clang(-\d+)?", name)]
    for path in sorted(paths, key=lambda path: not path.endswith("clang")):
        real = os.path.realpath(path)
        if real not in seen and os.access(path, os.X_OK):
            seen.add(real)
            yield path


def _look_at(path: str) -> Compiler | None:
    # What stands behind a name, asked itself; None for what makes no code for BPF.
    first = ask(path, "--version").partition("\n")[0]
    found = re.search(r"(\d+)\.\d+", first)
    version = int(found[1]) if found else 0
    if "clang" in first:
        knows = re.search(r"^\s*bpf\b", ask(path, "--print-targets"), re.MULTILINE)
        return Compiler(path, version, is_clang=True) if knows else None
    if ask(path, "-dumpmachine").startswith("bpf"):
        return Compiler(path, version, is_clang=False)
    return None


def target_of(byteorder: str) -> str:
    """Return the target for machines of that byte order."""
    return _TARGETS[byteorder]


def include_options(machine: str) -> list[str]:
    """Return the options for where libbpf's and the kernel's headers lie, behind what the compiler itself knows."""
    places = [ask("pkg-config", "--variable=includedir", "libbpf").strip(), "/usr/local/include", "/usr/include"]
    # Debian has asm/ in a directory per architecture; for what BPF programs use of it, any will do.
    try:
        triplets = sorted(name for name in os.listdir("/usr/include") if "-linux-gnu" in name)
    except OSError:
        triplets = []
    triplets.sort(key=lambda name: not name.startswith(machine))
    places += [f"/usr/include/{name}" for name in triplets[:1]]
    return [word for place in dict.fromkeys(places) if os.path.isdir(place) for word in ("-idirafter", place)]


def without_notes(diagnostics: str) -> str:
    """Return what the compiler says, without what it says of the options that all sources are compiled with."""
    return _NOTE.sub("", diagnostics)


def missing_header(diagnostics: str) -> str | None:
    """Return the header that the compiler did not find, None if that is not what it says."""
    found = _MISSING.search(_COLORS.sub("", diagnostics))
    return found[1] if found else None


def package_of(header: str) -> str:
    """Return which package has `header`, in words; nothing if it is not known."""
    for start, what, debian, fedora in _PACKAGES:
        if header.startswith(start):
            return f"{what} are missing: {install(debian, fedora)}"
    return ""


def install(debian: str, fedora: str) -> str:
    """Return how what is in these packages is installed."""
    return f"apt-get install {debian} (Debian), dnf install {fedora} (Fedora)"


def ask(*command: str) -> str:
    """Return what `command` prints; nothing if it fails or cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if not done.returncode else ""
