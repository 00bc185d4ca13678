"""What the quorum promised, on the disk before the promise leaves: `quorum.db`, and the thread that writes it.

    submit (synchronous) -> queue -> one transaction for all that waits, in a thread of its own -> on_durable, in the trio thread

A file and a thread apart from the store's, because a critical write waits for this one: the store may be in the middle of a
transaction of thousands of rows, and its batches wait 50 ms for company on purpose. A disk that fails is tried again, and
meanwhile nothing is promised; a leader resigns then (`mesh.quorum.quorum`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

import trio

from mesh.errors import StorageError
from mesh.events import Event, StorageFailing, StorageRecovered
from mesh.quorum.rows import NOTHING, QuorumBatch, QuorumRestored
from mesh.store.ledger_file import LedgerFile

log: Final = logging.getLogger("mesh.store.journal")

RETRY_SECONDS: Final = 0.1
"""Between attempts on a disk that fails. Guess: a leader has resigned by the third."""
HAND_OVER_SECONDS: Final = 0.0005
"""For which the event loop waits for a thread to wake up, at most. Guess: ten times what it takes on a machine at rest."""


class Journal(Protocol):
    """Takes batches, makes them durable in their order."""

    on_durable: Callable[[int], None]
    """Called in the trio thread with the newest ticket that is on the disk."""

    def submit(self, batch: QuorumBatch) -> None:
        """Never waits and never refuses."""

    def begin(self) -> None:
        """Nothing is as urgent as what was submitted: begin with it now."""

    @property
    def restored(self) -> QuorumRestored:
        """What an earlier start left."""


class MemoryJournal:
    """Keeps nothing: durable here means that this process lives."""

    def __init__(self) -> None:
        self.on_durable: Callable[[int], None] = lambda ticket: None
        self.restored = NOTHING

    def submit(self, batch: QuorumBatch) -> None:
        self.on_durable(batch.ticket)

    def begin(self) -> None:
        """It is done already."""


class FileJournal:
    def __init__(self, file: LedgerFile, restored: QuorumRestored, notify: Callable[[Event], None]) -> None:
        self.on_durable: Callable[[int], None] = lambda ticket: None
        self.restored = restored
        self._file, self._notify = file, notify
        self._queue: SimpleQueue[QuorumBatch | None] = SimpleQueue()
        self._taken = threading.Lock()
        """Locked while the thread has nothing to do, or has not woken up yet."""
        self._rests = False
        self._closing = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._work, name="mesh quorum journal", daemon=True)
        self._thread.start()

    def submit(self, batch: QuorumBatch) -> None:
        self._queue.put(batch)

    def begin(self) -> None:
        """Gives up Python's lock for as long as the thread takes to wake up. Else that would begin at the end of the turn and of
        what the event loop does before it waits again: 0.1 ms later."""
        if self._rests:
            self._taken.acquire(timeout=HAND_OVER_SECONDS)

    def _work(self) -> None:
        """In the thread. One transaction takes all that came while the last one ran."""
        is_over = False
        while not is_over:
            batches: list[QuorumBatch] = []
            self._taken.acquire(blocking=False)
            self._rests = True
            batch = self._queue.get()
            self._rests = False
            self._taken.release()
            try:
                while batch is not None:
                    batches.append(batch)
                    batch = self._queue.get_nowait()
                is_over = True
            except Empty:
                pass
            if batches:
                if not self._write(batches):
                    return  # nothing later either: the file would have a hole
                self._tell(self._durable, batches[-1].ticket)
                self._file.make_room()

    def _write(self, batches: list[QuorumBatch]) -> bool:
        """False: the disk fails, and this is the end."""
        failing = False
        while True:
            try:
                self._file.write(batches)
            except StorageError as error:
                log.error("%s", error)
                if not failing:
                    self._tell(self._notify, StorageFailing(str(error)))
                failing = True
                if self._closing.wait(RETRY_SECONDS):
                    return False
            else:
                if failing:
                    self._tell(self._notify, StorageRecovered())
                return True

    def _tell(self, function: Callable[..., None], argument: object) -> None:
        try:
            self._token.run_sync_soon(function, argument)
        except trio.RunFinishedError:
            log.debug("the program is over before its last commit was told")

    def _durable(self, ticket: int) -> None:
        self.on_durable(ticket)

    def close(self) -> None:
        """In any thread: write what waits, then close the file."""
        self._queue.put(None)
        self._closing.set()
        self._thread.join()
        self._file.close()


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
