"""`rawbpf cc FILE`: compile a C source for BPF with the compiler and headers that this machine has, and read it back.

What is missing is said with the package that brings it; what the compiler says is passed on as it is. The object
appears whole or not at all.
"""

from __future__ import annotations

import errno
import os
import sys
from argparse import RawDescriptionHelpFormatter
from contextlib import ExitStack, suppress

from rawbpf.cli.failure import Failure, escaped, tell
from rawbpf.cli.object import shown
from rawbpf.cli.read import read_object
from rawbpf.cli.write import made_at_once
from rawbpf.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.cli.compiler import Compiler
    from rawbpf.cli.stop import Stop

_COMPILED = (".c", ".i", ".s", ".S")
_VMLINUX = "vmlinux.h"
_KERNEL_TYPES = "/sys/kernel/btf/vmlinux"
_EPILOG = """\
examples:
  rawbpf cc execcount.bpf.c
        make execcount.bpf.o for this machine, and show what is in it
  rawbpf cc execcount.bpf.c -o build/execcount.o --target bpfeb
        for machines that are big-endian
  rawbpf cc probe.bpf.c -- -Iinclude -DDEBUG -mcpu=v3
        with options for the compiler

The newest clang on PATH compiles, or what --compiler or CLANG names: another clang, or gcc's bpf-gcc. It gets
-O2 -g -mcpu=v2 -Wall (gcc -gbtf and what its version 12 needs), __TARGET_ARCH_... of this machine, and the directories
of the source, of libbpf's headers and of the kernel's; options behind -- come last, and win. A source that includes
vmlinux.h without one beside it gets one of the types of the running kernel.
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the arguments of `cc`."""
    parser = commands.add_parser(
        "cc",
        help="compile a C source for BPF with what this machine has",
        description="Compile a C source for BPF with the compiler and headers that this machine has, and read it back.",
        usage="%(prog)s [-h] [-o OUT] [--target TARGET] [--compiler COMPILER] FILE [-- OPTION ...]",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="FILE", help="the source, such as execcount.bpf.c")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the object (default: named after the source, in this directory)"
    )
    parser.add_argument(
        "--target",
        choices=("bpf", "bpfel", "bpfeb"),
        help="the byte order of the machines that it is for: little (bpfel) or big (bpfeb); default: this machine's",
    )
    parser.add_argument(
        "--compiler", metavar="COMPILER", help="a clang or bpf-gcc, by name or path (default: the newest clang)"
    )
    parser.set_defaults(command=compile_source, parser=parser)


def compile_source(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status. Raises: Failure; as `Output.flush`."""
    from rawbpf.cli.compiler import find_compiler, target_of
    from rawbpf.cli.output import Output

    output = Output(stop)
    source: str = arguments.source
    _must_be_readable(source)
    out: str = _object_name(source) if arguments.output is None else arguments.output
    with made_at_once(out, "object", source=source) as made, ExitStack() as stack, stop.raising():
        compiler = find_compiler(arguments.compiler)
        command = compiler.command(arguments.target or target_of(sys.byteorder), os.uname().machine)
        command.append(f"-I{os.path.dirname(source) or '.'}")
        _compile(compiler, command, arguments.options, source, made, stack)
        spec = read_object(made, subject=os.path.realpath(out))
    output.write(f"{shown(spec)}compiled by {escaped(compiler.path)}\n")
    output.flush()
    return 0


def _must_be_readable(source: str) -> None:
    try:
        with open(source, "rb"):
            pass
    except OSError as error:
        raise Failure(f"{escaped(source)}: {error.strerror}") from error


def _object_name(source: str) -> str:
    stem, suffix = os.path.splitext(os.path.basename(source))
    if suffix != ".c":
        raise Failure(f"{escaped(source)}: is no .c file; give the object a name by -o")
    return f"{stem}.o"


def _compile(
    compiler: Compiler, command: list[str], options: list[str], source: str, made: str, stack: ExitStack
) -> None:
    import subprocess

    from rawbpf.cli.compiler import include_options, missing_header, package_of, without_notes

    machine = os.uname().machine
    language = [] if source.endswith(_COMPILED) else ["-x", "c"]
    for with_types in (False, True):
        generated = _kernel_types(stack) if with_types else []
        full = [*command, *generated, *include_options(machine), *options, "-c", *language, source, "-o", made]
        if compiler.is_clang and sys.stderr is not None and sys.stderr.isatty():
            full.append("-fcolor-diagnostics")
        try:
            done = subprocess.run(full, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        except OSError as error:
            raise Failure(f"{escaped(compiler.path)}: {error.strerror}") from error
        said = without_notes(done.stderr.decode("utf-8", "replace"))
        header = missing_header(said) if done.returncode else None
        if header == _VMLINUX and not with_types:
            continue
        with suppress(OSError):  # nobody is left to be told
            if sys.stderr is not None:
                sys.stderr.write(said)
                sys.stderr.flush()
        if done.returncode:
            advice = package_of(header) if header else ""
            if os.strerror(errno.ENOSPC) in said:  # clang ends like a crash, and says it above its stack
                advice = f"{os.strerror(errno.ENOSPC)}: the object was not written"
            raise Failure(f"{escaped(source)}: {advice or 'does not compile'}")
        if not os.path.exists(made):
            raise Failure(f"{escaped(source)}: {escaped(compiler.path)} made no object; -o goes before --, not behind")
        return


def _kernel_types(stack: ExitStack) -> list[str]:
    # A vmlinux.h of the running kernel, for the source that has none beside it.
    from tempfile import TemporaryDirectory

    from rawbpf.btf import Btf

    try:
        with open(_KERNEL_TYPES, "rb") as file:
            text = Btf.from_bytes(file.read()).to_c()
    except (OSError, FormatError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Failure(
            f"{_VMLINUX} is included, and lies neither beside the source nor where -I says; "
            f"it would be made of {_KERNEL_TYPES}: {why}"
        ) from error
    directory = stack.enter_context(TemporaryDirectory(prefix="rawbpf-"))
    try:
        with open(os.path.join(directory, _VMLINUX), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        where = escaped(os.path.dirname(directory))
        raise Failure(f"{_VMLINUX} cannot be made in {where}: {error.strerror}; TMPDIR names another") from error
    tell(f"{_VMLINUX}: the types of the running kernel, for this time")
    return [f"-isystem{directory}"]
