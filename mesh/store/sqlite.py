"""The store on a disk: batches in, group commits out, off the event loop.

    submit (synchronous) -> Pending, collapsed -> one transaction in a worker thread, at the latest 50 ms after the first batch

`run` is the task that commits; `flush` commits at once and says whether it worked. A disk that fails is tried again, with
everything that has waited since, until it takes it: nothing is skipped, and what the disk holds is always the state after
some batch.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import trio

from mesh.errors import StorageError
from mesh.events import Event, StorageFailing, StorageRecovered
from mesh.store.disk import Disk
from mesh.store.memory import MemoryStore, Store
from mesh.store.pending import Backlog
from mesh.store.rows import Batch, Restored

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log: Final = logging.getLogger("mesh.store")

GROUP_SECONDS: Final = 0.05
"""A commit waits this long for company. Half of the 100 ms that the design allows; the other half is the disk's."""
RETRY_SECONDS_MIN: Final = 0.1
RETRY_SECONDS_MAX: Final = 5.0
"""Between attempts on a disk that fails, doubling (guess: somebody makes room by hand, and wants to see it noticed)."""
BACKLOG_BYTES_MAX: Final = 8 << 20
"""What may wait before writers are told to slow down (guess: 13,000 writes to new keys, a second of the fastest writer)."""


@asynccontextmanager
async def open_store(
    data_dir: Path | None,
    *,
    notify: Callable[[Event], None] = lambda event: None,
    backlog_bytes_max: int = BACKLOG_BYTES_MAX,
) -> AsyncIterator[Store]:
    """The store in this directory, made if it is not there; without a directory, one that keeps nothing.

    The caller runs `store.run` in a nursery of its own inside. At the end everything submitted is committed, whether cancelled or
    not; if the disk refuses, StorageError comes out, unless another exception is already on its way (then it is logged).

    Raises ConfigError (directory unusable, or in use by another process: its pid is named), StorageCorrupt, StorageError.
    """
    if data_dir is None:
        yield MemoryStore()
        return
    limiter = trio.CapacityLimiter(1)
    disk = await trio.to_thread.run_sync(Disk, data_dir, limiter=limiter)  # once begun it is not cancelled, so never lost open
    store = SqliteStore(disk, limiter, notify, backlog_bytes_max)
    try:
        yield store
    except BaseException:
        try:
            await store.aclose()
        except StorageError as error:
            log.error("%s", error)
        raise
    else:
        await store.aclose()


class SqliteStore:
    """See `Store` for the contract."""

    def __init__(
        self, disk: Disk, limiter: trio.CapacityLimiter, notify: Callable[[Event], None], backlog_bytes_max: int
    ) -> None:
        self.on_durable: Callable[[], None] = lambda: None
        self.durable = 0
        self._disk = disk
        self._limiter = limiter
        self._notify = notify
        self._backlog_bytes_max = backlog_bytes_max
        self._backlog = Backlog(disk.loose)
        self._submitted = 0
        self._work = trio.Event()
        self._committing = trio.Lock()
        self._attempts = 0
        self._trouble: StorageError | None = None
        self._closed = False

    def submit(self, batch: Batch) -> int:
        if self._closed:
            raise trio.ClosedResourceError("this store is closed")
        self._backlog.add(batch)
        self._submitted += 1
        self._work.set()
        return self._submitted

    @property
    def backlog_bytes(self) -> int:
        return self._backlog.bytes

    @property
    def congested(self) -> bool:
        return self.backlog_bytes > self._backlog_bytes_max

    async def load(self) -> Restored:
        async with self._committing:
            return await self._in_thread(self._disk.load)

    async def flush(self) -> None:
        wanted, attempts = self._submitted, self._attempts
        async with self._committing:
            if self.durable >= wanted:
                return
            if self._attempts > attempts and self._trouble:  # tried for another caller, with our batches: no need to try again
                raise type(self._trouble)(*self._trouble.args) from self._trouble
            await self._commit()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        task_status.started()
        pause = GROUP_SECONDS
        while True:
            await self._work.wait()
            await trio.sleep(pause)
            try:
                await self.flush()
            except StorageError:
                pause = min(max(2 * pause, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)
            else:
                pause = GROUP_SECONDS

    async def aclose(self) -> None:
        """Commit what waits and close the file, however long the disk takes. StorageError says that something was not
        committed."""
        with trio.CancelScope(shield=True):
            try:
                await self.flush()
            finally:
                self._closed = True
                async with self._committing:
                    await self._in_thread(self._disk.close)

    async def _commit(self) -> None:
        """Try once to write all that waits. If that fails it waits again, under what was submitted meanwhile."""
        number, self._work = self._submitted, trio.Event()
        taken = self._backlog.take()
        self._attempts += 1
        try:
            await self._in_thread(self._disk.write, taken)
        except BaseException as error:
            self._backlog.failed(taken)
            self._work.set()
            if isinstance(error, StorageError):
                self._failed(error)
            raise
        self._backlog.wrote(taken)
        self.durable = number
        self._worked()
        self.on_durable()

    async def _in_thread(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """One at a time. Cancelled before it begins or not at all: a transaction that has begun ends before anybody goes on."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)

    def _failed(self, error: StorageError) -> None:
        if self._trouble is None or str(self._trouble) != str(error):
            log.error("%s; %d bytes wait for it and are kept", error, self.backlog_bytes)
            self._notify(StorageFailing(str(error)))
        self._trouble = error

    def _worked(self) -> None:
        if self._trouble is not None:
            log.warning("%s takes writes again; all that waited is written", self._disk.path)
            self._notify(StorageRecovered())
        self._trouble = None
