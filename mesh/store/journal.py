"""What the quorum promised, on the disk before the promise leaves.

    submit --blocks that follow on the last ones--> quorum.log, written here, synced beside it -------> on_durable
       |
       +-----all else, and when that fails--------> queue --> quorum.db, a transaction in a thread ----> on_durable

Files apart from the store's, because a critical write waits for these: the store may be in the middle of a transaction of
thousands of rows, and its batches wait 50 ms for company on purpose. A disk that fails is tried again, and meanwhile nothing is
promised; a leader resigns then (`mesh.quorum.quorum`). Batches become durable in their order: while the thread has one, those
after it go there, too. Whenever it writes, it takes along what is in the log; so it does when that is half full.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Protocol

import trio

from consensus_escalation.effects import BlocksStored
from mesh.errors import StorageError
from mesh.events import Event, StorageFailing, StorageRecovered
from mesh.quorum.rows import QuorumBatch, QuorumRestored
from mesh.store.block_log import LOG_NAME, NO_LOG, BlockLog, Place, block_rows
from mesh.store.kernel_sync import best_syncing
from mesh.store.ledger_file import LedgerFile
from mesh.store.memory_journal import MemoryJournal
from mesh.store.syncing import LAZY_SECONDS, Syncing, tell

log: Final = logging.getLogger("mesh.store.journal")

RETRY_SECONDS: Final = 0.1
"""Between attempts on a disk that fails. Guess: a leader has resigned by the third."""
PROMPT_SECONDS: Final = 0.001
"""For which it waits for a sync that somebody waits for, if the one before took no longer: to go round the event loop costs a
third of what a good disk takes (0.1 to 0.2 ms). A disk that stalls keeps it for so long once."""


class Journal(Protocol):
    """Takes batches, makes them durable in their order."""

    on_durable: Callable[[int], None]
    """Called in the trio thread with the newest ticket that is on the disk."""

    def submit(self, batch: QuorumBatch) -> None:
        """Never waits and never refuses."""

    def begin(self) -> None:
        """Somebody waits for what was submitted: it may be durable on return, where that is a matter of moments."""

    def visit(self) -> None:
        """Something came in: what is durable by now may be told at once."""

    @property
    def restored(self) -> QuorumRestored:
        """What an earlier start left."""


class _Work(NamedTuple):
    """For the thread: one transaction, or a part of one."""

    batches: list[QuorumBatch]
    place: Place | None
    """How far they take the log along."""
    ticket: int
    is_submitted: bool = True
    """Those after it wait for it."""
    wants_log: bool = False


class FileJournal:
    def __init__(self, file: LedgerFile, restored: QuorumRestored, notify: Callable[[Event], None]) -> None:
        self.on_durable: Callable[[int], None] = lambda ticket: None
        self.restored = restored
        self._file, self._notify = file, notify
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._submitted = 0
        """Batches that the thread has."""
        self._told = 0
        self._sync = best_syncing(self._look)
        self._log: BlockLog | None = None
        self._opened: BlockLog | None = None
        """The same from its beginning to `close`: a sync may be at it when it is given up. The thread's."""
        self._is_log_asked = False
        self._end = (1 << 63) - 1
        """No block was submitted above this place; unknown at first."""
        self._ticket = 0
        """Of what is in the log."""
        self._syncing = (0, 0, 0.0)
        """(record, ticket, since when) of the sync under way."""
        self._ended_at = 0.0
        self._is_prompt = True
        self._is_visited = False
        """Something came in while the sync under way was, or soon after the last one."""
        self._closing = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="mesh quorum journal", daemon=True)
        self._thread.start()

    def submit(self, batch: QuorumBatch) -> None:
        if self._log is None or self._submitted or not self._append(self._log, batch):
            self._hand_over(batch)

    def begin(self) -> None:
        """Else an answer that waits for the disk waits for the rest of the turn, too, and for what the event loop does before it
        waits again."""
        if self._sync.is_under_way:
            self._sync.hurry()
            seconds = PROMPT_SECONDS if self._is_prompt else 0.0
            self._is_prompt = False  # unless it ends in time
            self._look(seconds)

    def visit(self) -> None:
        """The event loop is awake for another reason. Of one client's write the leader's own disk is ready before its followers
        have answered, and not needed sooner: to be woken up for it alone is a tenth of what the leader does."""
        if self._sync.is_under_way:
            self._is_visited = True
            self._sync.hurry()
            self._look()
        elif not self._is_visited:
            self._is_visited = time.perf_counter() < self._ended_at + LAZY_SECONDS

    # ---- the log

    def _append(self, ring: BlockLog, batch: QuorumBatch) -> bool:
        """False: it has to go another way."""
        rows = block_rows(batch, self._end)
        if rows is None:
            return False
        try:
            self._file.check_named()
            if not (ring.is_there and ring.append(batch, rows)):
                return False
        except StorageError:  # the thread will find that, too, and tell it
            return False
        except OSError as error:
            self._give_up(ring, error)
            return False
        self._end, self._ticket = rows[-1][0], batch.ticket
        if not self._sync.is_under_way:
            self._begin_sync(ring)
        if ring.is_half_full and self._log is ring:
            self._queue.put(_Work(*ring.hand_over(), 0, is_submitted=False))
        return True

    def _begin_sync(self, ring: BlockLog) -> None:
        self._syncing = (ring.number, self._ticket, time.perf_counter())
        is_lazy, self._is_visited = self._is_visited, False
        try:
            self._sync.begin(ring.file, lazily=is_lazy)
        except OSError as error:  # nothing about the file: a kernel before 4.18 does not know this, nor do some sandboxes
            log.info("a thread syncs the quorum's log: %s", error)
            self._sync.close()
            self._sync = Syncing(self._look)
            self._sync.begin(ring.file, lazily=is_lazy)

    def _look(self, seconds: float = 0.0) -> None:
        """Has the sync under way ended, or does it within so many seconds?"""
        ring = self._log
        try:
            if not self._sync.is_under_way or not self._sync.has_ended(seconds) or ring is None:
                return
        except OSError as error:
            if ring is not None:
                self._give_up(ring, error)
            return
        number, ticket, since = self._syncing
        self._ended_at = time.perf_counter()
        self._is_prompt = self._ended_at - since <= PROMPT_SECONDS
        ring.was_synced(number)
        if ring.number > number:
            self._begin_sync(ring)
        self._tell_durable(ticket)

    def _give_up(self, ring: BlockLog, error: OSError) -> None:
        """What was not synced may be nowhere, whatever a further sync says: the database takes it, and all that comes."""
        log.warning("%s: %s; quorum.db takes its place", self._file.path.parent / LOG_NAME, error.strerror)
        self._log = None
        self._submitted += 1
        self._queue.put(_Work(ring.hand_over()[0], NO_LOG, self._ticket))

    # ---- the thread

    def _hand_over(self, batch: QuorumBatch) -> None:
        ring = self._log
        wants_log = not self._is_log_asked and batch.hurry and block_rows(batch, -1) is not None  # its log of blocks grows
        self._is_log_asked |= wants_log
        batches, place = ring.hand_over() if ring is not None else ([], None)
        for row in batch.rows:
            if isinstance(row, BlocksStored):
                self._end = row.blocks[-1].index
        self._submitted += 1
        self._queue.put(_Work([*batches, batch], place, batch.ticket, wants_log=wants_log))

    def _work(self) -> None:
        """In the thread. One transaction takes all that came while the last one ran."""
        is_over = False
        while not is_over:
            works: list[_Work] = []
            work = self._queue.get()
            try:
                while work is not None:
                    works.append(work)
                    work = self._queue.get_nowait()
                is_over = True
            except Empty:
                pass
            if works:
                place = next((each.place for each in reversed(works) if each.place is not None), None)
                if not self._write([batch for each in works for batch in each.batches], place):
                    return  # nothing later either: the file would have a hole
                tell(self._token, self._written, works)
                if not is_over and any(each.wants_log for each in works):
                    self._open_log()

    def _open_log(self) -> None:
        try:
            self._opened = self._file.open_log()
            tell(self._token, self._begin_log, self._opened)
        except StorageError as error:
            log.info("without a log of blocks: %s", error)

    def _write(self, batches: list[QuorumBatch], place: Place | None) -> bool:
        """False: the disk fails, and this is the end."""
        trouble = ""
        while True:
            try:
                self._file.write(batches, place)
            except StorageError as error:
                if trouble != str(error):
                    trouble = str(error)
                    log.error("%s", trouble)
                    tell(self._token, self._notify, StorageFailing(trouble))
                if self._closing.wait(RETRY_SECONDS):
                    return False
            else:
                if trouble:
                    log.warning("%s takes writes again; all that waited is written", self._file.path)
                    tell(self._token, self._notify, StorageRecovered())
                return True

    # ---- its word, in the trio thread

    def _begin_log(self, ring: BlockLog) -> None:
        self._log = ring

    def _written(self, works: list[_Work]) -> None:
        self._submitted -= sum(work.is_submitted for work in works)
        for work in works:
            if work.place is not None and self._log is not None:
                self._log.was_taken(work.place)
        self._tell_durable(max(work.ticket for work in works))

    def _tell_durable(self, ticket: int) -> None:
        if ticket > self._told:
            self._told = ticket
            self.on_durable(ticket)

    def close(self) -> None:
        """In any thread, once nothing is submitted any more: write what waits, then close the files."""
        ring, self._log = self._log, None
        if self._is_log_asked:  # it may be there, and this not know it yet
            self._queue.put(_Work(ring.hand_over()[0] if ring is not None else [], NO_LOG, 0))
        self._queue.put(None)
        self._closing.set()
        self._thread.join()
        self._sync.close()
        self._file.close()
        if self._opened is not None:
            self._opened.close()


@asynccontextmanager
async def open_journal(data_dir: Path | None, *, notify: Callable[[Event], None]) -> AsyncIterator[MemoryJournal | FileJournal]:
    """The journal in this directory, which the caller has locked (`mesh.store.sqlite.open_store`); without one, in memory.

    Raises StorageCorrupt and StorageError.
    """
    if data_dir is None:
        yield MemoryJournal()
        return
    file, restored = await trio.to_thread.run_sync(_open, data_dir)
    journal = FileJournal(file, restored, notify)
    try:
        yield journal
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(journal.close)


def _open(data_dir: Path) -> tuple[LedgerFile, QuorumRestored]:
    file = LedgerFile(data_dir)
    try:
        return file, file.load()
    except BaseException:
        file.close()
        raise
