"""A replica to which the log goes no longer: a voter that was replaced, a learner that was not taken. And what is said to one
that lost its log.

Its Raft would remember its last leader and its last block for ever. So it ends, and this replica follows the chain as all others
do, on its disk too. Term and vote stay there: should it be asked again, it must not vote a second time in a term.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final

from consensus_escalation.chain import Chain
from consensus_escalation.effects import BlocksStored, SnapshotStored
from consensus_escalation.messages import Append, AskPreVote, Message, SnapshotPiece
from consensus_escalation.raft import Raft
from consensus_escalation.types import Role
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.quorum.rows import Forgot, Left, Row

LOG_LOST: Final = (
    "this voter's disk has lost the log: it does not vote any more until the others have replaced it, after ten minutes or by "
    "`mesh quorum dismiss`; then it can be appointed again"
)

LOG_GONE: Final = (
    "this agent has run before, and its quorum.db is gone: it may have begun the quorum's log, so it does not begin it again, "
    "but waits for members that have it. If nobody has it any more, `mesh quorum reset` begins anew"
)
LOG_DIFFERS: Final = (
    "this voter's log is not the one that the leader has: its disk was lost, and it began a second log while it was cut "
    "off. It does not vote any more, and what it shows under critical prefixes is not what was agreed on. "
    "Stop it, move quorum.db, quorum.db-wal and quorum.log away and start it again; once the others have replaced it "
    "(`mesh quorum dismiss`) it can be appointed again"
)


class Answer(Enum):
    YES = "yes"
    NO = "no"
    HAS_LOST = "it votes, and has no log"


def may_join(me: ReplicaId, chain: Chain, message: Message, is_enrolled: bool) -> Answer:
    """A leader sends its log here: is this a replica that has never voted? One that votes by what is proven, or is asked for
    its vote, and has no log on its disk, has lost it: it might vote twice in a term, so it stays out until it is replaced."""
    is_campaign = isinstance(message, AskPreVote)
    reached = message.commit if isinstance(message, Append) else message.index if isinstance(message, SnapshotPiece) else inf
    if chain.awaits or not is_enrolled:
        return Answer.NO
    if reached > chain.applied and not is_campaign:
        return Answer.NO  # let the chain tell first who votes
    if me in chain.config.electorate:
        return Answer.HAS_LOST
    return Answer.NO if is_campaign else Answer.YES


def has_ended(raft: Raft, chain: Chain, now: Now) -> bool:
    """Whether it is proven that the log goes here no longer. Who is a learner by a block that is not committed yet, or is only
    just being asked, hears a leader."""
    if raft.me in chain.config.everyone or raft.role is Role.LEADER or raft.hears_leader(now):
        return False
    return raft.log.config_index <= chain.applied or raft.me not in raft.log.config.everyone


def rows_of_end(raft: Raft, chain: Chain) -> list[Row]:
    """What makes the disk of a Raft that of a chain: what is committed and never came to this Raft."""
    rows: list[Row] = [Left(), Forgot(is_over=True)]  # it promised nothing that is not committed by now
    base = raft.log.base.index
    if chain.snapshot is not None and chain.digest[0] > base:
        base = chain.digest[0]
        rows.append(SnapshotStored(base, chain.snapshot, alone=True))
        missing = list(chain.log.between(base + 1, chain.applied))
    else:
        kept = chain.log.between(base + 1, chain.applied)
        missing = [block for block in kept if raft.log.hash_at(block.index) != block.hash]
    if missing:
        rows.append(BlocksStored(tuple(missing)))
    return rows
