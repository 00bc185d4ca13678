"""A replica to which the log goes no longer: a voter that was replaced, a learner that was not taken.

Its Raft would remember its last leader and its last block for ever. So it ends, and this replica follows the chain as all others
do, on its disk too. Term and vote stay there: should it be asked again, it must not vote a second time in a term.
"""

from __future__ import annotations

from typing import Final

from consensus_escalation.chain import Chain
from consensus_escalation.effects import BlocksStored, SnapshotStored
from consensus_escalation.raft import Raft
from consensus_escalation.types import Role
from mesh.effects import Now
from mesh.quorum.rows import Forgot, Left, Row

LOG_LOST: Final = (
    "this voter's disk has lost the log: it does not vote any more until the others have replaced it, after ten minutes or by "
    "`mesh quorum dismiss`; then it can be appointed again"
)


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
