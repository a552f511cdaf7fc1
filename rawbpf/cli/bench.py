"""`rawbpf bench map`: what the operations of a map cost on this machine, asked in each way that there is."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import ExitStack

from rawbpf.cli.failure import Failure, escaped, why, why_denied
from rawbpf.cli.stop import Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.cli.output import Output
    from rawbpf.cli.stop import Stop
    from rawbpf.syscall.protocol import Backend

_MOST_OPERATIONS = 1 << 20  # a loop of the kernel's takes 8 million, and a list of keys has to be afforded
_EPILOG = """\
examples:
  sudo rawbpf bench map --type hash --entries 1000000
  sudo rawbpf bench map --type lru_hash --key 16 --value 'u64[8]' --json lru.json
  sudo rawbpf bench map --type array --flags 0
        an array that is not mapped into memory, so that each m[i] is a system call

A map is made, filled, measured and closed; nothing of it is left. Times are what passed on the clock,
in nanoseconds per operation, the median of the rounds and the least and greatest of them. Ctrl-C prints
what there is until then.
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the arguments of `bench`."""
    bench = commands.add_parser(
        "bench", help="measure what maps cost here", description="Measure what operations cost on this machine."
    )
    # What the parser of the command as a whole needs to know to show the right usage.
    nouns = bench.add_subparsers(metavar="NOUN", required=True)
    parser = nouns.add_parser(
        "map",
        help="the operations of a map: from user space, many at once, and inside the kernel",
        description="Measure the operations of a map: from user space, many at once, and inside the kernel.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--type", default="hash", metavar="TYPE", help="the map's type (default: hash)")
    parser.add_argument(
        "--entries", type=_number, default=10_000, metavar="N", help="max_entries, all of which are filled (10000)"
    )
    parser.add_argument(
        "--key", type=_description, metavar="KEY", help="a type such as u32, ipv4 or u32[4], or a size in bytes (u32)"
    )
    parser.add_argument("--value", type=_description, metavar="VALUE", help="as --key (u64)")
    parser.add_argument(
        "--flags",
        type=_flags,
        metavar="FLAGS",
        help="such as BPF_F_NO_PREALLOC, several with |; 0 for none (default: as Map.create)",
    )
    parser.add_argument(
        "--operations",
        type=_operations,
        default=20_000,
        metavar="N",
        help="how many operations a round has, each on a key of its own (20000)",
    )
    parser.add_argument("--rounds", type=_number, default=7, metavar="N", help="how many rounds are timed (7)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, to standard output for -")
    parser.set_defaults(command=run, parser=parser)


def run(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status.

    Raises: Failure; Stopped when a signal came before anything was measured; BrokenPipeError when the
    output's reader went away.
    """
    from rawbpf.cli.output import Output
    from rawbpf.syscall.current import current

    backend, output = current(), Output(stop)
    if backend.name != "kernel":
        raise Failure(f"bench measures the running kernel, and RAWBPF_BACKEND asks for another: {backend.name}")
    try:
        content = _measured(arguments, stop, backend)
    except (OSError, ValueError, TypeError) as error:
        raise _failure(error, arguments.type) from error
    _write(content, arguments.json, output)
    return 0


def _measured(arguments: Namespace, stop: Stop, backend: Backend) -> dict[str, object]:
    from rawbpf.cli.bench_map import Plan, race
    from rawbpf.cli.bench_report import report
    from rawbpf.cli.bench_subject import NOT_MEASURED, Subject
    from rawbpf.uapi.names import map_type_name, map_type_number

    number = map_type_number(arguments.type)
    if number in NOT_MEASURED:
        described: dict[str, object] = {"type": map_type_name(number)}
        return report(described, [], [("", "all operations", NOT_MEASURED[number])], interrupted=False)
    with ExitStack() as stack:
        subject = stack.enter_context(
            Subject(
                backend,
                arguments.type,
                key=arguments.key,
                value=arguments.value,
                entries=arguments.entries,
                flags=arguments.flags,
                operations=arguments.operations,
            )
        )
        with stop.raising():
            subject.fill()
        plan = Plan(subject, stack)
        _check_writable(arguments.json)
        interrupted = False
        try:
            with stop.raising():
                race(plan.measurements, arguments.rounds)
        except Stopped:
            interrupted = True
            if not any(each.rounds for each in plan.measurements):
                raise
        return report(subject.described(), plan.measurements, plan.left_out, interrupted=interrupted)


def _write(content: dict[str, object], path: str | None, output: Output) -> None:
    from rawbpf.cli.bench_report import table

    as_json = json.dumps(content, indent=2) + "\n"
    if path == "-":
        output.write(as_json)
    else:
        for line in table(content):
            output.write(f"{line}\n")
        if path is not None:
            try:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(as_json)
            except OSError as error:
                output.flush()
                raise Failure(f"{escaped(path)}: {error.strerror}") from error
    output.flush()


def _check_writable(path: str | None) -> None:
    # Before minutes are spent for what cannot be kept. What the file has stays in it until then.
    if path not in (None, "-"):
        assert path is not None
        try:
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise Failure(f"{escaped(path)}: {error.strerror}") from error


def _failure(error: OSError | ValueError | TypeError, subject: str) -> Failure:
    from rawbpf.errors import PermissionDenied
    from rawbpf.uapi.constants import BPF_PROG_TYPE_SYSCALL

    if isinstance(error, PermissionDenied):
        return Failure(why_denied(error, subject, [BPF_PROG_TYPE_SYSCALL]))
    return Failure(why(error, subject))


def _number(written: str) -> int:
    try:
        number = int(written.replace("_", ""), 0)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"expected a whole number above 0, got {written!r}")
    return number


def _operations(written: str) -> int:
    number = _number(written)
    if number > _MOST_OPERATIONS:
        raise ArgumentTypeError(f"expected at most {_MOST_OPERATIONS}, got {written!r}")
    return number


def _description(written: str) -> int | str:
    return int(written) if written.isdecimal() else written


def _flags(written: str) -> int:
    from rawbpf.uapi.enums import MapFlag

    flags = 0
    for word in written.replace(" ", "").split("|"):
        name = word.upper().removeprefix("BPF_F_")
        if name in MapFlag.__members__:
            flags |= MapFlag[name]
            continue
        try:
            flags |= int(word, 0)
        except ValueError:
            known = ", ".join(f"BPF_F_{each}" for each in MapFlag.__members__)
            raise ArgumentTypeError(f"expected flags such as {known}, or a number, got {written!r}") from None
    return flags
