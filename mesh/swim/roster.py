"""The roster: what this replica believes of every other member.

A record is made of what was signed (the subject's newest claim, the accusations against it) and of what we saw ourselves (when we
heard it last, how long a ping takes). The indexes that the rest of membership needs at every step are kept up to date here: the
living in order of their ids, the suspects, and one hash over everything signed, which two members compare to see whether their
lists are equal.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from hashlib import blake2b
from math import inf
from operator import xor
from typing import Final, NamedTuple

from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.overlay import Overlay
from mesh.store.rows import KnownPeer
from mesh.swim.claims import Alive, Held, Left, Signed
from mesh.swim.suspicion import Credit, Suspicion

BUCKETS: Final = 16
BUCKET_HASH_BYTES: Final = 4


class State(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


LIVING: Final = (State.ALIVE, State.SUSPECT)


class Member(NamedTuple):
    """One other member, as its user sees it."""

    replica: ReplicaId
    name: str
    state: State
    address: Address
    incarnation: int
    birth: int
    """Of the shelf that it writes now; 0 when it was never heard since this agent started."""
    rtt: float | None
    """Round trip in seconds, smoothed; None before the first ping was answered."""
    meta: bytes


class Rank(NamedTuple):
    """What two lists are compared by: of two ranks of one member the higher is the newer."""

    incarnation: int
    finality: int
    """0 living or under suspicion, 1 buried upon accusations, 2 left."""
    birth: int = 0
    """Of the living: two starts speak with one incarnation when the disk lost the first. As claims.outranks; 0 for the others."""


_FINALITY: Final = {Held.LIVING: 0, Held.DEAD: 1, Held.LEFT: 2}
NO_ADDRESS: Final[Address] = ("", 0)


RECORD: Final = (  # the fields of a `Record`
    "accusations",
    "address",
    "buried_alone",
    "checked_at",
    "claim",
    "credit",
    "heard",
    "heard_wall",
    "left",
    "mark",
    "name",
    "rank",
    "replica",
    "shown",
    "since",
    "state",
    "suspicion",
    "told_at",
)


class Record:
    """One other member. `state` is what we act upon; `rank` is the part of it that signatures prove."""

    __slots__ = RECORD

    def __init__(self, replica: ReplicaId, now: float) -> None:
        self.replica = replica
        self.claim: Signed | None = None
        """Newest Alive claim; None for a member known from the disk only."""
        self.left: Signed | None = None
        self.accusations: dict[ReplicaId, Signed] = {}
        self.suspicion: Suspicion | None = None
        self.credit = Credit()
        self.state = State.DEAD
        self.buried_alone = True
        """Dead by our own judgement only (never heard since the start, or we hear nobody at all): one sign of life undoes it."""
        self.since = now
        self.heard = -inf
        """Monotonic seconds of the last authenticated datagram."""
        self.heard_wall = 0
        """The same in microseconds since 1970, for the disk."""
        self.told_at = -inf
        """When we last told it, unasked, what is believed of it."""
        self.checked_at = -inf
        """When an accusation that we did not believe last made us look for ourselves."""
        self.address = NO_ADDRESS
        self.name = ""
        self.mark = 0
        self.rank: Rank | None = None
        """What is signed, for comparisons; None while nothing signed is held. Kept up to date by `Roster.touched`."""
        self.shown: tuple[object, ...] = ()

    @property
    def alive(self) -> Alive | None:
        claim = self.claim.claim if self.claim else None
        return claim if isinstance(claim, Alive) else None

    @property
    def incarnation(self) -> int:
        """Highest that the subject signed; -1 when we hold nothing of it."""
        newest = self.left or self.claim
        return newest.claim.incarnation if newest else -1

    @property
    def birth(self) -> int:
        newest = (self.left or self.claim) if self.left or self.claim else None
        claim = newest.claim if newest else None
        return claim.birth if isinstance(claim, Alive | Left) else 0

    @property
    def held(self) -> Held:
        if self.left:
            return Held.LEFT
        return Held.DEAD if self.state is State.DEAD and not self.buried_alone else Held.LIVING

    def current_rank(self) -> Rank | None:
        incarnation = self.incarnation
        finality = _FINALITY[self.held]
        return Rank(incarnation, finality, 0 if finality else self.birth) if incarnation >= 0 else None

    def as_member(self, rtt: float | None) -> Member:
        """As its user sees it."""
        meta = self.alive.meta if self.alive is not None else b""
        return Member(self.replica, self.name, self.state, self.address, max(self.incarnation, 0), self.birth, rtt, meta)

    def as_known_peer(self) -> KnownPeer:
        """For the disk, but for the public key, which membership does not know."""
        return KnownPeer(self.replica, b"", self.address, max(self.incarnation, 0), self.name, self.heard_wall)

    def copy(self) -> Record:
        other = Record(self.replica, self.since)
        for name in RECORD:
            setattr(other, name, getattr(self, name))
        other.accusations, other.credit = dict(self.accusations), Credit()
        return other

    def signed(self, accusations_max: int) -> list[Signed]:
        """What proves our belief to others: the newest word of the subject, then accusations against it."""
        own = [claim for claim in (self.left or self.claim,) if claim]
        return own + [self.accusations[accuser] for accuser in sorted(self.accusations)][:accusations_max]


@dataclass(frozen=True, slots=True)
class Picture:
    """What all members of a settled mesh believe of all, themselves included: everybody lives, nobody is suspected. The same for
    each of them but for what they saw themselves, so they can share it (`mesh.overlay`).
    """

    records: Mapping[ReplicaId, Record]
    """Of which nobody has heard anything but its claim. They never change."""
    living: Sequence[ReplicaId]
    """Ascending."""
    digest: int
    bucket_digests: Sequence[int]
    """As the roster's, of all of them."""
    residents: Mapping[Address, ReplicaId]
    """Somebody who lives there."""

    @classmethod
    def of(cls, one: Roster, other: Roster) -> Picture:
        """Of two who have heard everybody's claim: neither has a record of itself. Raises ValueError where one believes anything
        else than that a member lives.
        """
        records = dict(one.records.items())
        itself = other.records.peek(one.me)
        if itself is not None:
            records[one.me] = itself
        for record in records.values():
            if record.state is not State.ALIVE or record.accusations or record.rank is None:
                raise ValueError(f"{record.replica.hex()} is not simply alive")
        digests = [0] * BUCKETS
        for record in records.values():
            digests[bucket_of(record.replica)] ^= record.mark
        unheard = {replica: _unheard(record) for replica, record in records.items()}
        return cls(
            unheard,
            sorted(records),
            reduce(xor, digests),
            digests,
            {record.address: record.replica for record in unheard.values()},
        )


