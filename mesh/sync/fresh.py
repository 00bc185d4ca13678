"""Which shelves changed last: named in digests, and beside deltas once they should be everywhere."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from crdt.ids import ShelfId
from mesh.effects import Now

CHANGED_MAX: Final = 12
"""Floors named in a digest: the newest changes, so that a fresh difference needs no descent."""
CHANGED_SECONDS: Final = 10.0
TRAIL_MAX: Final = 3
"""Floors beside a pushed delta: about 75 bytes, which spare a datagram each. Guess."""


class Fresh:
    """The newest `CHANGED_MAX`, and how often the floor of each came by since."""

    def __init__(self) -> None:
        self._at: OrderedDict[ShelfId, float] = OrderedDict()
        self._rides: dict[ShelfId, int] = {}

    def moved(self, shelf: ShelfId, now: Now) -> None:
        self._at[shelf] = now.monotonic
        self._at.move_to_end(shelf)
        self._rides[shelf] = 0
        while len(self._at) > CHANGED_MAX:
            oldest, _ = self._at.popitem(last=False)
            del self._rides[oldest]

    def rode(self, shelf: ShelfId) -> None:
        """Its floor went by beside a delta, sent from here or received."""
        if shelf in self._rides:
            self._rides[shelf] += 1

    def newest(self, now: Now, until: float | None = None) -> list[ShelfId]:
        """Those of the last `CHANGED_SECONDS`, not after `until` (monotonic), the newest first."""
        after, before = now.monotonic - CHANGED_SECONDS, now.monotonic if until is None else until
        return [shelf for shelf, at in reversed(self._at.items()) if after < at <= before]

    def trail(self, settled_at: float, now: Now) -> list[ShelfId]:
        """To go beside a delta: of those that should be everywhere since then, first what came by here least. Others see much
        the same go by, so none has to be told apart.
        """
        settled = self.newest(now, settled_at)
        return sorted(settled, key=self._rides.__getitem__)[:TRAIL_MAX]
