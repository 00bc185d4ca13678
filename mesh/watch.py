"""Watching a prefix: what is there, then `Synced`, then what changes, at the reader's own pace.

A watcher never slows the node down and never fills its memory. What waits for it are keys, not values: a value is read when
it is told, so writes of one path that wait together are told once. A reader that falls more than `limit` changes behind is told
`Lagged(n)`, then all that is not as it was told before, then `Synced`:

    Changed ... Changed  Synced  Changed  Changed  Lagged(1500)  Changed ... Changed  Synced  Changed ...

So it need not forget anything at `Lagged`; what it had been told and is gone meanwhile is told as a `Changed` without a dot.
While the node itself catches up with its peers, changes are held and told together before the next `Synced`, so that nobody sees
them flicker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import trio

from crdt.ops import Key, Path
from mesh.events import Change, Changed, Event, Lagged, Synced
from mesh.values import Reading

LIMIT: Final = 1024
"""Changes that may wait for a watcher, and events for a reader of events (guess: a second of a busy mesh)."""


class Source(Protocol):
    """Where a feed reads. The node is one; tests have a smaller one."""

    @property
    def caught_up(self) -> bool:
        """The node has heard what its peers know, or has found none for a while."""

    def watched_keys(self, prefix: Path) -> Iterator[Key]:
        """The keys of all values at or below the prefix, sorted: a set or a map counts once."""

    def watched_key(self, key: Key) -> Key:
        """The value that a cell belongs to: of an element, its set."""

    def read_value(self, key: Key) -> Reading:
        """The value as it is now."""

    def settle(self) -> None:
        """Tell the watchers what changed until now, so that a new one does not hear of it as news. Raises NodeClosed."""


class Stage(Enum):
    SNAPSHOT = auto()
    """The backlog is what was there, or the node catches up: changes wait."""
    CLOSING = auto()
    """The backlog is what changed meanwhile; a Synced ends it."""
    LIVE = auto()
    """Changes are told as they come."""


class Feed:
    """What one watcher has yet to be told. No clock, no trio: the node pushes keys in, the reader pulls changes out."""

    def __init__(self, source: Source, prefix: Path, limit: int = LIMIT) -> None:
        self._source = source
        self._prefix = prefix
        self._limit = limit
        self._stage = Stage.SNAPSHOT
        self._backlog = deque(source.watched_keys(prefix))
        self._pending: dict[Key, int] = {}  # changes per key, the key that waits longest first
        self._waiting = 0  # changes that are not told yet, those that found no room in pending too
        self._overflow = False  # pending is incomplete: everything must be looked through
        self._told: dict[Key, int] = {}  # what the reader believes to be there, by the marks of what it was told

    def changed(self, keys: Iterable[Key]) -> bool:
        """Cells changed. True when that concerns this watcher."""
        depth, before = len(self._prefix), self._waiting
        for cell_key in keys:
            key = self._source.watched_key(cell_key)
            if key[1][:depth] != self._prefix:
                continue
            self._waiting += 1
            if key in self._pending:
                self._pending[key] += 1
            elif len(self._pending) < self._limit:
                self._pending[key] = 1
            else:
                self._overflow = True
        return self._waiting > before

    @property
    def is_quiet(self) -> bool:
        """All that happened was told."""
        return self._stage is Stage.LIVE and not (self._pending or self._backlog or self._overflow)

    def next(self, *, hold: bool = False) -> Change | None:
        """The next thing to tell, None when there is none now. `hold`: the node is catching up, keep changes and Synced back."""
        while True:
            if self._backlog:
                if change := self._read(self._backlog.popleft()):
                    return change
            elif hold:
                self._stage = Stage.SNAPSHOT
                return None
            elif self._stage is Stage.SNAPSHOT:
                self._gather()
            elif self._stage is Stage.CLOSING:
                self._stage = Stage.LIVE
                return Synced()
            elif self._overflow or self._waiting > self._limit:
                lagged = Lagged(self._waiting)
                self._gather()
                return lagged
            elif self._pending:
                if change := self._read(next(iter(self._pending))):
                    return change
            else:
                return None

    def _gather(self) -> None:
        """All that waits becomes the backlog that a Synced will end."""
        if self._overflow:
            self._backlog.extend(self._source.watched_keys(self._prefix))
            there = set(self._backlog)
            self._backlog.extend(key for key in self._told if key not in there)
        else:
            self._backlog.extend(self._pending)
        self._pending.clear()
        self._waiting, self._overflow = 0, False
        self._stage = Stage.CLOSING

    def _read(self, key: Key) -> Changed | None:
        """The value now, whatever waits of it. None when the reader knows: housekeeping moves cells and shows nothing new."""
        self._waiting -= self._pending.pop(key, 0)
        change, mark = self._source.read_value(key)
        if change.dot is not None:
            news = self._told.get(key) != mark
            self._told[key] = mark
        else:
            news = self._told.pop(key, None) is not None
        return change if news else None


E = TypeVar("E", bound=Event)


class Reader(Generic[E]):
    """An async iterator in a context: the node feeds it while the context is open, and ends it when the node leaves."""

    def __init__(self, readers: set[Self], limit: int) -> None:
        """Raises ValueError."""
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit={limit!r}: a number of changes or events that may wait, 1 at least")
        self._joins, self._leaves = readers.add, readers.discard
        self._arrived = trio.lowlevel.ParkingLot()
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
            await self._arrived.park()
        return item

    def wake(self) -> None:
        self._arrived.unpark_all()

    def end(self) -> None:
        """What waits may still be read, then the iteration ends."""
        self._ended = True
        self.wake()


class Watch(Reader[Change]):
    """What `node.watch(prefix)` gives: iterate over it for Changed, Synced and Lagged."""

    def __init__(self, readers: set[Self], source: Source, prefix: Path, limit: int) -> None:
        super().__init__(readers, limit)
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

    def __init__(self, readers: set[Self], limit: int = LIMIT) -> None:
        super().__init__(readers, limit)
        self._events: deque[Event] = deque(maxlen=limit)
        self._lost = 0

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