class Roster:
    """All records, and what must be known of all of them at once."""

    def __init__(self, me: ReplicaId) -> None:
        self.me = me
        self.records: Overlay[ReplicaId, Record] = Overlay()
        self.living: list[ReplicaId] = []
        """Alive and suspect, without me, ascending."""
        self.suspects: dict[ReplicaId, Record] = {}
        self.dead: dict[ReplicaId, Record] = {}
        self.residents: Mapping[Address, ReplicaId] = {}
        """Who lived at an address once. Of those in a picture only."""
        self.version = 0
        """Raised whenever `members()` would differ, but for round trips."""
        self.moved: dict[ReplicaId, bool] = {}
        """Members that changed so since somebody took the table, and whether they were living before."""
        self.digest = 0
        """XOR of the marks of all records and of my own claim."""
        self._bucket_digests = [0] * BUCKETS
        self._my_mark = 0
        self._mine = Rank(0, 0)

    def __len__(self) -> int:
        """Living members, me included."""
        return len(self.living) + 1

    def get(self, replica: ReplicaId) -> Record | None:
        return self.records.get(replica)

    def obtain(self, replica: ReplicaId, now: float) -> Record:
        record = self.records.get(replica)
        if record is None:
            record = self.records[replica] = Record(replica, now)
            self.dead[replica] = record
        return record

    def adopt(self, picture: Picture) -> None:
        """Believe this, in place of all that was believed, as if every claim in it had been heard. Raises ValueError when it
        shows another start of mine.
        """
        mine = picture.records.get(self.me)
        if mine is None or mine.mark != self._my_mark:
            raise ValueError("the picture shows another start of this member, or none")
        self.residents = picture.residents
        self.records = Overlay(picture.records, Record.copy)
        self.records.pop(self.me)
        self.living = list(picture.living)
        del self.living[bisect_left(self.living, self.me)]
        self.suspects, self.dead, self.moved = {}, {}, {}
        self.digest, self._bucket_digests = picture.digest, list(picture.bucket_digests)
        self.version += 1

    def is_living(self, replica: ReplicaId) -> bool:
        at = bisect_left(self.living, replica)
        return at < len(self.living) and self.living[at] == replica

    def become(self, record: Record, state: State, now: float, *, alone: bool = False) -> None:
        """The one place where a state changes."""
        before, replica = record.state, record.replica
        self.moved.setdefault(replica, before in LIVING)
        was_living = before in LIVING
        record.state = state
        record.buried_alone = alone
        if state is not before:
            record.since = now
        is_living = state in LIVING
        if is_living and not was_living:
            insort(self.living, replica)
        elif was_living and not is_living:
            del self.living[bisect_left(self.living, replica)]
        _index(self.suspects, record, state is State.SUSPECT)
        _index(self.dead, record, state is State.DEAD)
        self.touched(record)

    def touched(self, record: Record) -> None:
        """Something signed changed in this record."""
        shown = (record.state, record.claim, record.left, record.address, record.name)
        if shown != record.shown:
            record.shown = shown
            self.version += 1
            self.moved.setdefault(record.replica, record.state in LIVING)
        rank = record.rank = record.current_rank()
        mark = 0 if rank is None else _mark(record.replica, rank)
        if mark != record.mark:
            self._toggle(record.replica, record.mark ^ mark)
            record.mark = mark

    def set_mine(self, incarnation: int, birth: int, *, left: bool) -> None:
        """My own rank takes part in the comparison of lists."""
        self._mine = Rank(incarnation, 2) if left else Rank(incarnation, 0, birth)
        mark = _mark(self.me, self._mine)
        self._toggle(self.me, self._my_mark ^ mark)
        self._my_mark = mark

    def forget(self, replica: ReplicaId) -> Record | None:
        record = self.records.pop(replica)
        if record is not None:
            self.moved.setdefault(replica, record.state in LIVING)
            if record.state in LIVING:
                del self.living[bisect_left(self.living, replica)]
            self.suspects.pop(replica, None)
            self.dead.pop(replica, None)
            self._toggle(replica, record.mark)
            self.version += 1
        return record

    def short_digest(self) -> bytes:
        return (self.digest & 0xFFFF_FFFF).to_bytes(BUCKET_HASH_BYTES, "big")

    def bucket_digests(self) -> bytes:
        return b"".join((digest & 0xFFFF_FFFF).to_bytes(BUCKET_HASH_BYTES, "big") for digest in self._bucket_digests)

    def ranks(self, buckets: int) -> list[tuple[ReplicaId, Rank]]:
        """All ranks in these buckets (a bit each), mine included, ascending by id."""
        found = [
            (replica, rank)
            for replica, record in self.records.items()
            if buckets >> bucket_of(replica) & 1 and (rank := record.rank) is not None
        ]
        if buckets >> bucket_of(self.me) & 1:
            found.append((self.me, self._mine))
        found.sort()
        return found

    def in_order(self) -> Iterator[Record]:
        """To look at."""
        return (record for _, record in sorted(self.records.items()))

    def lives_at(self, replica: ReplicaId, address: Address) -> bool:
        record = self.records.peek(replica)
        return record is not None and record.state in LIVING and record.address == address

    def living_at(self, address: Address) -> ReplicaId | None:
        """The first living member that is said to live there. Goes through all of them."""
        return next((member for member in self.living if self.lives_at(member, address)), None)

    def _toggle(self, replica: ReplicaId, mark: int) -> None:
        self.digest ^= mark
        self._bucket_digests[bucket_of(replica)] ^= mark


def _unheard(record: Record) -> Record:
    copy = record.copy()
    copy.since = copy.heard = copy.told_at = copy.checked_at = -inf
    copy.heard_wall = 0
    return copy


def bucket_of(replica: ReplicaId) -> int:
    """By the last bits of the id, which are as random as the first ones; pages of a list are cut by the first ones."""
    return replica[-1] % BUCKETS


def _mark(replica: ReplicaId, rank: Rank) -> int:
    content = replica + rank.incarnation.to_bytes(4, "big") + bytes([rank.finality]) + rank.birth.to_bytes(4, "big")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big")


def _index(table: dict[ReplicaId, Record], record: Record, belongs: bool) -> None:
    if belongs:
        table[record.replica] = record
    else:
        table.pop(record.replica, None)
