"""Pull: what a peer claims to have and this replica lacks is asked for until it is here.

One `Pull` per shelf that is behind. It asks a source with WANT and gets either the missing deltas as they were sent,
or the first page of a listing (rule 7: the live ops of S(head), whole or as a suffix). A whole listing is checked
against the digest that the author signed before any body is fetched; bodies then need their hash only. Nothing counts
until every body is there: `Replica.jump` takes all or nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

import crdt
from crdt.digest import digest_16
from crdt.ids import ReplicaId, ShelfId, replica_of
from crdt.limits import LOOSE_MAX
from mesh.effects import Now
from mesh.errors import Malformed
from mesh.port import Port
from mesh.sync.births import Births
from mesh.sync.flow import Request, Token, Windows
from mesh.sync.messages import (
    REPAIRS_PER_WANT,
    SHORT_HASH_BYTES,
    BodyNote,
    Floor,
    ListingEntry,
    ListingPage,
    Want,
    WantBodies,
    WantListing,
    framed,
)
from mesh.wire.delta import body_from_bytes_untrusted
from mesh.wire.frames import Frame, Lane

ACTIVE_MAX: Final = 64
"""Shelves pulled at once; the others wait, smallest gap first. Guess: enough to fill the window with tiny shelves."""
PULLS_MAX: Final = 8192
"""Shelves known to be behind. Guess: the authors of a large mesh; more are found again by the next digest."""
ENTRIES_MAX: Final = 1 << 18
"""Bodies of one listing, 40 MB here while it is pulled. Guess: twice the keys that one author should have."""
SOURCES_MAX: Final = 8
"""Peers remembered per shelf as having more. Guess: more would only take memory."""
ATTEMPTS_MAX: Final = 8
"""Sources tried in turn before the shelf is left to the next digest."""
DOUBTED_ATTEMPTS: Final = 3
"""After so many in vain nobody is kept out of step by what the sources claim: they may lie. Guess: at 20% loss three round trips
fail once in twenty pulls.
"""
AVOID_SECONDS: Final = 60.0
"""How long a peer is not asked whose list was not what the author signed. Guess: an operator may have looked by then."""
UNANSWERED_MAX: Final = 3
"""Requests in a row that a peer left unanswered; then others are asked first. Guess: at 20% loss each way it happens to one
request in twenty."""
FULL_SECONDS: Final = 0.01
"""Until a shelf is looked at again whose source has its window full. Guess: an answer or two."""
DOUBT_SECONDS: Final = 0.2
"""Between a suffix that was refused and asking for the whole shelf: time for a proof of forking, which a jump to another branch
would hide. Guess: some round trips."""
WANT_ESTIMATE_BYTES: Final = 2400
LISTING_ESTIMATE_BYTES: Final = 1200
BODIES_PER_REQUEST: Final = 32
LOOSE_IN_WANT: Final = 16
"""Loose seqs named as held already in a WANT; of more some come twice. Guess."""
REORDER_SECONDS: Final = 0.002
"""A gap is asked for after this long: deltas of one burst may overtake each other. Guess: a few datagram times."""
BODY_FRAME_OVERHEAD_BYTES: Final = 24

PATIENCE_MIN_SECONDS: Final = 0.05
"""Guess: a busy two-core machine answers within 50 ms."""
TIMEOUTS_MAX: Final = 16
"""Lost answers per pull, plus a quarter of its bodies, before it starts over with another source. Guess: outlives 20% loss."""
PAGES_AHEAD: Final = 4
BODIES_PUSHED_MAX: Final = 8
"""A listing this short is followed by its bodies unasked: one round trip less for small shelves."""

Ref: TypeAlias = tuple[ShelfId, int]


@dataclass(slots=True)
class Incoming:
    """A listing on its way, then its bodies."""

    since: int
    head: crdt.Head
    total: int
    pages: dict[int, tuple[ListingEntry, ...]] = field(default_factory=dict)
    entries: tuple[crdt.Entry, ...] = ()
    hashes: dict[Ref, bytes] = field(default_factory=dict)
    wanted: list[Ref] = field(default_factory=list)
    """Not asked for yet."""
    missing: set[Ref] = field(default_factory=set)
    """Not here yet, asked for or not."""
    bodies: dict[Ref, crdt.Body] = field(default_factory=dict)

    per_page: int = 0
    """Entries of every page but the last, known with the first one."""
    listed: int = 0
    """Entries of all pages that are here."""
    complete_to: int = 0
    """Offset of the first page that is not here. Kept, since looking for it from the start would cost a liar nothing and us
    the square of the pages.
    """

    def take(self, page: ListingPage) -> None:
        """Raises Malformed when the pages so far and this one cannot belong to one listing."""
        per_page = self.per_page or max(len(page.entries), 1)
        expected = min(per_page, page.total - page.offset)
        if not page.total == self.total <= ENTRIES_MAX or page.offset % per_page or len(page.entries) != expected:
            raise Malformed("a listing page that does not fit its listing")
        self.per_page = per_page
        if page.offset in self.pages or not page.entries:
            return
        self.pages[page.offset] = page.entries
        self.listed += len(page.entries)
        while self.complete_to in self.pages:
            self.complete_to += per_page


@dataclass(slots=True)
class Pull:
    """One shelf that is behind."""

    shelf: ShelfId
    due: float
    loose: set[int] = field(default_factory=set)
    sources: dict[ReplicaId, int] = field(default_factory=dict)
    failed: dict[ReplicaId, int] = field(default_factory=dict)
    attempts: int = 0
    whole: bool = False
    """A suffix failed its digest: ask for everything before anybody is blamed."""
    source: ReplicaId | None = None
    """Whom I asked; None while it waits its turn."""
    tokens: set[Token] = field(default_factory=set)
    """In flight for it: ("want", shelf), ("page", shelf, offset) or ("body", shelf, ref)."""
    timeouts: int = 0
    incoming: Incoming | None = None

    @property
    def target(self) -> int:
        """What those claim to have who failed least: a liar's 2**60 is forgotten as soon as it cannot show it."""
        fewest = min((self.failed.get(peer, 0) for peer in self.sources), default=0)
        return max((seq for peer, seq in self.sources.items() if self.failed.get(peer, 0) == fewest), default=0)


