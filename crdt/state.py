"""What a replica holds and how it reads it: bases, loose deltas, the draft, and the rules of rule 2 (view) and rule 5 (gone).

Everything that changes a base goes through `put` and `kill`, so that index, digest, journal, records and housekeeping are never apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from crdt import codec
from crdt.base import Base, Held, Slot
from crdt.body import CORE_TYPE, Body, Encode
from crdt.chores import Chores
from crdt.chunks import Chunks
from crdt.delta import Delta, Head
from crdt.ids import ShelfId, dot_seq, replica_of
from crdt.index import Index, Over
from crdt.ops import DROPPED, KIND_MASK, LARGE, TAKEOVER, VALUE, WHILE_ALIVE, Cover, Key, Op
from crdt.takeover import NOTHING, Record, Records, record_of, takeover_key

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
        "PRUNE",  # covers of what is gone are left out (size only)
    }
)
"""What each rule is for is shown by switching it off: tests/crdt/test_histories.py."""

FAULTS_MAX: Final = 256
"""Faults kept until somebody drains them; older ones go (guess: they repeat)."""


class Fault(NamedTuple):
    """Somebody did what the rules forbid. `kind`: "fork", "digest", "void", "crowd" or "stored"; `proof`: the two heads of a fork."""

    shelf: ShelfId
    kind: str
    detail: str
    proof: tuple[Head, ...] = ()


class Loose(NamedTuple):
    """A delta above the floor. `mask`: the ops that a peer says are live; None when it came from its author."""

    delta: Delta
    mask: int | None


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


Ranked = dict[ShelfId, tuple[int, bool, Op | None]]
"""origin -> (dot, hosted, the op or None where it is dropped or void)."""


class State:
    """Bases, loose deltas and draft of one replica, indexed. `Replica` adds what makes them change."""

    def __init__(
        self,
        shelf: ShelfId,
        *,
        encode: Encode,
        allowed: Callable[[Op, ShelfId], bool] | None,
        alive: Callable[[ShelfId], bool],
        heir: Callable[[ShelfId, ShelfId], bool],
        rules: frozenset[str],
    ) -> None:
        self.shelf = shelf
        self.rules = rules
        self.bases: dict[ShelfId, Base] = {}
        self.loose: dict[ShelfId, dict[int, Loose]] = {}
        self.index = Index()
        self.records = Records()
        self.chores = Chores(shelf)
        self.chunks = Chunks(self.index)
        self.faults: deque[Fault] = deque(maxlen=FAULTS_MAX)
        self.ended: set[ShelfId] = set()
        """Shelves of which nothing more is taken: forked, or cut."""
        self.touched: set[Held] = set()
        """Whose mask may differ from the one in the journal."""
        self.shelves_gone: set[ShelfId] = set()
        """Let go since the last journal."""
        self.heads_changed: set[ShelfId] = set()
        self.loose_changed: dict[tuple[ShelfId, int], None] = {}
        self.hosted_bodies: dict[tuple[ShelfId, int], Held] = {}
        """Bodies that some other shelf holds, by their own name."""
        self.changes: dict[Key, None] = {}
        self._encode = encode
        self._allowed = allowed
        self._alive = alive
        self._heir = heir
        self._formers_changed: dict[ShelfId, None] = {}

    # --- what is held

    def floor(self, shelf: ShelfId) -> int:
        """The n of our S(n); 0 when we have none."""
        base = self.bases.get(shelf)
        return base.floor if base else 0

    def head(self, shelf: ShelfId) -> Head | None:
        base = self.bases.get(shelf)
        return base.head if base else None

    def shelves(self) -> list[ShelfId]:
        """Every shelf of which something is here, sorted."""
        return sorted(self.bases.keys() | self.loose.keys())

    def loose_seqs(self, shelf: ShelfId) -> list[int]:
        return sorted(self.loose.get(shelf, ()))

    def known(self, shelf: ShelfId) -> int:
        """How far we know this shelf: our floor, or what a takeover of it includes. A peer's floor above it is worth a pull."""
        floor = self.floor(shelf)
        return max(floor, self.records.known(shelf)) if shelf in self.records else floor

    def speakers(self, former: ShelfId, seq: int) -> set[ShelfId]:
        return self.records.speakers(former, seq) if former in self.records and "SPEAK" in self.rules else set()

    def counts(self, host: ShelfId, op: Op) -> bool:
        """Whether what `host` holds of this origin is to be listened to."""
        origin = op.origin
        if "SPEAK" not in self.rules:
            return True
        if host == origin:
            return origin not in self.records or not self.records.speakers(origin, dot_seq(op.dot))
        return origin in self.records and host in self.records.speakers(origin, dot_seq(op.dot))

    def ranked(self, key: Key, *, over: bool = True) -> Ranked:
        """The newest write of each origin at `key`, whoever hosts it (the host, where both do). `over`: with loose deltas and the draft."""
        rows = self.index.above.get(key) if over else None
        best: Ranked = {}
        latest: dict[tuple[ShelfId, ShelfId], Over] = {}
        for row in rows or ():
            name = (row.host, row.op.origin)
            if (name not in latest or latest[name].seq < row.seq) and self.chunks.complete(row.op):
                latest[name] = row
        for held, index in self.index.all_slots(key):
            op = held.body.ops[index]
            newer = latest.get((held.host, op.origin))
            if newer is None or newer.seq < held.place:
                dead = op.kind == DROPPED or held.body.void >> index & 1
                self._rank(best, held.host, op, dead=bool(dead))
                latest.pop((held.host, op.origin), None)
        for row in latest.values():
            self._rank(best, row.host, row.op, dead=False)
        return best

    def _rank(self, best: Ranked, host: ShelfId, op: Op, *, dead: bool) -> None:
        if not self.counts(host, op):
            return
        hosted = host != op.origin
        former = best.get(op.origin)
        if former is None or (op.dot, hosted) > former[:2]:
            best[op.origin] = (op.dot, hosted, None if dead else op)

    # --- views

    def cells(self, key: Key) -> list[Op]:
        """The newest value or removed cell of each origin, sorted by origin. Payloads of large ops are references, see `value`."""
        slot = self.index.slots.get(key)
        if type(slot) is tuple and key not in self.index.above and not self.records.said:
            held, index = slot
            op = held.body.ops[index]
            return [op] if op.kind != DROPPED and not held.body.void >> index & 1 and held.host == op.origin else []
        ranked = self.ranked(key)
        return [op for _, (_, _, op) in sorted(ranked.items()) if op is not None]

    def shown(self, key: Key) -> list[Op]:
        """The value cells that no other cell at the key covers, sorted by origin; large payloads put together."""
        cells = self.cells(key)
        shown = []
        for op in cells:
            if op.kind & KIND_MASK != VALUE or (op.kind & WHILE_ALIVE and not self._alive(op.origin)):
                continue
            if len(cells) > 1 and self.is_covered(op, cells):
                continue
            if op.kind & LARGE:
                content = self.chunks.content(op)
                if content is None:
                    continue
                op = op._replace(kind=op.kind & ~LARGE, payload=content.payload)
            shown.append(op)
        return shown

    def covers_of(self, op: Op) -> tuple[Cover, ...]:
        """Also those that did not fit into the op and went into its chunks."""
        return self.chunks.covers(op) if op.kind & LARGE else op.covers

    def is_covered(self, op: Op, cells: list[Op]) -> bool:
        exact = "EXACT" in self.rules
        for cell in cells:
            for cover in self.covers_of(cell):
                if cover.origin == op.origin and (cover.dot == op.dot if exact else cover.dot >= op.dot):
                    if not exact or cover.check == check_of(op, self._encode):
                        return True
        return False

    def gone(self, key: Key, cover: Cover) -> bool:
        """The covered write has left its shelf. Known from bases, and a shelf never takes a write back: it stays true."""
        origin, dot, _ = cover
        if self.floor(origin) < dot_seq(dot):
            standing = self.records.standing(origin) if origin in self.records else ()
            if not any(record.finished or record.speaks(dot_seq(dot)) for _, record in standing):
                return False
        for over in (False, True):
            newest = self.ranked(key, over=over).get(origin)
            if newest and newest[0] == dot and newest[2] is not None:
                return False
        return True

    # --- changing a base

    def judge(self, body: Body) -> None:
        """Adds to `body.void` what its author had no right to write. Once per body."""
        if body.judged:
            return
        body.judged = True
        if body.takeover >= 0 and not self._heir(body.ops[body.takeover].path[0], body.shelf):  # type: ignore[arg-type]
            body.void |= 1 << body.takeover
        if self._allowed is not None:
            for index, op in enumerate(body.ops):
                if op.type != CORE_TYPE and op.kind != DROPPED and not self._allowed(op, body.shelf):
                    body.void |= 1 << index
        if body.void:
            first = (body.void & -body.void).bit_length() - 1
            self.faults.append(
                Fault(body.shelf, "void", f"delta {body.seq}: {body.void.bit_count()} ops, the first at {body.ops[first].path!r}")
            )

    def apply(self, base: Base, seq: int, gc_floor: int, body: Body) -> None:
        """Delta n+1 makes S(n+1) of S(n). The caller has checked the chain and `can_follow`, and sets the head."""
        self.judge(body)
        if body.takeover >= 0:
            self._absorb(base, body)
        if body.ops:
            held = Held(base.shelf, seq, body, (1 << len(body.ops)) - 1)
            base.put(held)
            base.dirty.add(held)
            self.touched.add(held)
            slots, changes, above = self.index.slots, self.changes, self.index.above
            for index, op in enumerate(body.ops):
                key = (op[1], op[2])
                changes[key] = None
                if key in slots:
                    self._put_beside(held, index, op, key)
                else:
                    slots[key] = (held, index)
                    if key not in above:
                        self.index.appear(key)
                if op[0] or op[4] or not op[1]:
                    self._note(held, index, op, key)
        self._sweep(base, gc_floor)

    def put(self, held: Held, index: int, op: Op, key: Key) -> None:
        """Make op `index` of `held`, which is in its base, live there; it replaces what the host had of this origin at this key."""
        held.mask |= 1 << index
        self.bases[held.host].dirty.add(held)
        self.touched.add(held)
        self.changes[key] = None
        if key in self.index.slots:
            self._put_beside(held, index, op, key)
        else:
            self.index.slots[key] = (held, index)
            if key not in self.index.above:
                self.index.appear(key)
        if op.kind or op.covers or not op.type:
            self._note(held, index, op, key)

    def _put_beside(self, held: Held, index: int, op: Op, key: Key) -> None:
        slots = self.index.slots
        found = slots[key]
        if type(found) is tuple:
            other, at = found
            origin = other.body.ops[at].origin
            if other.host == held.host and origin == op.origin:
                slots[key] = (held, index)
                self.kill(other, at)
                return
            found = slots[key] = {(other.host, origin): found}
        assert isinstance(found, dict)
        name = (held.host, op.origin)
        former = found.get(name)
        found[name] = (held, index)
        if former:
            self.kill(*former)
        self.chores.suspect(key, op.origin)

    def kill(self, held: Held, index: int) -> None:
        """Op `index` is not live any more. The index is the caller's business."""
        held.mask &= ~(1 << index)
        base = self.bases[held.host]
        base.dirty.add(held)
        self.touched.add(held)
        if not held.mask:
            self._forget(base, held)
        op = held.body.ops[index]
        if op.kind or op.covers:
            if op.kind == TAKEOVER:
                self._formers_changed[op.path[0]] = None  # type: ignore[index]
            if held.host == self.shelf:
                self.chores.lost(held, index, op)

    def enter(self, base: Base, held: Held) -> None:
        """`held` is about to have live ops."""
        base.put(held)
        if held.body.shelf != base.shelf:
            self.hosted_bodies[held.body.shelf, held.body.seq] = held

    def _forget(self, base: Base, held: Held) -> None:
        base.forget(held)
        name = (held.body.shelf, held.body.seq)
        if held.body.shelf != base.shelf and self.hosted_bodies.get(name) is held:
            del self.hosted_bodies[name]

    def remove(self, held: Held, index: int) -> None:
        """Op `index` leaves the shelf, and nothing replaces it."""
        op = held.body.ops[index]
        self.changes[op.key] = None
        self.index.remove(op.key, held.host, op.origin)
        self.kill(held, index)

    def _note(self, held: Held, index: int, op: Op, key: Key) -> None:
        kind = op.kind & KIND_MASK
        if kind == TAKEOVER:
            self._formers_changed[op.path[0]] = None  # type: ignore[index]
        elif kind != VALUE:
            self.bases[held.host].absent.append((held, index))
        for cover in self.covers_of(op):
            self.chores.suspect(key, cover.origin)
        if held.host == self.shelf:
            self.chores.gained(held, index, op)

    def _sweep(self, base: Base, gc_floor: int) -> None:
        """Absent cells at or below gc_floor leave."""
        if "FLOORGC" not in self.rules:
            return
        absent = base.absent
        while absent and absent[0][0].place <= gc_floor:
            held, index = absent.popleft()
            if held.mask >> index & 1:
                self.remove(held, index)

    def _absorb(self, base: Base, body: Body) -> None:
        """A takeover adds what the former shelf holds at n, but for what this shelf already speaks for."""
        former = self.absorbable(base.shelf, body)
        if former is None:
            return
        host, place = base.shelf, body.seq
        taken: dict[tuple[ShelfId, int], Held] = {}
        for held in former.everything():
            for index, op in [*held.live()]:
                if not self._is_news(host, op):
                    continue
                name = (held.body.shelf, held.body.seq)
                if name not in taken:
                    taken[name] = Held(host, place, held.body)
                taken[name].mask |= 1 << index
        for name in sorted(taken):
            held = taken[name]
            self.enter(base, held)
            for index, op in [*held.live()]:
                self.put(held, index, op, op.key)
                self.chores.hosted(op.key, op.origin)

    def _is_news(self, host: ShelfId, op: Op) -> bool:
        mine = self.index.slot(op.key, host, op.origin)
        if mine and mine[0].body.ops[mine[1]].dot >= op.dot:
            return False
        record = self.records.of(op.origin, host)
        return op.kind == TAKEOVER or record is None or not record.speaks(dot_seq(op.dot))

    def absorbable(self, host: ShelfId, body: Body) -> Base | None:
        """The former base that the takeover in `body` adds to `host`; None when it adds nothing."""
        op = body.ops[body.takeover]
        former, record = ShelfId(op.path[0]), record_of(op.payload)  # type: ignore[arg-type]
        before = self.records.of(former, host) or NOTHING
        if body.void >> body.takeover & 1 or record.n <= before.n:
            return None
        base = self.bases.get(former)
        return base if base and base.floor == record.n else None

    def can_follow(self, host: ShelfId, body: Body) -> bool:
        """Whether we have at hand what the takeover in `body`, if any, adds: the former shelf exactly as it was."""
        self.judge(body)
        if body.takeover < 0 or body.void >> body.takeover & 1:
            return True
        op = body.ops[body.takeover]
        former, record = ShelfId(op.path[0]), record_of(op.payload)  # type: ignore[arg-type]
        before = self.records.of(former, host) or NOTHING
        return record.n <= before.n or self.floor(former) == record.n

    # --- loose deltas

    def lay(self, loose: Loose) -> None:
        """Loose ops show at once. A drop acts only when it is in the base, a takeover too."""
        body = loose.delta.content
        self.judge(body)
        for index, op in enumerate(body.ops):
            visible = op.kind & KIND_MASK not in (DROPPED, TAKEOVER) and not body.void >> index & 1
            if visible and (loose.mask is None or loose.mask >> index & 1):
                self.index.lay(op.key, Over(body.shelf, body.seq, op))
                self.changes[op.key] = None

    def lift(self, loose: Loose) -> None:
        body = loose.delta.content
        for op in body.ops:
            self.index.lift(op.key, body.shelf, body.seq)
            self.changes[op.key] = None
        self.chores.moved(body.shelf)

    # --- takeovers

    def settle_takeovers(self) -> None:
        """Bring the records up to date with the bases, and let go of what others speak for."""
        while self._formers_changed:
            former = next(iter(self._formers_changed))
            del self._formers_changed[former]
            self._renew_records(former)
            for shelf in (former, *sorted(self.records.spoken_by(former))):  # and of whom the former spoke for
                self.chores.moved(shelf)
                self._let_go(shelf)

    def _renew_records(self, former: ShelfId) -> None:
        said: dict[ShelfId, tuple[int, Record]] = {}
        for held, index in self.index.all_slots(takeover_key(former)):
            op = held.body.ops[index]
            if op.kind != TAKEOVER or held.body.void >> index & 1:
                continue
            place, record = said.get(held.host, (0, NOTHING))
            said[held.host] = (max(place, held.place), record.join(record_of(op.payload)))
        for host in list(self.records.said.get(former, {})):
            if host not in said:
                self.records.remove(former, host)
        for host, (place, record) in said.items():
            self.records.put(former, host, place, record)

    def _let_go(self, former: ShelfId) -> None:
        """Everybody lets the former shelf go once another speaks for all that we have of it."""
        if "SPEAK" not in self.rules:
            return
        for seq, loose in list(self.loose.get(former, {}).items()):
            if self.speakers(former, seq):
                self.drop_loose(former, seq, loose)
        base = self.bases.get(former)
        if base is None or former == self.shelf:
            return
        if not any(host != former and record.n >= base.floor for host, record in self.records.standing(former)):
            return
        for held in base.everything():
            for index, _ in [*held.live()]:
                self.remove(held, index)
        del self.bases[former]
        self.shelves_gone.add(former)

    def drop_loose(self, shelf: ShelfId, seq: int, loose: Loose) -> None:
        self.loose_changed[shelf, seq] = None
        rows = self.loose[shelf]
        del rows[seq]
        if not rows:
            del self.loose[shelf]
        self.lift(loose)

    def hosted_by_us(self) -> Iterator[Slot]:
        """The live ops of former shelves that stand on ours."""
        base = self.bases.get(self.shelf)
        for held in list(base.hosted.values()) if base else ():
            for index, _ in [*held.live()]:
                yield held, index
