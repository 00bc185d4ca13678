"""What housekeeping has to look at next: filled as bases change, so that nothing ever scans the whole state.

Lists of one replica about its own shelf. `crdt.housekeeping` works them off.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from crdt.base import Held
from crdt.chunks import Chunks
from crdt.ids import REPLICA_ID_BYTES, ShelfId, replica_of
from crdt.limits import CORE_TYPE
from crdt.ops import DROPPED, KIND_MASK, LARGE, REMOVED, VALUE, Key, Op

Name: TypeAlias = tuple[Key, ShelfId]
"""A cell of our shelf: its key and its origin."""

OP_COVER_BYTES: Final = 12
"""One cover in a body: origin 1, dot 5, check 5, and its share of the head."""

KIN_MAX: Final = 64
"""Shelves of our replica remembered because covers name them (guess: restarts within a day)."""


class Chores:
    """The lists. `suspects` are for drop, `absent`, `covering` and `waiting` for retire, `worn` for repack, `orphans` for
    chunks."""

    def __init__(self, shelf: ShelfId, chunks: Chunks) -> None:
        self.shelf = shelf
        self.mine: set[ShelfId] = {shelf}
        """Origins whose cells stand on our shelf."""
        self.kin: set[ShelfId] = set()
        """Other shelves of our replica that covers name: perhaps all that is left of one whose disk was lost."""
        self.suspects: dict[Name, None] = {}
        """Cells of ours that something new may have made superfluous."""
        self.patient: deque[tuple[float, Name, int]] = deque()
        """Those that were found superfluous: since when, and which write it was."""
        self.noticed: dict[Name, int] = {}
        """The newest write of each of them that is in `patient`."""
        self.absent: dict[Name, int] = {}
        """Removed and dropped cells of our shelf, by place."""
        self.covering: dict[Name, Held] = {}
        """Value cells of our shelf that cover something."""
        self.free: set[Name] = set()
        """Of both, those whose covers are all gone."""
        self.unchecked: dict[Name, None] = {}
        self.waiting: dict[ShelfId, dict[Name, None]] = {}
        """Those that wait for something to change about this shelf, where they know of a covered write that is not gone."""
        self.stirred: dict[ShelfId, None] = {}
        """Shelves about which something changed."""
        self.worn: dict[Held, None] = {}
        """Bodies of our shelf that came, or lost ops."""
        self.waste: dict[Held, int] = {}
        """Bodies of our shelf: bytes that a repack would save."""
        self.wasted_bytes = 0
        self.references: dict[tuple[ShelfId, bytes], int] = {}
        """Chunks of our shelf, by origin and name: how many large ops need them."""
        self.orphans: dict[tuple[ShelfId, bytes], None] = {}
        """Chunks that nothing may need any more."""
        self._chunks = chunks
        self._replica = replica_of(shelf)
        self._waits_for: dict[Name, ShelfId] = {}
        self._needs: dict[tuple[Held, int], list[bytes]] = {}

    # --- told by what changes bases

    def suspect(self, key: Key, origin: ShelfId) -> None:
        """Something came that may cover or replace what `origin` said at `key`."""
        if origin in self.mine:
            self.suspects[key, origin] = None
        elif origin[:REPLICA_ID_BYTES] == self._replica and len(self.kin) < KIN_MAX:
            self.kin.add(origin)

    def issued(self, held: Held) -> None:
        """A delta of ours; what it issues again for a former shelf may have been covered for long, too."""
        self.worn[held] = None
        for op in held.body.ops:
            if op.origin != self.shelf:
                self.hosted(op.key, op.origin)

    def hosted(self, key: Key, origin: ShelfId) -> None:
        """A cell of a former shelf stands on ours now; it may have been covered for long."""
        self.mine.add(origin)
        self.suspects[key, origin] = None

    def moved(self, shelf: ShelfId) -> None:
        """A base, a loose delta or a takeover of `shelf` came or went."""
        if shelf in self.waiting:
            self.stirred[shelf] = None

    def gained(self, held: Held, index: int, op: Op) -> None:
        """Our base has this op, which is more than a plain value, now."""
        name = (op.key, op.origin)
        kind = op.kind & KIND_MASK
        if kind in (REMOVED, DROPPED):
            self.absent[name] = held.place
            self.unchecked[name] = None
        elif kind == VALUE and op.covers:
            self.covering[name] = held
            self.unchecked[name] = None
        if op.kind & LARGE:
            needs = self._needs[held, index] = self._chunks.names(op)
            for chunk in needs:
                self.references[op.origin, chunk] = self.references.get((op.origin, chunk), 0) + 1
        elif op.type == CORE_TYPE and kind == VALUE:
            name_of_chunk = op.path[0]
            if isinstance(name_of_chunk, bytes) and (op.origin, name_of_chunk) not in self.references:
                self.orphans[op.origin, name_of_chunk] = None

    def lost(self, held: Held, index: int, op: Op) -> None:
        """Our base has it no more."""
        name = (op.key, op.origin)
        self.absent.pop(name, None)
        self.covering.pop(name, None)
        self.free.discard(name)
        self.unchecked.pop(name, None)
        self._stop_waiting(name)
        for chunk in self._needs.pop((held, index), ()):
            self.references[op.origin, chunk] -= 1
            if not self.references[op.origin, chunk]:
                del self.references[op.origin, chunk]
                self.orphans[op.origin, chunk] = None

    # --- told by housekeeping

    def to_check(self) -> list[Name]:
        """Cells whose covers may have gone since the last call. Each is to be answered by `wait` or `release`."""
        for shelf in self.stirred:
            self.unchecked.update(self.waiting.get(shelf, {}))
        self.stirred.clear()
        names = list(self.unchecked)
        self.unchecked.clear()
        for name in names:
            self._stop_waiting(name)
        return names

    def wait(self, name: Name, shelf: ShelfId) -> None:
        self._waits_for[name] = shelf
        self.waiting.setdefault(shelf, {})[name] = None

    def release(self, name: Name) -> None:
        self.free.add(name)
        held = self.covering.get(name)
        if held:
            self.worn[held] = None

    def _stop_waiting(self, name: Name) -> None:
        shelf = self._waits_for.pop(name, None)
        if shelf is not None:
            rows = self.waiting[shelf]
            del rows[name]
            if not rows:
                del self.waiting[shelf]
