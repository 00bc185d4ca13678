"""What a store is, and the one that keeps nothing (`data_dir=None`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

import trio

from mesh.store.rows import Batch, Restored


class Store(Protocol):
    """Takes batches, makes them durable, gives them back at the next start. For one trio thread."""

    on_durable: Callable[[], None]
    """Called in the trio thread whenever `durable` has grown; does nothing until somebody sets it."""

    def submit(self, batch: Batch) -> int:
        """Take a batch and return its number, 1, 2, ... Never waits and never refuses: what the state is, is for the core to
        say."""

    @property
    def durable(self) -> int:
        """All batches up to this number are on the disk."""

    @property
    def backlog_bytes(self) -> int:
        """Estimate of the memory in which batches wait for the disk."""

    @property
    def congested(self) -> bool:
        """The disk does not keep up: local writes should be refused with `Backpressure` until it does."""

    async def load(self) -> Restored:
        """What an earlier start left. Before the first `submit`. StorageCorrupt names the damaged file and the way out."""

    async def flush(self) -> None:
        """Return when everything submitted before the call is durable.

        Raises StorageFull or another StorageError when the disk refuses it now; what was submitted is kept and tried again.
        """

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Commit within 100 ms of each batch, until cancelled. Disk errors are told by events, never raised from here."""


class MemoryStore:
    """Keeps nothing: durable here means that this process lives."""

    congested = False
    backlog_bytes = 0

    def __init__(self) -> None:
        self.on_durable: Callable[[], None] = lambda: None
        self.durable = 0

    def submit(self, batch: Batch) -> int:
        self.durable += 1
        return self.durable

    async def load(self) -> Restored:
        await trio.lowlevel.checkpoint()
        return Restored()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        task_status.started()
        await trio.sleep_forever()
