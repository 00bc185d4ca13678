"""What all parts of one voter share: its durable term, vote and log, its role, and the effects of the step that runs.

Only the step in hand touches it; `Election`, `Replication` and the others are the verbs, this is the noun.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from consensus_escalation.block import Block
from consensus_escalation.effects import (
    BlocksStored,
    Committed,
    Effect,
    LeaderChanged,
    Persist,
    Record,
    Send,
    SendAtOnce,
    TermAndVote,
)
from consensus_escalation.ledger import Ledger, ReadScore
from consensus_escalation.log import Log
from consensus_escalation.messages import Message
from consensus_escalation.quorum import Config
from consensus_escalation.types import Keys, Now, Pace, Position, Role, Voter


@dataclass(frozen=True, slots=True)
class Genesis:
    """What the authority signed: who votes first. Nobody else can write index 1, because its `prev` is this hash."""

    epoch: int
    config: Config
    hash: bytes


@dataclass(frozen=True, slots=True)
class Restored:
    """From the disk; a voter that starts for the first time has nothing but the genesis."""

    genesis: Genesis
    term: int = 0
    vote: Voter | None = None
    blocks: tuple[Block, ...] = ()
    commit: int = 0


class Waiting(NamedTuple):
    """A Persist that is not known to be durable yet."""

    number: int
    term: int
    vote: Voter | None
    last_index: int


@dataclass(slots=True)
class Core:
    me: Voter
    keys: Keys
    pace: Pace
    rng: random.Random
    epoch: int
    log: Log
    ledger: Ledger
    now: Now
    term: int = 0
    vote: Voter | None = None
    role: Role = Role.FOLLOWER
    leader: Voter | None = None
    commit: int = 0
    applied: tuple[int, bytes] = (0, bytes(16))
    heard_at: float = -inf
    """When a valid leader was last heard, monotonic seconds."""
    effects: list[Effect] = field(default_factory=list)
    _persisted: int = 0
    _waiting: deque[Waiting] = field(default_factory=deque)

    def send(self, to: Voter, message: Message) -> None:
        self.effects.append(Send(to, message))

    def send_at_once(self, to: Voter, message: Message) -> None:
        self.effects.append(SendAtOnce(to, message))

    def others(self, voters: Iterable[Voter]) -> list[Voter]:
        return [voter for voter in voters if voter != self.me]

    @property
    def is_voter(self) -> bool:
        return self.me in self.log.config.electorate

    def is_leader_near(self) -> bool:
        """Whether a leader was heard so lately that no other should be helped (dissertation 4.2.3)."""
        if self.role is Role.LEADER:
            return True
        return self.leader is not None and self.now.monotonic - self.heard_at < self.pace.election_seconds

    # ---- durable

    def persist(self, *records: Record) -> None:
        self._persisted += 1
        self.effects.append(Persist(self._persisted, records, self.commit))
        self._waiting.append(Waiting(self._persisted, self.term, self.vote, self.log.last_index))

    def durable(self, number: int) -> Waiting | None:
        """What is on the disk once Persist `number` is; None when that was known."""
        reached = None
        while self._waiting and self._waiting[0].number <= number:
            reached = self._waiting.popleft()
        return reached

    @property
    def is_writing(self) -> bool:
        return bool(self._waiting)

    def set_term(self, term: int, vote: Voter | None) -> None:
        assert term > self.term or (term == self.term and self.vote in (None, vote)), "a term has one vote"
        self.term, self.vote = term, vote
        self.persist(TermAndVote(term, vote))

    def store(self, blocks: tuple[Block, ...]) -> None:
        self.log.put(blocks)
        self.persist(BlocksStored(blocks))

    # ---- role

    def follow(self, leader: Voter | None) -> None:
        """Be a follower in this term, of `leader` when it is known."""
        self.role = Role.FOLLOWER
        self.set_leader(leader)

    def set_leader(self, leader: Voter | None) -> None:
        if leader != self.leader:
            self.leader = leader
            self.effects.append(LeaderChanged(self.term, leader))

    # ---- commit

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls. Each block goes to the ledger and to the host, in order."""
        for block in self.log.between(self.commit + 1, index):
            self.commit = block.index
            self.effects.append(Committed(block, self.ledger.apply(block)))


def make_core(me: Voter, keys: Keys, pace: Pace, rng: random.Random, restored: Restored, read_score: ReadScore, now: Now) -> Core:
    genesis = restored.genesis
    log = Log(Position(0, 0), genesis.hash, 0, genesis.config, keys)
    log.put(restored.blocks)
    core = Core(me, keys, pace, rng, genesis.epoch, log, Ledger(read_score), now, restored.term, restored.vote)
    core.commit_to(restored.commit)
    return core
