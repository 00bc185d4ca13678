"""What all parts of one voter share: its durable term, vote and log, its role, and the effects of the step that runs.

Only the step in hand touches it; `Election`, `Replication` and the others are the verbs, this is the noun.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from consensus_escalation.block import Block, config_of
from consensus_escalation.effects import (
    BlocksStored,
    Committed,
    Effect,
    LeaderChanged,
    Persist,
    Record,
    Send,
    SendAtOnce,
    SnapshotStored,
    StateRestored,
    TakeState,
    TermAndVote,
)
from consensus_escalation.impeachment import Guilt
from consensus_escalation.ledger import Ledger, ReadScore
from consensus_escalation.log import Log
from consensus_escalation.messages import Message
from consensus_escalation.quorum import Config
from consensus_escalation.snapshot import Snapshot, empty_log, snapshot_from_bytes_untrusted
from consensus_escalation.types import Keys, Now, Pace, Position, Role, Voter
from consensus_escalation.verdict import Verdict
from crdt.errors import Malformed

PATIENCE_MAX: Final = 8.0
"""Times the pace's election time-out: 1.2 s with a LAN's, about etcd's default."""
FALSE_ALARM_SECONDS: Final = 5.0
"""Whoever speaks so soon after it was given up was not dead. Guess: no process restarts as fast."""
CALM_SECONDS: Final = 30.0
"""Without a false alarm, until patience is halved. Guess."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """What the authority signed: who votes first. Nobody else can write index 1, because its `prev` is this hash."""

    epoch: int
    config: Config
    hash: bytes
    time: int = 0
    """What it says about the time, microseconds. Without it, the first voter alone attests what time it is: it is the quorum."""


@dataclass(frozen=True, slots=True)
class Restored:
    """From the disk; a voter that starts for the first time has nothing but the genesis."""

    genesis: Genesis
    term: int = 0
    vote: Voter | None = None
    blocks: tuple[Block, ...] = ()
    commit: int = 0
    snapshot: bytes | None = None
    verdicts: tuple[Verdict, ...] = ()


class Refusal(NamedTuple):
    """A block that this voter does not store."""

    at: float
    """Monotonic seconds."""
    block: Block
    config: Config


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
    digest: tuple[int, bytes] = (0, bytes(16))
    """(index, hash) of the newest snapshot: what headers say about the state, so that others may begin from it."""
    heard_at: float = -inf
    """When a valid leader was last heard, monotonic seconds."""
    snapshot: bytes | None = None
    """The newest one, which stands for what is below the log."""
    taking: tuple[int, list[object]] | None = None
    """(index, ledger there) of the state that the host was asked for."""
    guilt: Guilt | None = None
    """The newest leader that is proven guilty: dead for its term, and last by rank until a DEMOTE is committed."""
    refusal: Refusal | None = None
    """The newest one."""
    is_allowed: Callable[[Block, Config], bool] = lambda _block, _config: True
    """Structure of a block beyond the chain, such as the endorsements that an entry's class requires. Raises Malformed."""
    effects: list[Effect] = field(default_factory=list)
    patience: float = 1.0
    """Grows with false alarms."""
    calm_since: float = 0.0
    is_state: Callable[[int, bytes], bool] = lambda _index, _state: True
    """Whether the host can become this state, exactly after the block at that index."""
    alarm: tuple[Voter | None, float] = (None, -inf)
    """Whom this voter gave up for its silence, and when."""
    _persisted: int = 0
    _waiting: deque[Waiting] = field(default_factory=deque)

    def send(self, to: Voter, message: Message) -> None:
        self.effects.append(Send(to, message))

    def send_at_once(self, to: Voter, message: Message) -> None:
        self.effects.append(SendAtOnce(to, message))

    def others(self, voters: Iterable[Voter]) -> list[Voter]:
        return [voter for voter in voters if voter != self.me]

    @property
    def may_campaign(self) -> bool:
        """Who votes, and whoever the newest configuration removes, until that is committed: it may be the only one that has it,
        so nobody else could be elected. Its own vote does not count then (dissertation 4.2.2)."""
        log = self.log
        electorate = log.config.electorate
        if self.commit < log.config_index and self.me not in electorate:
            electorate = log.config_before(log.config_index)[1].electorate
        return self.me in electorate

    def is_guilty(self, leader: Voter | None, term: int) -> bool:
        return self.guilt is not None and (self.guilt.leader, self.guilt.term) == (leader, term)

    def is_leader_near(self) -> bool:
        """Whether a leader was heard so lately that no other should be helped (dissertation 4.2.3)."""
        return self.is_leader_near_at(self.now)

    def is_leader_near_at(self, now: Now) -> bool:
        if self.role is Role.LEADER:
            return True
        return self.leader is not None and now.monotonic - self.heard_at < self.election_seconds

    def takes(self, block: Block, config: Config) -> bool:
        """Whether its structure is what this voter stores, by what it knows now."""
        try:
            config_of(block, self.keys)
            return self.is_allowed(block, config)
        except Malformed:
            return False

    def refuses(self, last: Position) -> bool:
        """Whether this voter could not follow whose log ends there, since it does not store what is in it. A majority that stays
        so elects one of its own meanwhile; after that nobody knows what such logs have become."""
        refusal = self.refusal
        if refusal is None or last < Position(refusal.block.term, refusal.block.index):
            return False
        turn_seconds = self.pace.turn_seconds(len(self.log.config.electorate), PATIENCE_MAX)
        if self.now.monotonic - refusal.at < 2 * turn_seconds and not self.takes(refusal.block, refusal.config):
            return True
        self.refusal = None
        return False

    # ---- patience

    @property
    def election_seconds(self) -> float:
        """Silence after which a leader may be replaced: the pace's, or more after false alarms."""
        return self.pace.election_seconds * self.patience

    def alarmed(self) -> None:
        """The leader is given up for its silence."""
        self.alarm = (self.leader, self.now.monotonic)
        if self.now.monotonic - self.calm_since > CALM_SECONDS:
            self.patience, self.calm_since = max(1.0, self.patience / 2), self.now.monotonic

    def heard_from(self, voter: Voter) -> None:
        """It is alive: if it was given up just now, machines or links are slower than the pace, and patience is cheaper than
        another election."""
        who, at = self.alarm
        if who == voter:
            self.alarm = (None, -inf)
            if self.now.monotonic - at < FALSE_ALARM_SECONDS:
                self.patience, self.calm_since = min(PATIENCE_MAX, self.patience * 2), self.now.monotonic

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
            if self.commit % self.pace.snapshot_blocks == 0:
                self.taking = (self.commit, self.ledger.to_value())
                self.effects.append(TakeState(self.commit))

    # ---- snapshots

    def take_snapshot(self, index: int, state: bytes) -> None:
        """The host's part has come: cut the log."""
        if self.taking is None or self.taking[0] != index:
            return
        ledger, self.taking = self.taking[1], None
        if index <= self.log.base.index:
            return
        term, digest = self.log.term_at(index), self.log.hash_at(index)
        assert term is not None, "what is committed stays"
        assert digest is not None
        snapshot = Snapshot(Position(term, index), digest, *self.log.config_before(index + 1), ledger, state)
        self._keep(snapshot.to_bytes(self.keys), index, alone=False)

    def _keep(self, raw: bytes, index: int, *, alone: bool) -> None:
        if not alone:
            self.log.compact(index)
        self.snapshot, self.digest = raw, (index, self.keys.hash(raw))
        self.persist(SnapshotStored(index, raw, alone))

    def install(self, raw: bytes) -> bool:
        """A snapshot from the leader: it replaces what is here, unless the log goes on from it. False when it is no snapshot."""
        try:
            snapshot, ledger = snapshot_from_bytes_untrusted(raw, self.keys, self.ledger.read_score)
        except Malformed:
            return False
        if snapshot.last.index <= self.commit:
            return True
        if not self.is_state(snapshot.last.index, snapshot.state):
            return False
        goes_on = self.log.hash_at(snapshot.last.index) == snapshot.hash
        if not goes_on:
            self.log = empty_log(snapshot, ledger, self.keys)
        self._keep(raw, snapshot.last.index, alone=not goes_on)
        self._adopt(snapshot, ledger)
        return True

    def _adopt(self, snapshot: Snapshot, ledger: Ledger) -> None:
        ledger.counts_keys = self.ledger.counts_keys
        self.ledger, self.commit, self.taking = ledger, snapshot.last.index, None
        self.effects.append(StateRestored(snapshot.last.index, snapshot.state))

    def restore(self, restored: Restored) -> None:
        """From the disk, before the first step. Raises Malformed when the disk holds something else."""
        if restored.snapshot is not None:
            snapshot, ledger = snapshot_from_bytes_untrusted(restored.snapshot, self.keys, self.ledger.read_score)
            self.log, self.snapshot = empty_log(snapshot, ledger, self.keys), restored.snapshot
            self.digest = (snapshot.last.index, self.keys.hash(restored.snapshot))
            self._adopt(snapshot, ledger)
        self.log.put(restored.blocks)
        self.commit_to(restored.commit)


def make_core(
    me: Voter,
    keys: Keys,
    pace: Pace,
    rng: random.Random,
    restored: Restored,
    read_score: ReadScore,
    now: Now,
    *,
    counts_keys: bool = True,
) -> Core:
    genesis = restored.genesis
    log = Log(Position(0, 0), genesis.hash, 0, genesis.config, keys, genesis.time)
    core = Core(me, keys, pace, rng, genesis.epoch, log, Ledger(read_score), now, restored.term, restored.vote)
    core.ledger.counts_keys, core.ledger.attested = counts_keys, genesis.time
    core.restore(restored)
    return core
