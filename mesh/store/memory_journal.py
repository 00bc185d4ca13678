"""The journal of an agent without a disk, asked with every delivery: the other one is `mesh.store.journal`."""

from __future__ import annotations

from collections.abc import Callable

from crdt.native import mypyc_attr
from mesh.quorum.rows import NOTHING, QuorumBatch


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryJournal:
    """Keeps nothing: durable here means that this process lives."""

    def __init__(self) -> None:
        self.on_durable: Callable[[int], None] = lambda ticket: None
        self.restored = NOTHING

    def submit(self, batch: QuorumBatch) -> None:
        self.on_durable(batch.ticket)

    def begin(self) -> None:
        """It is done already."""

    def visit(self) -> None:
        """It was told already."""
