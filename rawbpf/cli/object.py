"""`rawbpf object show OBJ`: what an object file defines, and its code. Needs no privileges and no kernel."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter

from rawbpf.cli.failure import Failure, escaped
from rawbpf.cli.read import read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.cli.stop import Stop
    from rawbpf.loader.spec import ObjectSpec

_EPILOG = """\
examples:
  rawbpf object show bpf/execcount.bpf.o
        license, byte order, programs, maps, and variables with their values
  rawbpf object show bpf/execcount.bpf.o --disassemble
        and the instructions, below the C lines that they were made of
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the commands of `object`."""
    noun = commands.add_parser("object", help="look at object files", description="Look at object files.")
    verbs = noun.add_subparsers(metavar="COMMAND", required=True)
    parser = verbs.add_parser(
        "show",
        help="show what an object file defines, and its code",
        description="Show what an object file defines: programs, maps, variables; and its code.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("object", metavar="OBJ", help="the object file, such as execcount.bpf.o")
    parser.add_argument(
        "--disassemble", action="store_true", help="show the instructions, too, below their C lines where there are any"
    )
    parser.add_argument(
        "--program", action="append", default=[], metavar="NAME", help="disassemble only this program; repeatable"
    )
    parser.set_defaults(command=show, parser=parser)


def show(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status. Raises: Failure; as `Output.flush`."""
    from rawbpf.cli.output import Output

    output = Output(stop)
    with stop.raising():
        spec = read_object(arguments.object)
        output.write(shown(spec))
        if arguments.disassemble or arguments.program:
            for name in _chosen(spec, arguments.program):
                output.write("\n" + _escaped(spec.programs[name].disassemble(spec.functions)))
    output.flush()
    return 0


def shown(spec: ObjectSpec) -> str:
    """Return what `spec` has, as text for a terminal."""
    return _escaped(str(spec))


def _chosen(spec: ObjectSpec, asked: list[str]) -> list[str]:
    for name in asked:
        if name not in spec.programs:
            known = f"its programs are {', '.join(spec.programs)}" if spec.programs else "it has no programs"
            raise Failure(f"--program {name}: the object has no such program; {known}")
    return asked or list(spec.programs)


def _escaped(text: str) -> str:
    return "".join(f"{escaped(line)}\n" for line in text.splitlines())
