"""A small cluster of real voters: disks that finish when told, a network in the test's hands, and Raft's properties watched."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from typing import NamedTuple

from consensus_escalation.block import Block, Entry, Kind, config_of, header_from_bytes_untrusted
from consensus_escalation.certificate import Certificate, Trail
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import (
    BlocksStored,
    Certified,
    Committed,
    Effect,
    Input,
    Judge,
    Judged,
    LeaderChanged,
    Persist,
    Persisted,
    ReadReady,
    Received,
    Send,
    SendAtOnce,
    SnapshotStored,
    StateRestored,
    StateTaken,
    Submit,
    TakeState,
    TermAndVote,
    Tick,
    VerdictStored,
)
from consensus_escalation.ledger import Score
from consensus_escalation.messages import Accepted, Message, Vote
from consensus_escalation.quorum import Config
from consensus_escalation.raft import Raft
from consensus_escalation.sessions import NAMED
from consensus_escalation.types import Keys, Pace, Purpose, Role, Voter
from consensus_escalation.verdict import Proposal, Verdict, is_endorsed_untrusted
from mesh.wire.cbor import decode_untrusted, encode

EPOCH_MICROSECONDS = 1_700_000_000_000_000
"""When the clusters begin."""


class Now(NamedTuple):
    monotonic: float
    wall: int


def voter(number: int) -> Voter:
    return Voter(number.to_bytes(8, "big"))


def digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def seal(who: Voter, purpose: Purpose, raw: bytes) -> bytes:
    """Stands for a signature: as long, as deterministic, and cheap."""
    return blake2b(purpose.value + b"|" + raw, digest_size=64, key=who).digest()


def keys_of(who: Voter) -> Keys:
    return Keys(
        hash=digest,
        sign=lambda purpose, raw: seal(who, purpose, raw),
        verify=lambda signer, purpose, raw, signature: seal(signer, purpose, raw) == signature,
        encode=encode,
        decode_untrusted=decode_untrusted,
    )


def score_entry(number: int, score: int, serial: int = 1) -> Entry:
    return Entry(Kind.SCORE, evidence=encode([voter(number), score, serial]))


def read_score(raw: bytes) -> Score | None:
    who, score, serial = decode_untrusted(raw)
    return Score(Voter(who), score, serial, expires=1 << 62)


def is_dangerous(entry: Entry) -> bool:
    return entry.body.startswith(b"danger")


class Broken(AssertionError):
    """One of Raft's properties does not hold."""


@dataclass
class Witness:
    """Sees every effect of every voter and remembers what must never be contradicted (paper, figure 3)."""

    leaders: dict[int, Voter] = field(default_factory=dict)
    blocks: dict[tuple[int, int], bytes] = field(default_factory=dict)
    committed: dict[int, Block] = field(default_factory=dict)
    votes: dict[tuple[Voter, int], Voter] = field(default_factory=dict)
    certificates: list[Certificate] = field(default_factory=list)
    """Whose voters are not proven yet."""
    reads: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def check(self, condition: object, what: str) -> None:
        if not condition:
            raise Broken(what)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def stepped(self, machine: Machine) -> None:
        raft = machine.raft
        if raft is not None and raft.role is Role.LEADER and machine.led != raft.term:
            machine.led = raft.term
            self.count("elections")
            self.check(self.leaders.setdefault(raft.term, raft.me) == raft.me, f"two leaders in term {raft.term}")
            for index, block in self.committed.items():
                if index > raft.log.base.index:
                    self.check(raft.log.hash_at(index) == block.hash, f"leader completeness: {index} is missing")

    def stored(self, machine: Machine, blocks: Iterable[Block]) -> None:
        for block in blocks:
            known = self.blocks.setdefault((block.term, block.index), block.hash)
            self.check(known == block.hash, f"log matching: two blocks at {block.index} in term {block.term}")
            if machine.raft is not None and machine.raft.role is Role.LEADER and block.term == machine.raft.term:
                self.check(machine.disk.end < block.index, f"leader append-only: {block.index} written again")

    def applied(self, machine: Machine, block: Block) -> None:
        self.count("commits")
        self.check(block.index == machine.applied + 1, f"applied {block.index} after {machine.applied}")
        machine.applied = block.index
        for entry in filter(is_dangerous, block.entries):
            self.count("dangerous")
            config = machine.raft.log.config_before(block.index) if machine.raft is not None else (0, Config(()))
            if config[0] == block.header.config_index:
                self.check(
                    is_endorsed_untrusted(entry, block.header, config[1], machine.cluster.keys), "dangerous and not endorsed"
                )
        known = self.committed.setdefault(block.index, block)
        self.check(known.hash == block.hash, f"state machine safety: two blocks committed at {block.index}")

    def asks(self, number: int) -> None:
        self.reads[number] = max(self.committed, default=0)

    def read(self, number: int, index: int) -> None:
        """A read sees all that was committed anywhere before it was asked for."""
        self.count("reads")
        self.check(index >= self.reads.get(number, 0), f"a stale read at {index}")

    def certified(self, cluster: Cluster, certificate: Certificate) -> None:
        self.count("certificates")
        header = header_from_bytes_untrusted(certificate.headers[0], cluster.keys)
        block = self.committed.get(header.index)
        self.check(
            block is not None and digest(certificate.headers[0]) == block.hash, f"{header.index} is certified, not committed"
        )
        self.certificates.append(certificate)
        self.prove(cluster)

    def prove(self, cluster: Cluster) -> None:
        """A stranger who knows the genesis goes through all certificates; one may have to wait for that of the voters before."""
        waiting, self.certificates = self.certificates, []
        for certificate in waiting:
            header = header_from_bytes_untrusted(certificate.headers[0], cluster.keys)
            if not cluster.trail.knows(header.config_index):
                self.certificates.append(certificate)
            elif config_of(block := self.committed[header.index], cluster.keys):
                cluster.trail.extend_untrusted(block, certificate)
            else:
                cluster.trail.verify_untrusted(certificate)

    def sent(self, machine: Machine, to: Voter, message: Message) -> None:
        match message:
            case Vote(term, True):
                self.check(machine.disk.term >= term, "a vote left before it was durable")
                self.check(self.votes.setdefault((machine.me, term), to) == to, f"two votes in term {term}")
            case Accepted():
                self.check(machine.disk.end >= message.match, "an acknowledgement left before its blocks were durable")
            case _:
                pass


