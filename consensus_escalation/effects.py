"""What the core is told and what it asks for.

The effects of all steps are one stream, in order. **Whatever follows a `Persist` waits until it is durable**, in later lists too;
only a `SendAtOnce` may overtake: it claims nothing about this voter's disk. So a vote or an acknowledgement cannot leave before
it is on the disk, whatever the driver's speed, while a leader's blocks travel in parallel with its own fsync (dissertation
10.2.1). The driver reports each `Persist` as durable with `Persisted`, in order; the leader's own acknowledgement and the
candidate's own vote count from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus_escalation.block import Block, Entry
from consensus_escalation.certificate import Certificate
from consensus_escalation.impeachment import Guilt
from consensus_escalation.messages import Message
from consensus_escalation.types import Voter
from consensus_escalation.verdict import Proposal, Verdict

# ---- inputs


@dataclass(frozen=True, slots=True)
class Received:
    sender: Voter
    message: Message
    is_followed: bool = False
    """The next input is of the same kind and sender, so that an answer to that one will do: for Append."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; wanted at `Raft.deadline`."""


@dataclass(frozen=True, slots=True)
class Written:
    """The disk works on what was to be persisted: the time to get ready what will be said when it has done so."""


@dataclass(frozen=True, slots=True)
class Persisted:
    number: int


@dataclass(frozen=True, slots=True)
class Submit:
    """A client's entry, to be committed if this voter leads."""

    entry: Entry
    more: tuple[Entry, ...] = ()
    """The rest of a batch under the signature of `entry`: all of it goes into one block, or none."""
    is_followed: bool = False
    """The next input is another one: no block is cut before that, so that they can share one and go out together."""
    is_own: bool = False
    """Of this very agent, which need not convince itself: it signs the block."""

    @property
    def batch(self) -> tuple[Entry, ...]:
        return (self.entry, *self.more)


@dataclass(frozen=True, slots=True)
class Proven:
    """A valid certificate says that the block of this hash is committed: nobody has to wait for the leader's word."""

    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Campaign:
    """The operator wants this voter to lead. It still asks for PreVotes, and the log decides."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The operator wants `heir` to lead, or this leader is about to go. Given up after the election time-out."""

    heir: Voter


@dataclass(frozen=True, slots=True)
class Resign:
    """This leader cannot do its work (its disk stalls): it falls silent, and another one is elected."""


@dataclass(frozen=True, slots=True)
class Read:
    """The host wants to read what is true now; answered by ReadReady or ReadFailed, or never (a lost datagram): ask again."""

    number: int


@dataclass(frozen=True, slots=True)
class Standby:
    """Enrolled as voters and alive, best first; those who vote already may be among them."""

    voters: tuple[Voter, ...]


@dataclass(frozen=True, slots=True)
class StateTaken:
    """The host's state exactly after block `index`, as a TakeState asked."""

    index: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """The host's judges on a proposal: `rule` says which rule refuses it, empty endorses."""

    proposal: bytes
    rule: str


@dataclass(frozen=True, slots=True)
class Accuse:
    """A proof against a leader, wherever it comes from."""

    proof: bytes


Input: TypeAlias = (
    Received
    | Tick
    | Written
    | Persisted
    | Submit
    | Proven
    | Campaign
    | Resign
    | Transfer
    | Read
    | Standby
    | StateTaken
    | Judged
    | Accuse
)

# ---- records


@dataclass(frozen=True, slots=True)
class TermAndVote:
    """Replaces the former one. (paper 5.2: at most one vote in a term)"""

    term: int
    vote: Voter | None


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Put at their indexes; all that stood at or above the first of them goes, in the same transaction."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class SnapshotStored:
    """Replaces the former snapshot and all blocks up to `index`; with `alone`, those above it too."""

    index: int
    raw: bytes
    alone: bool


@dataclass(frozen=True, slots=True)
class VerdictStored:
    """Kept while its term lasts."""

    verdict: Verdict


Record: TypeAlias = TermAndVote | BlocksStored | SnapshotStored | VerdictStored

# ---- effects


@dataclass(frozen=True, slots=True)
class Persist:
    number: int
    records: tuple[Record, ...]
    commit: int
    """Stored with the records; never worth a write of its own. A voter that restarts knows scores and sessions up to there."""


@dataclass(frozen=True, slots=True)
class Send:
    to: Voter
    message: Message


@dataclass(frozen=True, slots=True)
class SendAtOnce:
    to: Voter
    message: Message


@dataclass(frozen=True, slots=True)
class Committed:
    """Apply these, in order, each once; `fresh` has one flag for each entry: False for one committed before under its key, too
    old, or void by the core's own rules."""

    block: Block
    fresh: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Certified:
    """From the leader: the proof that a block, and with it all before, is committed."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class TakeState:
    """All up to `index` is applied when this is reached in the stream: answer with StateTaken, so that the log can be cut."""

    index: int


@dataclass(frozen=True, slots=True)
class StateRestored:
    """Forget the state and take this one: it stands for all blocks up to `index`."""

    index: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge this against the policy at its `policy_index`; answered by Judged. May come again until it is."""

    digest: bytes
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Dissent:
    """A voter has refused a proposal, and signed it: for the operator, told once for each."""

    proposal: Proposal
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SecondLog:
    """This voter wrote the first block of the leader's log, and its own log begins with another one: its disk was lost."""


@dataclass(frozen=True, slots=True)
class Impeached:
    """This voter holds a proof against a leader: evidence for the operator too."""

    guilt: Guilt


@dataclass(frozen=True, slots=True)
class ReadReady:
    """Once applied up to `index`, what is there was true after the read was asked for."""

    number: int
    index: int


@dataclass(frozen=True, slots=True)
class ReadFailed:
    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """NotCommitted, definite: this entry was not put into the log here."""

    entry: Entry
    reason: str
    leader: Voter | None


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """None: no quorum is known to follow anybody."""

    term: int
    leader: Voter | None


Effect: TypeAlias = (
    Persist
    | Send
    | SendAtOnce
    | Committed
    | Certified
    | TakeState
    | StateRestored
    | Judge
    | Dissent
    | SecondLog
    | Impeached
    | ReadReady
    | ReadFailed
    | Refused
    | LeaderChanged
)
