"""One replica: its own shelf, and what it holds of all others. Pure: no clock, no socket, no disk.

    replica = Replica(shelf)
    delta = replica.write(type_code, path, payload, now_wall=...)      # or draft(...) several times, then seal()
    other.receive(delta)
    other.shown((type_code, path))

Its parts, each building on the one before: `state` (what is held, reading), `shelves` (how bases change), `writer` (the own
shelf), and here what comes in from others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from crdt import ended, housekeeping, journal, statements
from crdt.base import Base, Entry, Listing
from crdt.body import Body
from crdt.delta import NO_HASH, Delta, Head, is_fork
from crdt.digest import digest_16
from crdt.ended import Copy
from crdt.ids import OPS_PER_DELTA_MAX, ReplicaId, ShelfId, replica_of
from crdt.index import key_order
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from crdt.limits import CORE_TYPE, LOOSE_MAX, SHELVES_MAX, UNCHECKED_MAX
from crdt.native import mypyc_attr
from crdt.ops import KIND_MASK, LARGE, VALUE, Key, Op, Path, Value
from crdt.state import Fault, Loose, always
from crdt.takeover import record_of, takeover_key
from crdt.writer import CoverPolicy, Writer


@mypyc_attr(allow_interpreted_subclasses=True)
class Replica(Writer):
    """Deltas and heads given to it must have a verified signature; all else it checks itself."""

    # --- reading

    def keys(self, prefix: Path = ()) -> list[Key]:
        """Every key at or below `prefix` that has a cell, sorted by path (text before bytes), then type."""
        found = [*self.index.below(prefix), *(self.index.at(prefix) if prefix else ())]
        return sorted((key for key in found if self.cells(key)), key=key_order)

    def keys_at(self, path: Path) -> list[Key]:
        """The keys at exactly this path that have a cell, one per type."""
        return [key for key in self.index.at(path) if self.cells(key)]

    def leaves(self, parent: Path, type_code: int, *, reverse: bool = False) -> Iterator[Key]:
        """The keys of this type one segment below `parent` that have a cell, sorted by that segment. Lazy, and cheap to begin."""
        for key in self.index.leaves(parent, type_code, reverse=reverse):
            if self.cells(key):
                yield key

    def value(self, op: Op) -> Value:
        """The payload; that of a large op put together. None while its chunks are missing."""
        if not op.kind & LARGE:
            return op.payload
        content = self.chunks.content(op)
        return content.payload if content else None

    @property
    def inherited(self) -> frozenset[ShelfId]:
        """Former shelves of this replica that it took over from its own disk, or whose heirs had."""
        found: set[ShelfId] = {self.shelf}
        growing = True
        while growing:
            heirs = {
                former for former in self.records.spoken_by(self.shelf) if former not in found and self._heired(former, found)
            }
            found |= heirs
            growing = bool(heirs)
        return frozenset(found - {self.shelf})

    def _heired(self, former: ShelfId, heirs: set[ShelfId]) -> bool:
        slots = [self.index.slot(takeover_key(former), self.shelf, heir) for heir in heirs]
        return any(slot and record_of(slot[0].body.ops[slot[1]].payload).own_disk for slot in slots)

    # --- deltas

    def receive(self, delta: Delta, mask: int | None = None) -> bool:
        """Take in a delta; True when it is new. `mask`: the ops of it that a peer says are live."""
        head = delta.head
        shelf, seq = head.header.shelf, head.header.seq
        base = self.bases.get(shelf)
        floor = base.floor if base else 0
        if seq <= floor or shelf == self.shelf or shelf in self.ended:
            self._check_old(base, delta)
            return False
        if shelf in self.records.said and self.speakers(shelf, seq):
            return False
        if base is None and shelf not in self.loose and not self._has_room(shelf):
            return False
        if base and self.is_full(base):
            self._stop_full(base)
            return False
        if seq == floor + 1 and shelf not in self.loose and shelf not in self.unsound and self._follows(base, delta):
            void = self.judge(delta.content)
            self.report_void(delta.content, void)
            self._extend_by(base, delta, void)
        elif shelf in self.ended or not self._keep_loose(delta, mask):
            return False
        else:
            self._extend(shelf)
        if shelf in self.records.said:
            self.formers_changed[shelf] = None
        if self.formers_changed:
            self.settle_takeovers()
        return True

    def _follows(self, base: Base | None, delta: Delta) -> bool:
        """Whether it is the successor of our head, and all that it builds on is here."""
        head = base.head if base else None
        if delta.head.header.prev_hash != (head.hash if head else NO_HASH):
            self._fork(delta.shelf, f"delta {delta.seq} names another predecessor", head, delta.head)
            return False
        return self.can_follow(delta.shelf, delta.content)

    def _extend_by(self, base: Base | None, delta: Delta, void: int) -> None:
        header = delta.head.header
        if base is None:
            base = self.bases[header.shelf] = Base(header.shelf)
        self.apply(base, header.gc_floor, delta.content, void)
        base.advance(delta.head)
        self.unsaved.heads.add(header.shelf)
        self.chores.moved(header.shelf)
        since = self.unchecked[header.shelf] = self.unchecked.get(header.shelf, 0) + 1
        if since >= UNCHECKED_MAX or delta.content.takeover >= 0:
            self._check(base)

    def _check(self, base: Base) -> None:
        self.unchecked.pop(base.shelf, None)
        statements.is_sound(self, base)

    def check_digests(self) -> None:
        """Compare what moved in order since the last call with what its authors signed: due every second."""
        for shelf in list(self.unchecked):
            base = self.bases.get(shelf)
            if base is not None and base.head is not None:
                self._check(base)
        self.unchecked.clear()

    def _extend(self, shelf: ShelfId) -> None:
        """Fold in the loose deltas that the floor has come to."""
        while shelf in self.loose and shelf not in self.ended and shelf not in self.unsound:
            base = self.bases.get(shelf)
            if base and self.is_full(base):
                self._stop_full(base)
                return
            seq = base.floor + 1 if base else 1
            loose = self.loose[shelf].get(seq)
            if loose is None or not self._follows(base, loose.delta):
                return
            self._extend_by(base, loose.delta, loose.void)
            self.drop_loose(shelf, seq)

    def _keep_loose(self, delta: Delta, mask: int | None) -> bool:
        shelf, seq = delta.shelf, delta.seq
        rows = self.loose.get(shelf, {})
        had = rows.get(seq)
        if had:
            if had.delta.head.hash != delta.head.hash:
                self._fork(shelf, f"two deltas {seq}", had.delta.head, delta.head)
                return False
            mask = None if mask is None or had.mask is None else mask | had.mask
            if mask == had.mask:
                return False
            self.lift(had)
        elif len(rows) >= LOOSE_MAX:
            furthest = max(rows)
            if seq > furthest:
                return False
            self.drop_loose(shelf, furthest)
        void = had.void if had else self.judge(delta.content)
        if not had:
            self.report_void(delta.content, void)
        loose = Loose(delta, mask, void)
        self.loose.setdefault(shelf, {})[seq] = loose
        self.unsaved.loose.add((shelf, seq))
        self.lay(loose)
        return True

    def _stop_full(self, base: Base) -> None:
        """What is loose goes, too: not everybody has it."""
        self.faults.append(Fault(base.shelf, "quota", f"S({base.floor}): {base.body_bytes} bytes, {base.live_ops} live ops"))
        for seq in sorted(self.loose_seqs(base.shelf)):
            self.drop_loose(base.shelf, seq)

    def _has_room(self, shelf: ShelfId) -> bool:
        """Whether one more shelf of this replica is taken in: at most `SHELVES_MAX` that nobody has taken over."""
        replica = replica_of(shelf)
        siblings = self._shelves_of.setdefault(replica, set())
        if len(siblings) >= SHELVES_MAX:
            siblings &= self.bases.keys() | self.loose.keys()
        if len(siblings) >= SHELVES_MAX:
            self.faults.append(Fault(shelf, "crowd", f"{len(siblings)} shelves of this replica are not taken over yet"))
            return False
        siblings.add(shelf)
        return True

    # --- forks

    def _check_old(self, base: Base | None, delta: Delta) -> None:
        """A delta that we should know already, or that nobody but us can have written."""
        known = base.recent_hash(delta.seq) if base else None
        if known == delta.head.hash or (known is None and delta.shelf != self.shelf):
            return
        if delta.shelf == self.shelf:
            self.faults.append(
                Fault(self.shelf, "identity", f"somebody else wrote delta {delta.seq} of our shelf", (delta.head,))
            )
        else:
            self._fork(delta.shelf, f"two deltas {delta.seq}", base.head if base else None, delta.head)

    def _fork(self, shelf: ShelfId, detail: str, ours: Head | None, theirs: Head) -> None:
        if shelf not in self.ended:
            self.faults.append(Fault(shelf, "fork", detail, tuple(head for head in (ours, theirs) if head)))
            self.end(shelf)

    def _contradicts(self, shelf: ShelfId, head: Head) -> bool:
        """Whether a signed head is of another branch than what we hold, as far as two headers can tell."""
        base = self.bases.get(shelf)
        ours = [base.head] if base and base.head else []
        ours += [loose.delta.head for loose in self.loose.get(shelf, {}).values()]
        found = next((each for each in ours if is_fork(each, head)), None)
        if found:
            self._fork(shelf, f"head {head.header.seq} is of another branch", found, head)
        return found is not None

    def end(self, shelf: ShelfId) -> None:
        """Nothing more of this shelf is taken (a proven fork, a cut); what is here stays as it is."""
        self.ended.shelves.add(shelf)

    def end_replica(self, replica: ReplicaId) -> None:
        """Nothing more of any of its shelves is taken (a cut)."""
        self.ended.replicas.add(replica)

    def take_faults(self) -> list[Fault]:
        if not self.faults:
            return []
        faults = list(self.faults)
        self.faults.clear()
        return faults

    # --- statements

    def digest(self, shelf: ShelfId) -> bytes:
        """Of our base as it is; equal to `head(shelf).header.shelf_digest` when all is well."""
        return (self.bases.get(shelf) or Base(shelf)).digest()

    def listing(self, shelf: ShelfId, floor: int = 0) -> Listing | None:
        """What a peer at `floor` needs: all live ops above it, or the whole shelf when it is below gc_floor. None when we
        have no more than it, or when our base is not what its author signed."""
        return statements.listing(self, shelf, floor)

    def listing_matches(self, head: Head, entries: Sequence[Entry]) -> bool:
        """Whether a full list is the one that the author signed: before any body is fetched."""
        return statements.matches(head, entries)

    def missing_bodies(self, entries: Iterable[Entry]) -> list[tuple[ShelfId, int]]:
        """(body shelf, seq) of the bodies that are nowhere here."""
        return [(entry.shelf, entry.seq) for entry in entries if self.body(entry.shelf, entry.seq, entry.body_hash) is None]

    def body(self, shelf: ShelfId, seq: int, body_hash: bytes | None = None) -> Body | None:
        """A body by its name, whoever holds it."""
        return statements.find_body(self, shelf, seq, body_hash)

    def jump(
        self,
        head: Head,
        since: int,
        entries: Sequence[Entry],
        bodies: Iterable[Body] | Mapping[tuple[ShelfId, int], Body],
    ) -> bool:
        """Take a peer's statement as our base: all of it, or nothing when a body is missing or the digest is not the author's.

        `bodies`: at least those that `missing_bodies` named, unverified: entries name them by hash.
        """
        shelf = head.header.shelf
        if shelf == self.shelf or shelf in self.ended or self._contradicts(shelf, head):
            return False
        if sum(entry.mask.bit_count() for entry in entries) > self.shelf_ops_max + OPS_PER_DELTA_MAX:
            return False
        given = bodies.values() if isinstance(bodies, Mapping) else bodies
        change = statements.plan_jump(self, head, since, entries, given)
        if change is None or not (shelf in self.bases or shelf in self.loose or change.takes_over() or self._has_room(shelf)):
            return False
        change.commit(head, same_chain=since > 0)
        self.unsound.pop(shelf, None)
        self.unchecked.pop(shelf, None)
        self.unsaved.heads.add(shelf)
        self.chores.moved(shelf)
        for seq in sorted(self.loose_seqs(shelf)):
            if seq <= head.header.seq:
                self.drop_loose(shelf, seq)
        self._extend(shelf)
        self.formers_changed[shelf] = None
        self.settle_takeovers()
        return True

    # --- housekeeping

    def notice(self, now_monotonic: float) -> None:
        """Own cells that became superfluous since the last look are so from now on: `drop` has patience with them."""
        housekeeping.notice(self, now_monotonic)

    def drop(self, now_monotonic: float, patience: float = 30.0) -> int:
        """Draft the drop of own cells that became superfluous `patience` seconds ago (rule 4; 30 s: DESIGN). Returns how many."""
        return housekeeping.drop(self, now_monotonic, patience)

    def retire(self, acknowledged: Callable[[int], bool] = always) -> int:
        """Draft a higher gc_floor, past removed cells that nobody needs (rule 5). `acknowledged`: whether others have our
        shelf up to a seq. Returns how many cells go."""
        return housekeeping.retire(self, acknowledged)

    def repack(self, settled: int = 0) -> int:
        """Draft the live ops of sparse bodies again, when there is much waste (rule 6); less of it is enough where it stands in
        deltas up to `settled`. Returns how many."""
        return housekeeping.repack(self, settled)

    def unhost(self) -> int:
        """Draft again all that our shelf hosts of former ones, so that nothing refers to them any more. Returns how many ops."""
        base = self.bases.get(self.shelf)
        return housekeeping.reissue(self, list(base.hosted.values())) if base else 0

    def written_by(self, replica: ReplicaId) -> dict[ShelfId, int]:
        """Shelves of this replica of which something is held here, and the last seq of it: those that have a base, and former
        ones whose bodies another shelf hosts. Those with a base first, then by how much of them lives."""
        last = {shelf: base.floor for shelf, base in self.bases.items() if replica_of(shelf) == replica and base.floor}
        lives: Counter[ShelfId] = Counter()
        for base in self.bases.values():
            for held in base.hosted.values():
                shelf = held.body.shelf
                if held.mask and replica_of(shelf) == replica:
                    lives[shelf] += held.mask.bit_count()
                    last[shelf] = max(last.get(shelf, 0), held.body.seq)
        return dict(sorted(last.items(), key=lambda item: (item[0] not in self.bases, -lives[item[0]], item[0])))

    def take_over(self, *, final: bool = False) -> int:
        """Make this replica's former shelves part of ours (rule 8). Sealed at once; `seal` gives the deltas. Returns how many."""
        return housekeeping.take_over(self, final=final, from_disk=self._from_disk)

    # --- ended shelves

    def copy_of(self, shelf: ShelfId) -> list[Copy]:
        """What we hold of a shelf that has ended, as `close` takes it: our base, and its loose deltas."""
        base = self.bases.get(shelf)
        mine = ended.copy_of_base(base, ended.remembered(base)) if base else None
        rows = sorted(self.loose.get(shelf, {}).items())
        loose = [ended.copy_of_delta(each.delta, each.mask, self.judge) for _, each in rows]
        return ([mine] if mine else []) + loose

    def close(self, shelf: ShelfId, copies: Sequence[Copy]) -> int:
        """Make what survives of an ended shelf part of ours, and speak for all of it (`crdt.ended`). Sealed at once; `seal` gives
        the deltas. Returns how many ops were too large for a delta of ours, and are lost."""
        unfit = ended.close(self, shelf, copies)
        self.settle_takeovers()
        return unfit

    def is_closed(self, shelf: ShelfId) -> bool:
        return self.records.is_closed(shelf)

    # --- for watchers and the store

    def take_changes(self) -> list[Key]:
        """Keys whose cells changed since the last call, in the order of their first change."""
        if not self.changes:
            return []
        changes = [key for key in self.changes if key[0] != CORE_TYPE]
        self.changes.clear()
        return changes

    def alive_changed(self) -> None:
        """Members came or went: cells written while alive may show or hide."""
        for origin in sorted(self.presence):
            keys = {key for key in self.presence[origin] if key in self.index}
            alive = self._alive(origin)
            if keys:
                self.presence[origin] = keys
            else:
                del self.presence[origin]
            if keys and self._was_alive.get(origin) != alive:
                self._was_alive[origin] = alive
                self.changes.update(dict.fromkeys(sorted(keys, key=key_order)))

    def take_journal(self) -> list[JournalEntry]:
        """What a store has to be told since the last call."""
        return journal.take_journal(self)

    def restore(self, entries: Iterable[JournalEntry], ran: ShelfId | None = None) -> None:
        """Take up what a store kept, before anything else happens here. `take_over` then makes former shelves part of this one.

        ran: the shelf of the last start on this disk, so that one which that start had pulled from peers is not mistaken for
        its own (see `inherited`). None: every former shelf in the store is taken for one that ran here.
        """
        restored = journal.restore(self, entries)
        for shelf in restored:
            self._shelves_of.setdefault(replica_of(shelf), set()).add(shelf)
        kin = {shelf for shelf in restored if replica_of(shelf) == replica_of(self.shelf)}
        self._from_disk = kin if ran is None else kin & {ran}

    def state_digest(self) -> bytes:
        """One hash over all that is shown, in order: equal on replicas that show the same. Presence is left to each one's own
        eyes."""
        parts = []
        for key in self.keys():
            cells = self.cells(key)
            covered = self.covered(cells)
            for index, op in enumerate(cells):
                if op.kind & KIND_MASK == VALUE and not covered >> index & 1:
                    parts.append(self.encode((op.kind, op.type, op.path, self.value(op), op.origin, op.dot, op.time)))
        return digest_16(b"".join(parts))


__all__ = ["CoverPolicy", "Fault", "HeadSet", "JournalEntry", "LiveSet", "Loose", "LooseSet", "Replica", "ShelfGone"]
