"""What happened, from outside: every write ever made, and what its author held when it made it.

The oracle never asks the protocol what is right. It knows which writes exist, which writes each of them had seen, and which
writes each process has seen; what a replica has to show follows from that (DESIGN section 1, rule 2, and the executable model):

    shown = seen, not replaced by anything seen, and not a removal

Sets of writes of one key are bit masks, so that every transition can be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from crdt.ids import ShelfId, dot_seq, make_dot
from crdt.ops import Key, Op
from crdt.replica import Replica
from mesh.testing.node import Written

REPLACED_MAX: Final = 4_096
"""Answers remembered per key; then all are forgotten."""


class Write(NamedTuple):
    """One write of the workload. `bit` is its place in the masks of its key."""

    bit: int
    host: int
    origin: ShelfId
    dot: int
    shows: bool
    """False for removals."""
    replaces: int
    """Mask of the writes that it replaces: what its author had seen at this key, and what those replaced."""
    knew: int
    """Mask of the writes that its author knew of at this key."""
    while_alive: bool
    """Shown only while its author is a live member."""
    at: int
    """World time."""

    @property
    def name(self) -> str:
        return f"{self.origin.hex()[:8]}.{self.origin.hex()[-4:]}:{dot_seq(self.dot)}.{self.dot & 255}"


@dataclass(slots=True)
class KeyHistory:
    """All writes of one key."""

    writes: list[Write] = field(default_factory=list)
    by_dot: dict[tuple[ShelfId, int], Write] = field(default_factory=dict)
    replaced: dict[int, int] = field(default_factory=dict)
    """Answers of `replaced_by`: one host after the other asks for the same."""
    shows: int = 0
    """Mask of the writes that are not removals."""
    passing: int = 0
    """Mask of those that show only while their author lives."""

    def replaced_by(self, seen: int) -> int:
        """Everything that the writes in `seen` replace."""
        known = self.replaced.get(seen)
        if known is None:
            known = 0
            for write in self.each(seen):
                known |= write.replaces
            if len(self.replaced) >= REPLACED_MAX:
                self.replaced.clear()
            self.replaced[seen] = known
        return known

    def is_whole(self, seen: int) -> bool:
        """Whether everything that the authors of the writes in `seen` knew of is among them."""
        return all(not write.knew & ~seen for write in self.each(seen))

    def of_origin(self, mask: int, origin: ShelfId) -> int:
        return sum(1 << write.bit for write in self.each(mask) if write.origin == origin)

    def each(self, mask: int) -> Iterator[Write]:
        while mask:
            low = mask & -mask
            yield self.writes[low.bit_length() - 1]
            mask ^= low

    def mask(self, ops: Iterable[Op]) -> int:
        """Of these cells; those that no workload wrote (bookkeeping, other authors) are left out."""
        found = 0
        for op in ops:
            write = self.by_dot.get((op.origin, op.dot))
            if write is not None:
                found |= 1 << write.bit
        return found


class Oracle:
    """Records writes and what each process has seen."""

    def __init__(self) -> None:
        self.keys: dict[Key, KeyHistory] = {}
        self.last: Write
        """The newest of all."""
        self._by_shelf: dict[ShelfId, list[tuple[int, Key, int]]] = {}
        """All writes of a shelf, ascending: dot, key, bit."""
        self._awaited: dict[int, dict[ShelfId, int]] = {}
        """By host: shelves of which it does not hold all writes in its base yet, and how many it does."""
        self._seen: dict[int, dict[Key, int]] = {}
        """By host, for the process that runs there now."""
        self._confirmed: dict[int, dict[ShelfId, int]] = {}

    def began(self, host: int) -> None:
        """A process starts: what the former one had seen counts only as far as it comes back from the disk or from peers."""
        self._seen[host] = {}
        self._awaited[host] = dict.fromkeys(self._by_shelf, 0)

    def wrote(self, made: Written, at: int) -> Write:
        """A write that covers "own" replaces its author's own former one only: types that add up (counters, maximum)."""
        host, key = made.host, made.key
        name = (made.dot.origin, make_dot(made.dot.seq, made.dot.index))
        history = self.keys.setdefault(key, KeyHistory())
        seen = self.seen(host, key) | history.mask(made.before)
        basis = seen if made.covers == "all" else history.of_origin(seen, name[0])
        replaces = basis | history.replaced_by(basis)
        former = history.by_dot.get(name)  # a second write of one key in one draft takes the place of the first, which nobody saw
        bit = former.bit if former is not None else len(history.writes)
        knew = (seen | history.replaced_by(seen)) & ~(1 << bit)
        write = Write(bit, host, *name, not made.removed, replaces & ~(1 << bit), knew, made.while_alive, at)
        history.writes[bit : bit + 1] = [write]
        history.by_dot[name] = write
        if former is not None:
            history.replaced.clear()
        else:
            of_shelf = self._by_shelf.setdefault(write.origin, [])
            for awaited in self._awaited.values():
                awaited.setdefault(write.origin, len(of_shelf))
            of_shelf.append((write.dot, key, 1 << bit))
        history.shows = history.shows & ~(1 << bit) | (write.shows << bit)
        history.passing = history.passing & ~(1 << bit) | (write.while_alive << bit)
        self.last = write
        self._seen[host][key] = seen | 1 << write.bit
        return write

    def seen(self, host: int, key: Key) -> int:
        return self._seen.get(host, {}).get(key, 0)

    def observe(self, host: int, key: Key, replica: Replica) -> int:
        """What this process holds now. Returns the mask of all that it has seen at the key.

        A base is its author's S(n), so whoever has it has seen all of that author's writes up to n, also those that are gone.
        """
        history = self.keys.get(key)
        if history is None:
            return 0
        seen = self._seen[host]
        if awaited := self._awaited[host]:
            for shelf, count in list(awaited.items()):
                reached = replica.reached(shelf)
                if reached:
                    self._reached(host, shelf, count, make_dot(reached + 1, 0))
        if key in replica.index.above or replica.records.said:  # what is in no base yet, or in another's
            seen[key] = seen.get(key, 0) | history.mask(replica.cells(key))
        return seen.get(key, 0)

    def _reached(self, host: int, shelf: ShelfId, count: int, limit: int) -> None:
        """This host's base has the writes of a shelf whose dot is below the limit."""
        seen, writes = self._seen[host], self._by_shelf[shelf]
        while count < len(writes) and writes[count][0] < limit:
            _, key, bit = writes[count]
            seen[key] = seen.get(key, 0) | bit
            count += 1
        if count < len(writes):
            self._awaited[host][shelf] = count
        else:
            del self._awaited[host][shelf]

    def expected(self, key: Key, seen: int) -> int:
        """What a replica that has seen exactly these writes has to show."""
        history = self.keys[key]
        return seen & ~history.replaced_by(seen) & history.shows

    def overtaken(self, key: Key, seen: int, shown: int) -> int:
        """Of these shown writes those that a newer one of their author would hide, which exists and has not come yet.

        Covers name the newest write of each origin, and none that is gone. So an overwrite that overtakes what it overwrote shows
        both for a moment (DESIGN section 1, "Waiting is politeness").
        """
        history = self.keys[key]
        newest: dict[ShelfId, int] = {}
        for write in history.writes:
            if not seen >> write.bit & 1:
                newest[write.origin] = max(write.dot, newest.get(write.origin, -1))
        return sum(1 << write.bit for write in history.each(shown) if write.dot < newest.get(write.origin, -1))

    def kept(self, key: Key, running: Iterable[int]) -> int:
        """What at least one of these processes has seen: such a write may not be lost."""
        together = 0
        for host in running:
            together |= self.seen(host, key)
        return together

    # ---- disks

    def confirmed(self, host: int, origin: ShelfId, seq: int) -> None:
        """This host's disk holds its own deltas of this shelf up to `seq`."""
        self._confirmed.setdefault(host, {})[origin] = seq

    def disk_lost(self, host: int) -> None:
        """Lost, or set back to a former state: nothing that it once confirmed can be asked of it."""
        self._confirmed.pop(host, None)

    def unconfirmed_loss(self, host: int) -> Iterator[tuple[Key, Write]]:
        """Writes that this host's disk confirmed, and that the process just started from it neither holds nor has replaced."""
        floors = self._confirmed.get(host, {})
        for key, history in self.keys.items() if floors else ():
            there = self.seen(host, key)
            there |= history.replaced_by(there)
            for write in history.writes:
                if dot_seq(write.dot) <= floors.get(write.origin, 0) and not there >> write.bit & 1:
                    yield key, write

    def has_gap(self, key: Key, kept: int) -> bool:
        """A write that nobody kept stood between others: what it alone had replaced may show again."""
        return bool(self.keys[key].replaced_by(kept) & ~kept)
