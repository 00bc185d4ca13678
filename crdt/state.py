"""What a replica holds, and how it is read: bases, loose deltas, the draft; who is listened to, what shows, what is gone.

Reading never changes anything. What changes a base is in `crdt.shelves`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from hashlib import blake2b
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from crdt import codec
from crdt.base import Base, Held
from crdt.body import Decode, Encode
from crdt.chores import Chores
from crdt.chunks import Chunks
from crdt.delta import Delta, Head
from crdt.ids import REPLICA_ID_BYTES, ReplicaId, ShelfId, dot_index, dot_seq, replica_of
from crdt.index import Cell, Index, Over, Slots
from crdt.limits import SHELF_BYTES_MAX, SHELF_OPS_MAX
from crdt.native import mypyc_attr
from crdt.ops import DROPPED, KIND_MASK, LARGE, VALUE, WHILE_ALIVE, Cover, Key, Op, Rights
from crdt.takeover import Records

RULES: Final = frozenset(
    {
        "EXACT",  # a cover names one write, by dot and check; as a bound it would let a liar hide writes that are still to come
        "INHERIT",  # a write takes over the covers of every cell it covers or replaces
        "RETIRE",  # an absent cell goes only when everything it covers is gone
        "FLOORGC",  # absent cells at or below gc_floor leave the base as the head that says so is reached
        "FULL",  # below gc_floor a suffix is not enough: the whole shelf is listed
        "VERIFY",  # a base jumps only to a state whose digest is the one that the author signed
        "SPEAK",  # after a takeover the new shelf alone speaks for the old writes
        "FOLLOW",  # a host takes off what the former shelf turns out to have taken off itself
        "WHOLE",  # who closes an ended shelf speaks for every delta of it, also for those that it has not seen
        "BOTH",  # a cell that two branches of it have both known lives only if both still hold it
        "ORDER",  # but a write that another branch has seen replaced is not the newest, whatever its dot
        "UNION",  # the newest write of a key gets the covers of all copies
        "KEEP",  # it leaves only when whoever covers it covers all that it covers, or that is gone
        "PRUNE",  # covers of what is gone are left out (size only)
    }
)
"""What each rule is for is shown by switching it off: tests/crdt/test_histories.py."""

FAULTS_MAX: Final = 256
"""Faults kept until somebody drains them; older ones go (guess: they repeat)."""


class Fault(NamedTuple):
    """Somebody did what the rules forbid, or a disk what nobody expects."""

    shelf: ShelfId
    kind: str
    """fork: two deltas of one number, or a successor of another predecessor. identity: somebody else writes our shelf. digest:
    a base is not what its author signed. void: ops outside their author's rights. crowd: more shelves of one replica than
    are taken in. quota: it holds more than the charter allows. stored: rows of a store that do not fit."""
    detail: str
    proof: tuple[Head, ...] = ()
    """Signed headers that show it: the two of a fork."""
    claims: tuple[tuple[ReplicaId, Rights], ...] = ()
    """Of void ops: the rights that they name, and whose. Where those are not known here, nobody is to blame yet."""


COVERED_FROM: Final = 4
"""Cells at one key from which on it is remembered who covers whom: each look grows with the square of them. Guess."""
COVERED_MAX: Final = 65_536
"""Cells in the sets that are remembered; then all are forgotten. Guess: a thousand sets of fifty, 3 MB and what the ops hold. The
sets themselves are no measure: each write of a counter that 2,000 others count, too, makes a new one of 2,000 cells."""


class Looks:
    """Masks of the covered among sets of cells, by the identities of the cells, which are kept so that they stay theirs."""

    def __init__(self) -> None:
        self.held = 0
        """Cells."""
        self._known: dict[tuple[int, ...], tuple[int, list[Op]]] = {}

    def get(self, names: tuple[int, ...]) -> int | None:
        known = self._known.get(names)
        return known[0] if known is not None else None

    def add(self, names: tuple[int, ...], mask: int, cells: list[Op]) -> None:
        """`cells`: not to be changed any more."""
        if self.held + len(cells) > COVERED_MAX:
            self._known.clear()
            self.held = 0
        self._known[names] = (mask, cells)
        self.held += len(cells)


LOOKS: Final = Looks()
"""Replicas in one process share ops, and this; not those that run without the rule EXACT (models, planted bugs), which see covers
otherwise."""


class Loose(NamedTuple):
    """A delta above the floor. `mask`: the ops that a peer says are live; None when it came from its author."""

    delta: Delta
    mask: int | None
    void: int
    """The ops that count as dropped (see `Held`)."""


_NOBODY: Final[Set[ShelfId]] = frozenset()

_origin = itemgetter(Op._fields.index("origin"))
"""By its place, as kinds are read below: by name costs twice as much, and hot keys have fifty cells."""


def always(*_: object) -> bool:
    return True


def same_replica(former: ShelfId, host: ShelfId) -> bool:
    """A takeover is valid within one replica id; a cut may name another host (`heir` of the replica)."""
    return former != host and replica_of(former) == replica_of(host)


def check_of(op: Op, encode: Encode = codec.encode) -> int:
    """u32 that a cover must know of the write it names, so that nobody covers writes still to come.

    Of what an op keeps when it is issued again. Its covers are not in it: a repack leaves out those that are gone.
    """
    raw = encode((op.kind, op.type, op.path, op.payload, op.origin, op.dot, op.time, op.rights))
    return int.from_bytes(blake2b(raw, digest_size=4).digest(), "big")


VoidOps: TypeAlias = Callable[[ShelfId, int, Rights, Sequence[Op]], int]
"""(shelf, seq, rights, ops) of a body -> mask of the ops that their author had no right to. The same everywhere in the end."""

Ranked: TypeAlias = dict[ShelfId, tuple[int, bool, Op | None]]
"""origin -> (dot, hosted, the op or None where it is dropped or void)."""


class Ended:
    """Shelves of which nothing more is taken: forked ones, and all of a replica that was cut."""

    __slots__ = ("replicas", "shelves")

    def __init__(self) -> None:
        self.shelves: set[ShelfId] = set()
        self.replicas: set[ReplicaId] = set()

    def __iter__(self) -> Iterator[ShelfId]:
        return iter(self.shelves)

    def __contains__(self, shelf: object) -> bool:
        if not self.replicas:  # nearly always
            return bool(self.shelves) and shelf in self.shelves
        return shelf in self.shelves or (isinstance(shelf, bytes) and shelf[:REPLICA_ID_BYTES] in self.replicas)


class Unsaved:
    """What the store has not been told yet."""

    __slots__ = ("gone", "heads", "held", "loose")

    def __init__(self) -> None:
        self.held: list[Held] = []
        """Whose mask may differ from the one in the journal, some several times."""
        self.heads: set[ShelfId] = set()
        self.loose: set[tuple[ShelfId, int]] = set()
        self.gone: set[ShelfId] = set()
        """Bases that were let go."""


@mypyc_attr(allow_interpreted_subclasses=True)
class State:
    """Bases, loose deltas and draft of one replica, indexed. `Replica` adds what makes them change."""

    def __init__(
        self,
        shelf: ShelfId,
        *,
        encode: Encode,
        decode: Decode,
        large_bytes_max: int,
        void_ops: VoidOps | None,
        alive: Callable[[ShelfId], bool],
        heir: Callable[[ShelfId, ShelfId], bool],
        rules: frozenset[str],
    ) -> None:
        self.shelf = shelf
        self.rules = rules
        self.bases: dict[ShelfId, Base] = {}
        self.loose: dict[ShelfId, dict[int, Loose]] = {}
        self.index = Index(self.bases)
        self.records = Records()
        self.chunks = Chunks(self.index, decode, large_bytes_max)
        self.chores = Chores(shelf, self.chunks)
        self.faults: deque[Fault] = deque(maxlen=FAULTS_MAX)
        self.ended = Ended()
        self.has_void = False
        """Whether there was ever a void op here. Nearly never: then no cell is asked whether it is one."""
        self.unsound: dict[ShelfId, int] = {}
        """Floors of bases that were found not to be what their authors signed, and reported. Such a base stays where it is until
        a statement that the author did sign replaces it."""
        self.shelf_bytes_max = SHELF_BYTES_MAX
        self.shelf_ops_max = SHELF_OPS_MAX
        """A shelf beyond one of these stands still: since S(n) is the same everywhere, it does so at one n everywhere."""
        self.unchecked: dict[ShelfId, int] = {}
        """Deltas applied in order since the digest was last compared."""
        self.hosted_bodies: dict[tuple[ShelfId, int], Held] = {}
        """Bodies that some other shelf holds, by their own name."""
        self.presence: dict[ShelfId, set[Key]] = {}
        """Keys with cells that show only while their origin is alive."""
        self.changes: dict[Key, None] = {}
        """Keys whose cells changed since the watchers looked."""
        self._from_disk: set[ShelfId] = set()
        """Former shelves of ours that the store brought back."""
        self._shelves_of: dict[ReplicaId, set[ShelfId]] = {}
        self._was_alive: dict[ShelfId, bool] = {}
        self.formers_changed: dict[ShelfId, None] = {}
        """Former shelves whose records are to be looked at again."""
        self.unsaved = Unsaved()
        self.encode = encode
        self.decode = decode
        self._void_ops = void_ops
        self._alive = alive
        self._heir = heir

    def is_full(self, base: Base) -> bool:
        return base.body_bytes > self.shelf_bytes_max or base.live_ops > self.shelf_ops_max

    # --- what is held

    def floor(self, shelf: ShelfId) -> int:
        """The n of our S(n); 0 when we have none."""
        base = self.bases.get(shelf)
        return base.head.header.seq if base and base.head else 0

    def head(self, shelf: ShelfId) -> Head | None:
        base = self.bases.get(shelf)
        return base.head if base else None

    def shelves(self) -> list[ShelfId]:
        """Every shelf of which something is here, sorted."""
        return sorted(self.bases.keys() | self.loose.keys())

    def loose_seqs(self, shelf: ShelfId) -> Set[int]:
        return self.loose.get(shelf, {}).keys()

    def loose_delta(self, shelf: ShelfId, seq: int) -> Delta | None:
        loose = self.loose.get(shelf, {}).get(seq)
        return loose.delta if loose else None

    def has(self, shelf: ShelfId, seq: int) -> bool:
        """Whether this delta would be nothing new."""
        return seq <= self.floor(shelf) or seq in self.loose.get(shelf, ()) or bool(self.speakers(shelf, seq))

    def reached(self, shelf: ShelfId) -> int:
        """How far we know this shelf: our floor, or what a takeover of it includes. A peer's floor above it is worth a pull."""
        floor = self.floor(shelf)
        return max(floor, self.records.known(shelf)) if shelf in self.records.said else floor

    def speakers(self, former: ShelfId, seq: int) -> Set[ShelfId]:
        return self.records.speakers(former, seq) if former in self.records.said and "SPEAK" in self.rules else _NOBODY

    def counts(self, host: ShelfId, op: Op) -> bool:
        """Whether what `host` holds of this origin is to be listened to."""
        origin = op.origin
        if "SPEAK" not in self.rules:
            return True
        if origin not in self.records.said:
            return host == origin
        if host != origin and self.records.of(origin, host) is None:
            return False  # nobody says that it took this shelf over
        speakers = self.records.speakers(origin, dot_seq(op.dot))
        return not speakers or host in speakers

    def ranked(self, key: Key, *, over: bool = True) -> Ranked:
        """The newest write of each origin at `key`, whoever hosts it (the host, where both do). `over`: with loose deltas and
        the draft."""
        rows = self.index.above.get(key) if over else None
        best: Ranked = {}
        latest: dict[tuple[ShelfId, ShelfId], Over] = {}
        for row in rows or ():
            name = (row.host, row.op.origin)
            if (name not in latest or latest[name].seq < row.seq) and self.chunks.complete(row.op):
                latest[name] = row
        for cell in self.index.cells(key):
            if isinstance(cell, Op):  # where it was first issued: it says itself where that is
                op, host, place = cell, cell.origin, dot_seq(cell.dot)
                void = self.has_void and self._is_void(cell)
            else:
                held, index = cell
                op, host, place, void = held.body.ops[index], held.host, held.place, bool(held.void >> index & 1)
            newer = latest.get((host, op.origin)) if latest else None
            if newer is None or newer.seq < place:
                self._rank(best, host, op, dead=op.kind == DROPPED or void)
                if newer is not None:
                    del latest[host, op.origin]
        for row in latest.values():
            self._rank(best, row.host, row.op, dead=False)
        return best

    def _rank(self, best: Ranked, host: ShelfId, op: Op, *, dead: bool) -> None:
        if not self.counts(host, op):
            return
        hosted = host != op.origin
        former = best.get(op.origin)
        if former is None or (op.dot, hosted) > former[:2] or self._is_higher(op, former, hosted=hosted, dead=dead):
            best[op.origin] = (op.dot, hosted, None if dead else op)

    def _is_higher(self, op: Op, former: tuple[int, bool, Op | None], *, hosted: bool, dead: bool) -> bool:
        """Branches of a forked shelf use one dot for two writes: then the content decides, on every replica alike."""
        if dead or (op.dot, hosted) != former[:2]:
            return False
        return former[2] is None or check_of(op, self.encode) > check_of(former[2], self.encode)

    # --- views

    def cells(self, key: Key) -> list[Op]:
        """The newest value or removed cell of each origin, sorted by origin. Payloads of large ops are references, see
        `value`."""
        found = self.index.slots.get(key)
        if isinstance(found, Op) and key not in self.index.above and found.origin not in self.records.said:
            return [found] if found.kind != DROPPED and not (self.has_void and self._is_void(found)) else []
        if isinstance(found, dict) and key not in self.index.above:
            own = self._own_cells(found)
            if own is not None:
                return own
        ranked = self.ranked(key)
        return [op for _, (_, _, op) in sorted(ranked.items()) if op is not None]

    def _own_cells(self, slots: Slots) -> list[Op] | None:
        """`cells` where nobody took anything over: each origin has one cell, on its own shelf. None where somebody did."""
        said, has_void = self.records.said, self.has_void
        found: list[Op] = []
        for name, cell in slots.items():
            if isinstance(name, tuple) or (said and name in said):
                return None
            op = cell if isinstance(cell, Op) else cell[0].body.ops[cell[1]]
            if op[0] != DROPPED and not (has_void and self._is_void(cell)):
                found.append(op)
        found.sort(key=_origin)
        return found

    def _is_void(self, cell: Cell) -> bool:
        held, index = self.index.slot_of(cell)
        return bool(held.void >> index & 1)

    def shown(self, key: Key) -> list[Op]:
        """The value cells that no other cell at the key covers, sorted by origin; large payloads put together."""
        cells = self.cells(key)
        if len(cells) == 1 and cells[0].kind == VALUE:  # nearly all: no other cell, no flags
            return cells
        covered = self.covered(cells) if len(cells) > 1 else 0
        shown = []
        for index, op in enumerate(cells):
            kind = op[0]
            if kind & KIND_MASK != VALUE or covered >> index & 1 or (kind & WHILE_ALIVE and not self._alive(op.origin)):
                continue
            if kind & LARGE:
                content = self.chunks.content(op)
                if content is None:
                    continue
                op = op._replace(kind=kind & ~LARGE, payload=content.payload)
            shown.append(op)
        return shown

    def covered(self, cells: list[Op]) -> int:
        """Mask of the values among these cells of one key that others of them cover. Not to be changed afterwards."""
        if len(cells) < COVERED_FROM or "EXACT" not in self.rules:
            return self._look_who_is_covered(cells)
        put_together = 0  # what is in the chunks of an op never changes, but it may not be here yet
        for index, op in enumerate(cells):
            if op[0] & LARGE and self.chunks.has_covers(op):
                put_together |= 1 << index
        names = (*map(id, cells), put_together)
        mask = LOOKS.get(names)
        if mask is None:
            mask = self._look_who_is_covered(cells)
            LOOKS.add(names, mask, cells)
        return mask

    def _look_who_is_covered(self, cells: list[Op]) -> int:
        named: dict[tuple[ShelfId, int], Op] = {}
        for cell in cells:
            for cover in self.covers_of(cell):
                named[cover.origin, cover.dot] = cell
        if not named:
            return 0
        covered, exact = 0, "EXACT" in self.rules
        for index, op in enumerate(cells):
            if op.kind & KIND_MASK == VALUE:
                by = named.get((op.origin, op.dot))  # nearly always it is covered by the cell that names it, or by none
                if by is None:
                    is_covered = not exact and self.is_covered(op, cells)
                else:
                    is_covered = self.is_covered(op, [by]) or self.is_covered(op, cells)
                covered |= is_covered << index
        return covered

    def covers_of(self, op: Op) -> tuple[Cover, ...]:
        """Also those that did not fit into the op and went into its chunks."""
        return self.chunks.covers(op) if op.kind & LARGE else op.covers

    def is_covered(self, op: Op, cells: list[Op]) -> bool:
        name = (op.origin, op.dot, self.check(op))
        if any(name in self.covers_of(cell) for cell in cells):
            return True
        return "EXACT" not in self.rules and any(
            cover.origin == op.origin and cover.dot >= op.dot for cell in cells for cover in self.covers_of(cell)
        )

    def check(self, op: Op) -> int:
        """`check_of`, remembered where the op stands in the body that issued it: overwritten cells are asked for theirs at each
        look, until they are dropped.
        """
        base = self.bases.get(op.origin)
        held = base.own.get(dot_seq(op.dot)) if base else None
        if held is None:
            return check_of(op, self.encode)
        body, index = held.body, dot_index(op.dot)
        if index >= len(body.ops) or body.ops[index] is not op:
            return check_of(op, self.encode)
        known = body.checks.get(index)
        if known is None:
            known = check_of(op, self.encode)
            body.checks = {**body.checks, index: known}
        return known

    def gone(self, key: Key, cover: Cover) -> bool:
        """The covered write has left its shelf. Known from bases, and a shelf never takes a write back: it stays true."""
        origin, dot, check = cover
        if self.floor(origin) < dot_seq(dot):
            standing = self.records.standing(origin) if origin in self.records.said else ()
            if not any(record.finished or record.speaks(dot_seq(dot)) for _, record in standing):
                return False
        if key not in self.index.above and origin not in self.records.said and "SPEAK" in self.rules:
            slot = self.index.slot(key, origin, origin)  # as below, for one origin instead of all
            if slot is None:
                return True
            op, void = slot[0].body.ops[slot[1]], slot[0].void >> slot[1] & 1
            return op.dot != dot or op.kind == DROPPED or bool(void) or self.check(op) != check
        for over in (False, True):
            newest = self.ranked(key, over=over).get(origin)
            if newest and newest[0] == dot and newest[2] is not None and self.check(newest[2]) == check:
                return False
        return True
