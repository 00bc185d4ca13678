"""The parts of `tests.crdt.ended_rules`: cells, deltas, bases, and what survives of an ended shelf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

STEP: Final = 64
"""A dot is seq * STEP + index."""
RULES: Final = {
    "FREEZE": "nothing more of an ended shelf is taken",
    "PROOF": "whoever hears of two branches, or of a cut, tells all",
    "WHOLE": "the takeover that closes a shelf speaks for every delta of it, also for those that its author has not seen",
    "COLLECT": "the one who closes it asks what the others hold",
    "LOOSE": "and for their loose deltas",
    "BOTH": "a cell that two branches have both known lives only if both still hold it",
    "ORDER": "but a write that another branch has seen replaced, by somebody else, is not the newest, whatever its dot",
    "UNION": "the newest write of a key gets the covers of all copies",
    "KEEP": "it leaves only when somebody else covers all that it covers, or that is gone",
    "VOID": "an op outside its author's rights counts as dropped on every replica alike",
    "BRANCH": "a takeover adds S(n) of one branch: whoever holds another n-th head waits for a statement",
}


class Wrong(AssertionError):
    """What a replica shows or holds is not what the rules promise."""


class Record(NamedTuple):
    """What a takeover says: this shelf speaks for the former up to n, for `extra`, or for the whole of it."""

    n: int = 0
    extra: frozenset[int] = frozenset()
    finished: bool = False
    whole: bool = False

    def speaks(self, seq: int) -> bool:
        return self.whole or seq <= self.n or seq in self.extra

    def join(self, other: Record) -> Record:
        return Record(max(self.n, other.n), self.extra | other.extra, self.finished or other.finished, self.whole or other.whole)


class Cell(NamedTuple):
    dot: int
    kind: str
    """value, removed, dropped, void or takeover."""
    covers: frozenset[tuple[int, int, int]] = frozenset()
    """(origin, dot, check)."""
    wid: int = 0
    record: Record = Record()

    @property
    def rank(self) -> tuple[int, int]:
        """Two branches may use one dot: then the content decides, in no order that anybody chose."""
        return self.dot, self.wid * 2654435761 % (1 << 32)


Key = tuple[str, int]
"""(path, origin); of a takeover ("~", former)."""


class Delta:
    def __init__(
        self, shelf: int, prev: Delta | None, ops: Iterable[tuple[Key, Cell]], gc_floor: int, former: Delta | None
    ) -> None:
        self.shelf = shelf
        self.prev = prev
        self.seq: int = prev.seq + 1 if prev else 1
        self.ops = tuple(ops)
        self.gc_floor = gc_floor
        self.former = former
        """The head of the base that a takeover adds."""
        self.digest: frozenset[tuple[Key, int, int, int]] = frozenset()


def chain(head: Delta | None) -> Iterator[Delta]:
    while head:
        yield head
        head = head.prev


def is_before(one: Delta, head: Delta | None) -> bool:
    """Whether `one` is `head` or an ancestor of it."""
    while head and head.seq > one.seq:
        head = head.prev
    return head is one


def common(one: Delta, other: Delta) -> int:
    """The last seq that two chains share; 0 for none."""
    a: Delta | None = one
    b: Delta | None = other
    while a is not b:
        if a and (not b or a.seq >= b.seq):
            a = a.prev
        elif b:
            b = b.prev
    return a.seq if a else 0


@dataclass(slots=True)
class Base:
    head: Delta
    cells: dict[Key, tuple[int, Cell]]

    def digest(self) -> frozenset[tuple[Key, int, int, int]]:
        return frozenset((key, place, cell.dot, cell.wid) for key, (place, cell) in self.cells.items())

    def records(self) -> dict[int, Record]:
        return {origin: cell.record for (path, origin), (_, cell) in self.cells.items() if path == "~"}


def successor(base: Base | None, delta: Delta, former: Base | None) -> Base:
    """Delta n+1 makes S(n+1) of S(n); a takeover adds what the former shelf holds, but for what this shelf already speaks for."""
    cells = dict(base.cells) if base else {}
    records = base.records() if base else {}
    for key, (_, cell) in former.cells.items() if former and delta.former else ():
        mine = cells.get(key)
        if cell.kind == "takeover":
            joined = cell._replace(dot=max(cell.dot, mine[1].dot), record=cell.record.join(mine[1].record)) if mine else cell
            cells[key] = (delta.seq, joined)
        elif not records.get(key[1], Record()).speaks(cell.dot // STEP) and not (mine and mine[1].rank >= cell.rank):
            cells[key] = (delta.seq, cell)
    cells.update({key: (delta.seq, cell) for key, cell in delta.ops})
    return Base(delta, swept(cells, delta.gc_floor))


def swept(cells: dict[Key, tuple[int, Cell]], gc_floor: int) -> dict[Key, tuple[int, Cell]]:
    return {key: (at, cell) for key, (at, cell) in cells.items() if at > gc_floor or cell.kind not in ("removed", "dropped")}


@dataclass(slots=True)
class Copy:
    """What somebody holds of an ended shelf: a base, or the ops of one loose delta."""

    head: Delta
    cells: dict[Key, Cell]
    whole: bool
    """A base: what it knew and does not hold, is dead."""
    records: dict[int, Record]

    def knew(self, key: Key, cell: Cell, of: Copy) -> bool:
        seq, origin = cell.dot // STEP, key[1]
        if origin == self.head.shelf:
            return seq <= common(self.head, of.head)
        return self.records.get(origin, Record()).speaks(seq)

    def holds(self, key: Key, cell: Cell) -> bool:
        mine = self.cells.get(key)
        return mine is not None and (mine.dot, mine.wid) == (cell.dot, cell.wid)


class Host(Protocol):
    rules: frozenset[str]

    def cells(self, path: str, *, loose: bool = True) -> dict[int, Cell]: ...


def merged(copies: list[Copy], host: Host) -> dict[Key, Cell]:
    """What survives of an ended shelf: per key the newest dot, with the covers of all copies."""
    survivors: dict[Key, Cell] = {}
    rules = host.rules
    for key in sorted({key for copy in copies for key in copy.cells}):
        found = [(copy, copy.cells[key]) for copy in copies if key in copy.cells]
        if key[0] == "~":
            record = Record()
            for _, cell in found:
                record = record.join(cell.record)
            survivors[key] = found[0][1]._replace(record=record)
            continue
        alive = []
        for copy, cell in found:
            others = [other for other in copies if other.whole and other is not copy]
            dead = any(other.knew(key, cell, copy) and not other.holds(key, cell) for other in others)
            if cell.kind in ("value", "removed") and not (dead and "BOTH" in rules):
                alive.append(cell)
        if alive:
            held = host.cells(key[0]) if len(alive) > 1 and "ORDER" in rules else {}
            newest = max(alive, key=lambda cell: (not is_older(cell, key[1], alive, held), cell.rank))
            union = frozenset(cover for cell in alive for cover in cell.covers if cover[0] != key[1])
            survivors[key] = newest._replace(covers=union) if "UNION" in rules else newest
    return survivors


def is_older(cell: Cell, origin: int, others: list[Cell], held: dict[int, Cell]) -> bool:
    """Whether one of the others covers a write that covers this cell."""
    over = [(who, x.dot, x.wid) for who, x in held.items() if (origin, cell.dot, cell.wid) in x.covers]
    return any(x in other.covers for x in over for other in others)


EMPTY: Final = Base(Delta(0, None, (), 0, None), {})
