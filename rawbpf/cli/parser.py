"""The arguments of the command: a parser, and a subparser that each noun's file adds."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from rawbpf import __version__
from rawbpf.cli import run

_DESCRIPTION = "eBPF from Python with nothing underneath but the kernel."
_EPILOG = """\
example:
  sudo rawbpf run bpf/execcount.bpf.o      executions per user, as they happen

`rawbpf COMMAND --help` tells more of a command.
"""


def make_parser() -> ArgumentParser:
    """Return the parser of all commands; the namespace's `command` is the function to call with it."""
    parser = ArgumentParser(
        prog="rawbpf", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"rawbpf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run.add_to(commands)
    return parser
