"""The command `rawbpf`: one file per noun, and what they share.

Exit status 0: it did what was asked, also when the reader of its output ended it, and `run` and `bench` when a
signal did; 1: it could not, and one line on stderr says why (three for a program that the verifier refused);
2: wrong usage; 128 and the signal's number: a signal came before it was done, and nothing was written.
Only the command line prints, handles signals, mounts bpffs, and imports rich.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rawbpf.cli.stop import Stop

_SIGINT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` and return its exit status.

    By default `argv` is the process's own arguments; then the process is taken to end with the command,
    and signals that come later do not change its status.
    """
    # These go on until they are told to end; who waits for what others make must not take it for made.
    goes_on = [*(sys.argv[1:] if argv is None else argv)][:1] in (["run"], ["bench"])
    try:
        from rawbpf.cli.failure import Failure, tell, what_is_exhausted
    except KeyboardInterrupt:
        return 0 if goes_on else 128 + _SIGINT
    number = _SIGINT
    try:
        try:
            from rawbpf.cli.stop import Stop

            with Stop(for_good=argv is None) as stop:
                try:
                    return _run(argv, stop)
                finally:
                    number = stop.number
        except (OSError, ImportError) as error:
            exhausted = what_is_exhausted(error)
            if not exhausted:
                raise
            raise Failure(exhausted) from error
    except Failure as failure:
        tell(str(failure))
        return 1
    except BrokenPipeError:
        return 0  # who read the output has seen enough
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        # What Python before 3.12 makes of an interrupted class body, also of those of `signal`.
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
    if goes_on:
        return 0
    tell("interrupted: nothing was written")
    return 128 + number


def _run(argv: Sequence[str] | None, stop: Stop) -> int:
    from rawbpf.cli.output import flush_printed
    from rawbpf.cli.parser import parse

    try:
        with stop.raising():
            arguments = parse(argv)
    except SystemExit as end:  # --help, --version and wrong usage
        with stop.raising():
            flush_printed(sys.stdout)
        return end.code if isinstance(end.code, int) else 1
    status: int = arguments.command(arguments, stop)
    return status
