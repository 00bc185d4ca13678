"""What a program may know of the quorum."""

from __future__ import annotations

from dataclasses import dataclass

from consensus_escalation.chain import Chain
from consensus_escalation.raft import Raft
from consensus_escalation.types import Role
from crdt.ids import ReplicaId


@dataclass(frozen=True, slots=True)
class Status:
    """The quorum as this agent knows it."""

    epoch: int
    term: int
    leader: ReplicaId | None
    voters: tuple[ReplicaId, ...]
    learners: tuple[ReplicaId, ...]
    commit_index: int
    """Applied here."""
    proven_index: int
    votes: bool
    """This agent does."""
    leads: bool
    awaited_index: int = 0
    """Of the block that this agent's token names, until its history is here."""


def status_of(me: ReplicaId, chain: Chain, raft: Raft | None, told: int, leader: ReplicaId | None) -> Status:
    """`told`: the newest term that was heard of."""
    return Status(
        chain.genesis.epoch,
        max(raft.term if raft else 0, told),
        leader,
        chain.config.voters,
        chain.config.learners,
        chain.applied,
        chain.proven,
        raft is not None and me in chain.config.electorate,
        raft is not None and raft.role is Role.LEADER,
        chain.awaits,
    )
