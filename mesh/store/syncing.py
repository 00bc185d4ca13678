"""One file synced by a thread, while the event loop goes on or waits for it for a moment.

The thread does nothing else: it needs Python's lock for a few microseconds only. Whoever waits gives that lock up, so nothing is
in its way; and a wait has an end, so a disk that stalls stalls nobody else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

import trio

log: Final = logging.getLogger("mesh.store.syncing")

LAZY_SECONDS: Final = 0.002
"""After which the end of a sync is told although somebody was to ask. Guess: a few times what a follower takes to answer on the
same machine; as much as a wrong guess costs."""


def sync_data(file: int) -> None:
    """The times of a file need not be on the disk; where nobody can say so (macOS), they are."""
    getattr(os, "fdatasync", os.fsync)(file)


def tell(token: trio.lowlevel.TrioToken, function: Callable[..., None], *arguments: object) -> None:
    """From another thread to the trio thread."""
    try:
        token.run_sync_soon(function, *arguments)
    except trio.RunFinishedError:
        log.debug("the program is over before the disk's last word was told")


class Syncing:
    """At most one sync at a time. All but the thread's own work is for the trio thread."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        """`on_end`: called in the trio thread when a sync has ended that nobody waited for; perhaps once too often."""
        self.is_under_way = False
        self._on_end = on_end
        self._files: SimpleQueue[int | None] = SimpleQueue()
        self._ended = threading.Lock()
        self._ended.acquire()
        """Released when the one under way has ended."""
        self._error: OSError | None = None
        self._is_awaited = self._is_lazy = False
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="mesh quorum sync", daemon=True)
        self._thread.start()

    def begin(self, file: int, *, lazily: bool = False) -> None:
        """Of all that was written to this file before. `lazily`: somebody will ask soon whether it has ended, and need not be
        woken up for that."""
        assert not self.is_under_way
        self.is_under_way, self._is_lazy = True, lazily
        self._files.put(file)

    def hurry(self) -> None:
        """Its end is to be told at once, after all; `has_ended` has to be asked after this."""
        self._is_lazy = False

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether the one under way has, after so many seconds at the latest. Raises OSError when it failed."""
        if seconds:
            self._is_awaited = True
            has_ended = self._ended.acquire(timeout=seconds)
            self._is_awaited = False
        else:
            has_ended = False
        if not has_ended and not self._ended.acquire(blocking=False):  # what ends from here on tells it
            return False
        self.is_under_way, error = False, self._error
        if error is not None:
            self._error = None
            raise error
        return True

    def _work(self) -> None:
        file = self._files.get()
        while file is not None:
            try:
                sync_data(file)
            except OSError as error:
                self._error = error
            self._ended.release()
            if not self._is_awaited:
                try:
                    if self._is_lazy:
                        file = self._files.get(timeout=LAZY_SECONDS)
                        continue
                except Empty:
                    pass
                if not self._ended.locked():  # nobody has asked meanwhile
                    tell(self._token, self._on_end)
            file = self._files.get()

    def close(self) -> None:
        """In any thread; waits for the one under way, if there is any."""
        self._files.put(None)
        self._thread.join()
