"""Blocks that arrive together are acknowledged together: one signature, one datagram and one look at them by the leader.

The newest Append waits for what comes after it, until the turn ends at the latest; only the last of a burst is answered.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus_escalation.effects import Received, Written
from consensus_escalation.messages import Append


class Burst:
    def __init__(self, step: Callable[[Received | Written], None]) -> None:
        self._step = step
        self.waiting: Received | None = None
        """An Append."""

    def take(self, given: Received) -> None:
        """Everything goes to Raft in the order in which it came."""
        before, self.waiting = self.waiting, None
        is_append = isinstance(given.message, Append)
        if before is not None:
            self._step(Received(before.sender, before.message, is_append and before.sender == given.sender))
        if isinstance(given.message, Append) and given.message.blocks:
            self.waiting = given
        else:
            self._step(given)

    def end(self) -> None:
        """Nothing else has come."""
        before, self.waiting = self.waiting, None
        if before is not None:
            self._step(before)

    def written(self) -> None:
        """The disk works on what came of it: there is time to sign the acknowledgement until it has done so."""
        self._step(Written())
