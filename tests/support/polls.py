"""A backend that tells when somebody waits in poll(2)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rawbpf.syscall.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rawbpf.syscall.protocol import Backend


class Polls(Wrapper):
    """`count` polls were made; `waiting` is set when one has begun that may wait. `before` is called before each."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.count = 0
        self.waiting = threading.Event()
        self.before: Callable[[], object] = int

    def poll(self, fds: Sequence[int], timeout: float | None) -> list[int]:
        self.count += 1
        self.before()
        if timeout is None or timeout > 0:
            self.waiting.set()
        return super().poll(fds, timeout)
