"""Sync: dissemination as a whole. Read `Sync.handle_untrusted`, then `Sync.tick`.

author            relay / member                      anybody, every 0.1 to 5 s
  |  DELTA            |                                   |  DIGEST(request)      |
  |------------------>|  DELTA (tree)                     |---------------------->|
  |  DELTA            |----------------> ...              |  DIGEST, BUCKETS      |
  |-----X (lost)      |                                   |<----------------------|
  |  FLOOR (2, 4, 8 round trips later)                    |  FLOOR, WANT          |
  |------------------>|                                   |---------------------->|
  |  WANT             |                                   |  REPAIR or LISTING    |
  |<------------------|                                   |<----------------------|
  |  REPAIR           |                                   |  WANT_BODIES          |
  |------------------>|                                   |---------------------->|
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import inf
from typing import Any, Final

import crdt
from crdt.ids import ReplicaId, ShelfId, replica_of
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.events import CatchingUp, CaughtUp, RelayLied
from mesh.fair import loser
from mesh.port import Port
from mesh.presets import Preset
from mesh.sync.births import Births
from mesh.sync.buckets import BUCKET_HASH_BYTES, BUCKETS, LOOSE_PER_FLOOR, LOOSE_PER_PAGE, Differed, FloorTable, ahead_of
from mesh.sync.collect import Collector
from mesh.sync.copies import Copies
from mesh.sync.counters import Counters
from mesh.sync.fresh import Fresh
from mesh.sync.messages import FLOORS_BYTES_MAX, SHORT_HASH_BYTES, BucketPage, Digest, Floor, FloorNote, Purpose, Want, framed
from mesh.sync.pace import Pace
from mesh.sync.pull import Puller
from mesh.sync.repeat import SETTLED_FACTOR, Losses, Repeats, Traffic
from mesh.sync.serve import RecentDeltas, Server
from mesh.sync.statements import StatementExchange
from mesh.sync.tree import Members, PushTree
from mesh.trust import Directory
from mesh.wire.frames import Frame, Lane

CHANGED_BYTES_MAX: Final = FLOORS_BYTES_MAX - BUCKETS * BUCKET_HASH_BYTES - 50
"""What is left for them beside the buckets, the acknowledgement (30 bytes) and the hash of the statements (9)."""
PAGES_PER_DIGEST: Final = 24
"""Bucket pages sent for one digest at most. A newcomer to 1,000 authors is told of all in three rounds."""
WAITING_MAX: Final = 64
"""Deltas kept whose credential is still on its way (DESIGN section 8). Whoever fills this loses its own first."""
ENDED_MAX: Final = 256
"""Ended shelves remembered because members say that they hold something of them. Guess: a replica has a few."""
PROOF_SECONDS: Final = 1.0
PROOFS_MAX: Final = 64
"""A delta that contradicts ours is asked for so often per shelf, and for so many shelves at once. Guess."""
DRAWS: Final = 3
"""Members drawn before all are looked at."""
PROGRESS_SECONDS: Final = 0.2
GREETINGS: Final = 4
"""Digests that greet one newcomer, or that one agent sends to a crowd, on average. Guess: at 20% loss each way one of four is
answered but in 2 cases of 100, and then the ordinary ones go on.
"""


class Sync:
    def __init__(
        self,
        replica: crdt.Replica,
        directory: Directory,
        members: Members,
        port: Port,
        preset: Preset,
        rng: random.Random,
        *,
        read_delta_untrusted: Callable[[bytes], crdt.Delta],
        write_delta: Callable[[crdt.Delta], bytes],
        verify_delta: Callable[[crdt.Delta], bool],
        check_head: Callable[[ShelfId, bytes, bytes], crdt.Head | None],
        traffic: Traffic,
        durable: bool,
        now: Now,
    ) -> None:
        self._replica = replica
        self._directory = directory
        self._members = members
        self._port = port
        self._config = config = preset.sync
        self._rng = rng
        self._read_delta_untrusted = read_delta_untrusted
        self._write_delta = write_delta
        self._verify_delta = verify_delta
        self._tree = PushTree(replica_of(replica.shelf), members, config.direct_max, config.degree)
        self._table = FloorTable(self._whole_floor_of)
        self._recent = RecentDeltas()
        self._server = Server(replica, port, self._recent, self._shown_floor)
        self._births = Births(replica)
        self.puller = Puller(
            replica,
            port,
            rng,
            check_head=check_head,
            is_known=lambda replica: directory.public_key(replica) is not None,
            round_trip=members.round_trip,
            rate=preset.transport.rate_bytes_per_s,
            reachable=members.is_reachable,
            on_lie=lambda peer, shelf: port.notify(RelayLied(peer, directory.name(peer), shelf)),
            on_doubt=self._doubt,
            births=self._births,
            members=lambda: members.living,
        )
        self.collector = Collector(replica, port, check_head, verify_delta)
        self.ended_elsewhere: dict[ShelfId, None] = {}
        """Ended shelves that a member says it holds something of."""
        self.statements = StatementExchange(directory, port, rng)
        self._waiting: dict[bytes, tuple[ReplicaId, bool]] = {}
        self._fresh = Fresh()
        self._repeats = Repeats(port, self._floor_of, self._recent.get, members.is_open, config.repeat_min_seconds)
        self.copies = Copies(replica.shelf, port, self._floor_of, durable=durable)
        self._differed = Differed()
        self._differed_lately: frozenset[int] = frozenset()
        self._pace = Pace(config, rng)
        self._next_progress = inf
        self.losses = Losses(traffic, self._settling, now)
        self._proof_asked: dict[ShelfId, float] = {}
        self._held: deque[tuple[crdt.Delta, bool]] = deque()
        self.synced = False
        self.counters = Counters()
        for shelf in replica.shelves():
            self._table.moved(shelf)
        if durable:
            self.copies.committed({shelf: replica.floor(shelf) for shelf in replica.shelves()})
        self._handlers: dict[Frame, Callable[[ReplicaId, bytes, Now], None]] = {
            Frame.DELTA: self._delta_untrusted,
            Frame.REPAIR: self._repair_untrusted,
            Frame.FLOOR: self._floor_untrusted,
            Frame.DIGEST: self._digest_untrusted,
            Frame.BUCKETS: self._bucket_untrusted,
            Frame.WANT: self._want_untrusted,
            Frame.LISTING: self._listing_untrusted,
            Frame.BODY: self._body_untrusted,
            Frame.COLLECT: lambda peer, payload, now: self.collector.asked_untrusted(peer, payload),
            Frame.HOLDING: self.collector.holding_untrusted,
            Frame.WANT_LISTING: lambda peer, payload, now: self._server.want_listing_untrusted(peer, payload, now),
            Frame.WANT_BODIES: lambda peer, payload, now: self._server.want_bodies_untrusted(peer, payload, now),
            Frame.TRUST_IDS: lambda peer, payload, now: self.statements.ids_untrusted(peer, payload),
            Frame.TRUST_WANT: lambda peer, payload, now: self.statements.want_untrusted(peer, payload),
            Frame.TRUST: lambda peer, payload, now: self.statements.statement_untrusted(peer, payload, now),
        }

    # ---- the two ways in

    def handle_untrusted(self, peer: ReplicaId, kind: Frame, payload: bytes, now: Now) -> bool:
        """One frame of an authenticated peer. False when the kind is not ours. Raises Malformed or Refused, state as
        it was.
        """
        handler = self._handlers.get(kind)
        if handler is None:
            return False
        handler(peer, payload, now)
        return True

    def tick(self, now: Now) -> None:
        if now.monotonic < self.deadline and not self.puller.active:
            return
        self.puller.tick(now)
        self._repeats.tick(now)
        if now.monotonic >= self._pace.due:
            self._send_digest(now)
        if now.monotonic >= self._next_progress:
            self._report_progress(now)

    @property
    def deadline(self) -> float:
        return min(self._pace.due, self._next_progress, self._repeats.deadline, self.puller.deadline)

    # ---- what the peer tells

    def members_moved(self, moved: Mapping[ReplicaId, bool], now: Now) -> None:
        """Membership says something else of these; true: they were living before."""
        came = False
        for peer, was_living in moved.items():
            is_living = self._members.is_living(peer)
            if was_living and not is_living:
                self._lost(peer)
            elif is_living and not was_living:
                self.greet(peer, now)
                came = True
        if came:
            self.compare_soon(now)

    def _lost(self, peer: ReplicaId) -> None:
        self.puller.lost(peer)
        self.collector.lost(peer)
        self._differed.forget(peer)
        self.copies.forget(peer)
        self._repeats.forget(peer)
        self._server.pins.forget(peer)
        self.statements.forget(peer)

    def greet(self, peer: ReplicaId, now: Now) -> None:
        """A member is (again) within reach: compare at once, so that a healed cut does not wait for its turn. Where everybody
        greets a newcomer, or a newcomer everybody, lots are drawn: one that answers is enough.
        """
        if self._rng.random() * len(self._members.living) < GREETINGS:
            self._differed.suspect_all(peer)
            self._port.send(peer, Lane.FRESH, Frame.DIGEST, self._digest(peer, request=True, now=now).encode())

    def targets(self, author: ReplicaId) -> Sequence[ReplicaId]:
        """To whom this replica passes on what is fresh from this author; of its own: to whom it sends it."""
        return self._tree.targets(author)

    def publish(self, deltas: Sequence[crdt.Delta], now: Now, *, push: int, hold: bool = False) -> None:
        """Own deltas, just sealed. The last `push` that are not bulk go to everybody at once; all others are pulled by
        whoever sees from the next floor that it lacks them. With `hold`, nobody hears of them until they are on the
        disk: a bounded counter must not forget what others know it spent.
        """
        fresh = [delta for delta in deltas if not delta.bulk]
        pushed = set(fresh[len(fresh) - push :])
        marked = [(delta, delta in pushed) for delta in deltas]
        if self._held or (hold and self.copies.durable_seq(self._replica.shelf) is not None):
            self._held.extend(marked)
        else:
            self._release(marked, now)

    def _release(self, deltas: Iterable[tuple[crdt.Delta, bool]], now: Now) -> None:
        targets, fresh = self._tree.targets(replica_of(self._replica.shelf)), False
        for delta, push in deltas:
            raw = self._write_delta(delta)
            self._recent.add(delta.shelf, delta.seq, raw, news=push)
            if push:
                self._push(raw, targets, now)
                self._repeats.flow += 1
                self.counters.deltas_pushed += len(targets)
            fresh = fresh or not delta.bulk
        if fresh:  # once, behind the last: the floor that asks is that of all
            self._schedule_repeats(self._replica.shelf, targets, now)

    def _push(self, raw: bytes, targets: Sequence[ReplicaId], now: Now) -> None:
        self._port.send_all(targets, Lane.FRESH, Frame.DELTA, raw)
        trail = self._trail(now) if targets else ()
        if trail:
            note = FloorNote(trail).encode()
            self._port.send_all(targets, Lane.FRESH, Frame.FLOOR, note)
            for floor in trail:
                self._rode(floor)

    def _trail(self, now: Now) -> tuple[Floor, ...]:
        """Some of the newest floors that everybody should know by now."""
        shelves = self._fresh.trail(now.monotonic - SETTLED_FACTOR * self._settling(), now)
        return tuple([floor for shelf in shelves if (floor := self._floor_of(shelf, 0)) is not None])

    def _settling(self) -> float:
        """Seconds: about a round trip, and what a busy machine adds."""
        return max(self._members.typical_round_trip(), self._config.repeat_min_seconds)

    def _rode(self, floor: Floor) -> None:
        """It went by beside a delta."""
        self._fresh.rode(floor.shelf)
        self._repeats.rode(floor)

    def _shown_floor(self, shelf: ShelfId) -> int:
        """How far others may know this shelf: the floor, but for own deltas that are held back."""
        held = self._held and shelf == self._replica.shelf
        return self._held[0][0].seq - 1 if held else self._replica.floor(shelf)

    def moved(self, shelf: ShelfId, now: Now) -> None:
        """Something about this shelf changed in the replica (called once per journal entry)."""
        self._table.moved(shelf)
        self._fresh.moved(shelf, now)
        self.puller.moved(shelf, now)
        self.copies.moved(shelf)
        if self._replica.head(shelf) is None and shelf not in self._replica.loose:
            self.copies.let_go(shelf)
        self._pace.news(now)

    def ended(self, shelf: ShelfId, now: Now) -> None:
        """Nothing more of it is taken. Others are to know soon."""
        self.puller.drop(shelf)
        self.compare_soon(now)

    def begin_again(self, now: Now) -> None:
        """This agent writes another shelf from now on. What is still held back of the former stays, for it to bring along."""
        self._held.clear()
        self.copies.begin_again(self._replica.shelf)
        self.compare_soon(now)

    def heads_at(self, shelf: ShelfId, seq: int) -> list[crdt.Head]:
        """The signed header of a delta that is still at hand as it came."""
        raw, loose = self._recent.get(shelf, seq), self._replica.loose_delta(shelf, seq)
        found = [self._read_delta_untrusted(raw).head] if raw else []
        return found + ([loose.head] if loose else [])

    def committed(self, floors: Mapping[ShelfId, int], now: Now) -> None:
        """These floors are on the disk now; where there is one, only such floors are acknowledged."""
        self.copies.committed(floors)
        durable = self.copies.durable_seq(self._replica.shelf) or 0
        released = []
        while self._held and self._held[0][0].seq <= durable:
            released.append(self._held.popleft())
        if released:
            self._table.moved(self._replica.shelf)
            self._release(released, now)

    def copies_at_all(self, seq: int) -> bool:
        """Every member within reach said that it holds this shelf up to seq."""
        return self.copies.at_all(seq, self._members.living)

    def ask_for_copies(self) -> None:
        self.copies.ask(self._members.living)

    def in_step(self) -> None:
        """Equal to a peer, or nobody answers: what is here is all there is for now."""
        if not self.synced:
            self.synced = True
            self._port.notify(CaughtUp())

    # ---- deltas

    def _repair_untrusted(self, peer: ReplicaId, raw: bytes, now: Now) -> None:
        if not self.collector.repair_untrusted(peer, raw):
            self._delta_untrusted(peer, raw, now, pushed=False)

    def _listing_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        if not self.collector.listing_untrusted(peer, payload, now):
            self.puller.listing_untrusted(peer, payload, now)

    def _body_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        if not self.collector.body_untrusted(payload, now):
            self.puller.body_untrusted(payload, now)

    def _delta_untrusted(self, peer: ReplicaId, raw: bytes, now: Now, *, pushed: bool = True) -> None:
        delta = self._read_delta_untrusted(raw)
        raw, header = delta.wire or raw, delta.head.header
        shelf, seq = header.shelf, header.seq
        if not pushed and not self.puller.asked(peer, shelf):
            self.counters.repairs_unasked += 1
        if self._replica.has(shelf, seq) and not self._contradicts(shelf, seq, delta.head.hash):
            self.counters.deltas_duplicate += 1
            return
        author = replica_of(shelf)
        if not self._directory.knows(author, delta.content.rights):
            self._wait(peer, raw, pushed=pushed)
            self.statements.offer(peer, now)
            return
        if not self._verify_delta(delta):
            raise Malformed("a delta that its author did not sign")
        if not self._births.begin(shelf, now):
            self.counters.births_late += 1
            return
        if not self._replica.receive(delta):
            return
        self.counters.deltas_new += 1
        news = delta.content.is_news
        self._recent.add(shelf, seq, raw, news=news)
        if not pushed and news:
            self.losses.saw(now)  # it was pushed, and did not come
        if not pushed and peer != author:
            self.compare_soon(now)  # by a detour: others may lack it, too, and its author does not tell them
        targets = self._tree.targets(author)
        if pushed:
            self._repeats.heard(now)
        if targets:
            if pushed:
                self._push(raw, targets, now)
                self.counters.deltas_relayed += len(targets)
            if pushed or self.synced:  # what nobody pushes is in no hurry
                self._schedule_repeats(shelf, targets, now, late=news and not pushed)
        if self._replica.reached(shelf) < seq:
            self.puller.gap(shelf, peer, seq, now, 0.0 if self.losses.likely(now) else self._members.typical_round_trip())

    def _contradicts(self, shelf: ShelfId, seq: int, header_hash: bytes) -> bool:
        """Whether this is the hash, or the beginning of one, of another header than the one that is known under this seq: a
        fork, if it is signed.
        """
        if shelf in self._replica.ended:
            return False
        base, loose = self._replica.bases.get(shelf), self._replica.loose.get(shelf, {}).get(seq)
        known = loose.delta.head.hash if loose else base.recent_hash(seq) if base else None
        return known is not None and not known.startswith(header_hash)

    def _offered(self, peer: ReplicaId, floor: Floor, now: Now) -> bool:
        """A peer says where a shelf stands; True when it has more of it. Where it has something else, the proof is asked for."""
        if floor.shelf in self._replica.ended:
            if len(self.ended_elsewhere) < ENDED_MAX:
                self.ended_elsewhere[floor.shelf] = None
            return False
        base = self._replica.bases.get(floor.shelf)
        if base and base.head and not floor.loose:  # nearly all: exactly what is here
            head = base.head
            if head.header.seq == floor.seq and head.hash.startswith(floor.hash4):
                return False
        beyond = floor.shelf == self._replica.shelf and floor.seq > self._replica.floor(floor.shelf)
        if floor.seq and (beyond or self._contradicts(floor.shelf, floor.seq, floor.hash4)):
            self._ask_proof(peer, floor.shelf, floor.seq, now)
        return self.puller.offer(peer, floor, now)

    def _doubt(self, peer: ReplicaId, shelf: ShelfId, now: Now) -> None:
        """What it has does not continue what is here: its delta of the number of our head tells whether it is another branch."""
        floor = self._floor_of(shelf)
        if floor and floor.seq:
            self._ask_proof(peer, shelf, floor.seq, now)

    def _ask_proof(self, peer: ReplicaId, shelf: ShelfId, seq: int, now: Now) -> None:
        self._proof_asked = {each: at for each, at in self._proof_asked.items() if at + PROOF_SECONDS > now.monotonic}
        if shelf not in self._proof_asked and len(self._proof_asked) < PROOFS_MAX:
            self._proof_asked[shelf] = now.monotonic
            before = Floor(shelf, seq - 1, bytes(SHORT_HASH_BYTES) if seq > 1 else b"")
            self._port.send(peer, Lane.FRESH, Frame.WANT, Want((before,)).encode())

    def _wait(self, peer: ReplicaId, raw: bytes, *, pushed: bool) -> None:
        """Until its credential is here. Whoever has most waiting makes room."""
        self._waiting.setdefault(raw, (peer, pushed))
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[loser({each: owner for each, (owner, _) in self._waiting.items()})]
            self.counters.waiting_dropped += 1

    def try_waiting(self, now: Now) -> None:
        """Trust changed: deltas that waited for a credential get another look."""
        waiting, self._waiting = self._waiting, {}
        for raw, (peer, pushed) in waiting.items():
            try:
                self._delta_untrusted(peer, raw, now, pushed=pushed)
            except (Malformed, Refused):
                self._directory.drops["delta forged while its credential was unknown"] += 1

    def _want_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        self.counters.repairs += 1
        if self._server.want_untrusted(peer, payload, now):
            self.losses.saw(now)

    # ---- floors

    def _whole_floor_of(self, shelf: ShelfId) -> Floor | None:
        return self._floor_of(shelf, None)

    def _floor_of(self, shelf: ShelfId, named: int | None = LOOSE_PER_FLOOR) -> Floor | None:
        """`named`: of what is loose, the lowest; None: all."""
        rows, base = self._replica.loose.get(shelf), self._replica.bases.get(shelf)
        loose = tuple(sorted(rows)[:named]) if rows else ()
        head = base.head if base else None
        seq, header_hash = (head.header.seq, head.hash) if head else (0, None)
        if self._held and base and shelf == self._replica.shelf:  # less is shown than is there
            seq = self._shown_floor(shelf)
            header_hash = base.recent_hash(seq)
        if header_hash:
            return Floor(shelf, seq, header_hash[:SHORT_HASH_BYTES], loose)
        return Floor(shelf, 0, b"", loose) if loose else None

    def _schedule_repeats(self, shelf: ShelfId, targets: Iterable[ReplicaId], now: Now, *, late: bool = False) -> None:
        round_trip = self._members.typical_round_trip()
        self._repeats.schedule(shelf, targets, round_trip, lossy=self.losses.likely(now), now=now, late=late)

    def _floor_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        note = FloorNote.decode_untrusted(payload)
        for floor in note.floors:
            match note.purpose:
                case Purpose.SAY_RECEIVED | Purpose.SAY_DURABLE:
                    self._repeats.received(peer, floor)
                    if note.purpose is Purpose.SAY_DURABLE:
                        self.copies.told(peer, floor)
                case _:
                    self._offered(peer, floor, now)
                    self._rode(floor)
                    if note.purpose is Purpose.ASK_DURABLE:
                        self.copies.asked(peer, floor)
                    elif note.purpose is Purpose.ASK_RECEIVED and self._replica.reached(floor.shelf) >= floor.seq:
                        self._port.send(peer, Lane.FRESH, Frame.FLOOR, FloorNote((floor,), Purpose.SAY_RECEIVED).encode())

    # ---- digests

    def compare_soon(self, now: Now) -> None:
        """Out of step, perhaps: with somebody at once, and then with others soon."""
        self._pace.begin_anew(now)
        self._next_progress = min(self._next_progress, now.monotonic + PROGRESS_SECONDS)

    def _send_digest(self, now: Now) -> None:
        living = self._members.living
        peer = self._reachable_one(living)
        if peer is not None:
            self._port.send(peer, Lane.FRESH, Frame.DIGEST, self._digest(peer, request=True, now=now).encode())
            self.counters.digests += 1
        # Also where nobody is within reach: who is accused and clears itself is no new member, so nothing else would begin anew.
        self._pace.sent(now, alone=not living, lossy=self.losses.likely(now))

    def _reachable_one(self, living: Sequence[ReplicaId]) -> ReplicaId | None:
        """By lot: nearly always the first that is drawn."""
        for _ in range(DRAWS if living else 0):
            peer = self._rng.choice(living)
            if self._members.is_reachable(peer):
                return peer
        reachable = [peer for peer in living if self._members.is_reachable(peer)]
        return self._rng.choice(reachable) if reachable else None

    def _digest(self, peer: ReplicaId, *, request: bool, now: Now) -> Digest:
        theirs = self._members.current_shelf(peer)
        acknowledged = self.copies.durable_floor(theirs) if theirs else None
        changed = [floor for shelf in self._fresh.newest(now) if (floor := self._floor_of(shelf))]
        return Digest(
            request,
            acknowledged or Floor(theirs or ShelfId(bytes(12)), 0, b""),
            self.statements.digest(),
            self._table.hashes(),
            next(iter(framed(changed, CHANGED_BYTES_MAX)), ()),
        )

    def _digest_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        digest = Digest.decode_untrusted(payload)
        if len(digest.buckets) != BUCKETS * BUCKET_HASH_BYTES:
            raise Malformed(f"a digest has {BUCKETS} buckets")
        if digest.acknowledged.shelf == self._replica.shelf:
            self.copies.told(peer, digest.acknowledged)
        same_trust = digest.trust == self.statements.digest()
        if not same_trust:
            self.statements.offer(peer, now)
        behind = False
        for floor in digest.changed:
            behind |= self._offered(peer, floor, now)
        self._tell_ahead(peer, digest.changed)
        differing = frozenset(self._table.differing(digest.buckets, digest.changed))
        if digest.request:
            self._port.send(peer, Lane.FRESH, Frame.DIGEST, self._digest(peer, request=False, now=now).encode())
        self._descend(peer, differing)
        persists = bool(differing & self._differed_lately) or not same_trust
        self._differed_lately = differing
        if persists:
            self.compare_soon(now)
        elif differing or behind or self.puller.busy:  # what is under way looks like this, too: look again
            self._pace.look_again(now)
        else:
            self.in_step()

    def _descend(self, peer: ReplicaId, differing: frozenset[int]) -> None:
        """Name my floors in the buckets that still differ the second time; the first time it may be news on its way."""
        again = self._differed.again(peer, differing)
        budget = PAGES_PER_DIGEST
        self._rng.shuffle(again)
        for bucket in again:
            pages = self._table.pages(bucket, self._rng)
            budget -= len(pages)
            if budget < 0:
                break
            if all(len(floor.loose) < LOOSE_PER_PAGE for page in pages for floor in page.floors):
                self._differed.tells(peer, bucket)  # all there is; else other ones are named the next time
            for page in pages:
                self._port.send(peer, Lane.BULK, Frame.BUCKETS, page.encode())

    def _bucket_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        page = BucketPage.decode_untrusted(payload)
        if page.bucket >= BUCKETS:
            raise Malformed(f"there are {BUCKETS} buckets")
        for floor in page.floors:
            self._offered(peer, floor, now)
        mine = self._table.within(page.bucket, page.low, page.high)
        listed = {floor.shelf for floor in page.floors}
        absent = tuple(Floor(floor.shelf, 0, b"") for floor in mine if floor.shelf not in listed)
        self._tell_ahead(peer, page.floors + absent)

    def _tell_ahead(self, peer: ReplicaId, theirs: Sequence[Floor]) -> None:
        """Where I am further than these floors of the peer, say so; it asks for what it wants."""
        for part in framed(ahead_of(theirs, self._whole_floor_of)):
            self._port.send(peer, Lane.FRESH, Frame.FLOOR, FloorNote(part).encode())

    # ---- progress

    def statistics(self) -> dict[str, Any]:
        """Counters since the start."""
        return {
            **asdict(self.counters),
            **asdict(self.puller.counters),
            "synced": self.synced,
            "behind": self.puller.remaining[0],
        }

    def _report_progress(self, now: Now) -> None:
        shelves, bodies = self.puller.remaining
        if not shelves:
            self._next_progress = inf
            return
        self._next_progress = now.monotonic + PROGRESS_SECONDS
        self._port.notify(CatchingUp(shelves, bodies, self.puller.counters.bodies))
