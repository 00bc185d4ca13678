"""A model of what survives: which batches were on the disk when the process died.

It follows the real store (mesh.store): batches wait up to `group_delay` for company, one transaction at a time writes them, and a
transaction is there entirely or not at all (SQLite's WAL sees to that for torn writes too). A crash loses what waits; the
transaction under way may have reached the disk or not. A disk that lies about fsync (cheap cards do) may lose the last
transactions too: its torn log reads as an earlier commit.

A log of records (mesh.store.block_log) has written each batch before anybody waits for the sync: of all that is not synced yet, a
crash leaves any beginning.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from mesh.testing.clock import SECOND
from mesh.testing.delay import Delay, Fixed

FSYNC_DEFAULT: Final = Fixed(1_000)
"""Of one transaction, in microseconds: an SD card on a good day (guess)."""
GROUP_DELAY_DEFAULT: Final = 50_000
"""As mesh.store.sqlite.GROUP_SECONDS."""

LIES_MAX: Final = 4
"""Transactions that a lying disk may lose at a crash. Guess."""

BatchT = TypeVar("BatchT")
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)
RestoredT = TypeVar("RestoredT")
RestoredT_co = TypeVar("RestoredT_co", covariant=True)


class Image(Protocol[BatchT_contra, RestoredT_co]):
    """The tables of one store file."""

    def apply(self, batch: BatchT_contra) -> None: ...
    def copy(self) -> Image[BatchT_contra, RestoredT_co]: ...
    def restored(self) -> RestoredT_co:
        """What a process that opens this file is given."""


class Disk(Generic[BatchT, RestoredT]):
    """One machine's disk. `schedule(time, action)` is the world's."""

    def __init__(
        self,
        empty: Callable[[], Image[BatchT, RestoredT]],
        rng: random.Random,
        schedule: Callable[[int, Callable[[], None]], None],
        *,
        fsync: Delay = FSYNC_DEFAULT,
        group_delay: int = GROUP_DELAY_DEFAULT,
        is_log: bool = False,
    ) -> None:
        """`is_log`: each batch is a record of its own."""
        self.image = empty()
        self.fsync = fsync
        self.full = False
        self.transactions = 0
        self.failures = 0
        self.lost_batches = 0
        self.slowest = 0
        """Microseconds of the longest transaction so far."""
        self.torn = 0
        """Transactions that were lost although the disk had reported them."""
        self.on_torn: Callable[[], None] = lambda: None
        self.on_durable: Callable[[list[BatchT]], None] = lambda batches: None
        """Told of the batches that have just become durable, while the process lives."""
        self._empty = empty
        self._rng = rng
        self._schedule = schedule
        self._group_delay, self._is_log = group_delay, is_log
        self._waiting: deque[BatchT] = deque()
        self._writing: list[BatchT] = []
        self._epoch = 0
        self._armed = False
        self._backups: list[Image[BatchT, RestoredT]] = []
        self._safe: Image[BatchT, RestoredT] | None = None
        """What a lying disk really has."""
        self._unsafe: deque[list[BatchT]] = deque()
        self._accepted = 0
        self._durable = 0

    # ---- while the process lives

    def commit(self, batch: BatchT, time: int) -> int:
        """Returns the number of this batch, to be compared with `durable`."""
        self._waiting.append(batch)
        self._accepted += 1
        self._arm(time, self._group_delay)
        return self._accepted

    def flush(self, time: int) -> int:
        """Do not wait for company. All is durable once `durable` has reached the returned number."""
        if self._waiting and not self._writing:
            self._begin(time)
        return self._accepted

    @property
    def durable(self) -> int:
        """How many of the accepted batches are on the disk."""
        return self._durable

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self._writing)

    def _arm(self, time: int, delay: int) -> None:
        if self._armed or self._writing:
            return
        self._armed = True
        epoch = self._epoch

        def start() -> None:
            if self._epoch == epoch and self._armed:
                self._begin(time + delay)

        self._schedule(time + delay, start)

    def _begin(self, time: int) -> None:
        self._armed = False
        if self._writing or not self._waiting:
            return
        self._writing = list(self._waiting)
        self._waiting.clear()
        took = self.fsync.draw(self._rng.random, 0, 0)
        self.slowest = max(self.slowest, took)
        epoch, done_at = self._epoch, time + took

        def finish() -> None:
            if self._epoch == epoch:
                self._finish(done_at)

        self._schedule(done_at, finish)

    def _finish(self, time: int) -> None:
        if self.full:
            self.failures += 1
            self._waiting.extendleft(reversed(self._writing))
            self._writing = []
            self._arm(time, SECOND)
            return
        written, self._writing = self._writing, []
        self._apply(written)
        self.on_durable(written)
        if self._waiting:
            self._arm(time, self._group_delay)

    def _apply(self, batches: list[BatchT]) -> None:
        self.transactions += 1
        self._durable += len(batches)
        for batch in batches:
            self.image.apply(batch)
        if self._safe is not None:
            self._unsafe.append(batches)
            while len(self._unsafe) > LIES_MAX:
                for batch in self._unsafe.popleft():
                    self._safe.apply(batch)

    def close(self) -> None:
        """An orderly end of the process waits for the disk."""
        if not self.full:
            written = [*self._writing, *self._waiting]
            self._writing = []
            self._waiting.clear()
            if written:
                self._apply(written)
                self.on_durable(written)
        self._end()

    # ---- what can happen to it

    def crash(self) -> None:
        """The power is gone."""
        self._end()
        self._tear()

    def _end(self) -> None:
        """Nobody writes any more: what waits is lost."""
        self._epoch += 1
        self._armed = False
        pending, kept = [*self._writing, *self._waiting], 0
        if self._is_log and pending:
            kept = self._rng.randint(0, len(pending))
        elif self._writing and not self.full and self._rng.random() < 0.5:
            kept = len(self._writing)
        if kept:
            self._apply(pending[:kept])
        self.lost_batches += len(pending) - kept
        self._waiting.clear()
        self._writing = []
        self._accepted = self._durable

    def lie(self, lies: bool) -> None:
        """From now on it reports transactions as durable before they are; or has them all, and is honest again."""
        self._unsafe.clear()
        self._safe = self.image.copy() if lies else None

    def _tear(self) -> None:
        if self._safe is None or not self._unsafe:
            return
        lost = self._rng.randint(1, len(self._unsafe))
        for batches in list(self._unsafe)[: len(self._unsafe) - lost]:
            for batch in batches:
                self._safe.apply(batch)
        self.torn += lost
        self.image = self._safe
        self.lie(True)
        self.on_torn()

    def lose(self) -> None:
        """A new, empty disk."""
        self.image = self._empty()
        self.lie(False)

    def back_up(self) -> None:
        """Somebody copies the file."""
        self._backups.append(self.image.copy())

    def copy_from(self, other: Disk[BatchT, RestoredT]) -> None:
        """Somebody copies another machine's file here."""
        self.image = other.image.copy()
        self.lie(False)

    def restore_backup(self, number: int = -1) -> bool:
        """Somebody copies a former file back. False when there is none: the file stays as it is."""
        if not self._backups:
            return False
        self.image = self._backups[number].copy()
        self.lie(False)
        return True
