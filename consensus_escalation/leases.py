"""Leases in the state: who holds what, under which fencing token.

Nothing here knows a clock. A lease ends by its holder's RELEASE or by a logged EXPIRE, which the leader writes once the ttl has
passed since *its own* apply (`consensus_escalation.expiry`); so all replicas agree at every index who holds it. An EXPIRE names
the renewal that it saw, and is void when a newer one came first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consensus_escalation.command import Command, Verb
from crdt.ops import Path

TTL_MIN_MS: Final = 100
"""Below it, a renewal every third of it would be a write every 30 ms. Guess."""
TTL_MAX_MS: Final = 24 * 3600 * 1000
LEASES_MAX: Final = 16_384
"""About 5 MB in Python. Guess."""

HELD, LOST, FULL, TTL, NOT_LEADER = "held", "lease lost", "full", "ttl", "not the leader"


class Lease(NamedTuple):
    holder: bytes
    """Replica id of the agent."""
    token: int
    """Fencing token: epoch << 32 | index of the block that granted it. Greater than all before."""
    ttl: int
    """Milliseconds."""
    renewed: int
    """Index of the block that granted or last renewed it."""


def fencing_token(epoch: int, index: int) -> int:
    return epoch << 32 | index


class Leases:
    def __init__(self) -> None:
        self.held: dict[Path, Lease] = {}
        self._granted_at = (0, frozenset[Path]())
        """(index, paths granted at it): blocks have several entries, and a token is never given twice."""

    def apply(self, command: Command, author: bytes, epoch: int, index: int, leader: bytes) -> str:
        """Why the command is void; empty when it was done."""
        lease = self.held.get(command.path)
        if command.verb is Verb.ACQUIRE:
            return self._acquire(command, author, epoch, index, lease)
        if lease is None or lease.token != command.token:
            return LOST
        if command.verb is Verb.EXPIRE:
            if author != leader:
                return NOT_LEADER
            if command.ttl != lease.renewed:
                return "renewed meanwhile"
        elif author != lease.holder:
            return LOST
        if command.verb is Verb.RENEW:
            if not TTL_MIN_MS <= command.ttl <= TTL_MAX_MS:
                return TTL
            self.held[command.path] = lease._replace(ttl=command.ttl, renewed=index)
        else:
            del self.held[command.path]
        return ""

    def _acquire(self, command: Command, author: bytes, epoch: int, index: int, lease: Lease | None) -> str:
        if not TTL_MIN_MS <= command.ttl <= TTL_MAX_MS:
            return TTL
        if self._granted_at[0] != index:
            self._granted_at = (index, frozenset())
        if lease is not None or command.path in self._granted_at[1]:
            return HELD
        if len(self.held) >= LEASES_MAX:
            return FULL
        self._granted_at = (index, self._granted_at[1] | {command.path})
        self.held[command.path] = Lease(author, fencing_token(epoch, index), command.ttl, index)
        return ""
