"""One voter of Agent-Raft: `step(input, now)` and its effects.

This file says who is asked in which order; each rule lives with its invariant.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, assert_never

from consensus_escalation.authorship import IsSigned, batches, is_batch
from consensus_escalation.block import TIME_BYTES, Block, Entry, Header, Kind, clock_of, config_entry, cut, run_size
from consensus_escalation.checkquorum import silent_at
from consensus_escalation.clocks import Clocks, stamp
from consensus_escalation.core import Restored, make_core
from consensus_escalation.docket import Docket
from consensus_escalation.effects import (
    Accuse,
    Campaign,
    Effect,
    Impeached,
    Input,
    Judged,
    Persisted,
    Proven,
    Read,
    Received,
    Refused,
    Resign,
    Standby,
    StateTaken,
    Submit,
    Tick,
    Transfer,
    Written,
)
from consensus_escalation.election import Election
from consensus_escalation.evidence import Evidence
from consensus_escalation.handback import Handback
from consensus_escalation.impeachment import demote_entry
from consensus_escalation.ledger import Ledger, Score, key_of, name_of
from consensus_escalation.log import Log
from consensus_escalation.membership import Authority, Silent, leaving, next_config
from consensus_escalation.messages import (
    Accepted,
    Append,
    AskClock,
    AskPreVote,
    AskRead,
    AskVote,
    CastVerdict,
    HandOver,
    Message,
    PreVote,
    Propose,
    ReadAt,
    Rejected,
    SnapshotPiece,
    SnapshotTaken,
    TellClock,
    Vote,
)
from consensus_escalation.reads import Reads
from consensus_escalation.replication import Replication
from consensus_escalation.rounds import Rounds
from consensus_escalation.sessions import Admission, Key
from consensus_escalation.types import BLOCK_BYTES_MAX, HASH_BYTES, Keys, Now, Pace, Role, Voter
from consensus_escalation.verdict import proposed_bytes_max

BODY_BYTES_MAX = BLOCK_BYTES_MAX - 240
"""What a block has for its entries: header and signature take at most 232 bytes, their three heads 8."""
FULL = BODY_BYTES_MAX * 3 // 4
"""What waits for a busy disk beyond this is cut all the same: company would save it less than a third of a block."""
TERM_JUMP_MAX: Final = 1 << 20
"""How far one message may raise the term: a day of elections, one after the other. To reach the last of the 64 bits, after which
nobody could be elected, a liar would need 50 years of 10,000 messages a second."""
NOT_LEADER, BUSY = "not the leader", "busy"
"""Refusals that say nothing about the entry."""


def no_scores(_raw: bytes) -> Score | None:
    return None


def nothing_dangerous(_entry: Entry) -> bool:
    return False


def anything(*_: object) -> bool:
    return True


def marks(entries: Sequence[Entry]) -> list[tuple[Key, int]]:
    """What tells the batches in these from others: their first entry, and how many they are."""
    return [(name_of(batch[0]), len(batch)) for batch in batches(entries)]


class Raft:
    def __init__(
        self,
        me: Voter,
        keys: Keys,
        rng: random.Random,
        restored: Restored,
        now: Now,
        *,
        pace: Pace | None = None,
        read_score: Callable[[bytes], Score | None] = no_scores,
        is_dangerous: Callable[[Entry], bool] = nothing_dangerous,
        is_signed: IsSigned = anything,
        is_certified: Callable[[bytes], bool] = anything,
        counts_keys: bool = True,
        is_state: Callable[[int, bytes], bool] = anything,
        authority: Authority | None = None,
        is_clock_sure: Callable[[], bool] = lambda: True,
    ) -> None:
        """`read_score`: see `ledger.ReadScore`. `is_dangerous`: the class of an entry, by rule:
        a pure function, the same on every voter. `is_signed`: whether its author signed a batch (`authorship`).
        `is_certified`: whether the authority made the evidence of a score, as far as this voter knows.
        `counts_keys`: see `ledger.Ledger`. `is_state`: see `core.Core`. `is_clock_sure`: whether this
        voter may say what time it is."""
        self._core = make_core(me, keys, pace or Pace(), rng, restored, read_score, now, counts_keys=counts_keys)
        self._core.is_state = is_state
        self._election = Election(self._core, self._lead)
        self._replication = Replication(self._core)
        self._is_dangerous, self._is_signed, self._is_certified = is_dangerous, is_signed, is_certified
        self._docket = Docket(self._core, {verdict.proposal: verdict for verdict in restored.verdicts})
        self._handback = Handback(self._core)
        self._authority = Silent() if authority is None else authority
        proofs = self._replication.proofs
        self._evidence = Evidence(self._core, proofs, is_dangerous, is_signed, is_certified, self._authority)
        self._core.is_allowed = self._evidence.holds
        self._clocks = Clocks(self._core, is_clock_sure)
        self._reads = Reads(self._core, self._replication)
        self._standby: tuple[Voter, ...] = ()
        self._pending: deque[tuple[tuple[Entry, ...], int]] = deque()
        """Batches, each under one signature, and the bytes that they take."""
        self._pending_entries = 0
        self._pending_size = 0
        """Bytes that they take in blocks."""
        self._rounds = Rounds()
        self._taken: dict[tuple[Key, int], int] = {}
        """While it leads: batches that wait for a block (0) or are in one (its index), so that none is taken twice."""
        self._heartbeat_at = inf
        self._deadline: float | None = None
        self._lead_alone()

    # ---- what it shows

    @property
    def me(self) -> Voter:
        return self._core.me

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def vote(self) -> Voter | None:
        """In this term."""
        return self._core.vote

    @property
    def role(self) -> Role:
        return self._core.role

    @property
    def leader(self) -> Voter | None:
        return self._core.leader

    @property
    def is_settled(self) -> bool:
        """Whether it leads, and a block of its own term is committed: what is not in its log, and was in another's, never counts
        any more."""
        return self._core.role is Role.LEADER and self._core.log.term_at(self._core.commit) == self._core.term

    @property
    def is_whole(self) -> bool:
        """Whether it follows a leader and has what that one's term committed."""
        return self._core.leader is not None and self._core.log.term_at(self._core.commit) == self._core.term

    def hears_leader(self, now: Now) -> bool:
        """Whether it leads, or its leader has spoken lately."""
        return self._core.is_leader_near_at(now)

    @property
    def commit(self) -> int:
        return self._core.commit

    @property
    def log(self) -> Log:
        return self._core.log

    def log_block(self, index: int) -> Block | None:
        """Committed or not."""
        return self._core.log.get(index)

    @property
    def snapshot(self) -> bytes | None:
        """What stands for all below the log."""
        return self._core.snapshot

    @property
    def ledger(self) -> Ledger:
        return self._core.ledger

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next `Tick` wanted. Moves with steps only, and is asked for more often."""
        if self._deadline is None:
            self._deadline = self._election.deadline
            if self._core.role is Role.LEADER:
                others = self._handback.deadline, self._cut_at, self._replication.deadline
                self._deadline = min(self._heartbeat_at, self._silent_at(), *others)
        return self._deadline

    @property
    def _cut_at(self) -> float:
        """When a slow round is waited for no more. For the disk and for an heir no time is set."""
        waits = self._pending and not self._core.is_writing and self._handback.heir is None
        return self._rounds.deadline if waits else inf

    # ---- steps

    def step(self, given: Input, now: Now) -> list[Effect]:
        core = self._core
        core.now, self._deadline = now, None
        self._replication.answer()
        match given:
            case Received(sender, message, is_followed):
                self._received(sender, message, is_followed)
            case Tick():
                self._tick()
            case Written():
                self._replication.sign_ahead()
            case Persisted(number):
                self._durable(number)
            case Submit():
                self._submit(given.batch, given.is_own)
            case Proven(index, digest):
                if core.log.hash_at(index) == digest:
                    core.commit_to(index)
            case Campaign():
                self._election.campaign(None)
            case Resign():
                self._fall_silent()
            case Transfer(heir):
                if core.role is Role.LEADER and heir != core.me and heir in core.log.config.voters:
                    self._handback.begin(heir)
            case Read(number):
                self._reads.read(number)
            case Standby(voters):
                self._standby = voters
                self._reconfigure()
            case StateTaken(index, state):
                core.take_snapshot(index, state)
            case Judged():
                self._docket.judged(given)
            case Accuse(proof):
                self._accuse(proof)
            case _:
                assert_never(given)
        if not (isinstance(given, Submit) and given.is_followed):
            self._flush()
            self._reads.flush()
        effects, core.effects = core.effects, []
        return effects

    def _received(self, sender: Voter, message: Message, is_followed: bool) -> None:
        core = self._core
        if message.term > core.term + TERM_JUMP_MAX:
            return  # no honest voter was away for so many elections
        core.heard_from(sender)
        match message:
            case AskPreVote():
                self._accuse(message.proof)
                self._election.asked_prevote(sender, message)
                return
            case AskVote():
                self._accuse(message.proof)
                self._election.asked_vote(sender, message)
                return
            case PreVote(granted=True):
                self._election.prevoted(sender, message)  # of a term that nobody is in yet
                return
            case _:
                pass
        if message.term > core.term:
            self._election.lost_to(message.term)
        match message:
            case Append():
                self._appended(sender, message, is_followed)
            case Accepted():
                self._replication.accepted(sender, message)
                if self._handback.heir == sender:
                    self._hand_back()
            case Rejected():
                self._replication.rejected(sender, message)
            case PreVote():
                self._election.prevoted(sender, message)
            case Vote():
                self._election.voted(sender, message)
            case HandOver():
                self._election.handed_over(sender, message)
            case AskRead():
                self._reads.asked(sender, message.number)
            case ReadAt():
                self._reads.answered(message)
            case SnapshotPiece():
                self._appended(sender, message, is_followed)
            case Propose():
                self._docket.proposed(sender, message.proposal)
            case CastVerdict():
                self._docket.heard(message)
            case SnapshotTaken():
                self._replication.snapshot_taken(sender, message)
            case AskClock():
                self._clocks.asked(sender, message)
            case TellClock():
                self._clocks.told(sender, message)
                self._tell_time()
            case _:
                assert_never(message)

    def _appended(self, sender: Voter, message: Append | SnapshotPiece, is_followed: bool) -> None:
        core = self._core
        if message.term < core.term:
            core.send(sender, Rejected(core.term, 0, core.commit, 0))
            return
        if core.is_guilty(sender, message.term):
            return
        if core.role is Role.LEADER or core.leader not in (None, sender):
            return  # two leaders in one term: impossible among the honest, so one of them lies
        if isinstance(message, Append) and self._replication.is_of_the_future(message):
            return  # nor does it count as heard, so that who sends it is soon none
        core.heard_at = core.now.monotonic
        core.follow(sender)
        self._election.heard_leader()
        if isinstance(message, Append):
            self._replication.appended(sender, message, is_followed)
        else:
            self._replication.snapshot_came(sender, message)

    def _tick(self) -> None:
        core = self._core
        if core.role is not Role.LEADER:
            self._election.tick()
            return
        if core.now.monotonic >= self._silent_at():
            self._fall_silent()
            return
        if core.now.monotonic >= self._handback.deadline:
            self._handback.reset()
        self._replication.tick()
        if core.now.monotonic >= self._heartbeat_at:
            self._heartbeat_at = core.now.monotonic + core.pace.heartbeat_seconds
            self._replication.heartbeat()
            self._clocks.ask()
            self._tell_time()
            self._hand_back()
            self._reconfigure()
            self._docket.repeat()
            self._name_state()

    def _name_state(self) -> None:
        """A snapshot counts for others when a later block names it. After a burst that was cut before it was taken there would be
        none until somebody writes, and whoever is behind the log could not catch up."""
        core = self._core
        newest = core.log.get(core.log.last_index)
        if newest is not None and core.commit == newest.index and newest.header.applied_index < core.digest[0]:
            self._append((Entry(Kind.NOOP),))
            self._replication.broadcast()

    def _tell_time(self) -> None:
        entry = self._clocks.entry() if self._core.role is Role.LEADER and self._handback.heir is None else None
        if entry is not None and run_size((entry,)) <= BODY_BYTES_MAX - TIME_BYTES:  # else when fewer have to sign
            self._append((entry,))
            self._replication.broadcast()

    def _fall_silent(self) -> None:
        core = self._core
        if core.role is Role.LEADER:
            core.follow(None)
            self._election.campaign_at = core.now.monotonic + core.election_seconds

    def _reconfigure(self) -> None:
        """The next step towards the wanted voters, once the last one is committed."""
        core, leading = self._core, self._replication.leading
        if core.role is not Role.LEADER or leading is None or self._handback.heir is not None:
            return
        if core.commit < max(leading.start_index, core.log.config_index):
            return
        if core.me not in core.log.config.voters and not core.log.config.is_joint:
            core.follow(None)  # its last act was the configuration without it (paper section 6)
            return
        silent = core.now.monotonic - core.pace.replace_seconds
        dead = {voter for voter, progress in leading.progress.items() if progress.answered_at < silent}
        caught_up = {voter for voter, progress in leading.progress.items() if progress.match >= core.commit}
        dismissed = [voter for voter in core.log.config.voters if self._authority.is_dismissed(voter)]
        config = next_config(core.log.config, self._standby, dead, caught_up, dismissed)
        if config is not None:
            bare = config_entry(config, core.keys)
            countersigned = [voter for voter in leaving(config) if voter in dismissed]
            room = BODY_BYTES_MAX - TIME_BYTES - run_size([bare])
            warrant = self._authority.warrant(countersigned, room) if countersigned else b""
            self._append((bare._replace(evidence=warrant),))
            self._replication.broadcast()

    def _hand_back(self) -> None:
        if self._replication.leading is not None:
            self._handback.consider(self._replication.leading)
            self._handback.proceed(self._replication.leading)

    def _silent_at(self) -> float:
        core, leading = self._core, self._replication.leading
        if leading is None:
            return inf
        answered = {voter: progress.answered_at for voter, progress in leading.progress.items()}
        return silent_at(core.log.config, core.me, answered, core.now.monotonic, core.election_seconds)

    def _durable(self, number: int) -> None:
        reached = self._core.durable(number)
        if reached is not None:
            if reached.vote == self._core.me:
                self._election.voted_for_myself(reached.term)
            self._replication.stored(reached.term, reached.last_index)
            if not self._core.is_writing:
                self._docket.own_durable()

    # ---- leading

    def _lead_alone(self) -> None:
        """The only voter need not wait for anybody's silence."""
        if self._core.log.config.electorate == (self._core.me,):
            self._election.campaign_at = self._core.now.monotonic

    def _lead(self) -> None:
        core = self._core
        core.role = Role.LEADER
        core.set_leader(core.me)
        for block in core.log.between(core.commit + 1, core.log.last_index):
            self._taken.update((mark, block.index) for mark in marks(block.entries))
        self._replication.lead(core.log.last_index + 1)
        self._clocks.lead()
        self._append((self._clocks.entry() or Entry(Kind.NOOP),))
        self._demote()
        self._replication.heartbeat()
        self._heartbeat_at = core.now.monotonic + core.pace.heartbeat_seconds

    def _append(self, entries: tuple[Entry, ...]) -> None:
        """Cut a block, send it, store it: in this order, so that the network works while the disk does."""
        core = self._core
        before = core.log.get(core.log.last_index)
        header = Header(
            epoch=core.epoch,
            index=core.log.last_index + 1,
            term=core.term,
            prev=core.log.last_hash,
            body_hash=bytes(HASH_BYTES),
            config_index=core.log.config_index,
            policy_index=core.ledger.policy_index,
            applied_index=core.digest[0],
            result_digest=core.digest[1],
            leader=core.me,
        )
        attested = clock_of(entries) or core.log.attested
        time = stamp(core.now.wall, max(before.time if before else 0, core.ledger.time), attested)
        core.store((block := cut(header, time, entries, core.keys),))
        self._taken.update((mark, header.index) for mark in marks(entries))
        self._replication.cut(block)

    def _submit(self, batch: tuple[Entry, ...], is_own: bool) -> None:
        size = run_size(batch)
        reason = self._reason_against(batch, size, is_own)
        if not self.is_settled and reason not in (NOT_LEADER, BUSY) and (reason or self._is_dangerous(batch[0])):
            reason = BUSY  # no is definite, and a former leader's log may hold a copy
        if reason:
            self._core.effects.extend(Refused(entry, reason, self._core.leader) for entry in batch)
        elif self._is_dangerous(batch[0]):
            if not self._docket.propose(batch[0]):
                self._core.effects.append(Refused(batch[0], Admission.REPEATED.value, self._core.leader))
        else:
            self._taken.update((mark, 0) for mark in marks(batch))
            self._wait_for_block(batch, size)

    def _reason_against(self, batch: tuple[Entry, ...], size: int, is_own: bool) -> str:
        core = self._core
        if core.role is not Role.LEADER:
            return NOT_LEADER
        if self._pending_entries + len(batch) > core.pace.pending_entries_max or self._docket.is_full:
            return BUSY
        is_dangerous = any(map(self._is_dangerous, batch))
        if not all(map(self._is_clients, batch)) or (len(batch) > 1 and (is_dangerous or not is_batch(batch))):
            return "malformed"
        room = proposed_bytes_max(core.log.config) if is_dangerous else BODY_BYTES_MAX
        if TIME_BYTES + size > room:
            return "too large"
        if not batch[0].author:
            return ""
        if self._clocks.is_waiting:
            return BUSY
        index = self._taken.get((name_of(batch[0]), len(batch)))
        if index is not None and not 0 < index <= core.commit:  # else the sessions know, for as long as they remember
            return Admission.REPEATED.value
        if not is_own and not self._is_signed(batch):
            return "not signed by its author"
        time = stamp(core.now.wall, core.ledger.time, core.log.attested)
        judge, found = core.ledger.sessions.judge, Admission.FRESH
        for entry in reversed(batch):  # nearly always the last one is fresh, and nobody has to look at the others
            if (found := judge(key_of(entry), time)) is Admission.FRESH:
                return ""
        return found.value

    def _is_clients(self, entry: Entry) -> bool:
        """A score speaks for itself, the authority's signature is in it; all else needs an author."""
        if entry.kind is Kind.SCORE:
            readable = self._core.ledger.read_score(entry.evidence) is not None
            return not entry.author and readable and self._is_certified(entry.evidence)
        return bool(entry.author) and entry.kind in (Kind.COMMAND, Kind.POLICY, Kind.RESTORE)

    def _flush(self) -> None:
        """Cut what waits, unless the disk is busy or enough is under way: so batches grow by themselves. A block that is nearly
        full has nothing to wait for, and followers can begin with it."""
        core = self._core
        self._look_for_guilt()
        for entry in self._docket.take():
            self._wait_for_block((entry,), run_size((entry,)))
        if core.role is not Role.LEADER:
            self._replication.stop()
            self._handback.reset()
            core.effects.extend(Refused(entry, NOT_LEADER, core.leader) for batch, _ in self._pending for entry in batch)
            self._pending.clear()
            self._pending_entries = self._pending_size = 0
            self._taken.clear()
            self._rounds.clear()
            return
        if len(self._taken) > 4 * core.pace.pending_entries_max:
            self._taken = {mark: index for mark, index in self._taken.items() if not 0 < index <= core.commit}
        is_busy = self._rounds.are_enough(core.commit, core.now.monotonic, self._pending_entries) or core.is_writing
        if not self._pending:
            return
        fill, last, waiting = (FULL if is_busy else 0), core.log.last_index, self._pending_entries
        while self._handback.heir is None and self._pending_size > fill:
            self._append(self._batch())
        if core.log.last_index > last:
            self._rounds.cut(core.log.last_index, core.now.monotonic, waiting - self._pending_entries)
            self._replication.broadcast()

    def _wait_for_block(self, batch: tuple[Entry, ...], size: int) -> None:
        self._pending.append((batch, size))
        self._pending_entries += len(batch)
        self._pending_size += size

    def _batch(self) -> tuple[Entry, ...]:
        """As many waiting batches as fit one block."""
        entries: list[Entry] = []
        room = BODY_BYTES_MAX - TIME_BYTES
        while self._pending:
            batch, size = self._pending[0]
            if entries and size > room:
                break
            self._pending.popleft()
            room -= size
            self._pending_size -= size
            entries += batch
        self._pending_entries -= len(entries)
        return tuple(entries)

    # ---- evidence

    def _accuse(self, raw: bytes) -> None:
        """Whoever holds a proof treats that leader as dead for that term."""
        core = self._core
        if not raw or (core.guilt is not None and core.guilt.proof == raw):
            return
        guilt = self._evidence.read_proof(raw)
        if guilt is None or (core.guilt is not None and core.guilt.term >= guilt.term):
            return
        core.guilt = guilt
        core.effects.append(Impeached(guilt))
        if guilt.term == core.term:
            self._election.leader_is_guilty()

    def _look_for_guilt(self) -> None:
        for raw in [*self._replication.proofs, *self._docket.proofs()]:
            self._accuse(raw)
        self._replication.proofs.clear()

    def _demote(self) -> None:
        """A new leader logs what it can prove."""
        guilt = self._core.guilt
        if guilt is not None and guilt.fits_log and guilt.leader != self.me and guilt.leader not in self._core.ledger.demoted:
            self._append((demote_entry(guilt),))
