"""Who leads, as far as this agent can tell: what its own Raft hears now, else what it was told."""

from __future__ import annotations

from collections.abc import Callable

from consensus_escalation.block import Block
from consensus_escalation.raft import Raft
from crdt.ids import ReplicaId
from mesh.effects import Now


class Guide:
    def __init__(self, may_lead: Callable[[ReplicaId], bool]) -> None:
        self.may_lead = may_lead
        self.raft: Raft | None = None
        """This agent's own, while it has one."""
        self.told: tuple[int, ReplicaId | None] = (0, None)
        """(term, who) by the newest that was heard."""

    def begin(self) -> None:
        """A new epoch."""
        self.raft, self.told = None, (0, None)

    def heard(self, term: int, leader: ReplicaId | None) -> None:
        """By somebody's word."""
        if leader is not None and term >= self.told[0] and self.may_lead(leader):
            self.told = (term, leader)

    def led(self, block: Block) -> None:
        """A proven block says who led when it was cut: worth more than what anybody was told, in terms that nobody has seen."""
        self.told = (block.term, block.header.leader)

    def hears(self, now: Now) -> bool:
        """Whether this agent's Raft hears a leader, or is one. A Raft to which the log goes no longer (a learner that was not
        taken, a voter that was replaced) remembers its last one for ever."""
        return self.raft is not None and self.raft.hears_leader(now)

    def leader(self, now: Now) -> tuple[int, ReplicaId | None]:
        """(term, who)."""
        if self.raft is not None and self.raft.hears_leader(now):
            return self.raft.term, self.raft.leader
        return self.told