@dataclass
class Disk:
    """What survives a crash."""

    term: int = 0
    vote: Voter | None = None
    blocks: list[Block] = field(default_factory=list)
    commit: int = 0
    snapshot: tuple[int, bytes] | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.blocks[-1].index if self.blocks else self.snapshot[0] if self.snapshot else 0

    def write(self, persist: Persist) -> None:
        self.commit = persist.commit
        for record in persist.records:
            match record:
                case TermAndVote(term, vote):
                    self.term, self.vote = term, vote
                case BlocksStored(blocks):
                    self.blocks = [block for block in self.blocks if block.index < blocks[0].index] + list(blocks)
                case VerdictStored(verdict):
                    self.verdicts.append(verdict)
                case SnapshotStored(index, raw, alone):
                    self.snapshot = (index, raw)
                    self.blocks = [] if alone else [block for block in self.blocks if block.index > index]


class Machine:
    """One voter's process and its disk."""

    def __init__(self, cluster: Cluster, me: Voter) -> None:
        self.cluster, self.me = cluster, me
        self.disk = Disk()
        self.raft: Raft | None = None
        self.stream: deque[Effect] = deque()
        self.applied = 0
        self.led = 0
        self.wakes_at = inf
        self.restored: list[str] = []
        self.notices: list[Effect] = []
        self.start()

    def start(self) -> None:
        disk = self.disk
        restored = Restored(
            self.cluster.genesis,
            disk.term,
            disk.vote,
            tuple(disk.blocks),
            disk.commit,
            disk.snapshot[1] if disk.snapshot else None,
            tuple(disk.verdicts),
        )
        seed = random.Random(f"{self.cluster.seed} {self.me.hex()} {self.cluster.time}")
        self.applied, self.led, self.wakes_at, self.restored = 0, 0, inf, []
        self.notices = [notice for notice in self.notices if not isinstance(notice, Committed)]
        self.raft = Raft(
            self.me,
            keys_of(self.me),
            seed,
            restored,
            self.cluster.now(self),
            pace=self.cluster.pace,
            read_score=read_score,
            is_dangerous=is_dangerous,
        )

    def crash(self) -> None:
        self.raft = None
        self.stream.clear()

    def step(self, given: Input) -> None:
        if self.raft is None:
            return
        for effect in self.raft.step(given, self.cluster.now(self)):
            if isinstance(effect, SendAtOnce):
                self.cluster.transmit(self, effect.to, effect.message)
            else:
                self.stream.append(effect)
        self.cluster.witness.stepped(self)
        self.drain()
        self.cluster.stepped(self)

    def drain(self) -> None:
        """Up to the next write, which ends when the cluster says so."""
        while self.stream:
            effect = self.stream[0]
            if isinstance(effect, Persist):
                self.cluster.writing(self, effect)
                return
            self.stream.popleft()
            match effect:
                case Send(to, message):
                    self.cluster.witness.sent(self, to, message)
                    self.cluster.transmit(self, to, message)
                case Committed(block):
                    self.cluster.witness.applied(self, block)
                    self.notices.append(effect)
                case Judge(proposal_hash, proposal):
                    self.step(Judged(proposal_hash, self.cluster.judge(self, proposal)))
                    return
                case TakeState(index):
                    self.step(StateTaken(index, encode([self.applied, self.cluster.texts(self)])))
                    return
                case StateRestored(index, state):
                    self.applied = index
                    self.restored = decode_untrusted(state)[1]
                    self.notices = [notice for notice in self.notices if not isinstance(notice, Committed)]
                case ReadReady(number, index):
                    self.cluster.witness.read(number, index)
                    self.notices.append(effect)
                case Certified(certificate):
                    self.cluster.witness.certified(self.cluster, certificate)
                    self.notices.append(effect)
                case _:
                    self.notices.append(effect)

    def write_done(self, persist: Persist) -> None:
        """The disk has finished what it was asked for, unless the process was killed meanwhile."""
        if self.stream and self.stream[0] is persist:
            self.stream.popleft()
            for record in persist.records:
                if isinstance(record, BlocksStored):
                    self.cluster.witness.stored(self, record.blocks)
            self.disk.write(persist)
            self.step(Persisted(persist.number))

    def take(self, kind: type[Effect]) -> list[Effect]:
        found = [notice for notice in self.notices if isinstance(notice, kind)]
        self.notices = [notice for notice in self.notices if not isinstance(notice, kind)]
        return found


