"""`rawbpf run OBJ`: load an object file, attach its programs, and show its maps and events until it is told to end."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import ExitStack

from rawbpf.cli.failure import Failure, escaped, tell, why, why_denied
from rawbpf.cli.read import read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from rawbpf.cli.event_kind import Asked
    from rawbpf.cli.pin import Pinnable, Pins
    from rawbpf.cli.stop import Stop
    from rawbpf.loader.object import Links, Object
    from rawbpf.loader.spec import ObjectSpec

_SHORTEST = 0.01
_EPILOG = """\
examples:
  sudo rawbpf run bpf/execcount.bpf.o
        executions per user, until Ctrl-C
  sudo rawbpf run bpf/execcount.bpf.o --set min_uid=1000 --duration 60 --json
        those of people's accounts, for a minute, as a JSON object per second
  sudo rawbpf run bpf/exec_events.bpf.o --event exec_events=exec_event --json
        each program that starts, when it does, and what the maps have per second
  sudo rawbpf run lives.bpf.o --event lives:kind=STARTED:started,ENDED:ended
        of the map lives, records of struct started and of struct ended, which begin with an enum kind
  sudo rawbpf run bpf/uid_filter.bpf.o --pin /sys/fs/bpf/uid_filter
        its maps for others to read and write, and it goes on counting after the end,
        until the files are removed that it names then

On a terminal the tables are redrawn (with rich: pip install 'rawbpf[cli]'), elsewhere there is a line
for each element. Elements are sorted by their counts, the greatest first. JSON has numbers as they are
in the map, bytes as hex, structs as objects, and per-CPU values as {"total": ..., "cpus": [...]}.
"""


def add_to(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the arguments of `run`."""
    parser = commands.add_parser(
        "run",
        help="load an object file, attach its programs, and show its maps and events live",
        description="Load an object file that clang compiled, attach its programs, and show its maps and events live.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("object", metavar="OBJ", help="the object file, such as execcount.bpf.o")
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="between two looks at the maps (default: 1)"
    )
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end after this time (default: at Ctrl-C)")
    parser.add_argument("--map", action="append", default=[], metavar="NAME", help="show only this map; repeatable")
    parser.add_argument(
        "--event",
        action="append",
        default=[],
        type=_event,
        metavar="MAP=STRUCT",
        help="of which type the events in this ring buffer or perf event array are; where a field tells several "
        "types apart, MAP:FIELD=VALUE:STRUCT,VALUE:STRUCT; repeatable (default: the struct that is called as the map "
        "is, or its singular, else hex)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="VAR=VALUE",
        help="what a global variable starts with; repeatable",
    )
    parser.add_argument(
        "--pin",
        type=_directory,
        metavar="DIR",
        help="pin the maps and links in this directory of a bpf file system, where they stay",
    )
    parser.add_argument(
        "--json", action="store_true", help="write a JSON object per interval and event, each on a line of its own"
    )
    parser.set_defaults(command=run, parser=parser)


def run(arguments: Namespace, stop: Stop) -> int:
    """Do what the command line says and return the exit status.

    Raises: Failure; Stopped when a signal came before it had started; BrokenPipeError when the output's
    reader went away.
    """
    from rawbpf.cli.event_kind import event_maps
    from rawbpf.cli.events import open_events
    from rawbpf.cli.output import Output
    from rawbpf.cli.variable import Globals
    from rawbpf.cli.watch import choose_view, sources, watch

    path: str = arguments.object
    output = Output(stop)
    with stop.raising():
        spec = read_object(path)
    names = _chosen_maps(spec, arguments.map)
    with_events = event_maps(spec, names, arguments.event)
    if not spec.programs and not names:
        raise Failure(f"{escaped(path)}: nothing to do: the object has no programs and no maps")
    for name, reason in _leave_out(spec, path):
        tell(f"not loaded: {name}: {reason}")
    if arguments.set:
        from rawbpf.cli.setting import apply

        apply(arguments.set, spec.variables)
    with ExitStack() as stack:
        pins = _prepare_pins(spec, arguments.pin)
        if pins is not None:
            stack.enter_context(pins)
        try:
            with stop.raising():
                obj = stack.enter_context(spec.load(pin_dir=None if pins is None else pins.directory))
            # Before anything is attached: the first events have a reader, and names that are wrong end it here.
            asked = {*arguments.map, *(each.map for each in arguments.event)}
            events = stack.enter_context(open_events(obj, with_events, asked=asked))
            links = stack.enter_context(obj.attach())
            _check_attached(spec, links, path)
            tables = [name for name in names if name not in with_events]
            shown = sources(spec, obj, tables, asked=bool(arguments.map))
            if pins is not None and arguments.pin is not None:
                pins.add(_pinnable_maps(spec, obj))
                pins.add(_pinnable_links(obj, links), attach=True)
            title = os.path.basename(path)
            view = choose_view(output, stop, title, as_json=arguments.json, has_events=bool(with_events))
            stack.callback(view.close)
            shown_too = Globals(spec, obj)
            watch(
                shown,
                shown_too,
                events,
                view,
                stop,
                output,
                links,
                pins,
                interval=arguments.interval,
                duration=arguments.duration,
            )
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            raise _failure(error, path, spec) from error
    return 0


