"""Rows on their way to the disk, in tickets; what waits for a ticket, waits for all before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from consensus_escalation.chain import Chain
from consensus_escalation.effects import BlocksStored, Committed, Effect, SnapshotStored
from consensus_escalation.kept import Done, Proof, State
from mesh.effects import Now
from mesh.quorum.rows import QuorumBatch, Row

LAZY_SECONDS: Final = 0.05
"""What others could send again waits so long for company; as mesh.store.sqlite.GROUP_SECONDS."""


PROOF_SECONDS: Final = 1.0
"""Between two certificates that are written down. Guess."""
LATE_SECONDS: Final = 0.005
"""In which a follower applies what was committed, where nobody waits for that: with the next blocks, most of the time."""
LATE_ENTRIES: Final = 4
"""So many of them at most. Guess: more would keep the next acknowledgement waiting, at 10 us each."""
STALL_ELECTIONS: Final = 4.0
"""A leader whose disk has not answered for so many election time-outs resigns. Guess: an SD card that tidies up takes 0.5 s."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """In the stream of effects: what follows waits until this ticket is durable."""

    ticket: int
    persist: int
    """Raft's own number of it, 0 when it is not Raft's."""


def are_books(stream: Iterable[Effect | Barrier], durable: int) -> bool:
    """Whether all that could be carried out now is to apply a little that is committed: nobody is to be told anything, and it is
    soon done while the disk works on the next blocks."""
    entries = 0
    for effect in stream:
        if isinstance(effect, Barrier) and effect.ticket > durable:
            break
        if not isinstance(effect, Committed):
            return False
        entries += len(effect.block.entries)
    return entries <= LATE_ENTRIES


class Writer:
    def __init__(self, election_seconds: float) -> None:
        self._stall_seconds = STALL_ELECTIONS * election_seconds
        self._rows: list[Row] = []
        self._hurry = False
        self._due = inf
        self._proof: Proof | None = None
        self._proof_due = inf
        self._ticket = 0
        self.durable = 0
        """All up to this ticket is on the disk."""
        self._asked: deque[tuple[int, float]] = deque()
        """(ticket, since when it waits)."""

    def put(self, rows: Iterable[Row], now: Now) -> None:
        """Nothing waits for these."""
        self._rows += rows
        self._due = min(self._due, now.monotonic + LAZY_SECONDS)

    def put_chain(self, chain: Chain, done: Iterable[Done], *, by_raft: bool, now: Now) -> None:
        """What the chain says that should be kept. `by_raft`: blocks and states are stored there, and before they are told."""
        rows: list[Row] = [] if by_raft else [BlocksStored((each.block,)) for each in done]
        for row in chain.take_rows():
            if isinstance(row, Proof):
                self.put_newest(row, now)
            elif not isinstance(row, State):
                rows.append(row)
            elif not by_raft:
                rows.append(SnapshotStored(row.index, row.raw, alone=not row.is_own))
        if rows:
            self.put(rows, now)

    def put_newest(self, proof: Proof, now: Now) -> None:
        """Each replaces the one before, and others have it too, or make a new one."""
        if self._proof is None:
            self._proof_due = now.monotonic + PROOF_SECONDS
        self._proof = proof

    def put_at_once(self, rows: Iterable[Row], now: Now) -> int:
        """Returns the ticket to wait for."""
        self._rows += rows
        self._hurry = True
        self._ticket += 1
        self._asked.append((self._ticket, now.monotonic))
        return self._ticket

    def batch(self, commit: int, now: Now) -> QuorumBatch | None:
        """Drain what should go to the disk; None when nothing has to, yet."""
        if self._proof is not None and now.monotonic >= self._proof_due:
            self.put((self._proof,), now)
            self._proof, self._proof_due = None, inf
        if not self._hurry and now.monotonic < self._due:
            return None
        if not self._rows:
            return None
        rows, self._rows = tuple(self._rows), []
        hurry, self._hurry, self._due = self._hurry, False, inf
        return QuorumBatch(self._ticket, rows, commit, hurry)

    def committed(self, ticket: int) -> None:
        self.durable = max(self.durable, ticket)
        while self._asked and self._asked[0][0] <= ticket:
            self._asked.popleft()

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for what `batch` would give."""
        return self._hurry

    @property
    def due(self) -> float:
        """When `batch` wants to be asked."""
        return min(self._due if self._rows else inf, self._proof_due)

    @property
    def stalls_at(self) -> float:
        """When what waits for the disk has waited for too long, monotonic seconds; infinity when nothing does."""
        return self._asked[0][1] + self._stall_seconds if self._asked else inf
