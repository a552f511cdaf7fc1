"""Ctrl-C at a place of one's choice: one after the other of those at which the interpreter looks for signals."""

from __future__ import annotations

import signal
import sys
from typing import Any


class interrupted:  # noqa: N801  # used like a function
    """Raises SIGINT at the `after`th line of the package that is run."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __enter__(self) -> None:
        sys.settrace(self._traced)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _traced(self, frame: Any, event: str, argument: object) -> Any:
        del argument
        if "/rawbpf/event/" not in frame.f_code.co_filename:
            return None
        if event == "call":
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(signal.SIGINT)
        return self._traced
