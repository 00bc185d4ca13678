"""The histories of `tests.crdt.ended_model` played by the real classes.

python -m tests.crdt.ended_real 0 2000                  as tests.crdt.ended_model, with the same options
python -m tests.crdt.ended_real 0 2000 -BOTH            with one rule of the code switched off
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any, cast

import crdt
from crdt import Delta, Key, Op, ReplicaId, ShelfId, body_from_bytes_untrusted, shelf_id
from crdt.delta import delta_from_parts_untrusted
from crdt.ended import Copy, copy_of_listing
from crdt.ids import birth_of, dot_seq, replica_of
from crdt.limits import CORE_TYPE
from crdt.ops import DROPPED, KIND_MASK, REMOVED, TAKEOVER, VALUE, Rights
from crdt.state import RULES
from crdt.takeover import former_of, record_of
from tests.crdt import ended_model
from tests.crdt.ended_cells import RULES as MODEL_RULES
from tests.crdt.ended_cells import Cell, Wrong
from tests.crdt.ended_rules import Replica

REGISTER = 1
TABOO = "taboo"
"""A payload that its author had no right to write."""
CODE_RULES = frozenset({"WHOLE", "BOTH", "ORDER", "UNION", "KEEP"})


def void_ops(_shelf: ShelfId, _seq: int, _rights: Rights, ops: Any) -> int:
    return sum(1 << at for at, op in enumerate(ops) if isinstance(op.payload, tuple) and op.payload[1] == TABOO)


def wid_of(op: Op) -> int:
    return cast(tuple[int, str], op.payload)[0]


def replica_id(number: int) -> ReplicaId:
    return ReplicaId(bytes((65 + number,)) * 8)


class Real(Replica):
    """One process, with the methods that histories play and oracles ask; a `crdt.Replica` does the work."""

    sent: dict[bytes, Delta]

    def start(self, _bases: object, _loose: object) -> None:
        self.log: list[Any] = []
        self.disk_log: list[Any] = []
        self.real = self._born()

    def _born(self) -> crdt.Replica:
        self.shelf = self.world.new_shelf(self.number)
        return crdt.Replica(
            shelf_id(replica_id(self.number), self.shelf),
            void_ops=void_ops,
            heir=self.heir,
            rules=RULES & (self.rules | (RULES - CODE_RULES)),
        )

    def heir(self, former: ShelfId, host: ShelfId) -> bool:
        """The same replica, or whom a cut names, or whom a cut of that one names."""
        number, wanted = former[0] - 65, host[0] - 65
        while number != wanted and number in self.world.cuts:
            number = self.world.cuts[number]
        return former != host and number == wanted

    def save(self) -> Any:
        return None

    def twin(self) -> Real:
        other = copy.copy(self)
        other.process, other.known = self.world.new_process(), set(self.known)
        memo = {id(self): other, id(self.world): self.world}
        other.real, other.log, other.disk_log = copy.deepcopy((self.real, self.log, self.disk_log), memo)
        return other

    def begin_again(self) -> None:
        self.shelf = self.world.new_shelf(self.number)
        self.real.begin_again(shelf_id(replica_id(self.number), self.shelf))

    def back_up(self) -> None:
        self._journal()
        self.disk_log = list(self.log)

    def restart(self) -> None:
        self.real = self._born()
        self.log = list(self.disk_log)
        self.real.restore(self.log)
        self._learn()

    def _journal(self) -> None:
        self.log += self.real.take_journal()

    def _learn(self) -> None:
        """What statements end, the replica ends; what it finds out itself becomes one."""
        for fault in self.real.take_faults():
            if fault.kind in ("fork", "identity") and "PROOF" in self.rules:
                self.known.add(("fork", birth_of(fault.shelf), 0))
                self.world.count["proof"] += 1
            if fault.kind == "digest":
                raise Wrong(f"{fault}")
        for kind, what, _ in self.known:
            if kind == "fork":
                self.real.end(self.id_of(what))
            else:
                self.real.end_replica(replica_id(what))
        self.real.check_digests()

    def id_of(self, shelf: int) -> ShelfId:
        return shelf_id(replica_id(self.world.owner[shelf]), shelf)

    # ---- what histories do

    def _seal(self) -> None:
        for delta in self.real.seal():
            Real.sent[delta.header_hash] = delta
            self.world.push(self, cast(Any, delta))
        self._journal()

    def write(self, paths: list[str]) -> None:
        for path in paths:
            held = [wid_of(op) for op in self.real.cells((REGISTER, (path,)))]
            strays = self.number in self.world.hostile or self.number == self.world.careless
            kind = "void" if strays and self.world.rng.random() < 0.3 else self.world.kind()
            key: Key = (REGISTER, (path,))
            wid = len(self.world.writes) + 1
            payload = (wid, TABOO if kind == "void" else kind)
            dot = self.real.draft(*key, payload, removed=kind == "removed", now_wall=1000)
            number = dot.seq * 64 + dot.index
            assert self.world.record(self, number, path, kind, held) == wid
        self._seal()

    def drop(self) -> bool:
        count = self.real.drop(1e9, 0.0)
        self.world.count["drop"] += count
        self._seal()
        return bool(count)

    def retire(self) -> bool:
        count = self.real.retire()
        self.world.count["retire"] += count
        self._seal()
        return bool(count)

    def repack(self) -> None:
        base = self.real.bases.get(self.real.shelf)
        if base and base.everything():
            chosen = self.world.rng.choice(base.everything())
            if not any(op.kind in (DROPPED, TAKEOVER) for _, op in chosen.live()):
                crdt.housekeeping.reissue(self.real, [chosen])
                self._seal()

    def take_over(self, *, final: bool = False) -> bool:
        count = 0 if self.world.twin_of(self) else self.real.take_over(final=final)
        self.world.count["takeover"] += count
        self._seal()
        return bool(count)

    def close(self, shelf: int, peers: list[Replica]) -> None:
        former = self.id_of(shelf)
        copies = list(self.real.copy_of(former))
        for peer in peers if "COLLECT" in self.rules else []:
            copies += self._copies_from(cast(Real, peer), former)
        self.real.close(former, copies)
        self.world.count["closed"] += 1
        self._seal()
        self._learn()

    def _copies_from(self, peer: Real, shelf: ShelfId) -> list[Copy]:
        """As over the wire: a full list that the digest vouches for, bodies by their hash, remembered header hashes."""
        copies = []
        listing = peer.real.listing(shelf)
        if listing:
            assert self.real.listing_matches(listing.head, listing.entries)
            bodies = {(b.shelf, b.seq): body_from_bytes_untrusted(b.shelf, b.seq, b.raw) for b in listing.bodies}
            hashes = {seq: found[:4] for seq, found in peer.real.bases[shelf].recent_hashes()}
            found = copy_of_listing(listing.head, listing.entries, bodies, hashes, self.real.judge)
            assert found is not None
            copies.append(found)
        if "LOOSE" in self.rules:
            rows = sorted(peer.real.loose.get(shelf, {}).items())
            copies += [crdt.ended.copy_of_delta(reread(each.delta), each.mask, self.real.judge) for _, each in rows]
        return copies

    def is_closed(self, shelf: int) -> bool:
        return self.real.is_closed(self.id_of(shelf))

    def receive(self, delta: Any) -> None:
        self.real.receive(reread(delta))
        self._learn()

    def pull(self, peer: Replica, *, partial: bool = False) -> None:
        assert isinstance(peer, Real)
        if "PROOF" in self.rules:
            self.known |= peer.known
        self._learn()
        for shelf in peer.real.shelves():
            if shelf not in self.real.ended:
                self._pull_shelf(peer, shelf, partial=partial)
                self._learn()
        self._journal()

    def _pull_shelf(self, peer: Real, shelf: ShelfId, *, partial: bool) -> None:
        mine, theirs = self.real.bases.get(shelf), peer.real.bases.get(shelf)
        for one, other in ((self, theirs), (peer, mine)):  # floors travel with their hash: one that differs is asked about
            known = one.real.bases.get(shelf)
            if other and other.head and known and known.recent_hash(other.floor) not in (None, other.head.hash):
                one.receive(Real.sent[other.head.hash])
        if shelf == self.real.shelf:
            if theirs and theirs.head and theirs.floor > self.real.floor(shelf):
                self.receive(Real.sent[theirs.head.hash])
        elif theirs and theirs.floor > self.real.reached(shelf) and not (partial and self.world.rng.random() < 0.3):
            self._jump(peer, shelf)
        for _, loose in sorted(peer.real.loose.get(shelf, {}).items()):
            self.real.receive(reread(loose.delta), loose.mask)

    def _jump(self, peer: Real, shelf: ShelfId) -> None:
        for floor in (self.real.floor(shelf), 0):
            listing = peer.real.listing(shelf, floor)
            if listing and shelf not in self.real.ended:
                bodies = [body_from_bytes_untrusted(body.shelf, body.seq, body.raw) for body in listing.bodies]
                whole = listing.since == 0 and self.real.floor(shelf) > 0
                if whole and self._parts_from(peer, shelf):
                    return
                if self.real.jump(listing.head, listing.since, listing.entries, bodies):
                    self.world.loss |= whole  # perhaps to another branch: where nobody remembers its own, nobody notices its end
                    return
                self.world.count["refused"] += 1

    def _parts_from(self, peer: Real, shelf: ShelfId) -> bool:
        """Before a whole list takes the place of what is here, whoever remembers is asked for its delta of our head's number."""
        head = self.real.head(shelf)
        for each in [peer, *self.world.reach(self)]:
            base = cast(Real, each).real.bases.get(shelf)
            theirs = base.recent_hash(self.real.floor(shelf)) if base else None
            if head and theirs and theirs != head.hash:
                self.receive(Real.sent[theirs])
        return shelf in self.real.ended

    # ---- what oracles ask

    def ended(self, shelf: int) -> bool:
        return self.id_of(shelf) in self.real.ended

    def holds(self, shelf: int) -> bool:
        return self.id_of(shelf) in self.real.shelves()

    def view(self, path: str) -> frozenset[int]:
        return frozenset(wid_of(op) for op in self.real.shown((REGISTER, (path,))))

    def wids(self) -> set[int]:
        found = {
            wid_of(op) for rows in self.real.loose.values() for each in rows.values() for op in each.delta.ops if is_write(op)
        }
        writes = self.world.writes.items()
        for shelf, base in self.real.bases.items():
            hashes = base.head.hash if base.head else b""
            while hashes in Real.sent:
                delta = Real.sent[hashes]
                found |= {wid_of(op) for op in delta.ops if is_write(op)}
                hashes = delta.header.prev_hash
            for held in base.everything():
                for _, op in held.live():
                    record = record_of(op.payload) if op.kind == TAKEOVER else None
                    if record and not record.whole:
                        former = birth_of(former_of(op))
                        found |= {wid for wid, (origin, dot, *_) in writes if origin == former and record.speaks(dot // 64)}
            assert replica_of(shelf)
        return found

    def state(self) -> object:
        floors = [(shelf, self.real.floor(shelf), sorted(self.real.loose_seqs(shelf))) for shelf in self.real.shelves()]
        return floors, sorted(self.known)

    def live(self) -> Iterator[tuple[str, Cell]]:
        kinds = {VALUE: "value", REMOVED: "removed", DROPPED: "dropped"}
        for base in self.real.bases.values():
            for held in base.everything():
                for index, op in held.live():
                    if op.type != CORE_TYPE and not held.void >> index & 1:
                        covers = frozenset((birth_of(c.origin), dot_seq(c.dot), c.check) for c in op.covers)
                        wid = wid_of(op) if is_write(op) else 0
                        yield str(op.path[0]), Cell(op.dot, kinds[op.kind & KIND_MASK], covers, wid)


def is_write(op: Op) -> bool:
    return op.type == REGISTER and op.kind & KIND_MASK != DROPPED


def reread(delta: Delta) -> Delta:
    """As it comes from the wire."""
    return delta_from_parts_untrusted(replica_of(delta.shelf), delta.header_bytes, delta.signature, delta.body)


def run(seed: int, rules: frozenset[str] = frozenset(MODEL_RULES), **options: int) -> Any:
    Real.sent = {}
    return ended_model.run(seed, rules, Real, **options)


def main(arguments: list[str]) -> int:
    return ended_model.main(arguments, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