def _answerable(floors: Sequence[tuple[Floor, int]]) -> list[list[Floor]]:
    """In parts that one WANT each is answered for in full, so that none waits in vain. With each the frames that it may take."""
    parts: list[list[Floor]] = []
    room = 0
    for floor, cost in floors:
        if cost > room:
            parts.append([])
            room = REPAIRS_PER_WANT
        parts[-1].append(floor)
        room -= cost
    return parts


@dataclass(slots=True)
class PullCounters:
    """What pulling did so far, for progress and statistics."""

    jumps: int = 0
    bodies: int = 0
    listings: int = 0
    timeouts: int = 0
    mismatches: int = 0
    given_up: int = 0


class Puller:
    """All pulls of one replica. `check_head` verifies a signed header and returns it as a crdt.Head, None when it is
    not its author's.
    """

    def __init__(
        self,
        replica: crdt.Replica,
        port: Port,
        rng: random.Random,
        *,
        check_head: Callable[[ShelfId, bytes, bytes], crdt.Head | None],
        is_known: Callable[[ReplicaId], bool],
        round_trip: Callable[[ReplicaId], float],
        rate: float,
        reachable: Callable[[ReplicaId], bool],
        on_lie: Callable[[ReplicaId, ShelfId], None] = lambda peer, shelf: None,
        on_doubt: Callable[[ReplicaId, ShelfId, Now], None] = lambda peer, shelf, now: None,
        births: Births | None = None,
        members: Callable[[], Sequence[ReplicaId]] = tuple,
    ) -> None:
        """on_lie: what this peer listed of the shelf is not what its author signed. on_doubt: a suffix of it was not; perhaps
        it is another branch.
        """
        self._replica = replica
        self._port = port
        self._rng = rng
        self._check_head = check_head
        self._is_known = is_known
        self._round_trip = round_trip
        self._rate = rate
        self._reachable = reachable
        self._members = members
        self._pulls: dict[ShelfId, Pull] = {}
        self._active: dict[ShelfId, Pull] = {}
        self._on_lie = on_lie
        self._on_doubt = on_doubt
        self._births = births or Births(replica)
        self._avoided: dict[ReplicaId, float] = {}
        """Until when they are not asked."""
        self._unanswered: Counter[ReplicaId] = Counter()
        self._windows = Windows()
        self._body_bytes = 400.0
        self.counters = PullCounters()

    # ---- who has what

    def offer(self, peer: ReplicaId, floor: Floor, now: Now, *, delay: float = 0.0) -> bool:
        """`peer` says that it holds this; True when I lack some of it."""
        shelf = floor.shelf
        if shelf == self._replica.shelf:
            return False
        known = self._replica.reached(shelf)
        held = self._replica.loose_seqs(shelf)
        loose = {seq for seq in floor.loose if seq > known and seq not in held}
        if floor.seq <= known and not loose:
            return False
        pull = self._pulls.get(shelf)
        if pull is None:
            if len(self._pulls) >= PULLS_MAX or not self._is_known(replica_of(shelf)) or not self._births.may_begin(shelf, now):
                return False  # nothing from the wire makes me remember shelves of nobody
            pull = self._pulls[shelf] = Pull(shelf, now.monotonic + delay)
        if len(pull.loose) < LOOSE_MAX:  # a liar names what nobody has
            pull.loose |= loose
        if peer in pull.sources or len(pull.sources) < SOURCES_MAX:
            pull.sources[peer] = max(floor.seq, pull.sources.get(peer, 0))
        return True

    def gap(self, shelf: ShelfId, sender: ReplicaId, seq: int, now: Now, patience: float) -> None:
        """A delta came that the base cannot take yet, for a gap below it or a takeover that it says: ask its author, or
        who sent it, after `patience` seconds at least.
        """
        floor = Floor(shelf, seq, b"")
        author, delay = replica_of(shelf), max(patience, REORDER_SECONDS)
        if self._reachable(author):
            self.offer(author, floor, now, delay=delay)
        self.offer(sender, floor, now, delay=delay)

    def moved(self, shelf: ShelfId, now: Now) -> None:
        """The shelf got further, by whatever way. While deltas keep coming, the WANT that asked for them stays open."""
        pull = self._pulls.get(shelf)
        if pull is None:
            return
        known = self._replica.reached(shelf)
        pull.loose = {seq for seq in pull.loose if seq > known}.difference(self._replica.loose_seqs(shelf))
        token: Token = ("want", shelf)
        if pull.target <= known and not pull.loose:
            self._end(pull)
        elif pull.incoming is None and token in self._windows:
            self._answered(pull, token)
            if self._needs_statement(pull):
                self._release(pull)
                pull.due = now.monotonic
                return
            self._open(pull, token, WANT_ESTIMATE_BYTES, now)

    def drop(self, shelf: ShelfId) -> None:
        """Nothing more of it is wanted."""
        pull = self._pulls.get(shelf)
        if pull:
            self._end(pull)

    def lost(self, peer: ReplicaId) -> None:
        """The peer is gone: nothing more is expected of it."""
        self._unanswered.pop(peer, None)
        for pull in list(self._pulls.values()):
            pull.sources.pop(peer, None)
            if not pull.sources:
                self._end(pull)
            elif pull.source == peer:
                self._release(pull)
        self._windows.lost(peer)

    def asked(self, peer: ReplicaId, shelf: ShelfId) -> bool:
        """Whether this peer is the one that this shelf is being pulled from."""
        pull = self._active.get(shelf)
        return pull is not None and pull.source == peer

    @property
    def active(self) -> bool:
        """Something is asked for, or about to be."""
        return bool(self._pulls)

    @property
    def busy(self) -> bool:
        """Something is on its way that others have, as far as they can be believed."""
        return any(pull.attempts < DOUBTED_ATTEMPTS for pull in self._pulls.values())

    @property
    def remaining(self) -> tuple[int, int]:
        """(shelves behind, bodies still wanted of those whose listing is here)."""
        wanted = sum(len(p.incoming.missing) for p in self._active.values() if p.incoming)
        return len(self._pulls), wanted

    # ---- time

    @property
    def deadline(self) -> float:
        if not self._pulls:
            return inf
        waiting = inf
        if self._windows.has_any_room and len(self._active) < ACTIVE_MAX:
            waiting = min((p.due for p in self._pulls.values() if p.shelf not in self._active), default=inf)
        return min(waiting, self._windows.deadline)

    def tick(self, now: Now) -> None:
        if not self._pulls:
            return
        for token, peer in self._windows.expired(now.monotonic):
            self._unanswered[peer] += 1
            self._timed_out(token, now)
        self._start(now)
        for pull in list(self._active.values()):
            if pull.incoming and not pull.incoming.entries:
                self._ask_pages(pull, pull.incoming, now)
            elif pull.incoming and pull.source and self._windows.has_room(pull.source):
                self._ask_bodies(pull, pull.incoming, now)

    def _start(self, now: Now) -> None:
        if len(self._active) >= ACTIVE_MAX or not self._windows.has_any_room:
            return
        ready = [p for p in self._pulls.values() if p.shelf not in self._active and p.due <= now.monotonic]
        ready.sort(key=lambda p: (p.target - self._replica.reached(p.shelf), p.shelf))
        wants: dict[ReplicaId, list[tuple[Floor, int]]] = {}
        full: set[ReplicaId] = set()
        for pull in ready:
            if len(self._active) >= ACTIVE_MAX or not self._windows.has_any_room:
                break
            if full and pull.sources.keys() <= full:
                pull.due = now.monotonic + FULL_SECONDS
                continue
            source = self._choose(pull, now)
            if source is None:
                self._end(pull)
                self.counters.given_up += 1
                continue
            if not self._windows.has_room(source):
                full.add(source)
                pull.due = now.monotonic + FULL_SECONDS
                continue
            self._active[pull.shelf] = pull
            pull.source = source
            self._open(pull, ("want", pull.shelf), WANT_ESTIMATE_BYTES, now)
            if pull.whole or self._needs_statement(pull):
                since = 0 if pull.whole else self._replica.floor(pull.shelf)
                request = WantListing(pull.shelf, since, 0, 0)
                self._port.send(source, Lane.BULK, Frame.WANT_LISTING, request.encode())
            else:
                cost = 1 + max(pull.target - self._replica.reached(pull.shelf), len(pull.loose))
                wants.setdefault(source, []).append((self._want(pull), cost))
        for source, floors in wants.items():
            for part in (part for answerable in _answerable(floors) for part in framed(answerable)):
                self._port.send(source, Lane.FRESH, Frame.WANT, Want(part).encode())

    def _needs_statement(self, pull: Pull) -> bool:
        """Every delta up to the target is here, and yet the base does not move: it begins with a takeover of a shelf
        that this replica does not hold at that point (rule 8).
        """
        reached = self._replica.reached(pull.shelf)
        loose = self._replica.loose_seqs(pull.shelf)
        if not 0 < pull.target - reached <= len(loose):
            return False
        return all(seq in loose for seq in range(reached + 1, pull.target + 1))

    def _want(self, pull: Pull) -> Floor:
        shelf, held = pull.shelf, self._replica.loose_seqs(pull.shelf)
        if pull.loose and pull.target <= self._replica.reached(shelf):
            # Loose ones only: from the lowest that is not here, since what is below it may be more than is sent at once.
            below = min(pull.loose) - 1
            here = tuple(sorted(seq for seq in held if seq > below)[:LOOSE_IN_WANT])
            return Floor(shelf, below, bytes(SHORT_HASH_BYTES) if below else b"", here)
        head = self._replica.head(shelf)
        loose = tuple(sorted(held)[:LOOSE_IN_WANT])
        if head is None:
            return Floor(shelf, 0, b"", loose)
        return Floor(shelf, head.header.seq, head.hash[:4], loose)

    def _choose(self, pull: Pull, now: Now) -> ReplicaId | None:
        if pull.attempts >= ATTEMPTS_MAX:
            return None
        candidates = sorted(peer for peer in pull.sources if self._reachable(peer) and not self._is_avoided(peer, now))
        if not candidates:
            return None
        candidates = [peer for peer in candidates if self._unanswered[peer] < UNANSWERED_MAX] or candidates
        fewest = min(pull.failed.get(peer, 0) for peer in candidates)
        if fewest and pull.attempts % 2:
            # Whoever claims to have it gives it to nobody, or to anybody but us: what was pushed, others have, too.
            others = [peer for peer in self._members() if peer not in pull.failed and self._reachable(peer)]
            others = [peer for peer in others if not self._is_avoided(peer, now)]
            if others:
                return self._rng.choice(others)
        candidates = [peer for peer in candidates if pull.failed.get(peer, 0) == fewest]
        author = replica_of(pull.shelf)
        return author if author in candidates else self._rng.choice(candidates)

    def _is_avoided(self, peer: ReplicaId, now: Now) -> bool:
        until = self._avoided.get(peer)
        if until is not None and until <= now.monotonic:
            del self._avoided[peer]
        return peer in self._avoided

    def _lied(self, pull: Pull, now: Now) -> None:
        if pull.source is not None:
            self._avoided[pull.source] = now.monotonic + AVOID_SECONDS
            self._on_lie(pull.source, pull.shelf)

    def _patience(self, peer: ReplicaId, estimate_bytes: float) -> float:
        """Seconds until an answer counts as lost: four round trips, as a first retransmission timer without variance (RFC 6298),
        after the time that all that is asked for takes at the rate of the preset."""
        sending = (self._windows.in_flight(peer) + estimate_bytes) / self._rate
        return sending + max(4 * self._round_trip(peer) + 0.02, PATIENCE_MIN_SECONDS)

    def _open(self, pull: Pull, token: Token, estimate_bytes: float, now: Now) -> None:
        source = pull.source
        assert source is not None
        pull.tokens.add(token)
        until = now.monotonic + self._patience(source, estimate_bytes)
        self._windows.open(token, Request(source, int(estimate_bytes), until))

    def _answered(self, pull: Pull, token: Token) -> None:
        pull.tokens.discard(token)
        self._windows.answered(token)
        if pull.source is not None:
            self._unanswered.pop(pull.source, None)

    def _timed_out(self, token: Token, now: Now) -> None:
        """What was asked did not come: a page or body is asked again, a WANT of another source."""
        self.counters.timeouts += 1
        pull = self._active.get(token[1])
        if pull is None:
            return
        pull.tokens.discard(token)
        pull.timeouts += 1
        if token[0] == "want" or pull.incoming is None or pull.timeouts > TIMEOUTS_MAX + len(pull.incoming.hashes) // 4:
            self._restart(pull, now)
        elif token[0] == "body":
            pull.incoming.wanted.append(token[2])

    def _restart(self, pull: Pull, now: Now) -> None:
        """Start over, with the source that failed least."""
        if pull.source:
            pull.failed[pull.source] = pull.failed.get(pull.source, 0) + 1
        pull.attempts += 1
        pull.due = now.monotonic
        self._release(pull)

    def _release(self, pull: Pull) -> None:
        for token in pull.tokens:
            self._windows.forget(token)
        pull.tokens.clear()
        pull.incoming, pull.source, pull.timeouts = None, None, 0
        self._active.pop(pull.shelf, None)

    def _end(self, pull: Pull) -> None:
        self._release(pull)
        self._pulls.pop(pull.shelf, None)

    # ---- listings and bodies

    def listing_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """A page of a listing. Taken only from the source that was asked, for a head that its author signed. Raises Malformed;
        then another source is asked.
        """
        page = ListingPage.decode_untrusted(payload)
        pull = self._active.get(page.shelf)
        if pull is None or pull.source != peer:
            return
        try:
            self._take_page(pull, page, now)
        except Malformed:
            self._restart(pull, now)
            raise

    def _take_page(self, pull: Pull, page: ListingPage, now: Now) -> None:
        incoming = pull.incoming
        if incoming is None or (incoming.head.header_bytes, incoming.since) != (page.header, page.since):
            if page.offset:
                return  # of a listing that is no longer pulled: it answers nothing
            incoming = self._begin(pull, page, now)
            if incoming is None:
                self._restart(pull, now)
                return
        self._answered(pull, ("page", page.shelf, page.offset))
        incoming.take(page)
        if incoming.entries or incoming.listed < incoming.total:
            self._ask_pages(pull, incoming, now)
        else:
            self._listed(pull, incoming, now)

    def _begin(self, pull: Pull, page: ListingPage, now: Now) -> Incoming | None:
        head = self._check_head(page.shelf, page.header, page.signature)
        if head is None or head.header.seq <= self._replica.reached(page.shelf):
            return None
        if (page.since and page.since > self._replica.floor(page.shelf)) or not self._births.begin(page.shelf, now):
            return None
        self._answered(pull, ("want", page.shelf))
        for token in list(pull.tokens):
            self._windows.forget(token)
        pull.tokens.clear()
        self.counters.listings += 1
        pull.incoming = Incoming(page.since, head, page.total)
        return pull.incoming

    def _ask_pages(self, pull: Pull, incoming: Incoming, now: Now) -> None:
        """Keep the next pages on their way."""
        source, offset = pull.source, incoming.complete_to
        for wanted in range(offset, min(offset + PAGES_AHEAD * incoming.per_page, incoming.total), incoming.per_page):
            token: Token = ("page", pull.shelf, wanted)
            if source is None or (wanted > offset and not self._windows.has_room(source)):
                return
            if wanted not in incoming.pages and token not in self._windows:
                self._open(pull, token, LISTING_ESTIMATE_BYTES, now)
                request = WantListing(pull.shelf, incoming.since, incoming.head.header.seq, wanted)
                self._port.send(source, Lane.BULK, Frame.WANT_LISTING, request.encode())

    def _listed(self, pull: Pull, incoming: Incoming, now: Now) -> None:
        """All entries are here: check a whole listing now, a suffix with its bodies; then fetch what is missing."""
        entries = tuple(crdt.Entry(*entry) for offset in sorted(incoming.pages) for entry in incoming.pages[offset])
        if not incoming.since and not self._replica.listing_matches(incoming.head, entries):
            self.counters.mismatches += 1
            self._lied(pull, now)
            self._restart(pull, now)
            return
        incoming.entries = entries
        incoming.hashes = {(e.shelf, e.seq): e.body_hash for e in entries}
        wanted = self._replica.missing_bodies(entries)
        pushed = wanted if len(entries) <= BODIES_PUSHED_MAX else []
        incoming.wanted = [] if pushed else wanted  # ascending: taken from the end, the newest first
        for ref in pushed:
            self._open(pull, ("body", pull.shelf, ref), self._body_bytes, now)
        incoming.missing = set(wanted)
        self._advance(pull, incoming, now)

    def _advance(self, pull: Pull, incoming: Incoming, now: Now) -> None:
        if not incoming.missing:
            self._finish(pull, incoming, now)
        elif incoming.wanted:
            self._ask_bodies(pull, incoming, now)

    def _ask_bodies(self, pull: Pull, incoming: Incoming, now: Now) -> None:
        source = pull.source
        while incoming.wanted and source is not None and self._windows.has_room(source):
            refs: list[Ref] = []
            while incoming.wanted and len(refs) < BODIES_PER_REQUEST and self._windows.has_room(source):
                ref = incoming.wanted.pop()
                if ref in incoming.missing:
                    refs.append(ref)
                    self._open(pull, ("body", pull.shelf, ref), self._body_bytes, now)
            if refs:
                request = WantBodies(pull.shelf, incoming.head.header.seq, tuple(refs))
                self._port.send(source, Lane.BULK, Frame.WANT_BODIES, request.encode())

    def body_untrusted(self, payload: bytes, now: Now) -> None:
        """A body that some listing names: taken by its hash, from whoever sends it."""
        note = BodyNote.decode_untrusted(payload)
        ref = (note.shelf, note.seq)
        for pull in [p for p in self._active.values() if p.incoming and ref in p.incoming.missing]:
            incoming = pull.incoming
            assert incoming is not None
            if digest_16(note.raw) != incoming.hashes[ref]:
                continue
            body = body_from_bytes_untrusted(note.shelf, note.seq, note.raw)
            self._answered(pull, ("body", pull.shelf, ref))
            self._body_bytes += (len(note.raw) + BODY_FRAME_OVERHEAD_BYTES - self._body_bytes) / 32
            incoming.bodies[ref] = body
            incoming.missing.discard(ref)
            self.counters.bodies += 1
            self._advance(pull, incoming, now)

    def _finish(self, pull: Pull, incoming: Incoming, now: Now) -> None:
        if self._replica.jump(incoming.head, incoming.since, incoming.entries, incoming.bodies.values()):
            self.counters.jumps += 1
            pull.attempts = 0
            self._release(pull)
            pull.due = now.monotonic
            self.moved(pull.shelf, now)
            return
        self.counters.mismatches += 1
        pull.whole, source = bool(incoming.since), pull.source
        self._restart(pull, now)
        if pull.whole and source is not None:
            pull.due = now.monotonic + DOUBT_SECONDS
            self._on_doubt(source, pull.shelf, now)
