"""How bases change: delta by delta, by takeovers, by jumps.

Everything goes through `put` and `kill`, so that index, digest, journal, takeover records and housekeeping are never apart.
"""

from __future__ import annotations

from collections.abc import Collection

from crdt.base import Base, Held
from crdt.body import Body
from crdt.ids import ReplicaId, ShelfId, dot_seq, make_dot, replica_of
from crdt.index import Over
from crdt.limits import CORE_TYPE
from crdt.native import mypyc_attr
from crdt.ops import DROPPED, KIND_MASK, LARGE, TAKEOVER, VALUE, WHILE_ALIVE, Key, Op
from crdt.state import Fault, Loose, State
from crdt.takeover import NOTHING, Record, former_of, record_of, takeover_key


@mypyc_attr(allow_interpreted_subclasses=True)
class Shelves(State):
    """A `State` whose bases move."""

    # --- a delta becomes part of a base

    def apply(self, base: Base, gc_floor: int, body: Body, void: int) -> None:
        """Delta n+1 makes S(n+1) of S(n). The caller has checked the chain and `can_follow`, and sets the head."""
        if body.takeover >= 0:
            self._absorb(base, body)
        if body.ops:
            self.take_whole(base, Held(base.shelf, body.seq, body, body.every, void))
        self._sweep(base, gc_floor)

    def take_whole(self, base: Base, held: Held) -> None:
        """`put` for all ops of a body at its own place, unrolled: there are 200,000 of them a second."""
        base.put(held)
        base.dirty.append(held)
        base.live_ops += len(held.body.ops)
        self.unsaved.held.append(held)
        shelf, own_dot = base.shelf, make_dot(held.place, 0)
        if shelf == self.shelf:
            self.chores.issued(held)
        if held.body.plain and len(held.body.ops) > 1 and self.index.put_fresh(held.body, self.changes):
            return
        tree, changes = self.index, self.changes
        slots, above = tree.slots, tree.above
        for index, op in enumerate(held.body.ops):
            kind, type_code, path, _, covers, origin, dot, _, _ = op
            key = (type_code, path)
            changes[key] = None
            slot = op if dot == own_dot | index and origin == shelf else (held, index)
            if slots.setdefault(key, slot) is not slot:  # hashing a path costs more than all else here
                self._put_beside(held, index, op, key)
            elif not above or key not in above:
                tree.appear(key)
            if kind or covers or not type_code:
                self._note(held, index, op, key)

    def put(self, held: Held, index: int) -> bool:
        """Op `index` of `held`, which is in its base, lives there now. True when it replaced what the host had of this origin at
        this key."""
        op = held.body.ops[index]
        key, base = op.key, self.bases[held.host]
        base.live_ops += not held.mask >> index & 1
        held.mask |= 1 << index
        base.dirty.append(held)
        self.unsaved.held.append(held)
        replaced = self._put_beside(held, index, op, key)
        if op.kind or op.covers or op.type == CORE_TYPE:
            self._note(held, index, op, key)
        return replaced

    def _put_beside(self, held: Held, index: int, op: Op, key: Key) -> bool:
        former = self.index.put(key, held, index, op)
        if former is not None:
            host, at = former
            self.kill(host, at)
        if isinstance(self.index.slots[key], dict):
            self.chores.suspect(key, op.origin)
        return former is not None

    def _note(self, held: Held, index: int, op: Op, key: Key) -> None:
        """An op that is more than a plain value."""
        kind = op.kind & KIND_MASK
        if kind == TAKEOVER:
            self.formers_changed[former_of(op)] = None
        elif kind != VALUE:
            self.bases[held.host].absent.append((held, index))
        if op.kind & WHILE_ALIVE:
            self.presence.setdefault(op.origin, set()).add(key)
        if op.kind & LARGE:
            self.chunks.expect(key, op)
        elif op.type == CORE_TYPE and kind == VALUE:
            self._chunk_came(op)
        for cover in self.covers_of(op):
            self.chores.suspect(key, cover.origin)
        if held.host == self.shelf:
            self.chores.gained(held, index, op)

    def _chunk_came(self, chunk: Op) -> None:
        """What it completes shows now, and covers what it covers."""
        for key, op in self.chunks.arrived(chunk.path[0]):
            self.changes[key] = None
            for cover in self.covers_of(op):
                self.chores.suspect(key, cover.origin)

    def kill(self, held: Held, index: int) -> None:
        """Op `index` is not live any more. The index is the caller's business."""
        base = self.bases[held.host]
        base.live_ops -= held.mask >> index & 1
        held.mask &= ~(1 << index)
        base.dirty.append(held)
        self.unsaved.held.append(held)
        if not held.mask:
            base.forget(held)
            if held.body.shelf != base.shelf:
                name = (held.body.shelf, held.body.seq)
                if self.hosted_bodies.get(name) is held:
                    del self.hosted_bodies[name]
        op = held.body.ops[index]
        self.chores.moved(op.origin)
        if op.kind & LARGE:
            self.chunks.forget(op)
        if op.kind == TAKEOVER:
            self.formers_changed[former_of(op)] = None
        if held.host == self.shelf:
            self.chores.worn[held] = None
            if op.kind or op.covers:
                self.chores.lost(held, index, op)

    def remove(self, held: Held, index: int) -> None:
        """Op `index` leaves the shelf, and nothing replaces it."""
        op = held.body.ops[index]
        self.changes[op.key] = None
        self.index.remove(op.key, held.host, op.origin)
        self.kill(held, index)

    def hold(self, base: Base, held: Held) -> None:
        """`held` is about to get live ops by `put`."""
        base.put(held)
        if held.body.shelf != base.shelf:
            self.hosted_bodies[held.body.shelf, held.body.seq] = held

    def _sweep(self, base: Base, gc_floor: int) -> None:
        """Absent cells at or below gc_floor leave."""
        if "FLOORGC" not in self.rules:
            return
        absent = base.absent
        while absent and absent[0][0].place <= gc_floor:
            held, index = absent.popleft()
            if held.mask >> index & 1:
                self.remove(held, index)

    def forget_base(self, shelf: ShelfId) -> None:
        """Let the whole shelf go. Watchers hear of what nobody else has."""
        base = self.bases[shelf]
        for held in base.everything():
            for index, op in [*held.live()]:
                self.index.remove(op.key, shelf, op.origin)
                self.kill(held, index)
                heirs = [other.body.ops[at] for other, at in self.index.all_slots(op.key)]
                if not any(heir.dot == op.dot and heir.origin == op.origin for heir in heirs):
                    self.changes[op.key] = None
        del self.bases[shelf]
        self.unsound.pop(shelf, None)
        self.unchecked.pop(shelf, None)
        self.unsaved.gone.add(shelf)

    # --- void ops

    def judge(self, body: Body) -> int:
        """Mask of the ops that do not count, as far as we know today: rights may change, see `rejudge`."""
        void = body.faulty
        for index in body.takeovers:
            void |= (not self._heir(former_of(body.ops[index]), body.shelf)) << index
        if self._void_ops is not None:
            void |= self._void_ops(body.shelf, body.seq, body.rights, body.ops)
        if void:
            self.has_void = True
        return void

    def report_void(self, body: Body, void: int) -> None:
        if void:
            ops = [op for index, op in enumerate(body.ops) if void >> index & 1]
            detail = f"delta {body.seq}: {len(ops)} ops, the first at {ops[0].path!r:.80}"
            claims = dict.fromkeys((replica_of(op.origin), op.rights) for op in ops)
            self.faults.append(Fault(body.shelf, "void", detail, claims=tuple(claims)))

    def rejudge(self, replicas: Collection[ReplicaId]) -> None:
        """The rights of these replicas changed: look again at all that they wrote. For many it costs one look at every shelf,
        not one for each.
        """
        subjects = set(replicas)
        written = [held for shelf, base in self.bases.items() if replica_of(shelf) in subjects for held in base.own.values()]
        for base in self.bases.values():
            written += [held for held in base.hosted.values() if replica_of(held.body.shelf) in subjects]
        for held in written:
            void = self.judge(held.body)
            changed, held.void = (held.void ^ void) & held.mask, void
            for index, op in enumerate(held.body.ops) if changed else ():
                if changed >> index & 1:
                    self.changes[op.key] = None
                    if op.kind == TAKEOVER:
                        self.formers_changed[former_of(op)] = None
        for shelf, rows in self.loose.items():
            for seq, loose in rows.items() if replica_of(shelf) in subjects else ():
                void = self.judge(loose.delta.content)
                if void != loose.void:
                    self.lift(loose)
                    rows[seq] = loose._replace(void=void)
                    self.lay(rows[seq])
        self.settle_takeovers()

    # --- loose deltas

    def lay(self, loose: Loose) -> None:
        """Loose ops show at once. A drop acts only when it is in the base, a takeover too."""
        body = loose.delta.content
        for index, op in enumerate(body.ops):
            visible = op.kind & KIND_MASK not in (DROPPED, TAKEOVER) and not loose.void >> index & 1
            if visible and (loose.mask is None or loose.mask >> index & 1):
                key = op.key
                self.index.lay(key, Over(body.shelf, body.seq, op))
                self.changes[key] = None
                if op.kind & WHILE_ALIVE:
                    self.presence.setdefault(op.origin, set()).add(key)
                if op.kind & LARGE:
                    self.chunks.expect(key, op)
                elif op.type == CORE_TYPE:
                    self._chunk_came(op)

    def lift(self, loose: Loose) -> None:
        body = loose.delta.content
        for op in body.ops:
            key = op.key
            self.index.lift(key, body.shelf, body.seq)
            self.changes[key] = None
            self.chores.moved(op.origin)
            if op.kind & LARGE:
                self.chunks.forget(op)

    def drop_loose(self, shelf: ShelfId, seq: int) -> None:
        self.unsaved.loose.add((shelf, seq))
        rows = self.loose[shelf]
        loose = rows.pop(seq)
        if not rows:
            del self.loose[shelf]
        self.lift(loose)

    # --- takeovers

    def can_follow(self, host: ShelfId, body: Body) -> bool:
        """Whether we have at hand what the takeover in `body`, if any, adds: the former shelf exactly as it was."""
        if body.takeover < 0:
            return True
        record = self._adds(host, body)
        return record is None or not record.n or self.floor(former_of(body.ops[body.takeover])) == record.n

    def _adds(self, host: ShelfId, body: Body) -> Record | None:
        """The record of the takeover in `body`; None when it adds no cells: it is void, or its host has spoken for all of
        them."""
        op = body.ops[body.takeover]
        record = record_of(op.payload)
        before = self.records.of(former_of(op), host) or NOTHING
        return record if record.n > before.n and self._heir(former_of(op), host) else None

    def _absorb(self, base: Base, body: Body) -> None:
        """A takeover adds what the former shelf holds at n, but for what this shelf already speaks for."""
        if self._adds(base.shelf, body) is None:
            return
        former = self.bases.get(former_of(body.ops[body.takeover]))
        if former is None:
            return
        host = base.shelf
        taken: dict[tuple[ShelfId, int], Held] = {}
        for held in former.everything():
            name = (held.body.shelf, held.body.seq)
            for index, op in held.live():
                if self._is_news(host, op):
                    taken.setdefault(name, Held(host, body.seq, held.body, 0, held.void)).mask |= 1 << index
        for name in sorted(taken):
            held = taken[name]
            self.hold(base, held)
            for index, op in [*held.live()]:
                if self.put(held, index) or former.shelf in self.records.said:
                    self.changes[op.key] = None  # else it shows already, on the former shelf
                if host == self.shelf:
                    self.chores.hosted(op.key, op.origin)

    def _is_news(self, host: ShelfId, op: Op) -> bool:
        mine = self.index.slot(op.key, host, op.origin)
        if mine and mine[0].body.ops[mine[1]].dot >= op.dot:
            return False
        record = self.records.of(op.origin, host)
        return op.kind == TAKEOVER or record is None or not record.speaks(dot_seq(op.dot))

    def settle_takeovers(self) -> None:
        """Bring the records up to date with the bases, and let go of what others speak for."""
        while self.formers_changed:
            former = next(iter(self.formers_changed))
            del self.formers_changed[former]
            self._renew_records(former)
            for shelf in (former, *sorted(self.records.spoken_by(former))):  # and of whom the former spoke for
                self.chores.moved(shelf)
                self._let_go(shelf)

    def _renew_records(self, former: ShelfId) -> None:
        said: dict[ShelfId, tuple[int, Record]] = {}
        for held, index in self.index.all_slots(takeover_key(former)):
            op = held.body.ops[index]
            if op.kind == TAKEOVER and not held.void >> index & 1:
                place, record = said.get(held.host, (0, NOTHING))
                said[held.host] = (max(place, held.place), record.join(record_of(op.payload)))
        self.records.renew(former, said)

    def _let_go(self, former: ShelfId) -> None:
        """Everybody lets the former shelf go once another speaks for all that we have of it."""
        if "SPEAK" not in self.rules:
            return
        for seq in sorted(self.loose_seqs(former)):
            if self.speakers(former, seq):
                self.drop_loose(former, seq)
        base = self.bases.get(former)
        if base is None or former == self.shelf:
            return
        if any(host != former and (record.whole or record.n >= base.floor) for host, record in self.records.standing(former)):
            self.forget_base(former)
