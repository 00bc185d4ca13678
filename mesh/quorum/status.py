"""What a program may know of the quorum."""

from __future__ import annotations

from dataclasses import dataclass

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
