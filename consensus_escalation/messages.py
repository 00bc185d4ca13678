"""What voters say to each other. The sender is known from the sealed session; `wire` has the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from consensus_escalation.block import Block
from consensus_escalation.types import Position, Voter
from consensus_escalation.verdict import Proposal, Verdict


class Mandate(NamedTuple):
    """A leader's word that `heir` may campaign although the leader is alive."""

    term: int
    heir: Voter
    signature: bytes


@dataclass(frozen=True, slots=True)
class AskPreVote:
    """Would you vote for me in `term`? Changes nothing at anybody."""

    term: int
    last: Position
    mandate: Mandate | None = None
    proof: bytes = b""
    """Against the leader of the term before: `impeachment`."""


@dataclass(frozen=True, slots=True)
class PreVote:
    term: int
    """The term asked for when granted, else the answerer's own."""
    granted: bool


@dataclass(frozen=True, slots=True)
class AskVote:
    term: int
    last: Position
    mandate: Mandate | None = None
    proof: bytes = b""
    """Against the leader of the term before: `impeachment`."""


@dataclass(frozen=True, slots=True)
class Vote:
    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Blocks after (prev_index, prev_hash); without blocks a heartbeat."""

    term: int
    prev_index: int
    prev_term: int
    prev_hash: bytes
    blocks: tuple[Block, ...]
    commit: int
    round: int
    """The leader's count of reads: an answer to this round proves that it led when the round began."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """All up to `match` is stored, durably."""

    term: int
    match: int
    round: int
    ack: bytes
    """Signature over the block at `match`, empty unless it is of this term."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What came does not fit on my log, or comes from a former leader."""

    term: int
    prev_index: int
    hint: int
    """Try after this index."""
    round: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """From the leader: campaign now, with this mandate."""

    term: int
    mandate: Mandate


@dataclass(frozen=True, slots=True)
class AskRead:
    """Up to where must I have applied, to read what is true now?"""

    term: int
    number: int


@dataclass(frozen=True, slots=True)
class ReadAt:
    """None: not from me."""

    term: int
    number: int
    index: int | None


@dataclass(frozen=True, slots=True)
class SnapshotPiece:
    term: int
    index: int
    digest: bytes
    """Of the whole, as announced with every piece."""
    offset: int
    total: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """So much of the snapshot at `index` is here; all of it, or a log past it: `offset` = total."""

    term: int
    index: int
    offset: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class Propose:
    term: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class CastVerdict:
    term: int
    verdict: Verdict
    proposal: Proposal | None
    """With refusals, so that who has not seen it can prove what it proves."""


@dataclass(frozen=True, slots=True)
class AskClock:
    """From the leader: what does your clock say, now that `base` is attested?"""

    term: int
    base: int


@dataclass(frozen=True, slots=True)
class TellClock:
    term: int
    base: int
    time: int
    """Microseconds since 1970."""
    signature: bytes


Message: TypeAlias = (
    AskPreVote
    | PreVote
    | AskVote
    | Vote
    | Append
    | Accepted
    | Rejected
    | HandOver
    | AskRead
    | ReadAt
    | SnapshotPiece
    | SnapshotTaken
    | Propose
    | CastVerdict
    | AskClock
    | TellClock
)
