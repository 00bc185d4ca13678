"""Watching a prefix: what is there, then `Synced`, then what changes, at the reader's own pace.

A watcher never slows the node down and never fills its memory. What waits for it are keys, not values: a value is read when
it is told, so writes of one path that wait together are told once. A reader that falls more than `limit` changes behind is told
`Lagged(n)`, then all that is not as it was told before, then `Synced`:

    Changed ... Changed  Synced  Changed  Changed  Lagged(1500)  Changed ... Changed  Synced  Changed ...

So it need not forget anything at `Lagged`; what it had been told and is gone meanwhile is told as a `Changed` without a dot.
While the node itself catches up with its peers, changes are held and told together before the next `Synced`, so that nobody sees
them flicker.

`mesh.listener` is the same without a task.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import trio

from crdt.ops import Key, Path
from mesh.events import Change, Event, Lagged
from mesh.feed import LIMIT, Feed, Source, Watchers

E = TypeVar("E", bound=Event)


class Readers(Protocol):
    """A set, or whatever else one can join and leave."""

    def add(self, reader: Any, /) -> None: ...
    def discard(self, reader: Any, /) -> None: ...


class Reader(Generic[E]):
    """An async iterator in a context: the node feeds it while the context is open, and ends it when the node leaves."""

    def __init__(self, readers: Readers, limit: int) -> None:
        """Raises ValueError."""
        if not isinstance(limit, int) or not 1 <= limit <= sys.maxsize:
            raise ValueError(f"limit={limit!r}: a number of changes or events that may wait, 1 at least")
        self._joins, self._leaves = readers.add, readers.discard
        self._parked: dict[trio.lowlevel.Task, None] = {}
        self._opened = self._ended = False

    def next_nowait(self) -> E | None:
        """What there is to read now; None when nothing waits."""
        raise NotImplementedError

    def _has_news(self) -> bool:
        """Whether `next_nowait` may give something. If not, waiting for it lets others run, and nothing else need do so."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._joins(self)
        self._opened = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaves(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if not self._opened:
            raise RuntimeError("nothing is read before it is opened: `async with node.watch(...) as changes`, then iterate")
        if self._ended or self._has_news():
            await trio.lowlevel.checkpoint()
        while (item := self.next_nowait()) is None:
            if self._ended:
                raise StopAsyncIteration
            await self._park()
        return item

    async def _park(self) -> None:
        """As in a `trio.lowlevel.ParkingLot`, of which nothing else is needed: to wake who waits there takes six calls, each of
        which costs a sleeping agent a cold cache."""
        task = trio.lowlevel.current_task()

        def forget(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._parked[task]
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked[task] = None
        await trio.lowlevel.wait_task_rescheduled(forget)

    def wake(self) -> None:
        for task in self._parked:
            trio.lowlevel.reschedule(task)
        self._parked.clear()

    def end(self) -> None:
        """What waits may still be read, then the iteration ends."""
        self._ended = True
        self.wake()


class Watch(Reader[Change]):
    """What `node.watch(prefix)` gives: iterate over it for Changed, Synced and Lagged."""

    def __init__(self, watchers: Watchers, source: Source, prefix: Path, limit: int) -> None:
        super().__init__(watchers, limit)
        self._source, self._prefix, self._limit = source, prefix, limit

    async def __aenter__(self) -> Self:
        self._source.settle()
        self._feed = Feed(self._source, self._prefix, self._limit)
        return await super().__aenter__()

    def changed(self, keys: Iterable[Key]) -> None:
        if self._feed.changed(keys):
            self.wake()

    def next_nowait(self) -> Change | None:
        return self._feed.next(hold=not self._source.caught_up)

    def _has_news(self) -> bool:
        return not self._feed.is_quiet


class EventStream(Reader[Event]):
    """What `node.events()` gives. A reader who is `limit` events behind loses the oldest, and is told how many by a Lagged."""

    def __init__(self, readers: set[Self], limit: int = LIMIT, found: Sequence[Event] = ()) -> None:
        """`found`: what it begins with."""
        super().__init__(readers, limit)
        self._events: deque[Event] = deque(maxlen=limit)
        self._lost = 0
        self.happened(found)

    def happened(self, events: Sequence[Event]) -> None:
        for event in events:
            self._lost += len(self._events) == self._events.maxlen
            self._events.append(event)
        self.wake()

    def next_nowait(self) -> Event | None:
        if self._lost:
            lost, self._lost = self._lost, 0
            return Lagged(lost)
        return self._events.popleft() if self._events else None

    def _has_news(self) -> bool:
        return bool(self._events or self._lost)
