"""Which faults of authors the user is told. Whoever is at fault may be so a thousand times a second, and push other news out of
the users' queues."""

from __future__ import annotations

from math import inf
from typing import Final

from crdt import Fault
from crdt.ids import replica_of
from mesh.effects import Now

COMPLAIN_SECONDS: Final = 60.0
"""Between two complaints of one kind about one author. Guess: an operator reads the first."""
ONCE_PER_SHELF: Final = frozenset({"fork", "identity"})
"""Faults that end a shelf; of all others one word about their author is enough."""
TOLD_MAX: Final = 1024
"""Remembered; the oldest goes first."""


class Complaints:
    def __init__(self) -> None:
        self._told: dict[tuple[bytes, str], float] = {}

    def is_due(self, fault: Fault, now: Now) -> bool:
        """Whether to tell of this one; then not of others of its kind for a while."""
        name = (fault.shelf if fault.kind in ONCE_PER_SHELF else replica_of(fault.shelf), fault.kind)
        if now.monotonic - self._told.get(name, -inf) < COMPLAIN_SECONDS:
            return False
        self._told.pop(name, None)
        self._told[name] = now.monotonic
        if len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        return True
