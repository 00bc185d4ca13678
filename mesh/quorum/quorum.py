"""Quorum: agreement as a part of every agent. Read `Quorum.handle_untrusted`, then `_step`.

    RAFT frames -->  Raft  --Persist-->  the disk, and what follows waits for it
                       |  --Committed, Certified-->  Chain  --outcomes-->  Courier, watchers
    BLOCK, PROOF  -->  Spread  ------------------------^

Every agent has a `Chain`; who votes, or learns in order to, has a `Raft` too. It starts when the authority's genesis names this
agent, when the disk says that it took part before, or when a leader sends its log here.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import assert_never

from consensus_escalation.authorship import is_signed_untrusted
from consensus_escalation.block import Block, block_from_bytes_untrusted
from consensus_escalation.chain import Chain
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import (
    Certified,
    Committed,
    Dissent,
    Effect,
    Impeached,
    Input,
    Judge,
    Judged,
    LeaderChanged,
    Persist,
    Persisted,
    Proven,
    Read,
    ReadFailed,
    ReadReady,
    Received,
    Refused,
    Resign,
    SecondLog,
    Send,
    SendAtOnce,
    Standby,
    StateRestored,
    StateTaken,
    Submit,
    TakeState,
    Tick,
)
from consensus_escalation.messages import Accepted, Append, AskPreVote, AskRead, AskVote, HandOver, Message, ReadAt
from consensus_escalation.policy import Predicate
from consensus_escalation.quorum import Config
from consensus_escalation.raft import Raft
from consensus_escalation.types import Role, Voter
from consensus_escalation.wire import message_from_bytes_untrusted, message_to_bytes
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import Refused as Turned
from mesh.events import LeaderElected, QuorumFault
from mesh.port import Port
from mesh.presets import Preset
from mesh.quorum.burst import Burst
from mesh.quorum.courier import Courier
from mesh.quorum.desk import Desk, Seat
from mesh.quorum.electors import Electors
from mesh.quorum.guide import Guide
from mesh.quorum.judging import dangerous
from mesh.quorum.keeper import Keeper
from mesh.quorum.leaving import LOG_DIFFERS, LOG_GONE, LOG_LOST, Answer, has_ended, may_join, rows_of_end
from mesh.quorum.log_clock import LogClock
from mesh.quorum.outlook import LOST_ELECTIONS, Outlook
from mesh.quorum.questions import Questions
from mesh.quorum.rights import is_permitted
from mesh.quorum.rows import Begun, Forgot, Joined, QuorumBatch, QuorumRestored, RawBlock
from mesh.quorum.scores import is_certified, read_score
from mesh.quorum.signing import keys_of
from mesh.quorum.spread import Members, Spread
from mesh.quorum.status import Status as Status
from mesh.quorum.status import can_agree, status_of
from mesh.quorum.writer import LATE_SECONDS, Barrier, Writer, are_books
from mesh.trust import Directory
from mesh.trust.identity import key_id
from mesh.wire.frames import Frame, Lane


class Quorum:
    def __init__(
        self,
        me: ReplicaId,
        *,
        sign: Callable[[bytes, bytes], bytes],
        verify: Callable[[ReplicaId, bytes, bytes, bytes], bool],
        directory: Directory,
        members: Members,
        port: Port,
        preset: Preset,
        rng: random.Random,
        targets: Callable[[ReplicaId], Sequence[ReplicaId]],
        restored: QuorumRestored,
        predicates: Mapping[str, Predicate],
        now: Now,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        """`sign` and `verify`: (purpose, bytes) with this agent's key, (who, purpose, bytes, signature) with anybody's.
        `may_begin`: whether this replica has heard what others know, so that an empty disk here means an empty log."""
        self.me, self._directory, self._members, self._port = me, directory, members, port
        self._pace, self._rng, self._predicates = preset.quorum, rng, predicates
        self._may_begin = may_begin
        self.keys = keys_of(me, sign, verify)
        self._electors = Electors(me, directory, members)
        self._now, self._log_clock = now, LogClock(members.clock_outvoted, members.clock_offset)
        self.chain: Chain | None = None
        self.raft: Raft | None = None
        self._guide = Guide(self._may_speak)
        self._spread = Spread(me, port, members, rng, targets, preset.sync, self._guide)
        self._desk = Desk(
            me,
            port,
            self._seat,
            self._step,
            self._electors.is_enrolled,
            self._guide.heard,
            partial(is_permitted, directory),
        )
        self._desk.courier = self.courier = Courier(
            me, self.keys, self._pace.election_seconds, rng, self._desk.send, lambda: self.leader, lambda: self.wall
        )
        self.questions = Questions(rng.getrandbits(48), self._pace.election_seconds, self._ask_read)
        self._outlook = Outlook(LOST_ELECTIONS * preset.quorum.election_seconds, port.notify, now)
        self._writer, self._anchor = Writer(preset.quorum.election_seconds), restored.anchor
        self.keeper = Keeper(me, port.notify, directory.name)
        self._genesis = b""
        self.burst = Burst(self._step)
        self._stream: deque[Effect | Barrier] = deque()
        self._inputs: deque[Input] = deque()
        self._sent: tuple[Message | None, bytes] = (None, b"")
        self._voted: tuple[int, ReplicaId | None] = (0, None)
        """(term, vote) on the disk, while there is no Raft here."""
        self.is_stirred = False
        """Whether Raft wanted more than to send something since the last tick: else there is no need for a turn."""
        self._is_stepping = self._has_moved = self._is_amnesiac = self._is_mute = False
        """Mute: it does not vote, for its disk lost what it promised, or it judges otherwise."""
        self._late_at = inf
        self._has_lost = restored.is_damaged and not restored.joined  # perhaps the log that it began
        self._handlers: dict[Frame, Callable[[ReplicaId, bytes, Now], None]] = {
            Frame.RAFT: self._raft_untrusted,
            Frame.BLOCK: self._spread.block_untrusted,
            Frame.PROOF: self._spread.proof_untrusted,
            Frame.STANDING: self._spread.standing_untrusted,
            Frame.WANT_BLOCKS: self._spread.want_untrusted,
            Frame.BUNDLE: self._spread.piece_untrusted,
            Frame.REQUEST: self._desk.request_untrusted,
            Frame.ANSWER: self._desk.answer_untrusted,
        }
        self._restore(restored, now)
        self.trust_changed(now)
        if self._has_lost and self.chain is not None and self.chain.genesis.config.voters == (me,):
            port.notify(QuorumFault(LOG_GONE))

    # ---- what it shows

    @property
    def leader(self) -> ReplicaId | None:
        """By what this agent hears itself, or was told."""
        return self._guide.leader(self._now)[1]

    @property
    def wall(self) -> int:
        """Microseconds since 1970, as the log may see them."""
        return self._log_clock.at(self._now).wall

    @property
    def status(self) -> Status | None:
        """None: this mesh has no quorum, or this agent has not heard of it yet."""
        return None if self.chain is None else status_of(self.me, self.chain, self._guide, self._members.alive, self._now)

    # ---- the ways in

    def handle_untrusted(self, peer: ReplicaId, kind: Frame, payload: bytes, now: Now) -> bool:
        """One frame of an authenticated peer. False when the kind is not ours. Raises Malformed or Refused, state as it was."""
        if (handler := self._handlers.get(kind)) is None:
            return False
        self._now = now
        handler(peer, payload, now)
        return True

    def tick(self, now: Now) -> None:
        """Settle what arrived, do what is due, and hand on what came of it. At the end of every turn."""
        self._now, chain = now, self.chain
        if chain is None:  # a mesh without a quorum pays nothing for it
            return self._outlook.tick(self._has_quorum, now)
        if self._late_at < inf:
            self._go_on()
        self.burst.end()
        self._settle(now)
        self._begin_log(now)
        if self.raft is not None and not self._stream and has_ended(self.raft, chain, now):
            self._leave(self.raft, chain, now)
        raft = self.raft
        if raft is not None and now.monotonic >= raft.deadline and not self._is_mute:
            self._step(Tick())
        if raft is not None and raft.role is Role.LEADER and (self._is_mute or now.monotonic >= self._writer.stalls_at):
            self._step(Resign())
        self._spread.tick(now)
        leads = self.raft is not None and self.raft.role is Role.LEADER
        self.keeper.tick(self.raft.term if leads and self.raft is not None else 0, chain, self.courier, now)
        self.courier.tick(chain, now)
        self._desk.hand_over()
        self._settle(now)
        self.questions.tick(now)
        self._desk.flush(now)
        self._spread.flush(now)
        self.is_stirred = False
        return self._outlook.tick(self._has_quorum, now)

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next tick wanted."""
        if self.chain is None:
            return max(self._outlook.deadline, self._now.monotonic)
        leads = self.raft is not None and self.raft.role is Role.LEADER
        wanted = min(
            self.raft.deadline if self.raft is not None and not self._is_mute else inf,
            self._spread.deadline,
            self.courier.deadline,
            self.questions.deadline,
            self.keeper.deadline,
            self._writer.due,
            self._outlook.deadline,
            self._late_at,
            self._writer.stalls_at if leads else inf,
        )
        return max(wanted, self._now.monotonic)  # what is overdue is due now

    def judged(self, proposal: bytes, rule: str, now: Now) -> None:
        """This agent's judges have decided: `rule` says why not, empty endorses."""
        self._now = now
        if self.keeper.judging.answered(proposal):
            self._step(Judged(proposal, rule))

    def set_members(self, now: Now) -> None:
        """Membership changed."""
        self._now = now
        if self.raft is not None:
            self._step(Standby(self._electors.standby()))

    def greet(self, peer: ReplicaId, now: Now) -> None:
        """A member is (again) within reach."""
        self._now = now
        self._spread.greet(peer)

    def trust_changed(self, now: Now) -> None:
        """Statements came: perhaps the genesis, voters or scores."""
        self._now = now
        found = self._directory.genesis()
        if found is not None and found[0] != self._genesis:
            raw, says = found
            begun = 0 if self._anchor is None else self._anchor.epoch - 1
            if self.chain is not None:
                begun = self.chain.genesis.epoch
            if says.epoch > begun:
                self._has_lost &= self.chain is None  # in a new epoch there is nothing to be lost yet
                self._begin(raw, now)
                lost = (Forgot(is_over=False),) if self._has_lost else ()
                self._writer.put_at_once((Begun(says.epoch, raw), *lost), now)
        self.set_members(now)
        self._submit_scores()

    # ---- beginning

    def _genesis_of(self, raw: bytes) -> Genesis | None:
        found = self._directory.genesis()
        if found is None or found[0] != raw:
            return None
        return Genesis(found[1].epoch, Config((key_id(found[1].public_key),)), self.keys.hash(raw))

    def _begin(self, raw: bytes, now: Now) -> None:
        """A chain of the epoch that this genesis begins."""
        genesis = self._genesis_of(raw)
        assert genesis is not None, "asked for by who has just found it"
        if self.chain is not None and genesis.config.voters == (self.me,):
            self.keeper.inherit(self.chain.machine)
        self.courier.forget_all()
        self._genesis, self.raft, self._sent, self._voted = raw, None, (None, b""), (0, None)
        self._guide.begin()
        self._stream.clear()
        pace, anchor = self._pace.snapshot_blocks, self._anchor
        self.chain = Chain(genesis, self.keys, read_score, pace, self._predicates, anchor)
        self._spread.begin(self.chain, now)

    def _restore(self, restored: QuorumRestored, now: Now) -> None:
        found = self._directory.genesis()
        if not restored.epoch or found is None or found[0] != restored.genesis:
            return
        self._begin(restored.genesis, now)
        chain = self.chain
        assert chain is not None
        blocks = [self._block(raw) for raw in restored.blocks]
        steps = [(self._block(raw), certificate) for raw, certificate in restored.steps]
        chain.restore(
            None if restored.snapshot is None else restored.snapshot[1],
            [block for block in blocks if block.index <= restored.commit],
            steps,
            restored.bundle,
            restored.proof,
        )
        self._log_clock.began(chain.ledger.time, now)
        self._voted = restored.term, restored.vote
        if restored.joined:
            self._is_mute = restored.is_damaged
            if self._is_mute:
                self._writer.put_at_once((Forgot(is_over=False),), now)
                self._port.notify(
                    QuorumFault("blocks of the log were damaged on the disk: this voter fetches them before it votes")
                )
            self._start_raft(
                chain,
                Restored(
                    chain.genesis,
                    restored.term,
                    restored.vote,
                    tuple(blocks),
                    chain.applied,
                    None if restored.snapshot is None else restored.snapshot[1],
                    restored.verdicts,
                ),
                now,
            )

    def _block(self, raw: RawBlock) -> Block:
        return block_from_bytes_untrusted(*raw, self.keys)

    def _begin_log(self, now: Now) -> None:
        """The first voter writes the first block, unless others have blocks: then this is an empty disk in an old mesh."""
        chain = self.chain
        if self.raft is not None or chain is None or chain.applied or chain.genesis.config.voters != (self.me,):
            return
        if self._may_begin() and self._spread.hears_of_none(self._now) and not chain.awaits and not self._has_lost:
            self._join(now)

    def _may_join(self, message: Message) -> bool:
        found = None if self.chain is None else may_join(self.me, self.chain, message, self._electors.is_enrolled(self.me))
        if found is Answer.HAS_LOST:
            self._tell_lost(LOG_LOST)
        return found is Answer.YES

    def _tell_lost(self, how: str) -> None:
        if not self._is_amnesiac:
            self._is_amnesiac = True
            self._port.notify(QuorumFault(how))

    def _join(self, now: Now) -> None:
        """Take part from here on: with what the chain has, all of which is on the disk before anything is said about it."""
        chain = self.chain
        assert chain is not None
        self._stream.append(Barrier(self._writer.put_at_once((Joined(), Forgot(is_over=True)), now), 0))
        base = chain.digest[0] if chain.snapshot is not None else 0
        blocks = tuple(chain.log.between(base + 1, chain.applied))
        self._start_raft(chain, Restored(chain.genesis, *self._voted, blocks, chain.applied, chain.snapshot), now)

    def _leave(self, raft: Raft, chain: Chain, now: Now) -> None:
        """The log goes elsewhere."""
        self._writer.put(rows_of_end(raft, chain), now)
        self.raft = self._guide.raft = None
        self._voted, self._is_mute = (raft.term, raft.vote), False
        chain.source, chain.tip = lambda _index: None, bytes

    def _start_raft(self, chain: Chain, restored: Restored, now: Now) -> None:
        self.raft = Raft(
            self.me,
            self.keys,
            self._rng,
            restored,
            now,
            pace=self._pace,
            read_score=read_score,
            is_dangerous=dangerous,
            is_signed=lambda batch: is_signed_untrusted(batch, self.keys),
            is_certified=lambda evidence: is_certified(self._directory, evidence),
            counts_keys=False,
            is_state=chain.reads,
            authority=self._electors,
            is_clock_sure=lambda: self._log_clock.is_sure(self._now),
        )
        raft = self._guide.raft = self.raft
        chain.source, chain.tip = raft.log_block, lambda: raft.log.last_hash
        self._step(Standby(self._electors.standby()))

    # ---- who votes

    def _may_speak(self, peer: ReplicaId) -> bool:
        """Whether Raft should listen: no member without a voter's credential can disturb an election. Who has just lost that goes
        on until the others have agreed on it."""
        configs = [part.log.config for part in (self.chain, self.raft) if part is not None]
        return self._electors.is_enrolled(peer) or any(peer in config.everyone for config in configs)

    def _submit_scores(self) -> None:
        raft = self.raft
        if raft is not None and raft.role is Role.LEADER:
            for entry in self._electors.new_scores(raft.term, raft.ledger):
                self._step(Submit(entry))

    # ---- Raft

    def _raft_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        epoch, message = message_from_bytes_untrusted(payload, self.keys)
        chain = self.chain
        if chain is None or epoch != chain.genesis.epoch:
            return
        if isinstance(message, ReadAt) and self._may_speak(peer):
            self.questions.answered(message.number, message.index, now)
            self.is_stirred = True  # somebody waits for the turn that hands it on
            return
        is_question = isinstance(message, AskRead) and self.raft is not None and message.term <= self.raft.term
        if not is_question and not self._may_speak(peer):
            raise Turned("Raft from who is no voter")
        if self.raft is None and self._may_join(message):
            self._join(now)
        if self.raft is not None and not (self._is_mute and isinstance(message, AskVote | AskPreVote | HandOver)):
            is_routine = isinstance(message, Accepted) or (isinstance(message, Append) and not message.blocks)
            self.is_stirred |= not is_routine
            self.burst.take(Received(peer, message))

    def _step(self, given: Input) -> None:
        """One input to Raft, and all that follows from it. What the effects bring about is a further input, after them."""
        self._inputs.append(given)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._inputs and self.raft is not None:
                for effect in self.raft.step(self._inputs.popleft(), self._log_clock.at(self._now)):
                    if isinstance(effect, SendAtOnce):
                        self._send(effect.to, effect.message)
                    else:
                        self._stream.append(self._barrier(effect) if isinstance(effect, Persist) else effect)
                        self.is_stirred |= not isinstance(effect, Send)
                self._drain()
            self._inputs.clear()
            if self._is_mute and self.raft is not None and self.raft.is_whole and self.chain and not self.chain.lacking:
                self._is_mute = False
                self._writer.put((Forgot(is_over=True),), self._now)
        finally:
            self._is_stepping = False

    def _barrier(self, persist: Persist) -> Barrier:
        return Barrier(self._writer.put_at_once(persist.records, self._now), persist.number)

    def _go_on(self, *, hurries: bool = False) -> None:
        self._late_at = inf
        self._drain(hurries=hurries)
        if hurries and self._has_moved:  # what goes out now goes before what Raft makes of it
            self._late_at = self._now.monotonic + LATE_SECONDS
        elif self._inputs and not self._is_stepping:
            self._step(self._inputs.popleft())

    def _drain(self, *, hurries: bool = False) -> None:
        """Effects in their order, up to one that waits for the disk; in a hurry up to what nobody else waits for."""
        while self._stream:
            effect = self._stream[0]
            if isinstance(effect, Barrier) and effect.ticket > self._writer.durable:
                return
            if hurries and self._has_moved and isinstance(effect, Committed):
                return
            self._stream.popleft()
            if not isinstance(effect, Barrier):
                self._has_moved = True
                self._carry_out(effect)
            elif effect.persist:
                self._inputs.append(Persisted(effect.persist))

    def _carry_out(self, effect: Effect) -> None:
        chain = self.chain
        assert chain is not None
        match effect:
            case Send(to, message):
                self._send(to, message)
            case Committed(block):
                chain.committed(block)
                self._spread.committed(block)
            case Certified(certificate):
                if (index := chain.certified(certificate)) is not None:
                    self._spread.certified(index)
            case TakeState(index):
                state = chain.state_at(index)
                if state is not None:
                    self._inputs.append(StateTaken(index, state))
            case StateRestored(index):
                if self.raft is not None and self.raft.snapshot is not None and index > chain.applied:
                    chain.restored(index, self.raft.snapshot)
                    self.courier.jumped(chain)
            case Judge(digest, proposal):
                rule = self.keeper.judging.judge(digest, proposal, chain.machine)
                if rule is not None:
                    self._inputs.append(Judged(digest, rule))
            case Dissent(proposal, verdict):
                self.keeper.refused(proposal, verdict)
            case SecondLog():
                self._tell_lost(LOG_DIFFERS)
                self._is_mute = True
                self._writer.put_at_once((Forgot(is_over=False),), self._now)
            case Impeached(guilt):
                self._port.notify(QuorumFault(f"a proof against {self._directory.name(guilt.leader)} in term {guilt.term}"))
            case ReadReady(number, index):
                self.questions.answered(number, index, self._now)
            case ReadFailed(number):
                self.questions.answered(number, None, self._now)
            case Refused(entry, reason):
                self._desk.refused(entry, reason)
            case LeaderChanged(term, leader):
                self._leader_changed(term, leader)
            case Persist() | SendAtOnce():
                raise AssertionError("taken out before")
            case _:
                assert_never(effect)

    def _send(self, to: Voter, message: Message) -> None:
        """What goes to several is one message most of the time, and encoded once."""
        chain = self.chain
        assert chain is not None
        if message != self._sent[0]:
            self._sent = (message, message_to_bytes(chain.genesis.epoch, message, self.keys))
        self._port.send(to, Lane.CRITICAL, Frame.RAFT, self._sent[1])

    def _leader_changed(self, term: int, leader: ReplicaId | None) -> None:
        self._guide.heard(term, leader)
        if leader != self.me:
            self._spread.drop_fresh()
        if leader is not None:
            self._port.notify(LeaderElected(leader, self._directory.name(leader), term))
        if leader == self.me:
            self._submit_scores()

    def _settle(self, now: Now) -> None:
        """What was proven is applied, told and stored."""
        chain = self.chain
        if chain is None:
            return
        if self._spread.is_unsettled and self._spread.settle(now) and self.raft is not None:
            block = chain.log.get(chain.proven)
            if block is not None and block.index > self.raft.commit:
                self._step(Proven(block.index, block.hash))
        done = chain.take_done()
        if done:
            for each in done:
                self.courier.done(each)
            self._guide.led(done[-1].block)
        self.keeper.applied(chain, done, now)
        self._writer.put_chain(chain, done, by_raft=self.raft is not None, now=now)
        if chain.faults:
            for fault in chain.faults:
                self._port.notify(QuorumFault(fault))
            chain.faults.clear()
            self._is_mute |= bool(chain.lacking)

    # ---- the disk

    def batch(self, now: Now) -> QuorumBatch | None:
        """Drain what should go to the disk, what came in since the last tick too; None when nothing has to, yet."""
        self._now = now
        self.burst.end()
        return self._writer.batch(self.chain.applied if self.chain is not None else 0, now)

    def durable(self, ticket: int, now: Now) -> bool:
        """All batches up to this one are on the disk. False when nothing follows but this voter's own acknowledgement."""
        self._now, self._has_moved = now, False
        self._writer.committed(ticket)
        self._go_on(hurries=True)
        is_urgent, raft = self._writer.is_urgent, self.raft
        is_awaited = self.courier.waits or self.questions.waits or not are_books(self._stream, self._writer.durable)
        self.is_stirred |= is_urgent or is_awaited or raft is None or raft.role is not Role.FOLLOWER
        return self._has_moved or is_urgent

    # ---- what the parts ask

    def _seat(self) -> Seat | None:
        if self.chain is None:
            return None
        leads = self.raft is not None and self.raft.role is Role.LEADER
        is_settled = self.raft is not None and self.raft.is_settled
        return Seat(self.chain.genesis.epoch, *self._guide.leader(self._now), leads, is_settled, self.chain)

    def _ask_read(self, number: int, tries: int) -> None:
        """The leader; every other time some voter, who may be it: what this agent was told may be wrong."""
        if self._guide.hears(self._now):
            self._step(Read(number))
        elif self.chain is not None:
            voters = self.chain.config.electorate
            asked = voters[(number + tries) % len(voters)] if tries % 2 else self.leader
            if asked is not None and asked != self.me:
                self._send(asked, AskRead(0, number))

    def _has_quorum(self) -> bool:
        return self.chain is None or can_agree(self.me, self.chain, self.raft, self._members.alive, self._now)
