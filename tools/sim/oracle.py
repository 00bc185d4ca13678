"""What happened, from outside: every write ever made, and what its author held when it made it.

The oracle never asks the protocol what is right. It knows which writes exist, which writes each of them had seen, and which
writes each process has seen; what a replica has to show follows from that (DESIGN section 1, rule 2, and the executable model):

    shown = seen, not replaced by anything seen, and not a removal

Sets of writes of one key are bit masks, so that every transition can be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from crdt.ids import ShelfId
from crdt.ops import Key, Op


class Write(NamedTuple):
    """One write of the workload. `bit` is its place in the masks of its key."""

    bit: int
    host: int
    origin: ShelfId
    dot: int
    intent: tuple[str, object]
    """What was asked for, e.g. ("set", 42), ("add", 3), ("discard", None)."""
    shows: bool
    """False for removals."""
    replaces: int
    """Mask of the writes that it replaces: what its author had seen at this key, and what those replaced."""
    at: int
    """World time."""


class Made(NamedTuple):
    """A write as the workload made it."""

    host: int
    key: Key
    op: Op
    intent: tuple[str, object]
    at: int
    shows: bool = True
    covers_seen: bool = True
    """False for types that add up (counters, maximum): such a write replaces its author's own former one only."""


@dataclass(slots=True)
class KeyHistory:
    """All writes of one key."""

    writes: list[Write] = field(default_factory=list)
    by_dot: dict[tuple[ShelfId, int], Write] = field(default_factory=dict)
    shows: int = 0
    """Mask of the writes that are not removals."""

    def replaced_by(self, seen: int) -> int:
        """Everything that the writes in `seen` replace."""
        replaced = 0
        for write in self.each(seen):
            replaced |= write.replaces
        return replaced

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
        self.total = 0
        self._seen: dict[int, dict[Key, int]] = {}
        """By host, for the process that runs there now."""

    def began(self, host: int) -> None:
        """A process starts: what the former one had seen counts only as far as it comes back from the disk or from peers."""
        self._seen[host] = {}

    def ended(self, host: int) -> None:
        self._seen.pop(host, None)

    def wrote(self, made: Made, before: Iterable[Op]) -> Write:
        """`before`: the cells that the author held at the key when it wrote."""
        host, key, op = made.host, made.key, made.op
        history = self.keys.setdefault(key, KeyHistory())
        seen = self.seen(host, key) | history.mask(before)
        replaced = history.by_dot.get((op.origin, op.dot))
        if replaced is not None:
            raise AssertionError(f"one dot for two writes: {op.origin.hex()} {op.dot}")
        basis = seen if made.covers_seen else history.of_origin(seen, op.origin)
        replaces = basis | history.replaced_by(basis)
        write = Write(len(history.writes), host, op.origin, op.dot, made.intent, made.shows, replaces, made.at)
        history.writes.append(write)
        history.by_dot[op.origin, op.dot] = write
        if made.shows:
            history.shows |= 1 << write.bit
        self.total += 1
        self._seen[host][key] = seen | 1 << write.bit
        return write

    def seen(self, host: int, key: Key) -> int:
        return self._seen.get(host, {}).get(key, 0)

    def observe(self, host: int, key: Key, cells: Iterable[Op]) -> int:
        """This process holds these cells now. Returns the mask of all that it has seen at the key."""
        history = self.keys.get(key)
        if history is None:
            return 0
        held = history.mask(cells)
        seen = self._seen[host].get(key, 0)
        if held & ~seen:
            seen |= held
            self._seen[host][key] = seen
        return seen

    def expected(self, key: Key, seen: int) -> int:
        """What a replica that has seen exactly these writes has to show."""
        history = self.keys[key]
        return seen & ~history.replaced_by(seen) & history.shows

    def seen_by_anybody(self, key: Key) -> int:
        together = 0
        for seen in self._seen.values():
            together |= seen.get(key, 0)
        return together

    def has_gap(self, key: Key, kept: int) -> bool:
        """A write that nobody kept stood between others: what it alone had replaced may show again."""
        return bool(self.keys[key].replaced_by(kept) & ~kept)
