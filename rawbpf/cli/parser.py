"""The arguments of the command: a parser, and a subparser that each noun's file adds."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from rawbpf import __version__
from rawbpf.cli import bench, btf, cc, gen, run
from rawbpf.cli import object as object_noun
from rawbpf.cli.failure import escaped
from rawbpf.cli.output import failed_write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Protocol

    class Writable(Protocol):
        """What argparse prints to."""

        def write(self, text: str, /) -> object:
            """Take `text`."""


_DESCRIPTION = "eBPF from Python with nothing underneath but the kernel."
_EPILOG = """\
examples:
  sudo rawbpf run bpf/execcount.bpf.o      executions per user, as they happen
  sudo rawbpf bench map --type lru_hash    what such a map costs on this machine

`rawbpf COMMAND --help` tells more of a command.
"""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the usage and `message`, and exit."""
        super().error(escaped(message))

    def _print_message(self, message: str, file: Writable | None = None) -> None:
        # argparse takes a full disk for success.
        if not message or file is None:
            return
        try:
            file.write(message)
        except OSError as error:
            if file is sys.stdout:
                failed_write(error)


def parse(argv: Sequence[str] | None) -> Namespace:
    """Return what `argv` says; the namespace's `command` is the function to call with it and the `Stop`.

    Raises: SystemExit after --help, --version and wrong usage; as `Output.flush`.
    """
    words = sys.argv[1:] if argv is None else [*argv]
    options: list[str] = []
    if words[:1] == ["cc"] and "--" in words:
        # argparse, whose releases differ here, is not to look at what is the compiler's.
        at = words.index("--")
        words, options = words[:at], words[at + 1 :]
    arguments, unknown = make_parser().parse_known_args(words, Namespace(options=options))
    if unknown:
        # parse_args() would show the usage of the command as a whole.
        hint = "; options for the compiler go behind --" if words[:1] == ["cc"] else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return arguments


def make_parser() -> ArgumentParser:
    """Return the parser of all commands."""
    parser: ArgumentParser = _Parser(
        prog="rawbpf", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"rawbpf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run.add_to(commands)
    cc.add_to(commands)
    bench.add_to(commands)
    object_noun.add_to(commands)
    gen.add_to(commands)
    btf.add_to(commands)
    return parser