class Cluster:
    """`transmit` and `writing` are what a network and a disk do: here both work at once, in order; see also `Storm`."""

    def __init__(self, size: int, *, seed: int = 0, pace: Pace | None = None, voters: int | None = None) -> None:
        self.seed, self.time, self.pace = seed, 0.0, pace or Pace()
        self.rng = random.Random(seed)
        self.names = [voter(number) for number in range(1, size + 1)]
        self.genesis = Genesis(1, Config(tuple(self.names[: voters or size])), digest(b"genesis"), EPOCH_MICROSECONDS)
        self.keys = keys_of(voter(0))
        self.trail = Trail(self.genesis.config, self.genesis.epoch, self.keys)
        self.witness = Witness()
        self.inbox: deque[tuple[Voter, Voter, Message]] = deque()
        self.lost: Callable[[Voter, Voter, Message], bool] = lambda _sender, _to, _message: False
        self.judge: Callable[[Machine, Proposal], str] = lambda _machine, _proposal: ""
        self.slow_disks: set[Voter] = set()
        self.skews: dict[Voter, float] = {}
        """Seconds that a voter's wall clock is ahead."""
        self.machines = {name: Machine(self, name) for name in self.names}

    def __getitem__(self, number: int) -> Machine:
        return self.machines[voter(number)]

    def now(self, machine: Machine) -> Now:
        return Now(self.time, EPOCH_MICROSECONDS + int((self.time + self.skews.get(machine.me, 0.0)) * 1e6))

    def transmit(self, sender: Machine, to: Voter, message: Message) -> None:
        self.inbox.append((sender.me, to, message))

    def stepped(self, machine: Machine) -> None:
        pass

    def writing(self, machine: Machine, persist: Persist) -> None:
        if machine.me not in self.slow_disks:
            machine.write_done(persist)

    # ---- verbs

    def deliver(self) -> int:
        """Everything that is on its way, and what that brings about; returns how many messages."""
        count = 0
        while self.inbox:
            sender, to, message = self.inbox.popleft()
            if not self.lost(sender, to, message) and to in self.machines:
                self.machines[to].step(Received(sender, message))
            count += 1
            assert count < 100_000, "the voters never come to rest"
        return count

    def advance(self, seconds: float) -> None:
        """Virtual time passes; each tick comes when it is due."""
        end = self.time + seconds
        while True:
            self.deliver()
            running = [m for m in self.machines.values() if m.raft is not None]
            due = min(running, key=lambda m: m.raft.deadline if m.raft else end)
            assert due.raft is not None
            if due.raft.deadline > end:
                self.time = end
                return
            self.time = max(self.time, due.raft.deadline)
            due.step(Tick())

    def leader(self) -> Machine | None:
        leading = [m for m in self.machines.values() if m.raft is not None and m.raft.role is Role.LEADER]
        return max(leading, key=lambda m: m.raft.term if m.raft else 0, default=None)

    def elect(self, seconds: float = 2.0) -> Machine:
        self.advance(seconds)
        leader = self.leader()
        assert leader is not None, "nobody leads"
        return leader

    def give_scores(self, leader: Machine, scores: dict[int, int], serial: int = 1) -> None:
        for number, score in sorted(scores.items()):
            leader.step(Submit(score_entry(number, score, serial)))
        self.advance(0.1)

    def submit(self, machine: Machine, text: str, number: int = 0, since: int = 0) -> None:
        since = since or EPOCH_MICROSECONDS
        machine.step(Submit(Entry(Kind.COMMAND, b"client", since, number or NAMED | self.rng.getrandbits(60), text.encode())))

    def cut_off(self, *numbers: int) -> None:
        """These on one side, the others on the other."""
        side = {voter(number) for number in numbers}
        self.lost = lambda sender, to, _message: (sender in side) != (to in side)

    def heal(self) -> None:
        self.lost = lambda _sender, _to, _message: False

    def texts(self, machine: Machine) -> list[str]:
        """What this voter applied, once each."""
        found = list(machine.restored)
        for notice in machine.notices:
            if isinstance(notice, Committed):
                for entry, fresh in zip(notice.block.entries, notice.fresh, strict=True):
                    if fresh and entry.kind is Kind.COMMAND:
                        found.append(entry.body.decode())
        return found

    def leaders_seen(self) -> list[LeaderChanged]:
        return [n for m in self.machines.values() for n in m.notices if isinstance(n, LeaderChanged)]
