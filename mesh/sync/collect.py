"""Collect: what the living members hold of a shelf that has ended, for whoever is to close it (`crdt.ended`).

    host                          member
     |  COLLECT (shelf)            |
     |---------------------------->|
     |  HOLDING (head, hashes, loose seqs)
     |<----------------------------|
     |  WANT_LISTING               |     only of a head that nobody has shown yet, and that is not our own
     |---------------------------->|
     |  LISTING, then BODY         |     as in `mesh.sync.pull`; a list counts if the digest that its author signed says so
     |<----------------------------|
     |  WANT                       |     loose deltas that are not here
     |---------------------------->|
     |  REPAIR                     |
     |<----------------------------|

Where all hold the same, which is nearly always, it is one round trip. Who does not answer in time is left out: that decides what
survives, never whether replicas agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

import crdt
from crdt.digest import digest_16
from crdt.ended import SHORT_HASH_BYTES, Copy, copy_of_delta, copy_of_listing
from crdt.ids import SHELF_ID_BYTES, ReplicaId, ShelfId
from mesh.effects import Now
from mesh.errors import Malformed
from mesh.port import Port
from mesh.sync.messages import BodyNote, Floor, ListingPage, Want, WantBodies, WantListing
from mesh.sync.pull import Incoming, Ref
from mesh.wire import cbor
from mesh.wire.delta import body_from_bytes_untrusted, delta_from_bytes_untrusted
from mesh.wire.frames import Frame, Lane

ASK_AGAIN_SECONDS: Final = 0.25
"""Between two times that an answer is asked for. Guess: some round trips, and less than anybody waits for."""
COLLECT_SECONDS: Final = 3.0
"""Without anything new, until those who did not answer are left out. Guess: three times what a fork takes to be known to all."""
COLLECT_SECONDS_MAX: Final = 120.0
"""Whatever comes meanwhile: who answers by drops stops nobody. Guess: 10 MB at 100 kB/s."""
HEADS_MAX: Final = 16
"""Different heads of one shelf. Guess: a fork has two branches; a cut finds as many heads as datagrams were lost last."""
HASHES_MAX: Final = 160
"""Header hashes in one HOLDING: 640 bytes."""
LOOSE_MAX: Final = 32
"""Loose deltas named in one HOLDING, and taken of one member."""
PAGES_AHEAD: Final = 4
BODIES_AHEAD: Final = 64
"""Bodies asked for at once of one member."""
BODIES_PER_REQUEST: Final = 32


class Holding(NamedTuple):
    """HOLDING: what the sender has of a shelf. No header: no base."""

    shelf: ShelfId
    header: bytes
    signature: bytes
    first: int
    """The seq of the first of `hashes`."""
    hashes: bytes
    """4 bytes of every header hash from there on; zeros where one is not remembered."""
    loose: tuple[int, ...]

    def encode(self) -> bytes:
        return cbor.encode(list(self))

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> Holding:
        """Raises Malformed."""
        fields: Any = cbor.decode_untrusted(payload)
        if not isinstance(fields, tuple) or len(fields) != 6:
            raise Malformed("a holding has 6 fields")
        shelf, header, signature, first, hashes, loose = fields
        if not all(type(each) is bytes for each in (shelf, header, signature, hashes)) or len(shelf) != SHELF_ID_BYTES:
            raise Malformed("a holding names a shelf, a signed header and hashes")
        if type(first) is not int or first < 0 or len(hashes) % SHORT_HASH_BYTES or not isinstance(loose, tuple):
            raise Malformed("a holding counts hashes of 4 bytes, and lists loose seqs")
        if len(loose) > LOOSE_MAX or not all(type(seq) is int and 0 < seq < 1 << 48 for seq in loose):
            raise Malformed("loose seqs are numbers, and few")
        return cls(ShelfId(shelf), header, signature, first, hashes, loose)

    def known(self) -> dict[int, bytes]:
        size = SHORT_HASH_BYTES
        each = ((self.first + at // size, self.hashes[at : at + size]) for at in range(0, len(self.hashes), size))
        return {seq: found for seq, found in each if found != bytes(size)}


def holding_of(replica: crdt.Replica, shelf: ShelfId) -> Holding:
    """Of our own: no head where our base is not what its author signed, since nobody could check it."""
    base = replica.bases.get(shelf)
    loose = tuple(sorted(replica.loose_seqs(shelf))[:LOOSE_MAX])
    if base is None or base.head is None or base.digest() != base.head.header.shelf_digest:
        return Holding(shelf, b"", b"", 0, b"", loose)
    known = dict(base.recent_hashes())
    first = max(base.floor - HASHES_MAX + 1, min(known))
    hashes = b"".join(known.get(seq, bytes(16))[:SHORT_HASH_BYTES] for seq in range(first, base.floor + 1))
    return Holding(shelf, base.head.header_bytes, base.head.signature, first, hashes, loose)


@dataclass(slots=True)
class Branch:
    """One head of the shelf, and who shows it."""

    head: crdt.Head
    hashes: dict[int, bytes] = field(default_factory=dict)
    sources: list[ReplicaId] = field(default_factory=list)
    """The first is asked; one that fails goes to the end."""
    copy: Copy | None = None
    incoming: Incoming | None = None
    asked_at: float = -inf
    """The last time that anything was asked for, or came."""
    pages_to: int = 0
    """Offsets below it are asked for."""
    flight: set[Ref] = field(default_factory=set)
    """Bodies that are asked for."""

    @property
    def is_found(self) -> bool:
        return self.copy is not None

    def next_source(self) -> None:
        self.sources.append(self.sources.pop(0))
        self.incoming = None
        self.asked_at = -inf
        self.forget_asked()

    def forget_asked(self) -> None:
        self.pages_to = 0
        self.flight.clear()


class Collection:
    """One shelf that is being collected."""

    def __init__(self, shelf: ShelfId, own: Sequence[Copy], peers: Sequence[ReplicaId], now: Now) -> None:
        self.shelf = shelf
        self.own = own
        self.silent: dict[ReplicaId, float] = dict.fromkeys(peers, -inf)
        """Who has not answered, and when it was asked."""
        self.branches: dict[bytes, Branch] = {}
        self.wanted: dict[ReplicaId, set[int]] = {}
        """Loose seqs that a member has and that did not come yet."""
        self.asked_loose: dict[ReplicaId, float] = {}
        self.loose: dict[bytes, Copy] = {}
        self.until = now.monotonic + COLLECT_SECONDS
        self._at_last = now.monotonic + COLLECT_SECONDS_MAX

    def moved(self, now: Now) -> None:
        """Something came."""
        self.until = min(now.monotonic + COLLECT_SECONDS, self._at_last)

    @property
    def is_complete(self) -> bool:
        return not self.silent and not any(self.wanted.values()) and all(each.copy for each in self.branches.values())

    def copies(self) -> list[Copy]:
        return [*self.own, *(each.copy for each in self.branches.values() if each.copy), *self.loose.values()]


class Collector:
    def __init__(
        self,
        replica: crdt.Replica,
        port: Port,
        check_head: Callable[[ShelfId, bytes, bytes], crdt.Head | None],
        verify_delta: Callable[[crdt.Delta], bool],
    ) -> None:
        self._replica = replica
        self._port = port
        self._check_head = check_head
        self._verify_delta = verify_delta
        self.current: Collection | None = None
        """One at a time."""

    def begin(self, shelf: ShelfId, peers: Sequence[ReplicaId], now: Now) -> None:
        self.current = Collection(shelf, self._replica.copy_of(shelf), peers, now)
        self.tick(now)

    def take(self, now: Now) -> Collection | None:
        """The current one, when all have answered or it is time to go on without the others."""
        current = self.current
        if current is None or not (current.is_complete or now.monotonic >= current.until):
            return None
        self.current = None
        return current

    def lost(self, peer: ReplicaId) -> None:
        if self.current:
            self.current.silent.pop(peer, None)
            self.current.wanted.pop(peer, None)
            self.current.asked_loose.pop(peer, None)  # else it stays due, and the driver turns without a pause

    @property
    def deadline(self) -> float:
        current = self.current
        if current is None:
            return inf
        asked = [*current.silent.values(), *current.asked_loose.values()]
        asked += [each.asked_at for each in current.branches.values() if not each.copy]
        return min([current.until, *(at + ASK_AGAIN_SECONDS for at in asked)])

    def tick(self, now: Now) -> None:
        current, due = self.current, now.monotonic - ASK_AGAIN_SECONDS
        if current is None:
            return
        for peer, at in sorted(current.silent.items()):
            if at <= due:
                current.silent[peer] = now.monotonic
                self._port.send(peer, Lane.FRESH, Frame.COLLECT, cbor.encode([current.shelf]))
        for branch in current.branches.values():
            if branch.copy is None and branch.asked_at <= due:
                if branch.asked_at > -inf and len(branch.sources) > 1:
                    branch.next_source()
                branch.forget_asked()
                self._ask(current, branch, now)
        for peer, seqs in sorted(current.wanted.items()):
            if current.asked_loose.get(peer, -inf) <= due:
                self._ask_loose(current, peer, seqs, now)

    def _ask(self, current: Collection, branch: Branch, now: Now) -> None:
        branch.asked_at = now.monotonic
        source, incoming = branch.sources[0], branch.incoming
        head = branch.head.header.seq
        if incoming is None:
            self._port.send(source, Lane.BULK, Frame.WANT_LISTING, WantListing(current.shelf, 0, head, 0).encode())
        elif not incoming.entries:
            offset, per_page = incoming.complete_to, incoming.per_page
            until = min(offset + PAGES_AHEAD * per_page, incoming.total)
            for wanted in range(max(offset, branch.pages_to), until, per_page):
                request = WantListing(current.shelf, 0, head, wanted)
                self._port.send(source, Lane.BULK, Frame.WANT_LISTING, request.encode())
            branch.pages_to = max(branch.pages_to, until)
        elif len(branch.flight) <= BODIES_AHEAD // 2:
            refs = sorted(incoming.missing - branch.flight)[: BODIES_AHEAD - len(branch.flight)]
            branch.flight.update(refs)
            for at in range(0, len(refs), BODIES_PER_REQUEST):
                request_bodies = WantBodies(current.shelf, head, tuple(refs[at : at + BODIES_PER_REQUEST]))
                self._port.send(source, Lane.BULK, Frame.WANT_BODIES, request_bodies.encode())

    def _ask_loose(self, current: Collection, peer: ReplicaId, seqs: set[int], now: Now) -> None:
        """Those just below each: a WANT from there brings it, and nothing else that is loose there."""
        current.asked_loose[peer] = now.monotonic
        lowest = min(seqs)
        before = Floor(current.shelf, lowest - 1, bytes(SHORT_HASH_BYTES) if lowest > 1 else b"")
        self._port.send(peer, Lane.FRESH, Frame.WANT, Want((before,)).encode())

    # ---- what comes in: each gives False when it is not for us, and raises Malformed

    def asked_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        """The other side: somebody collects."""
        fields: Any = cbor.decode_untrusted(payload)
        if not isinstance(fields, tuple) or len(fields) != 1 or type(fields[0]) is not bytes or len(fields[0]) != SHELF_ID_BYTES:
            raise Malformed("a shelf is collected")
        self._port.send(peer, Lane.FRESH, Frame.HOLDING, holding_of(self._replica, ShelfId(fields[0])).encode())

    def holding_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        holding, current = Holding.decode_untrusted(payload), self.current
        if current is None or holding.shelf != current.shelf or peer not in current.silent:
            return
        if holding.header:
            self._take_head(current, peer, holding)
        del current.silent[peer]
        here = {copy.head.header.seq for copy in current.own if not copy.is_base}
        wanted = {seq for seq in holding.loose if seq not in here}
        if wanted:
            current.wanted[peer] = wanted
        self.tick(now)

    def _take_head(self, current: Collection, peer: ReplicaId, holding: Holding) -> None:
        head = self._check_head(holding.shelf, holding.header, holding.signature)
        if head is None:
            raise Malformed("a head that its author did not sign")
        branch = current.branches.get(head.hash)
        if branch is None:
            if len(current.branches) >= HEADS_MAX:
                return
            mine = next((copy for copy in current.own if copy.is_base and copy.head.hash == head.hash), None)
            branch = current.branches[head.hash] = Branch(head, copy=mine)
        branch.hashes.update(holding.known())
        branch.sources.append(peer)
        if branch.copy:
            branch.copy = branch.copy._replace(hashes={**branch.hashes, **branch.copy.hashes})

    def listing_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> bool:
        current = self.current
        if current is None:
            return False
        page = ListingPage.decode_untrusted(payload)
        if page.shelf != current.shelf:
            return False
        branch = next((each for each in current.branches.values() if each.head.header_bytes == page.header), None)
        if branch is None or branch.is_found or branch.sources[0] != peer or page.since:
            return True
        if branch.incoming is None:
            if page.offset:
                return True
            branch.incoming = Incoming(0, branch.head, page.total)
        incoming = branch.incoming
        try:
            incoming.take(page)
        except Malformed:
            branch.next_source()
            raise
        current.moved(now)
        if incoming.listed >= incoming.total and not incoming.entries:
            self._listed(branch, incoming)
        if not branch.is_found:
            self._ask(current, branch, now)
        return True

    def _listed(self, branch: Branch, incoming: Incoming) -> None:
        entries = tuple(crdt.Entry(*entry) for offset in sorted(incoming.pages) for entry in incoming.pages[offset])
        if not self._replica.listing_matches(branch.head, entries):
            branch.next_source()
            return
        incoming.entries = entries
        incoming.hashes = {(entry.shelf, entry.seq): entry.body_hash for entry in entries}
        for ref, body_hash in incoming.hashes.items():
            body = self._replica.body(*ref, body_hash)
            if body is None:
                incoming.missing.add(ref)
            else:
                incoming.bodies[ref] = body
        self._finish(branch, incoming)

    def body_untrusted(self, payload: bytes, now: Now) -> bool:
        current = self.current
        if current is None:
            return False
        note = BodyNote.decode_untrusted(payload)
        ref: Ref = (note.shelf, note.seq)
        found = False
        for branch in current.branches.values():
            incoming = branch.incoming
            if incoming and ref in incoming.missing and digest_16(note.raw) == incoming.hashes[ref]:
                found = True
                incoming.bodies[ref] = body_from_bytes_untrusted(note.shelf, note.seq, note.raw)
                incoming.missing.discard(ref)
                branch.flight.discard(ref)
                current.moved(now)
                self._finish(branch, incoming)
                if incoming.missing:
                    self._ask(current, branch, now)
        return found

    def _finish(self, branch: Branch, incoming: Incoming) -> None:
        if not incoming.missing:
            judge = self._replica.judge
            branch.copy = copy_of_listing(branch.head, incoming.entries, incoming.bodies, branch.hashes, judge)
            if branch.copy is None:
                branch.next_source()

    def repair_untrusted(self, peer: ReplicaId, payload: bytes) -> bool:
        """A loose delta that was asked for."""
        current = self.current
        if current is None or peer not in current.wanted:
            return False
        delta = delta_from_bytes_untrusted(payload)
        if delta.shelf != current.shelf:
            return False
        if delta.seq in current.wanted[peer] and delta.head.hash not in current.loose:
            if not self._verify_delta(delta):
                raise Malformed("a delta that its author did not sign")
            current.loose[delta.head.hash] = copy_of_delta(delta, None, self._replica.judge)
        current.wanted[peer].discard(delta.seq)
        if not current.wanted[peer]:
            del current.wanted[peer]
            current.asked_loose.pop(peer, None)
        return True
