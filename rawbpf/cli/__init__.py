"""The command `rawbpf`: one file per noun, and what they share.

Exit status 0: it did what was asked, also when Ctrl-C, SIGTERM or the reader of its output ended it;
1: it could not, and one line on stderr says why (three for a program that the verifier refused);
2: wrong usage. Only the command line prints, handles signals, mounts bpffs, and imports rich.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the process's own arguments, and return its exit status."""
    from rawbpf.cli.failure import Failure, tell
    from rawbpf.cli.output import flush_printed
    from rawbpf.cli.parser import make_parser

    try:
        try:
            arguments = make_parser().parse_args(argv)
        except SystemExit as end:  # --help, --version and wrong usage
            flush_printed(sys.stdout)
            return end.code if isinstance(end.code, int) else 1
        status: int = arguments.command(arguments)
    except Failure as failure:
        tell(str(failure))
        return 1
    except BrokenPipeError:
        return 0  # who read the output has seen enough
    except KeyboardInterrupt:
        return _INTERRUPTED  # before a command took care of it
    return status