def _leave_out(spec: ObjectSpec, path: str) -> list[tuple[str, str]]:
    # One program in a section that nobody knows shall not keep the others from running.
    left_out = []
    for name, program in spec.programs.items():
        if program.autoload and not program.prog_type:
            program.autoload = False
            left_out.append((name, f"its section {program.section!r} names no program type"))
    if left_out and not any(program.autoload for program in spec.programs.values()):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out)
        raise Failure(f"{escaped(path)}: nothing to attach: {reasons}")
    return left_out


def _chosen_maps(spec: ObjectSpec, asked: list[str]) -> list[str]:
    names = [name for name, each in spec.maps.items() if not each.is_data]
    for name in asked:
        if name not in names:
            known = f"its maps are {', '.join(sorted(names))}" if names else "it has no maps"
            raise Failure(f"--map {name}: the object has no such map; {known}")
    return list(dict.fromkeys(asked)) or names


def _prepare_pins(spec: ObjectSpec, directory: str | None) -> Pins | None:
    by_name = [each.name for each in spec.maps.values() if each.pinning]
    if directory is None and not by_name:
        return None
    from rawbpf.cli.pin import ROOT, Pins

    pins = Pins(ROOT if directory is None else directory, by_name_only=directory is None)
    try:
        pins.prepare([] if directory is None else _pin_names(spec), by_name)
    except BaseException:
        pins.remove()
        raise
    return pins


def _pin_names(spec: ObjectSpec) -> list[str]:
    maps = [each.name for each in spec.maps.values() if not each.is_data and not each.pinning]
    return maps + [_link_name(name) for name, program in spec.programs.items() if program.autoload]


def _pinnable_maps(spec: ObjectSpec, obj: Object) -> dict[str, Pinnable]:
    return {name: obj.maps[name] for name in _pin_names(spec) if name in obj.maps}


def _pinnable_links(obj: Object, links: Links) -> dict[str, Pinnable]:
    skipped = [name for name, _ in links.skipped]
    attached = [name for name in obj.programs if name not in skipped]
    return {_link_name(name): link for name, link in zip(attached, links, strict=True)}


def _link_name(program: str) -> str:
    # A map may have the name of a program.
    return f"{program}_link"


def _check_attached(spec: ObjectSpec, links: Links, path: str) -> None:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in links.skipped)
    if spec.programs and not links:
        what = reasons or "its programs are marked not to be loaded (their sections begin with ?)"
        raise Failure(f"{escaped(path)}: nothing to attach: {what}")
    for name, reason in links.skipped:
        tell(f"not attached: {name}: {reason}")
    tell(f"attached to {', '.join(link.target for link in links) or 'nothing'}; Ctrl-C ends")


def _failure(error: OSError | ValueError, path: str, spec: ObjectSpec) -> Failure:
    from rawbpf.errors import PermissionDenied

    if isinstance(error, PermissionDenied):
        types = [program.prog_type for program in spec.programs.values() if program.autoload]
        return Failure(why_denied(error, path, types, has_types=spec.btf is not None))
    return Failure(why(error, path, has_types=spec.btf is not None))


def _seconds(written: str) -> float:
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ArgumentTypeError(f"expected a number of seconds above 0, got {written!r}")
    return seconds


def _interval(written: str) -> float:
    seconds = _seconds(written)
    if seconds < _SHORTEST:
        raise ArgumentTypeError(f"expected at least {_SHORTEST} seconds, got {written!r}")
    return seconds


def _directory(written: str) -> str:
    if not written:
        raise ArgumentTypeError("expected a directory, got ''")
    return written


def _event(written: str) -> Asked:
    from rawbpf.cli.event_kind import event_option

    return event_option(written)


def _setting(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"expected VAR=VALUE, such as min_uid=1000, got {written!r}")
    return name, value
