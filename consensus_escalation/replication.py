"""Blocks to the followers, acknowledgements back, and what that commits.

Driven by events: a block goes out when it is cut, the next ones when an answer frees the window; ticks only repeat what may have
been lost. A follower is *probed* with one frame at a time until it is known where its log agrees, then blocks are *pipelined*
without waiting for answers (dissertation 10.2.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import NamedTuple, Protocol

from consensus_escalation.block import Block, Kind, clock_of, config_of
from consensus_escalation.certificate import HEADERS_MAX, Collector, ack_bytes
from consensus_escalation.clocks import is_attested_untrusted, latest
from consensus_escalation.core import Core, Refusal
from consensus_escalation.effects import Certified, SecondLog
from consensus_escalation.impeachment import equivocation_proof
from consensus_escalation.messages import Accepted, Append, Rejected, SnapshotPiece, SnapshotTaken
from consensus_escalation.quorum import Config, reached_by_quorum
from consensus_escalation.snapshot import Incoming, Outgoing
from consensus_escalation.thrift import Thrift
from consensus_escalation.types import FRAME_BYTES_MAX, Purpose, Role, Voter

HEARTBEATS: int = 3
"""A voter that has not answered for so many is not counted on. Guess: one answer may be lost, and one is on its way."""
APPEND_BYTES: int = 64
"""An Append without blocks: five integers and a hash, generously."""

# ---- the rules, pure


def may_sign_ack(block_term: int, leader_term: int, my_term: int) -> bool:
    """A voter acknowledges only blocks of the leader's own term, and only while that is its own term: a signature given later
    could certify a block that the next leader has replaced."""
    return block_term == leader_term == my_term


class Configured(Protocol):
    """What `may_commit` asks of a log."""

    @property
    def last_index(self) -> int: ...

    def configs_between(self, low: int, high: int) -> Iterator[int]: ...

    def config_before(self, index: int) -> tuple[int, Config]: ...


def may_commit(log: Configured, match: Mapping[Voter, float], commit: int, term_start: int) -> int:
    """The highest index that may be committed, given what is durable where.

    Only a block of the leader's own term commits by counting, and with it all before (paper 5.4.2): `term_start` is the first of
    them. Each block needs a quorum of the configuration before it, so a voter-set change is agreed by the set that it ends.
    """
    edges = [commit, *log.configs_between(commit, log.last_index), log.last_index]
    for low, high in pairwise(edges):
        if high == low:
            continue
        reached = int(reached_by_quorum(log.config_before(low + 1)[1], match))
        if reached < term_start:
            return commit
        commit = max(commit, min(reached, high))
        if reached < high:
            return commit
    return commit


def frames(blocks: Iterator[Block]) -> Iterator[tuple[Block, ...]]:
    """Blocks in runs that fit one frame."""
    run: list[Block] = []
    room = FRAME_BYTES_MAX - APPEND_BYTES
    for block in blocks:
        if run and block.size > room:
            yield tuple(run)
            run, room = [], FRAME_BYTES_MAX - APPEND_BYTES
        run.append(block)
        room -= block.size
    if run:
        yield tuple(run)


# ----


@dataclass(slots=True)
class Progress:
    """What the leader knows of one follower."""

    next: int
    match: int = 0
    is_probing: bool = True
    is_waiting: bool = False
    """A probe is on its way."""
    answered_at: float = 0.0
    steady_since: float = 0.0
    """Since when its answers have had no gap."""
    round: int = 0
    snapshot: Outgoing | None = None
    """While what it needs next is no longer in the log."""


@dataclass(slots=True)
class Leading:
    """What only a leader has; made new for every term."""

    term: int
    start_index: int
    """Of its own first block, the no-op."""
    since: float
    acks: Collector
    progress: dict[Voter, Progress] = field(default_factory=dict)
    own_match: int = 0
    round: int = 0
    thrift: Thrift = field(default_factory=Thrift)

    def matches(self, me: Voter) -> dict[Voter, float]:
        found: dict[Voter, float] = {voter: progress.match for voter, progress in self.progress.items()}
        found[me] = self.own_match
        return found


class Owed(NamedTuple):
    """An acknowledgement of blocks that go to the disk. To sign it takes time, which the disk can use."""

    leader: Voter
    match: int
    round: int
    committed: int


class Replication:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.leading: Leading | None = None
        self._ack = (b"", b"")
        self._unanswered = (0, 0)
        """(term, match): what this voter has stored and will say when the burst is over."""
        self._owed: Owed | None = None
        self._incoming = Incoming()
        self.proofs: list[bytes] = []
        """Against leaders, found in what they sent; the caller takes them away."""

    # ---- leader

    def lead(self, start_index: int) -> Leading:
        now = self._core.now.monotonic
        self.leading = Leading(self._core.term, start_index, now, Collector(self._core.epoch, self._core.keys))
        self.refresh()
        return self.leading

    def refresh(self) -> None:
        """Progress for exactly those to whom the log goes now: who is leaving has to agree on that."""
        core, leading = self._core, self.leading
        if leading is None:
            return
        wanted = core.others(core.log.audience(core.commit))
        if list(leading.progress) != wanted:
            now = core.now.monotonic
            fresh = core.log.last_index + 1
            leading.progress = {
                v: leading.progress.get(v) or Progress(next=fresh, answered_at=now, steady_since=now) for v in wanted
            }
        there = [voter for voter in core.ledger.ranking(wanted) if self._is_there(leading.progress[voter])]
        leading.thrift.choose(core.log.config, core.me, there, is_agreed=core.log.config_index <= core.commit)

    def cut(self, block: Block) -> None:
        """This leader's newest one, to be sent with the next `broadcast`."""
        self.refresh()
        if self.leading is not None:
            authors = {entry.author for entry in block.entries}
            self.leading.thrift.wrote([voter for voter in self.leading.progress if voter in authors], block.index)

    def _is_there(self, progress: Progress) -> bool:
        """Whether it has answered in this term, and to one of the last heartbeats."""
        core = self._core
        return not progress.is_probing and core.now.monotonic - progress.answered_at < HEARTBEATS * core.pace.heartbeat_seconds

    def broadcast(self) -> None:
        """All that is new, to everyone whose time it is, as far as the windows allow."""
        core, leading = self._core, self.leading
        if leading is None:
            return
        for voter, progress in leading.progress.items():
            self._offer(leading, voter, progress)
        if core.now.monotonic >= leading.thrift.due:
            leading.thrift.told(core.log.last_index, core.commit, core.now.monotonic)

    def _offer(self, leading: Leading, voter: Voter, progress: Progress) -> bool:
        """What is new, now or when it is due; what it is known to lack does not wait. True when something was sent."""
        core, now = self._core, self._core.now.monotonic
        is_behind = progress.is_probing or progress.next <= core.log.base.index
        if is_behind or leading.thrift.is_due(voter, progress.next, now):
            return self._feed(voter, progress)
        if progress.next <= core.log.last_index:
            leading.thrift.waits(core.log.last_index, now)
        return False

    def tick(self) -> None:
        if self._core.now.monotonic >= self.deadline:
            self.broadcast()

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next `tick` wanted: some are not told of everything at once."""
        return self.leading.thrift.due if self.leading is not None else inf

    def heartbeat(self) -> None:
        """Something to everyone, new or not: it repeats what may have been lost."""
        leading = self.leading
        if leading:
            self.refresh()
            for voter, progress in leading.progress.items():
                progress.is_waiting = False
                if progress.snapshot is not None:
                    progress.snapshot.repeat()
                if not self._offer(leading, voter, progress):
                    self._send(voter, progress.next, ())

    def _feed(self, voter: Voter, progress: Progress) -> bool:
        core = self._core
        if progress.next <= core.log.base.index:
            return self._feed_snapshot(voter, progress)
        progress.snapshot = None
        if progress.is_probing and progress.is_waiting:
            return False
        last = min(core.log.last_index, progress.match + core.pace.window_blocks)
        if last < progress.next:
            return False
        sent = False
        for run in frames(iter(core.log.between(progress.next, last))):
            self._send(voter, progress.next, run)
            sent = True
            if progress.is_probing:
                progress.is_waiting = True
                break
            progress.next = run[-1].index + 1
        return sent

    def _feed_snapshot(self, voter: Voter, progress: Progress) -> bool:
        core = self._core
        assert core.snapshot is not None, "what was cut off stands in a snapshot"
        if progress.snapshot is None or progress.snapshot.index != core.log.base.index:
            progress.snapshot = Outgoing(core.snapshot, core.log.base.index, core.keys.hash(core.snapshot))
        for piece in progress.snapshot.pieces(core.term):
            core.send_at_once(voter, piece)
        return True

    def snapshot_taken(self, sender: Voter, message: SnapshotTaken) -> None:
        leading = self.leading
        if leading is None or message.term != leading.term or (progress := leading.progress.get(sender)) is None:
            return
        self._heard(progress, 0)
        outgoing = progress.snapshot
        if outgoing is None or outgoing.index != message.index:
            return
        outgoing.answered(message.offset)
        if outgoing.acked == len(outgoing.raw):
            progress.snapshot, progress.next = None, max(progress.next, outgoing.index + 1)
            progress.is_probing, progress.is_waiting = True, False
        self._feed(sender, progress)

    def snapshot_came(self, sender: Voter, message: SnapshotPiece) -> None:
        """The sender leads this term: the caller has seen to that."""
        core = self._core
        offset = message.total
        if message.index > core.commit:
            offset, whole = self._incoming.take(message, core.keys)
            if whole is not None and not core.install(whole):
                offset = 0
        core.send(sender, SnapshotTaken(core.term, message.index, offset))

    def _send(self, voter: Voter, first: int, blocks: tuple[Block, ...]) -> None:
        core, leading = self._core, self.leading
        assert leading is not None
        prev = first - 1
        term, digest = core.log.term_at(prev), core.log.hash_at(prev)
        assert term is not None, "a follower is never fed from below the log"
        assert digest is not None
        core.send_at_once(voter, Append(leading.term, prev, term, digest, blocks, core.commit, leading.round))

    def _heard(self, progress: Progress, round_: int) -> None:
        now, pace = self._core.now.monotonic, self._core.pace
        if now - progress.answered_at > pace.election_seconds:
            progress.steady_since = now
        progress.answered_at = now
        progress.round = max(progress.round, round_)

    def accepted(self, sender: Voter, message: Accepted) -> None:
        leading = self.leading
        if leading is None or message.term != leading.term or (progress := leading.progress.get(sender)) is None:
            return
        if message.match > self._core.log.last_index:
            return  # it cannot have stored what was never cut
        self._heard(progress, message.round)
        leading.acks.add(sender, message.match, message.ack)
        progress.is_waiting = progress.is_waiting and message.match < progress.next - 1
        if message.match > progress.match or progress.is_probing:
            progress.match = max(progress.match, message.match)
            progress.is_probing = False
            progress.next = max(progress.next, progress.match + 1)
        self.count()
        self._offer(leading, sender, progress)

    def rejected(self, sender: Voter, message: Rejected) -> None:
        leading = self.leading
        if leading is None or message.term != leading.term or (progress := leading.progress.get(sender)) is None:
            return
        self._heard(progress, message.round)
        if message.prev_index <= progress.match or message.prev_index > progress.next - 1:
            return  # an answer to something older
        if progress.is_probing and message.prev_index != progress.next - 1:
            return
        progress.next = max(progress.match, min(message.hint, message.prev_index - 1)) + 1
        progress.is_probing, progress.is_waiting = True, False
        if not self._feed(sender, progress):
            self._send(sender, progress.next, ())

    def stored(self, term: int, last_index: int) -> None:
        """This leader's own blocks up to `last_index` are durable: its acknowledgement counts."""
        if self.leading and self.leading.term == term:
            self.leading.own_match = max(self.leading.own_match, last_index)
            self.leading.acks.add(self._core.me, last_index, self._sign_ack(last_index, term))
            self.count()

    def count(self) -> None:
        """Commit what may be committed."""
        core, leading = self._core, self.leading
        if leading is None:
            return
        before = core.commit
        if before < core.log.last_index:
            core.commit_to(may_commit(core.log, leading.matches(core.me), before, leading.start_index))
        if core.commit > before:
            if leading.own_match > core.commit >= leading.start_index:
                # Stored here in one go with what follows, so acknowledged for the last of it only: a proof for others, who have
                # not got all that yet, needs this one.
                leading.acks.add(core.me, core.commit, self._sign_ack(core.commit, leading.term))
            # Of older changes the leader may have died before it told the proof, so each new one proves them again.
            known = before if before >= leading.start_index else max(core.log.base.index, core.commit - HEADERS_MAX)
            leading.acks.committed([*core.log.configs_between(known, core.commit - 1), core.commit])
        if leading.acks.wants:
            changing = set(core.log.configs_between(0, core.commit))
            core.effects.extend(Certified(certificate) for certificate in leading.acks.take(core.log, changing.__contains__))

    # ---- follower

    def appended(self, sender: Voter, message: Append, is_followed: bool) -> None:
        """The sender leads this term: the caller has seen to that. `is_followed`: the answer to the next one will do."""
        core = self._core
        blocks = self._beyond_base(message)
        prev_index = blocks[0].index - 1 if blocks else message.prev_index
        if not self._joins(message):
            hint = min(core.log.last_of_term(message.prev_term, message.prev_index), core.log.last_index)
            core.send(sender, Rejected(core.term, message.prev_index, max(hint, core.commit), message.round))
            return
        if not self._is_chain(sender, message) or (blocks and blocks[0].header.prev != core.log.hash_at(prev_index)):
            return  # nothing that a correct leader sends
        fresh = tuple(b for b in blocks if core.log.hash_at(b.index) != b.hash)
        if fresh:
            core.refusal = None
            # The chain makes all after the first new one new: hashes name what is before them.
            assert fresh[0].index > core.commit, "what is committed is never replaced"
            core.store(fresh)
        match = max(prev_index + len(blocks), min(message.prev_index + len(message.blocks), core.commit))
        committed = min(message.commit, match)
        term, reached = self._unanswered
        match = max(match, reached) if term == message.term else match
        if is_followed:
            self._unanswered = (message.term, match)
            core.commit_to(committed)
            return
        self._unanswered = (0, 0)
        self._owed = Owed(sender, match, message.round, committed)
        if not fresh:
            self.answer()

    def answer(self) -> None:
        """Before anything else is done: what was stored last is acknowledged, then committed."""
        core, owed = self._core, self._owed
        if owed is not None:  # first of all: the leader waits for it, and nobody for what is applied here
            self._owed = None
            core.send(owed.leader, Accepted(core.term, owed.match, owed.round, self._sign_ack(owed.match, core.term)))
            core.commit_to(owed.committed)

    def sign_ahead(self) -> None:
        """A leader, too, knows what it will acknowledge when its disk is ready."""
        if self.leading is not None and self._core.is_writing:
            self._sign_ack(self._core.log.last_index, self._core.term)

    def is_of_the_future(self, message: Append) -> bool:
        """Whether a block in it claims more than the log allows: nothing that a correct leader sends, whatever its clock says."""
        attested = self._core.log.attested_before(message.prev_index + 1)
        for block in message.blocks:
            attested = clock_of(block.entries) or attested
            if block.time > latest(attested):
                return self._joins(message)  # else I do not know what is attested there
        return False

    def _beyond_base(self, message: Append) -> tuple[Block, ...]:
        return tuple(block for block in message.blocks if block.index > self._core.log.base.index)

    def _joins(self, message: Append) -> bool:
        """Whether my log has what the blocks follow on. What is below my snapshot is committed, so it agrees."""
        log = self._core.log
        return message.prev_index < log.base.index or log.hash_at(message.prev_index) == message.prev_hash

    def _is_chain(self, sender: Voter, message: Append) -> bool:
        """Each block follows on the one before, is its leader's, and has what its class requires."""
        core = self._core
        config_index, config = core.log.config_before(message.prev_index + 1)
        attested = core.log.attested_before(message.prev_index + 1)
        held = core.log.get(message.prev_index)
        before, index, term, time = message.prev_hash, message.prev_index, message.prev_term, held.time if held else 0
        for block in message.blocks:
            header = block.header
            if header.prev != before or header.index != index + 1 or header.epoch != core.epoch:
                return False
            if (
                not term <= header.term <= message.term
                or block.time < time
                or (header.term == message.term and header.leader != sender)
            ):
                return False
            is_new = header.index > core.log.base.index and core.log.hash_at(header.index) != block.hash
            if is_new and header.config_index != config_index:
                return False
            if is_new and not self._is_genuine(block, message.term, config, attested):
                return False
            before, index, term, time = block.hash, header.index, header.term, block.time
            attested = clock_of(block.entries) or attested
            changed = config_of(block, core.keys)
            if changed is not None:
                config_index, config = index, changed
        return True

    def _is_genuine(self, block: Block, leader_term: int, config: Config, attested: int) -> bool:
        core = self._core
        held = core.log.get(block.index)
        if held is not None and held.term == block.term == leader_term:
            self.proofs.append(equivocation_proof(held, block, core.keys))
            return False  # a leader never replaces a block of its own term
        if block.index <= core.commit:
            self._look_for_second_log(block)
            return False  # and no answer: this voter is of no use to that leader, which should replace it
        if not core.keys.verify(block.header.leader, Purpose.BLOCK, block.header_bytes, block.signature):
            return False  # nobody's, so in nobody's log
        if block.has(Kind.CLOCK) and not is_attested_untrusted(block, config, attested, core.keys):
            return False
        if not core.takes(block, config):
            core.refusal = Refusal(core.now.monotonic, block, config)
            return False
        return True

    def _look_for_second_log(self, block: Block) -> None:
        """A first block that I signed, and is not the one that I have: nobody else can make one, and I make one in a life."""
        core, header = self._core, block.header
        is_mine = block.index == 1 and header.leader == core.me
        if is_mine and core.keys.verify(core.me, Purpose.BLOCK, block.header_bytes, block.signature):
            core.effects.append(SecondLog())

    def _sign_ack(self, match: int, leader_term: int) -> bytes:
        core = self._core
        block = core.log.get(match)
        if block is None or not may_sign_ack(block.term, leader_term, core.term):
            return b""
        if self._ack[0] != block.hash:
            self._ack = (block.hash, core.keys.sign(Purpose.ACK, ack_bytes(core.epoch, block.hash)))
        return self._ack[1]

    def stop(self) -> None:
        if self._core.role is not Role.LEADER:
            self.leading = None
