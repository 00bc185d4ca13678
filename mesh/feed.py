"""What one watcher has yet to be told (`mesh.watch`). Pure: keys in, changes out, at the reader's own pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Final, Protocol, final

from crdt.ops import Key, Path
from mesh.events import Change, Changed, Lagged, Synced
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

    def fail(self, error: BaseException) -> None:
        """The node is to end with this."""


class Watcher(Protocol):
    """Whom the node tells which cells changed."""

    def changed(self, keys: Iterable[Key]) -> None:
        """These did."""

    def wake(self) -> None:
        """Something else may be told now: the node has caught up."""

    def end(self) -> None:
        """The node leaves."""


@final
class Watchers:
    """Those of one node, in the order in which they came: as a tuple, since each change asks and hardly any changes it."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: tuple[Watcher, ...] = ()

    def __len__(self) -> int:
        return len(self.all)

    def add(self, watcher: Watcher) -> None:
        self.discard(watcher)
        self.all = (*self.all, watcher)

    def discard(self, watcher: Watcher) -> None:
        self.all = tuple([each for each in self.all if each is not watcher])


class Stage(Enum):
    SNAPSHOT = auto()
    """The backlog is what was there, or the node catches up: changes wait."""
    CLOSING = auto()
    """The backlog is what changed meanwhile; a Synced ends it."""
    LIVE = auto()
    """Changes are told as they come."""


_SNAPSHOT: Final = Stage.SNAPSHOT
_CLOSING: Final = Stage.CLOSING
_LIVE: Final = Stage.LIVE


class Feed:
    """What one watcher has yet to be told. No clock, no trio: the node pushes keys in, the reader pulls changes out."""

    def __init__(self, source: Source, prefix: Path, limit: int = LIMIT) -> None:
        self._source = source
        self._watched_key, self._read_value = source.watched_key, source.read_value  # found once: each change asks them
        self._prefix = prefix
        self._limit = limit
        self._stage = _SNAPSHOT
        self._backlog = deque(source.watched_keys(prefix))
        self._pending: dict[Key, int] = {}  # changes per key, the key that waits longest first
        self._waiting = 0  # changes that are not told yet, those that found no room in pending too
        self._overflow = False  # pending is incomplete: everything must be looked through
        self._told: dict[Key, int] = {}  # what the reader believes to be there, by the marks of what it was told

    def changed(self, keys: Iterable[Key]) -> bool:
        """Cells changed. True when that concerns this watcher."""
        depth, before = len(self._prefix), self._waiting
        for cell_key in keys:
            key = self._watched_key(cell_key)
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
        return self._stage is _LIVE and not (self._pending or self._backlog or self._overflow)

    def next(self, *, hold: bool = False) -> Change | None:
        """The next thing to tell, None when there is none now. `hold`: the node is catching up, keep changes and Synced back."""
        while True:
            if self._backlog:
                if change := self._read(self._backlog.popleft()):
                    return change
            elif hold:
                self._stage = _SNAPSHOT
                return None
            elif self._stage is _SNAPSHOT:
                self._gather()
            elif self._stage is _CLOSING:
                self._stage = _LIVE
                return Synced()
            elif self._overflow or self._waiting > self._limit:
                lagged = Lagged(self._waiting)
                self._gather()
                return lagged
            elif self._pending:
                if change := self._read(_first(self._pending)):
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
        self._stage = _CLOSING

    def _read(self, key: Key) -> Changed | None:
        """The value now, whatever waits of it. None when the reader knows: housekeeping moves cells and shows nothing new."""
        if key in self._pending:
            self._waiting -= self._pending[key]
            del self._pending[key]
        reading = self._read_value(key)
        mark = reading.mark
        if mark is not None:
            news = self._told.get(key) != mark
            self._told[key] = mark
        else:
            news = self._told.pop(key, None) is not None
        return reading.change if news else None


def _first(pending: dict[Key, int]) -> Key:
    for key in pending:  # `next` is looked up by its name, compiled
        return key
    raise KeyError("nothing waits")
