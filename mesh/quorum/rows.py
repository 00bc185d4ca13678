"""What the quorum puts on the disk, in the order in which it has to be there, and what it finds at the next start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from consensus_escalation.anchor import Anchor
from consensus_escalation.block import Block
from consensus_escalation.certificate import Certificate
from consensus_escalation.effects import BlocksStored, Record, SnapshotStored, TermAndVote, VerdictStored
from consensus_escalation.kept import Bundle, Proof, Step
from consensus_escalation.verdict import Verdict
from crdt.ids import ReplicaId


@dataclass(frozen=True, slots=True)
class Begun:
    """This replica takes part in the quorum of this epoch, under this genesis; what is there of another one goes."""

    epoch: int
    genesis: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """From here on this replica stores what it acknowledges: it votes, or learns in order to."""


@dataclass(frozen=True, slots=True)
class Left:
    """It takes part no longer; its term and vote stay."""


@dataclass(frozen=True, slots=True)
class Forgot:
    """This voter lost what it may have acknowledged; with `is_over` it has all of that again."""

    is_over: bool


Row: TypeAlias = Record | Begun | Joined | Left | Forgot | Proof | Step | Bundle


class QuorumBatch(NamedTuple):
    """To be committed together, after all batches before it."""

    ticket: int
    """Rises by one; reported back when it is durable."""
    rows: tuple[Row, ...]
    commit: int
    """Known to be committed; only the newest counts."""
    hurry: bool
    """Something waits for it: no time to lose. Else it may wait for company."""


RawBlock: TypeAlias = tuple[bytes, bytes, bytes]
"""(header bytes, signature, body)."""


@dataclass(frozen=True, slots=True)
class QuorumRestored:
    """What a start finds; nothing at the first one."""

    epoch: int = 0
    genesis: bytes = b""
    joined: bool = False
    term: int = 0
    vote: ReplicaId | None = None
    commit: int = 0
    blocks: tuple[RawBlock, ...] = ()
    """In a row, above the snapshot."""
    snapshot: tuple[int, bytes] | None = None
    verdicts: tuple[Verdict, ...] = ()
    proof: Proof | None = None
    steps: tuple[tuple[RawBlock, Certificate], ...] = ()
    bundle: tuple[int, bytes] | None = None
    is_damaged: bool = False
    """Blocks above these were here, and perhaps acknowledged, and cannot be read any more."""
    anchor: Anchor | None = None
    """What this agent was told by hand when it joined; not from this disk."""
    is_new: bool = False
    """There was no file yet."""


NOTHING: Final = QuorumRestored()


def raw_block(block: Block) -> RawBlock:
    return block.header_bytes, block.signature, block.body


@dataclass(slots=True)
class Image:
    """The tables as they are on a disk, in memory: for the simulated disk, and the definition that the real one is tested by."""

    epoch: int = 0
    genesis: bytes = b""
    joined: bool = False
    term: int = 0
    vote: ReplicaId | None = None
    commit: int = 0
    blocks: dict[int, RawBlock] = field(default_factory=dict)
    snapshot: tuple[int, bytes] | None = None
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    proof: Proof | None = None
    steps: dict[int, tuple[RawBlock, Certificate]] = field(default_factory=dict)
    bundle: tuple[int, bytes] | None = None
    is_damaged: bool = False

    def damage(self, index: int) -> None:
        """The block at `index` can no longer be read: it and those above it are lost, and that shows."""
        self.blocks = {at: block for at, block in self.blocks.items() if at < index}
        self.commit, self.is_damaged = min(self.commit, index - 1), True

    def apply(self, batch: QuorumBatch) -> None:
        for row in batch.rows:
            self._apply(row)
        self.commit = max(self.commit, batch.commit)

    def _apply(self, row: Row) -> None:
        match row:
            case Begun(epoch, genesis):
                self.__init__(epoch, genesis)  # type: ignore[misc]  # all as it is at first
            case Joined():
                self.joined = True
            case Left():
                self.joined = False
            case Forgot(is_over):
                self.is_damaged = not is_over
            case TermAndVote(term, vote):
                if term > self.term:
                    self.verdicts.clear()
                self.term, self.vote = term, vote
            case BlocksStored(blocks):
                for index in [index for index in self.blocks if index >= blocks[0].index]:
                    del self.blocks[index]
                self.blocks.update((block.index, raw_block(block)) for block in blocks)
            case SnapshotStored(index, raw, alone):
                self.snapshot = (index, raw)
                self.blocks = {} if alone else {at: block for at, block in self.blocks.items() if at > index}
            case VerdictStored(verdict):
                self.verdicts[verdict.proposal] = verdict
            case Proof():
                self.proof = row
            case Step(block, certificate):
                self.steps[block.index] = (raw_block(block), certificate)
            case Bundle(index, raw):
                self.bundle = (index, raw)

    def copy(self) -> Image:
        return Image(
            self.epoch,
            self.genesis,
            self.joined,
            self.term,
            self.vote,
            self.commit,
            dict(self.blocks),
            self.snapshot,
            dict(self.verdicts),
            self.proof,
            dict(self.steps),
            self.bundle,
            self.is_damaged,
        )

    def restored(self) -> QuorumRestored:
        return QuorumRestored(
            self.epoch,
            self.genesis,
            self.joined,
            self.term,
            self.vote,
            max(self.commit, self.snapshot[0] if self.snapshot else 0),
            tuple(self.blocks[index] for index in sorted(self.blocks)),
            self.snapshot,
            tuple(self.verdicts.values()),
            self.proof,
            tuple(self.steps[index] for index in sorted(self.steps)),
            self.bundle,
            self.is_damaged,
        )
