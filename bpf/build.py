#!/usr/bin/env python3
"""Rebuild the objects of this directory, or check that they are what their sources say.

    bpf/build.py            compile every *.bpf.c for both byte orders, here
    bpf/build.py --check    compile into a temporary directory, compare with what is here; 1 if it differs

Needs clang, llvm-strip, libbpf's headers and the kernel's; says which Debian package a missing one is
in. CLANG and LLVM_STRIP name other programs; CLANG=bpf-gcc is gcc's compiler, of Debian's package gcc-bpf.
Standard library only, and nothing of rawbpf: a check by the reader that these objects are the input of
would share its mistakes.

`-mcpu=v2` is Linux 4.14's instruction set: with v3 some clangs use the fetching atomics of 5.12 where
5.10 should do. The objects hold no path of the machine that built them; DWARF is stripped, BTF stays.
The check compares the instructions and relocations of every program, all data, the license, and what
BTF says of maps, variables and programs. Another major version of clang than the one that compiler.txt
names may choose other instructions; then they are left out, and a line says so. gcc has data in sections
of other names, and marks characters otherwise: the check is for clang's objects.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product, zip_longest
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILER = HERE / "compiler.txt"
TARGETS = {"bpfel": ".bpf.o", "bpfeb": ".bpfeb.o"}
FLAGS = ["-O2", "-mcpu=v2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
CLANG = ["-g", "-fdebug-compilation-dir=.", f"-ffile-prefix-map={HERE}=."]
# gcc 12 takes the number of a helper out of a register if one has it, and then refuses the indirect call. Its
# assembler (binutils 2.40) counts a variable's place in its section twice: with one in each, it is 0.
GCC = [
    "-gbtf",
    "-Wno-unknown-pragmas",
    "-fdata-sections",
    "-fno-gcse",
    "-fno-rerun-cse-after-loop",
    "-fdisable-rtl-cse1",
]
BYTEORDER = {"bpfel": "-mlittle-endian", "bpfeb": "-mbig-endian"}
CLANGS = [f"clang-{major}" for major in range(13, 23)]
HEADERS = {"bpf/bpf_helpers.h": "libbpf-dev", "linux/bpf.h": "linux-libc-dev"}


class BuildError(Exception):
    """Something is missing, or does not compile; the text says what to do."""


# Compiling ---------------------------------------------------------------------------------------


def major_of(version: str) -> int:
    """Return the major number in the first line of `clang --version`, 0 if there is none."""
    found = re.search(r"version (\d+)\.", version)
    return int(found[1]) if found else 0


def recorded_compiler() -> str:
    """Return the version line of the clang that built the objects here, "" if unknown."""
    return COMPILER.read_text().strip() if COMPILER.exists() else ""


class Toolchain:
    """A compiler, llvm-strip for clang's, and the include directories; raises BuildError when one is missing."""

    def __init__(self, include: Path) -> None:
        self.compiler = self._find_compiler()
        self.version = self._output(self.compiler, "--version").splitlines()[0]
        self.is_clang = "clang" in self.version
        self.strip = self._find_strip() if self.is_clang else ""
        self.include = self._find_headers(include)

    def _find_compiler(self) -> str:
        # the major version that built what is committed goes first: only it can be compared whole
        names = [f"clang-{major_of(recorded_compiler())}", "clang", *CLANGS]
        if os.environ.get("CLANG"):
            names = [os.environ["CLANG"]]
        for name in names:
            path = shutil.which(name)
            if path and re.search(r"^\s*bpf\b", self._output(path, "--print-targets"), re.MULTILINE):
                return path
            if path and self._output(path, "-dumpmachine").startswith("bpf"):
                return path
        raise BuildError(f"no clang with a bpf target ({', '.join(names)}): apt-get install clang, or set CLANG")

    def _find_strip(self) -> str:
        beside = self._output(self.compiler, "-print-prog-name=llvm-strip").strip()
        names = [beside, "llvm-strip", f"llvm-strip-{major_of(self.version)}"]
        if os.environ.get("LLVM_STRIP"):
            names = [os.environ["LLVM_STRIP"]]
        for name in names:
            path = shutil.which(name)
            if path:
                return path
        raise BuildError(f"no llvm-strip ({', '.join(names)}): apt-get install llvm, or set LLVM_STRIP")

    def _find_headers(self, include: Path) -> list[str]:
        for header, package in HEADERS.items():
            if not (include / header).exists():
                raise BuildError(f"no {include / header}: apt-get install {package}, or name a directory by --include")
        # Debian keeps asm/ per architecture, and clang -target bpf does not look there; any will do
        places = [include, *sorted(include.glob("*-linux-gnu*"))]
        for place in places:
            if (place / "asm/types.h").exists():
                return [word for path in dict.fromkeys((include, place)) for word in ("-isystem", str(path))]
        raise BuildError(f"no asm/types.h in {', '.join(map(str, places))}: apt-get install linux-libc-dev")

    @staticmethod
    def _output(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def compile(self, source: Path, target: str, output: Path) -> None:
        """Compile `source` for `target` into `output`; raises BuildError with what the compiler says."""
        own = ["-target", target, *CLANG] if self.is_clang else [BYTEORDER[target], *GCC]
        commands = [[self.compiler, *FLAGS, *own, *self.include, "-c", source.name, "-o", str(output)]]
        if self.is_clang:
            commands.append([self.strip, "-g", str(output)])
        for command in commands:
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(f"{' '.join(command)}\n{done.stderr.strip()}")


def build(tools: Toolchain, directory: Path) -> list[str]:
    """Compile every source for every target into `directory` and return the objects' names."""
    wanted = {
        source.name.removesuffix(".bpf.c") + suffix: (source, target)
        for source, (target, suffix) in product(sorted(HERE.glob("*.bpf.c")), TARGETS.items())
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for made in [pool.submit(tools.compile, *wanted[name], directory / name) for name in wanted]:
            made.result()
    return list(wanted)


# Comparing ---------------------------------------------------------------------------------------


def first_difference(old: bytes, new: bytes) -> str:
    """Return where two programs part, counted in instructions of 8 bytes."""
    slots = [[code[at : at + 8].hex(" ") for at in range(0, len(code), 8)] for code in (old, new)]
    pairs = enumerate(zip_longest(*slots, fillvalue="its end"))
    return next((f"first at {n}: here {a}, rebuilt {b}" for n, (a, b) in pairs if a != b), "equal")


def differences(old: Contents, new: Contents, *, same_compiler: bool) -> list[str]:
    """Return a line for each thing in which the object here and the rebuilt one differ."""
    found = ["byte order"] if old.big_endian != new.big_endian else []
    for kind in ("data", "definitions", "programs", "relocations", "code"):
        ours, theirs = getattr(old, kind), getattr(new, kind)
        for name in sorted(ours.keys() | theirs.keys()):
            a, b = ours.get(name), theirs.get(name)
            if a == b:
                continue
            if a is None or b is None:
                found.append(f"{kind}: {name} is only {'rebuilt' if a is None else 'here'}")
            elif kind == "code" and same_compiler:
                found.append(f"instructions: {name}: {first_difference(a, b)}")
            elif kind not in {"code", "relocations"} or same_compiler:
                found.append(f"{kind}: {name}: here {a}, rebuilt {b}")
    return found


def check(tools: Toolchain) -> int:
    """Compare the objects here with what the sources give, and return the number of differences."""
    recorded = recorded_compiler()
    same_compiler = major_of(recorded) == major_of(tools.version)
    if not same_compiler:
        print(f"built by {recorded or 'an unknown clang'}, this is {tools.version}: instructions are not compared")
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        names = build(tools, Path(temporary))
        for name in names:
            if not (HERE / name).exists():
                found.append(f"{name}: missing")
                continue
            old, new = (read_object((where / name).read_bytes()) for where in (HERE, Path(temporary)))
            found += [f"{name}: {line}" for line in differences(old, new, same_compiler=same_compiler)]
    found += [f"{path.name}: has no source" for path in sorted(HERE.glob("*.o")) if path.name not in names]
    for line in found:
        print(line)
    print(f"{len(names)} objects, {len(found)} differences{'; bpf/build.py rebuilds them' if found else ''}")
    return len(found)


# Reading an object: ELF64 and BTF as clang writes them; include/uapi/linux/btf.h (v6.12) -----------

SHT_SYMTAB, SHT_NOBITS, SHT_REL = 2, 8, 9
SHF_ALLOC, SHF_EXECINSTR = 2, 4
STT_FUNC = 2

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = 17, 18, 19
WORDS = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
WORDS_PER_MEMBER = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}
WRAPPERS = {PTR: "*", VOLATILE: "volatile ", CONST: "const ", RESTRICT: "restrict "}


class Contents:
    """What an object says, as values that compare; each a dict by the name of a section, variable or program."""

    def __init__(self, *, big_endian: bool) -> None:
        self.big_endian = big_endian
        self.code: dict[str, bytes] = {}
        self.relocations: dict[str, list[tuple[int, int, str]]] = {}
        self.data: dict[str, bytes | int] = {}
        self.programs: dict[str, str] = {}
        self.definitions: dict[str, str] = {}


def read_object(data: bytes) -> Contents:
    """Return what the ELF64 object `data` says."""
    if data[:5] != b"\x7fELF\x02":
        raise BuildError("an object here is not an ELF64 file")
    contents = Contents(big_endian=data[5] == 2)
    order = ">" if contents.big_endian else "<"
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    entry_size, count, names_index = struct.unpack_from(f"{order}HHH", data, 58)
    headers = [struct.unpack_from(f"{order}IIQQQQIIQQ", data, table + i * entry_size) for i in range(count)]
    bodies = [data[header[4] : header[4] + header[5]] if header[1] != SHT_NOBITS else b"" for header in headers]
    names = [string_at(bodies[names_index], header[0]) for header in headers]

    symbols: list[tuple[str, bool, str]] = []  # name, is it a function, section
    for header, body in zip(headers, bodies, strict=True):
        if header[1] == SHT_SYMTAB:
            for name, info, _, section, _, _ in struct.iter_unpack(f"{order}IBBHQQ", body):
                where = names[section] if section < count else ""
                symbols.append((string_at(bodies[header[6]], name) or where, info & 15 == STT_FUNC, where))

    btf = Btf(bodies[names.index(".BTF")], order)
    contents.definitions = btf.definitions()
    for name, header, body in zip(names, headers, bodies, strict=True):
        _, kind, flags, _, _, size, _, target, _, _ = header
        if kind == SHT_REL and headers[target][2] & SHF_EXECINSTR:
            records = struct.iter_unpack(f"{order}QQ", body)
            contents.relocations[names[target]] = [
                (at, info & 0xFFFFFFFF, symbols[info >> 32][0]) for at, info in records
            ]
        elif flags & SHF_EXECINSTR and size:
            contents.code[name] = body
        elif flags & SHF_ALLOC and size:
            contents.data[name] = size if kind == SHT_NOBITS else body
    for name, is_function, where in symbols:
        if is_function:
            contents.programs[name] = f"in {where}: {btf.prototype(name)}"
    return contents


def string_at(table: bytes, offset: int) -> str:
    """Return the NUL-terminated string at `offset`."""
    return table[offset : table.index(b"\0", offset)].decode()


class Btf:
    """BTF as text by name, so that the numbering of types does not matter."""

    def __init__(self, data: bytes, order: str) -> None:
        header_size, offset, size, strings, strings_size = struct.unpack_from(f"{order}4xIIIII", data)
        self._strings = data[header_size + strings :][:strings_size]
        self._types: list[tuple[str, int, int, list[tuple[int, ...]]]] = [("void", 0, 0, [])]
        at, end = header_size + offset, header_size + offset + size
        while at < end:
            name, info, size_or_type = struct.unpack_from(f"{order}III", data, at)
            kind, members = info >> 24 & 31, info & 0xFFFF
            if kind > ENUM64:
                raise BuildError(f"BTF kind {kind} is newer than bpf/build.py")
            width, members = (WORDS_PER_MEMBER[kind], members) if kind in WORDS_PER_MEMBER else (WORDS.get(kind, 0), 1)
            rows = [struct.unpack_from(f"{order}{width}I", data, at + 12 + 4 * width * i) for i in range(members)]
            self._types.append((string_at(self._strings, name), kind, size_or_type, rows))
            at += 12 + 4 * width * members

    def definitions(self) -> dict[str, str]:
        """Return every variable and map: its section, size and type."""
        found = {}
        for section, kind, _, rows in self._types:
            if kind == DATASEC:
                for variable, _, size in rows:
                    name, _, of, _ = self._types[variable]
                    found[name] = f"{size} bytes in {section}: {self._text(of)}"
        return found

    def prototype(self, function: str) -> str:
        """Return the type of a function, "no BTF" if it is not described."""
        found = [of for name, kind, of, _ in self._types if kind == FUNC and name == function]
        return self._text(found[0]) if found else "no BTF"

    def _text(self, number: int, inside: frozenset[int] = frozenset()) -> str:
        name, kind, ref, rows = self._types[number]
        if number in inside:
            return f"recursive {name}"
        inside |= {number}
        if kind in WRAPPERS:
            return WRAPPERS[kind] + self._text(ref, inside)
        if kind == INT:
            # `unsigned long long` is `long long unsigned int` of other compilers
            words = sorted(name.split())
            plain = " ".join(word for word in words if word != "int" or len(words) == 1)
            return f"{plain} ({ref} bytes, {rows[0][0]:#x})"
        if kind == ARRAY:
            return f"{self._text(rows[0][0], inside)}[{rows[0][2]}]"
        if kind in {STRUCT, UNION}:
            fields = [f"{string_at(self._strings, n)} at {at}: {self._text(of, inside)}" for n, of, at in rows]
            return f"{'struct' if kind == STRUCT else 'union'} {name} ({ref} bytes) {{{'; '.join(fields)}}}"
        if kind in {ENUM, ENUM64}:
            return f"enum {name} ({ref} bytes) {[(string_at(self._strings, row[0]), *row[1:]) for row in rows]}"
        if kind in {TYPEDEF, TYPE_TAG}:
            return f"{name} = {self._text(ref, inside)}"
        if kind == FUNC_PROTO:
            return f"{self._text(ref, inside)} ({', '.join(self._text(of, inside) for _, of in rows)})"
        return name


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Rebuild the BPF objects of this directory, or check them.")
    parser.add_argument("--check", action="store_true", help="compare with a rebuild, change nothing; 1 if they differ")
    parser.add_argument("--include", type=Path, default=Path("/usr/include"), help="where linux/ and bpf/ headers are")
    arguments = parser.parse_args()
    try:
        tools = Toolchain(arguments.include.resolve())
        if arguments.check:
            if not tools.is_clang:
                raise BuildError(f"{tools.version} cannot build what clang has built: --check needs a clang")
            return 1 if check(tools) else 0
        names = build(tools, HERE)
    except BuildError as error:
        print(f"bpf/build.py: {error}", file=sys.stderr)
        return 1
    COMPILER.write_text(tools.version + "\n")
    print(f"{len(names)} objects built by {tools.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
