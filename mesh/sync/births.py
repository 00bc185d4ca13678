"""How often an author may begin a new shelf: each birth takes the former shelf over, and every member looks at all of it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import crdt
from crdt.ids import ReplicaId, ShelfId, replica_of
from mesh.effects import Now
from mesh.wire.packer import TokenBucket

BIRTHS_BURST: Final = 16.0
"""New shelves of one author at once. Guess: twice those that may wait for their takeover."""
BIRTHS_PER_S: Final = 0.2
"""In the long run. Guess: a supervisor that restarts a crashing agent waits for seconds. Later ones come with later digests."""
REMEMBERED_MAX: Final = 4096
"""Shelves that were let in, so that each is counted once; the oldest goes first."""


class Births:
    def __init__(self, replica: crdt.Replica) -> None:
        self._replica = replica
        self._budgets: dict[ReplicaId, TokenBucket] = {}
        self._let_in: OrderedDict[ShelfId, None] = OrderedDict()

    def may_begin(self, shelf: ShelfId, now: Now) -> bool:
        """Whether something of this shelf would be taken now. Costs nothing: anybody may name shelves."""
        budget = self._budgets.get(replica_of(shelf))
        return budget is None or self._is_known(shelf) or budget.refill(now.monotonic) >= 1.0

    def begin(self, shelf: ShelfId, now: Now) -> bool:
        """Its author signed something of it: whether it is taken now."""
        if self._is_known(shelf):
            return True
        budget = self._budgets.setdefault(replica_of(shelf), TokenBucket(BIRTHS_PER_S, BIRTHS_BURST))
        if not budget.take(now.monotonic):
            return False
        self._let_in[shelf] = None
        if len(self._let_in) > REMEMBERED_MAX:
            self._let_in.popitem(last=False)
        return True

    def _is_known(self, shelf: ShelfId) -> bool:
        replica = self._replica
        return shelf in replica.bases or shelf in self._let_in or shelf in replica.loose or shelf in replica.records.said
