"""Who may vote, by the statements of the authority: the pool that Raft's configurations are filled from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consensus_escalation.block import Entry
from consensus_escalation.ledger import Ledger
from crdt.ids import ReplicaId
from mesh.quorum.scores import due
from mesh.quorum.spread import Members
from mesh.quorum.warrants import dismissed_by_untrusted, warrant
from mesh.trust import Directory


class Electors:
    def __init__(self, me: ReplicaId, directory: Directory, members: Members) -> None:
        self._me, self._directory, self._members = me, directory, members
        self._term = 0
        self._scored: dict[bytes, int] = {}

    def is_enrolled(self, replica: ReplicaId) -> bool:
        grant = self._directory.credential(replica)
        return grant is not None and grant.terms.voter and not self._directory.revoked(replica)

    def is_dismissed(self, voter: ReplicaId) -> bool:
        """Whether the authority has taken its vote: revoked it, cut it, or gave it a credential without one."""
        return self._directory.credential(voter) is not None and not self.is_enrolled(voter)

    def warrant(self, voters: Sequence[ReplicaId], room: int) -> bytes:
        """What the authority said about their dismissal, of as many as fit."""
        return warrant(self._directory, voters, room)

    def is_warrant_untrusted(self, evidence: bytes, voters: Collection[ReplicaId]) -> bool:
        return bool(dismissed_by_untrusted(self._directory, evidence, voters))

    def standby(self) -> tuple[ReplicaId, ...]:
        """Enrolled voters that are alive, best first."""
        alive = [peer for peer in (*self._members.alive(), self._me) if self.is_enrolled(peer)]

        def worth(replica: ReplicaId) -> tuple[int, ReplicaId]:
            grant = self._directory.credential(replica)
            return -grant.terms.score if grant is not None else 0, replica

        return tuple(sorted(alive, key=worth))

    def new_scores(self, term: int, ledger: Ledger) -> list[Entry]:
        """Certified scores that the log does not have, each given once in a term that this agent leads."""
        if term != self._term:
            self._term, self._scored = term, {}
        found = []
        for serial, entry in due(self._directory, ledger):
            if self._scored.get(entry.evidence) != serial:
                self._scored[entry.evidence] = serial
                found.append(entry)
        return found
