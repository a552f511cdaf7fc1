"""Looking at maps again and again: which, how they are shown, and when. Events are shown as they come."""

from __future__ import annotations

import math
import os
import time

from rawbpf.cli.failure import Failure, tell
from rawbpf.cli.lines import Json, Lines
from rawbpf.cli.table import Layout
from rawbpf.codec import codec_for
from rawbpf.errors import IterationAborted
from rawbpf.syscall.rule import article
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rawbpf.cli.events import Events
    from rawbpf.cli.lines import View
    from rawbpf.cli.output import Output
    from rawbpf.cli.pin import Pins
    from rawbpf.cli.stop import Stop
    from rawbpf.cli.table import Table
    from rawbpf.cli.variable import Globals
    from rawbpf.loader.object import Links, Object
    from rawbpf.loader.spec import ObjectSpec
    from rawbpf.map.base import Map
    from rawbpf.map.bulk import BulkMap

# How long to look away from events that nobody can read yet: seconds.
_REST = 0.01


class Source:
    """A map that is read again and again."""

    def __init__(self, layout: Layout, source: BulkMap[Any, Any]) -> None:
        self._layout = layout
        self._map = source
        self._last: Table | None = None

    def read(self) -> Table:
        """Return the map as it is now."""
        try:
            self._last = self._layout.read(self._map.items())
        except IterationAborted:
            # A kernel without batches, and a map that changes faster than it can be walked: the next look may do.
            if self._last is None:
                self._last = self._layout.read(())
        return self._last


def sources(spec: ObjectSpec, obj: Object, names: Sequence[str], *, asked: bool) -> list[Source]:
    """Return what to read of the maps `names`.

    Raises: Failure for a map that is no table of numbers if it was `asked` for; others are told and left out.
    """
    from rawbpf.map.bulk import BulkMap

    found = []
    for name in names:
        source = obj.maps[name]
        if isinstance(source, BulkMap):
            found.append(Source(_layout(spec, name, source), source))
            continue
        why = f"{article(map_type_name(spec.maps[name].map_type))} has no elements that make a table"
        if asked:
            raise Failure(f"--map {name}: {why}")
        tell(f"not shown: {name}: {why}")
    return found


def _layout(spec: ObjectSpec, name: str, source: Map[Any, Any]) -> Layout:
    from rawbpf.map.array import ArrayMap

    wanted, key = spec.maps[name], source.key_type
    if key.source is None and wanted.key is not None and wanted.key_size == key.size:
        # An array is indexed by a u32, whatever the object calls it; the name of the type says what it counts.
        key = codec_for(wanted.key)
    return Layout(
        name,
        key,
        source.value_type,
        words=map_type_name(wanted.map_type),
        max_entries=source.max_entries,
        is_array=isinstance(source, ArrayMap),
    )


def choose_view(output: Output, stop: Stop, title: str, *, as_json: bool, has_events: bool) -> View:
    """Return the way to show tables, and events if there are any, that fits the output."""
    if as_json:
        return Json(output)
    if not output.isatty():
        return Lines(output)
    try:
        from rawbpf.cli.screen import Screen
    except ImportError:
        tell("for tables that are redrawn in place: pip install 'rawbpf[cli]'")
    else:
        screen = Screen(output, title, has_events=has_events)
        if screen.usable:
            stop.watch_size()
            return screen
    return Lines(output, _height(output))


def _height(output: Output) -> int:
    # A terminal that nobody has told its size has none.
    return os.get_terminal_size(output.fileno())[1] or 24


def watch(
    shown: Sequence[Source],
    variables: Globals,
    events: Events,
    view: View,
    stop: Stop,
    output: Output,
    links: Links,
    pins: Pins | None,
    *,
    interval: float,
    duration: float | None,
) -> None:
    """Show the maps every `interval` seconds for `duration` seconds, or until `stop`; then detach and show the end.

    `variables` are shown with them, `events` as they come. At the end it detaches first: what is read then has all
    that programs wrote. `pins` are kept once the maps were shown. Corrupt memory of a map of events is an end, too.
    Raises: as `Output.flush`; BpfError; FormatError, for such memory when all else was shown.
    """
    started = time.monotonic()
    end = math.inf if duration is None else started + duration
    if view.at_once:
        _show(shown, variables, view, pins)
    following, resume = started + interval, 0.0
    while True:
        # One poll(2) for all that may happen.
        ready = stop.wait(min(following, end, resume or end), output.fileno(), () if resume else events.filenos())
        now = time.monotonic()
        if stop.asked or now >= end:
            break
        # What is readable and gives nothing is a record that a program is still writing.
        found = events.show(view)
        if events.broken is not None:
            break
        resume = now + _REST if ready and not found else 0.0
        if now >= following or stop.resized:
            stop.resized = False
            _show(shown, variables, view, pins)
        if now >= following:
            # Counted from the start: the time that a look takes delays no other, and what was missed is left out.
            following += interval * max(1, math.ceil((now - following) / interval))
    links.close()
    events.finish(view)
    _show(shown, variables, view, pins, last=True)
    if events.broken is not None:
        raise events.broken


def _show(shown: Sequence[Source], variables: Globals, view: View, pins: Pins | None, *, last: bool = False) -> None:
    view.show([source.read() for source in shown], time.time(), variables=variables.read(), last=last)
    if pins is not None:
        pins.keep()
