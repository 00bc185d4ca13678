"""Entries to the leader, until they are in the log or refused for good.

Whoever wants an entry gives it to its own courier. What waits at the end of a turn goes out in batches under one signature each;
a batch is sent again, with the same keys, until its entries come back in certified blocks or the leader refuses them: the log
counts each key once, so sending again is always safe. Nothing is ever given up here: that is for whoever waits (`forget`).
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from consensus_escalation.authorship import own_batch, sign_batch
from consensus_escalation.block import RUN_BYTES, TIME_BYTES, Entry, Kind, body_size
from consensus_escalation.chain import Chain
from consensus_escalation.docket import CHANGED
from consensus_escalation.kept import Done
from consensus_escalation.ledger import key_of
from consensus_escalation.machine import Outcome, Status
from consensus_escalation.raft import BODY_BYTES_MAX, BUSY, NOT_LEADER
from consensus_escalation.sessions import COUNT_BITS, COUNT_MASK, LIFE_BITS, WINDOW, Admission, Key
from consensus_escalation.types import Keys
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import Backpressure
from mesh.quorum.judging import dangerous

LIFE_MICROSECONDS: Final = 3600 * 1_000_000
"""A life is remembered for 24 h from its beginning, so a retry of its last entry is safe for 23. Guess."""
BATCH_BYTES_MAX: Final = BODY_BYTES_MAX - TIME_BYTES
WAITING_MAX: Final = 4096
"""Entries of this agent under way; more are refused at the caller. As `Pace.pending_entries_max`."""
AGAIN_DOUBLINGS_MAX: Final = 3
"""A batch is sent again after an election time-out, then after twice as long: a commit takes far less, an election as long."""
BUSY_SECONDS: Final = 0.02
"""A leader that is no leader, or has no room, is asked again after so long."""
TRY_AGAIN: Final = frozenset({NOT_LEADER, BUSY, Admission.REPEATED.value, CHANGED})
"""Reasons that say nothing about the entry. `repeated`: it is in that leader's log, or under way to it, and will come in a
block if that leader stays."""


class Settled(NamedTuple):
    """What became of the entry in the log; with `Status.UNKNOWN` it may still come into it."""

    key: Key
    outcome: Outcome


class NotTaken(NamedTuple):
    """Definite: this entry is not in the log, and no copy of it is under way."""

    key: Key
    reason: str


Answered = Settled | NotTaken


@dataclass(slots=True)
class Parcel:
    """A batch under way."""

    batch: tuple[Entry, ...]
    waiting: dict[Key, int]
    """Entries without an outcome -> how many copies of them were refused. Another leader may have taken one of the others."""
    copies: int = 0
    """That were sent."""
    due: float = -inf
    tries: int = 0
    sent_to: ReplicaId | None = None


@dataclass(slots=True)
class Courier:
    me: ReplicaId
    keys: Keys
    again_seconds: float
    """Without an answer, until a batch is sent again for the first time."""
    rng: random.Random
    """Makes the names of lives (`consensus_escalation.sessions`)."""
    send: Callable[[ReplicaId, tuple[Entry, ...]], None]
    """Hands a batch to this agent's own Raft when `me` is named, else signs and sends it."""
    leader: Callable[[], ReplicaId | None]
    wall: Callable[[], int]
    """This agent's clock, microseconds since 1970: log time stands still while nobody writes."""
    _drafts: list[Entry] = field(default_factory=list)
    _parcels: dict[Key, Parcel] = field(default_factory=dict)
    """By the key of the first entry."""
    _where: dict[Key, Key] = field(default_factory=dict)
    """Key of an entry under way -> of its parcel; its own while it is a draft."""
    _left: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    """Key that nobody waits for any more -> how many copies of it were under way then: its user may ask again."""
    _is_repeated: bool = False
    """The leader knows a key: perhaps by another `since`, so that its block does not name it as it is asked for here."""
    _jumps: int = 0
    """Of the chain, when it was last looked at as a whole: what it jumped over is in no block that comes."""
    _answered: list[Answered] = field(default_factory=list)
    _sent_to: ReplicaId | None = None
    _since: int = -1
    _life: int = 0
    _count: int = 0
    _counts: deque[int] = field(default_factory=deque)
    """Of this life, those that may be under way, oldest first."""

    def want(self, chain: Chain, body: bytes, *, kind: Kind = Kind.COMMAND, key: tuple[int, int] | None = None) -> Key:
        """Bring this into the log. `key`: (since, number) of a former attempt, which is safe to repeat for 24 h of log time.

        Raises Backpressure.
        """
        if key is None:
            return self.want_all(chain, (body,), kind=kind)[0]
        return self.want_again(chain, (body,), key, kind=kind)[0]

    def want_again(
        self, chain: Chain, bodies: Sequence[bytes], first: tuple[int, int], *, kind: Kind = Kind.COMMAND
    ) -> list[Key]:
        """Bring these into the log under numbers in a row from `first` on, (since, number): each that came there in a former
        attempt is only answered, once more. Raises Backpressure, with none of them wanted."""
        self._check_room(len(bodies))
        since, number = first
        return [self._again(chain, Entry(kind, self.me, since, at, body)) for at, body in enumerate(bodies, number)]

    def _again(self, chain: Chain, entry: Entry) -> Key:
        found, known = key_of(entry), chain.machine.recall(entry)
        if known is not None:
            self._answered.append(Settled(found, known))
        elif found not in self._where:
            life, count = entry.number >> COUNT_BITS, entry.number & COUNT_MASK
            if (entry.since, life) == (self._since, self._life) and count not in self._counts:
                self._counts = deque(sorted([*self._counts, count]))  # one of this life that was asked for ahead
            self._where[found] = found
            self._drafts.append(entry)
        return found

    def next_key(self, time: int, floor: int) -> Key:
        """For one entry; give it to `want` soon: of 256 later ones, it would be below the window that the log remembers.
        `floor`: of the log's memory (`consensus_escalation.sessions`)."""
        since, number = self._next(time, floor)
        return Key(since, self.me, number)

    def want_all(self, chain: Chain, bodies: Sequence[bytes], *, kind: Kind = Kind.COMMAND) -> list[Key]:
        """Bring these into the log, for the first time: an entry each, in this order, as few signatures as blocks take.

        Raises Backpressure, with none of them wanted.
        """
        self._check_room(len(bodies))
        time, floor, keys = max(chain.ledger.time, self.wall()), chain.machine.ledger.sessions.floor, []
        for body in bodies:
            entry = Entry(kind, self.me, *self._next(time, floor), body)
            self._drafts.append(entry)
            keys.append(key := key_of(entry))
            self._where[key] = key
        return keys

    def _check_room(self, count: int) -> None:
        if len(self._where) + count > WAITING_MAX:
            raise Backpressure(f"{WAITING_MAX} critical writes of this agent wait for the quorum: let some of them end first")

    def _next(self, time: int, floor: int) -> tuple[int, int]:
        """(since, number) of the next entry. A life ends after an hour, when so many of its entries may be under way that the
        log would forget the first, or when busy agents have pushed so much out of the log's memory that it would soon be too old:
        it is as old as half of what is remembered."""
        if is_wide := self._is_wide():
            while self._counts and Key(self._since, self.me, self._life << COUNT_BITS | self._counts[0]) not in self._where:
                self._counts.popleft()  # those that are over
            is_wide = self._is_wide()
        is_old = time - self._since > min(LIFE_MICROSECONDS, (time - floor) // 2)
        if self._since < 0 or is_old or is_wide or self._count >= COUNT_MASK:
            self._since, self._life, self._count = time, self.rng.getrandbits(LIFE_BITS), 0
            self._counts.clear()
        self._count += 1
        self._counts.append(self._count)
        return self._since, self._life << COUNT_BITS | self._count

    def _is_wide(self) -> bool:
        return bool(self._counts) and self._count - self._counts[0] >= WINDOW - 1

    def forget(self, key: Key) -> None:
        """Nobody waits any more. The entry may still come into the log."""
        first = self._where.pop(key, None)
        if first is not None:
            parcel = self._parcels.get(first)
            if parcel is not None and parcel.copies > parcel.waiting[key]:
                self._left[key] = parcel.copies - parcel.waiting[key]
                if len(self._left) > WAITING_MAX:
                    self._left.popitem(last=False)
            self._arrived(first, key)
        self._drafts = [entry for entry in self._drafts if key_of(entry) != key]

    def forget_all(self) -> None:
        """The log that they were for has ended: whether they are in it will never be known."""
        self._drafts.clear()
        self._left.clear()
        self._parcels.clear()
        self._where.clear()

    def take_answered(self) -> list[Answered]:
        answered, self._answered = self._answered, []
        return answered

    @property
    def waits(self) -> bool:
        """Whether this agent has entries under way."""
        return bool(self._where)

    # ---- time

    @property
    def deadline(self) -> float:
        if self._drafts:
            return -inf
        return min((parcel.due for parcel in self._parcels.values()), default=inf)

    def tick(self, chain: Chain, now: Now) -> None:
        """Send what is new and what is due, and all of it when there is another leader."""
        if self._is_repeated or chain.jumps != self._jumps:
            self._is_repeated, self._jumps = False, chain.jumps
            self.jumped(chain)
        for batch in self._batches() if self._drafts else ():
            keys = [key_of(entry) for entry in batch]
            self._parcels[keys[0]] = Parcel(batch, {key: -self._left.pop(key, 0) for key in keys})
            self._where.update(dict.fromkeys(keys, keys[0]))
        if not self._parcels:
            return
        leader = self.leader()
        if leader is not None and leader != self._sent_to:
            self._sent_to = leader
            for parcel in self._parcels.values():
                parcel.due, parcel.tries = -inf, 0
        due = [parcel for parcel in self._parcels.values() if parcel.due <= now.monotonic]
        if due:
            others = sorted(chain.config.electorate)
            for parcel in due:
                self._dispatch(parcel, leader, others, now)

    def _dispatch(self, parcel: Parcel, leader: ReplicaId | None, voters: list[ReplicaId], now: Now) -> None:
        """To the leader; every other time to some voter, who may know better. What this agent's own Raft was given is not lost on
        the way: more copies of it would only keep a busy leader busier."""
        parcel.sent_to, is_own = leader, leader == self.me
        if voters and not is_own and (leader is None or parcel.tries % 2 == 1):
            parcel.sent_to = voters[(parcel.tries + parcel.batch[0].number) % len(voters)]
        doublings = AGAIN_DOUBLINGS_MAX if is_own else min(parcel.tries, AGAIN_DOUBLINGS_MAX)
        if leader is not None and parcel.sent_to != leader:
            doublings = 0  # who does not lead says so at once, or was not reached
        parcel.due = now.monotonic + self.again_seconds * 2**doublings
        parcel.tries = min(parcel.tries + 1, 16)
        if parcel.sent_to is not None:
            parcel.copies += 1
            self.send(parcel.sent_to, parcel.batch)

    def _batches(self) -> list[tuple[Entry, ...]]:
        """Drafts in batches, numbered in a row, no larger than a block takes. What has to be endorsed goes alone, and signed."""
        found: list[tuple[Entry, ...]] = []
        batch: list[Entry] = []
        size, is_alone = 0, False
        drafts, self._drafts = self._drafts, []
        for entry in drafts:
            cost, was_alone = body_size(entry.body), is_alone
            is_alone = entry.kind is not Kind.COMMAND or dangerous(entry)
            if batch:
                follows = entry.number == batch[-1].number + 1 and entry[:3] == batch[-1][:3]
                if not follows or size + cost > BATCH_BYTES_MAX or is_alone or was_alone:
                    found.append(self._packed(batch, was_alone))
                    batch = []
            size = size + cost if batch else RUN_BYTES + cost
            batch.append(entry)
        if batch:
            found.append(self._packed(batch, is_alone))
        return found

    def _packed(self, batch: Sequence[Entry], is_alone: bool) -> tuple[Entry, ...]:
        return sign_batch(batch, self.keys) if is_alone else own_batch(batch)

    # ---- what comes back

    def done(self, done: Done) -> None:
        """A block was applied here."""
        if not self._where:
            return
        for entry, outcome in zip(done.block.entries, done.outcomes, strict=True):
            if entry.author == self.me and (first := self._where.pop(key := key_of(entry), None)) is not None:
                self._answered.append(Settled(key, outcome))
                self._arrived(first, key)

    def answered(self, since: int, number: int, count: int, reason: str, now: Now) -> None:
        """An answer from afar, about `count` entries from this one on."""
        self.refused([Key(since, self.me, number + place) for place in range(min(count, WAITING_MAX))], reason, now)

    def refused(self, keys: Iterable[Key], reason: str, now: Now) -> None:
        """The leader, or who was taken for it, did not put a copy of these into the log. That is definite once each copy is
        accounted for: who refuses may have been replaced by another leader, which took one of them."""
        for key in keys:
            first = self._where.get(key)
            if first is None:
                continue
            parcel = self._parcels.get(first)
            if parcel is None:
                continue
            parcel.waiting[key] += 1
            if reason in TRY_AGAIN:
                if reason == Admission.REPEATED.value:
                    self._is_repeated = True
                else:
                    parcel.due = min(parcel.due, now.monotonic + BUSY_SECONDS * 2 ** min(parcel.tries, 5))
            else:
                is_definite = parcel.waiting[key] >= parcel.copies
                unknown = Outcome(Status.UNKNOWN, 0, 0, reason)
                del self._where[key]
                self._answered.append(NotTaken(key, reason) if is_definite else Settled(key, unknown))
                self._arrived(first, key)

    def jumped(self, chain: Chain) -> None:
        """What was committed meanwhile, or under another `since`, shows in the sessions only."""
        for parcel in list(self._parcels.values()):
            for entry in parcel.batch:
                known = chain.machine.recall(entry)
                if known is not None and (first := self._where.pop(key := key_of(entry), None)) is not None:
                    self._answered.append(Settled(key, known))
                    self._arrived(first, key)

    def _arrived(self, first: Key, key: Key) -> None:
        parcel = self._parcels.get(first)
        if parcel is not None:
            parcel.waiting.pop(key, None)
            if not parcel.waiting:
                del self._parcels[first]
