"""Events for asyncio: `async for` over a reader, which waits in the event loop.

Whatever is there is taken at once; only waiting is the loop's. A task that is cancelled while it waits has taken
nothing. Source: fs/eventpoll.c:ep_insert (v6.12), which looks at what is there already.
"""

from __future__ import annotations

from asyncio import get_running_loop, sleep
from select import epoll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from typing import Any, Generic, TypeVar

    from rawbpf.event.reader import Reader

    T = TypeVar("T")
else:
    from rawbpf.event.stream import Generic

    T = None


class Events(Generic[T]):
    """What `async for` goes through. When it is dropped, the position is stored behind the last event."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader[T]) -> None:
        self._reader = reader

    def __aiter__(self) -> Events[T]:
        return self

    async def __anext__(self) -> T:
        reader, pause = self._reader, 0.0
        while True:
            for event in reader._events:
                return event
            # Other tasks have their turn, also where events come faster than they are taken.
            await sleep(0)
            if reader._more(0.0):
                continue
            if reader._ended:
                raise StopAsyncIteration
            reader._waiting.append(None)
            try:
                pause = await _wait(reader, pause)
            finally:
                reader._stop_waiting()

    def __del__(self) -> None:
        self._reader._leave_off()


async def _wait(reader: Reader[Any], pause: float) -> float:
    fds, next_pause = reader._to_poll(pause)
    if next_pause:
        # A record is being written, which nobody signals.
        await sleep(pause)
        return next_pause
    if ready_now := reader._backend.poll(fds, 0):
        reader._woken(ready_now)
        return 0.0
    loop = get_running_loop()
    ready: Future[None] = loop.create_future()
    with epoll() as poller:
        for fd in fds:
            poller.register(fd, 1)
        loop.add_reader(poller.fileno(), _done, ready)
        try:
            # A perf event is readable once for each wake-up, and may have been so while it was registered.
            if not any(source.available for source, _ in reader._sources):
                await ready
        finally:
            loop.remove_reader(poller.fileno())
    return 0.0


def _done(ready: Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
