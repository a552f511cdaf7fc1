"""`rawbpf btf dump`: the types of the kernel, a module or a file, as C, as Python, or as they lie there."""

from __future__ import annotations

import os
from argparse import RawDescriptionHelpFormatter

from rawbpf.cli.failure import Failure, escaped, why
from rawbpf.cli.read import require_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.btf.btf import Btf
    from rawbpf.cli.stop import Stop

_KERNEL = "vmlinux"
_DIRECTORY = "/sys/kernel/btf"
_EPILOG = """\
examples:
  rawbpf btf dump > vmlinux.h
        all types of the running kernel, for programs to include
  rawbpf btf dump --type task_struct
        one of them, with what it needs
  rawbpf btf dump bpf/execcount.bpf.o --format python
        the types of an object as ctypes classes, for programs that read its maps
  rawbpf btf dump nf_conntrack --format raw
        a module's own types, one by one
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the arguments of `btf`."""
    btf = commands.add_parser("btf", help="show types", description="Show types of the kernel and of files.")
    verbs = btf.add_subparsers(metavar="VERB", required=True)
    parser = verbs.add_parser(
        "dump",
        help="types as C, as Python, or as they lie in BTF",
        description="Show types as C, as Python, or as they lie in BTF.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default=_KERNEL,
        help="a file (an object, vmlinux, a module, or BTF), or else the name of a loaded module (default: the kernel)",
    )
    parser.add_argument("--format", choices=("c", "python", "raw"), default="c", help="(default: c)")
    parser.add_argument(
        "--type", action="append", metavar="NAME", help="only the types of this name, with what they need; repeatable"
    )
    parser.add_argument(
        "--base", metavar="SOURCE", help="what the types of a module's file continue: vmlinux, or a file of it"
    )
    parser.set_defaults(command=dump, parser=parser)


def dump(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status.

    Raises: Failure; Stopped when a signal came before anything was written; as `Output.flush`.
    """
    from rawbpf.cli.output import Output

    output = Output(stop)
    with stop.raising():
        base = None if arguments.base is None else _types(arguments.base, None)
        btf = _types(arguments.source, base)
        try:
            text = _text(btf, arguments.format, arguments.type)
        except KeyError as error:
            raise Failure(f"{escaped(arguments.source)}: has no type '{escaped(error.args[0])}'") from None
        except ValueError as error:
            raise Failure(why(error, arguments.source)) from error
    output.write(text)
    output.flush()
    return 0


def _text(btf: Btf, form: str, names: list[str] | None) -> str:
    if form == "c":
        return btf.to_c(names)
    if form == "python":
        return btf.to_python(names)
    from rawbpf.btf.listing import raw_lines

    if names is None:
        types = [type for type in btf if type.id >= btf.first_id]
    else:
        types = []
        for name in names:
            found = btf.find_all(name)
            if not found:
                raise KeyError(name)
            types += found
    lines = (line for type in types for line in raw_lines(type))
    return "".join("\t" * line.startswith("\t") + f"{escaped(line.removeprefix(chr(9)))}\n" for line in lines)


def _types(source: str, base: Btf | None) -> Btf:
    from rawbpf import btf

    path = source
    try:
        if not os.path.lexists(source) and "/" not in source:
            if source == _KERNEL:
                return btf.vmlinux()
            path = os.path.join(_DIRECTORY, source)
            if not os.path.isfile(path):
                raise Failure(f"{escaped(source)}: no such file, and no module of that name is loaded (with types)")
            base = base or btf.vmlinux()
        from rawbpf.elf.types import STARTS, read_types
        from rawbpf.loader.file import read_file

        require_file(path, what="file with types")
        return read_types(read_file(path, STARTS), os.path.basename(path), base)
    except ImportError as error:
        raise Failure(f"{escaped(source)}: {error}") from error
    except (OSError, ValueError) as error:
        text = why(error, source)
        if base is None and "empty string" in text:
            text += "; types of a module continue the kernel's: --base vmlinux"
        raise Failure(text) from error
