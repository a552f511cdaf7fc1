"""`rawbpf gen skeleton OBJ`: a module of Python that has the object embedded, and types for what is in it."""

from __future__ import annotations

from argparse import ArgumentTypeError, RawDescriptionHelpFormatter

from rawbpf.cli.failure import Failure, escaped
from rawbpf.cli.read import read_object
from rawbpf.cli.write import made_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.cli.stop import Stop

_EPILOG = """\
examples:
  rawbpf gen skeleton execcount.bpf.o -o execcount.py
        then: from execcount import Execcount
  rawbpf gen skeleton probe.bpf.o --event events=started --event events=ended -o probe.py
        for a ring whose records are of either type

The module imports rawbpf alone, and needs no compiler and no file beside it where it runs.
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the commands of `gen`."""
    noun = commands.add_parser("gen", help="write Python for an object file", description="Write Python for objects.")
    verbs = noun.add_subparsers(metavar="COMMAND", required=True)
    parser = verbs.add_parser(
        "skeleton",
        help="write a module with the object embedded, and types for its maps, programs, variables and events",
        description="Write a module with the object embedded, and types for its maps, programs, variables and events.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("object", metavar="OBJ", help="the object file, such as execcount.bpf.o")
    parser.add_argument("-o", "--output", metavar="OUT", help="the module (default: standard output)")
    parser.add_argument("--name", help="what its class is called (default: as the object file, Execcount)")
    parser.add_argument(
        "--event",
        action="append",
        default=[],
        type=_event,
        metavar="MAP=STRUCT",
        help="of which type records in this ring buffer or perf event array are; repeatable, also for one map "
        "(default: the struct that is called as the map is, or its singular)",
    )
    parser.set_defaults(command=write_skeleton, parser=parser)


def write_skeleton(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status. Raises: Failure; as `Output.flush`."""
    from rawbpf.cli.output import Output
    from rawbpf.cli.skeleton import skeleton
    from rawbpf.errors import FormatError, SpecError

    path: str = arguments.object
    with stop.raising():
        spec = read_object(path)
        try:
            text = skeleton(spec, name=arguments.name, events=arguments.event)
        except (SpecError, FormatError) as error:
            raise Failure(f"{escaped(path)}: {escaped(str(error))}") from error
    if arguments.output is None:
        output = Output(stop)
        output.write(text)
        output.flush()
    else:
        with made_at_once(arguments.output, "module", source=path) as made, open(made, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


def _event(written: str) -> tuple[str, str]:
    name, equals, type = written.partition("=")
    if not name or not equals or not type:
        raise ArgumentTypeError(f"expected MAP=STRUCT, such as events=event, got {written!r}")
    return name, type
