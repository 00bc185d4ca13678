"""Linearizable reads without a write: ReadIndex (dissertation 6.4).

The leader notes its commit index, makes sure by one round of answers that it still leads, and whoever has applied up to that
index may read. It needs a committed block of its own term first: until then it does not know what is committed.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from consensus_escalation.core import Core
from consensus_escalation.effects import ReadFailed, ReadReady
from consensus_escalation.messages import AskRead, ReadAt
from consensus_escalation.quorum import reached_by_quorum
from consensus_escalation.replication import Leading, Replication
from consensus_escalation.types import Role, Voter

WAITING_MAX: Final = 4096
"""Reads that wait at the leader; more are refused (backpressure)."""


class Waiting(NamedTuple):
    who: Voter
    number: int
    commit: int
    round: int


class Reads:
    def __init__(self, core: Core, replication: Replication) -> None:
        self._core, self._replication = core, replication
        self._early: list[tuple[Voter, int]] = []
        """Came since the last round began, or before this leader knows what is committed."""
        self._waiting: deque[Waiting] = deque()

    def read(self, number: int) -> None:
        """The host of this voter wants to read."""
        core = self._core
        if core.role is Role.LEADER:
            self.asked(core.me, number)
        elif core.leader is not None:
            core.send_at_once(core.leader, AskRead(core.term, number))
        else:
            core.effects.append(ReadFailed(number))

    def asked(self, who: Voter, number: int) -> None:
        if self._core.role is not Role.LEADER or len(self._early) + len(self._waiting) >= WAITING_MAX:
            self._answer(who, number, None)
        else:
            self._early.append((who, number))

    def answered(self, message: ReadAt) -> None:
        """From the leader, about a read of this voter's host."""
        found = ReadFailed(message.number) if message.index is None else ReadReady(message.number, message.index)
        self._core.effects.append(found)

    def _answer(self, who: Voter, number: int, index: int | None) -> None:
        core = self._core
        if who == core.me:
            core.effects.append(ReadFailed(number) if index is None else ReadReady(number, index))
        else:
            core.send_at_once(who, ReadAt(core.term, number, index))

    def flush(self) -> None:
        """Begin a round for what came, finish what a quorum has answered; at the end of every step."""
        core, leading = self._core, self._replication.leading
        if leading is None:
            for who, number in [*self._early, *((one.who, one.number) for one in self._waiting)]:
                self._answer(who, number, None)
            self._early.clear()
            self._waiting.clear()
            return
        if self._early and core.commit >= leading.start_index:
            leading.round += 1
            self._waiting.extend(Waiting(who, number, core.commit, leading.round) for who, number in self._early)
            self._early.clear()
            self._replication.heartbeat()
        self._finish(leading)

    def _finish(self, leading: Leading) -> None:
        if not self._waiting:
            return
        rounds: dict[Voter, float] = {voter: progress.round for voter, progress in leading.progress.items()}
        rounds[self._core.me] = leading.round
        confirmed = reached_by_quorum(self._core.log.config, rounds)
        while self._waiting and self._waiting[0].round <= confirmed:
            one = self._waiting.popleft()
            self._answer(one.who, one.number, one.commit)
