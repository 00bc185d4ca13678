"""What housekeeping has to look at next: filled as bases change, so that nothing ever scans the whole state."""

from __future__ import annotations

from collections import deque

from crdt.base import Held
from crdt.ids import ShelfId
from crdt.ops import Key, Op


class Chores:
    """The lists of one replica's own shelf."""

    def __init__(self, shelf: ShelfId) -> None:
        self.shelf = shelf
        self.mine: set[ShelfId] = {shelf}
        """Origins whose cells stand on our shelf."""
        self.suspects: dict[tuple[Key, ShelfId], None] = {}
        """Cells of ours that something new may have made superfluous."""
        self.waiting: deque[tuple[float, Key, ShelfId]] = deque()
        """The same, once seen by `drop`: since when."""
        self.stirred: set[ShelfId] = set()
        """Shelves of which something changed."""

    def suspect(self, key: Key, origin: ShelfId) -> None:
        if origin in self.mine:
            self.suspects[key, origin] = None

    def hosted(self, key: Key, origin: ShelfId) -> None:
        self.mine.add(origin)
        self.suspects[key, origin] = None

    def moved(self, shelf: ShelfId) -> None:
        self.stirred.add(shelf)

    def gained(self, held: Held, index: int, op: Op) -> None:
        """Our base has this absent, covering or large op now."""

    def lost(self, held: Held, index: int, op: Op) -> None:
        """Our base has it no more."""
