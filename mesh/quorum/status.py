"""What a program may know of the quorum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus_escalation.chain import Chain
from consensus_escalation.quorum import has_quorum
from consensus_escalation.raft import Raft
from consensus_escalation.types import Role
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.quorum.guide import Guide


@dataclass(frozen=True, slots=True)
class Status:
    """The quorum as this agent knows it."""

    epoch: int
    term: int
    leader: ReplicaId | None
    """None: nobody leads, as far as this agent can tell."""
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


def can_agree(me: ReplicaId, chain: Chain, raft: Raft | None, alive: Callable[[], Sequence[ReplicaId]], now: Now) -> bool:
    """As far as this agent can see: it hears a leader, or enough voters are alive."""
    if raft is not None and me in chain.config.electorate:
        return raft.hears_leader(now)
    return has_quorum(chain.config, {*alive(), me})


def status_of(me: ReplicaId, chain: Chain, guide: Guide, alive: Callable[[], Sequence[ReplicaId]], now: Now) -> Status:
    """Who led last is asked first when something is to be written, but is shown to lead only while it may."""
    raft, leader = guide.raft, guide.leader(now)[1]
    if (leader != me and leader not in alive()) or not can_agree(me, chain, raft, alive, now):
        leader = None
    return Status(
        chain.genesis.epoch,
        max(raft.term if raft else 0, guide.told[0]),
        leader,
        chain.config.voters,
        chain.config.learners,
        chain.applied,
        chain.proven,
        raft is not None and me in chain.config.electorate,
        raft is not None and raft.role is Role.LEADER,
        chain.awaits,
    )
