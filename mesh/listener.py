"""Watching a prefix by a call: told what a watcher is told (mesh.watch), in the step in which it arrives.

Where many agents share a machine, to wake a task that waits is an eighth of the time until the last of them has a write
(interpreted, 32 processes, `mesh bench --only convergence`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import copy_context
from inspect import iscoroutinefunction
from types import TracebackType

from crdt.ops import Key, Path
from mesh.events import Change
from mesh.feed import Feed, Source, Watchers


class Listener:
    """What `node.listen(prefix, callback)` gives: while the context is open, `callback` is called with what a watcher is told,
    what is there already to begin with. Nothing waits for it, so `Lagged` comes only where more changed than may wait for a
    watcher while the node caught up. It is told one thing at a time, whatever it does. What it raises is the node's end, and told
    to nobody else: not to who wrote what it was told, and not to the others who watch."""

    def __init__(self, watchers: Watchers, source: Source, prefix: Path, callback: Callable[[Change], object]) -> None:
        """Raises TypeError."""
        if not callable(callback):
            raise TypeError(f"listen(prefix, callback): {callback!r:.80} cannot be called")
        if iscoroutinefunction(callback):
            raise TypeError(f"listen(prefix, callback): nobody would await {callback!r:.80}: a task is what `watch` is for")
        self._watchers, self._source, self._prefix, self._callback = watchers, source, prefix, callback
        self._run = copy_context().run  # who brings a change has other context variables than who listens
        self._is_open = self._is_telling = False

    def __enter__(self) -> Listener:
        self._source.settle()
        self._feed = Feed(self._source, self._prefix)
        self._watchers.add(self)
        self._is_open = True
        self.wake()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def changed(self, keys: Iterable[Key]) -> None:
        if self._feed.changed(keys):
            self.wake()

    def wake(self) -> None:
        if self._is_telling:  # by the callback itself: it is told when it has returned
            return
        source, feed, callback, run = self._source, self._feed, self._callback, self._run
        self._is_telling = True
        try:
            while self._is_open and (change := feed.next(hold=not source.caught_up)) is not None:
                run(callback, change)
                if feed.is_quiet:
                    break
        except BaseException as error:  # noqa: BLE001 - whoever brought the change has nothing to do with it, and others wait for it
            self.end()
            source.fail(error)
        finally:
            self._is_telling = False

    def end(self) -> None:
        self._is_open = False
        self._watchers.discard(self)
