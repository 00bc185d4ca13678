"""When the leader may end a lease that nobody renewed.

No replica reads a clock to decide who holds a lease; only a logged EXPIRE ends one. The leader proposes it once the ttl, and what
two clocks may drift apart in that time, have passed since it applied the last renewal *itself*: the holder counts from before it
sent that renewal, so it has given up by then. A new leader knows nothing of the former one's clock and counts every lease anew.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from consensus_escalation.command import Command, Verb
from consensus_escalation.leases import Lease
from consensus_escalation.machine import Machine
from crdt.ops import Path

DRIFT: Final = 0.01
"""Of the ttl: how much two clocks may drift apart. Crystals drift 100 ppm, bad ones 500 (guess: twenty times the worst)."""
GRACE_SECONDS: Final = 0.02
"""On top: a coarse timer. Guess."""
AGAIN_SECONDS: Final = 1.0
"""An EXPIRE that was lost with a leader's term is proposed again. The log takes the second one as void."""


class Expiry:
    """For whoever leads; `lead` when it begins, then `seen` for every block that it applies."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Path, int, int]] = []
        """(when, path, token, index of the renewal). Stale ones are thrown away when they come up."""

    @property
    def deadline(self) -> float:
        return self._due[0][0] if self._due else float("inf")

    def lead(self, machine: Machine, now: float) -> None:
        """A new term as leader: every lease has its whole ttl again."""
        self._due.clear()
        for path, lease in sorted(machine.leases(), key=lambda pair: pair[1].token):
            self._count(path, lease, now)

    def stop(self) -> None:
        self._due.clear()

    def seen(self, path: Path, machine: Machine, now: float) -> None:
        """A command about the lease at this path was applied just now."""
        lease = machine.lease(path)
        if lease is not None and lease.renewed == machine.index:
            self._count(path, lease, now)

    def _count(self, path: Path, lease: Lease, now: float) -> None:
        due = now + lease.ttl / 1000 * (1 + DRIFT) + GRACE_SECONDS
        heappush(self._due, (due, path, lease.token, lease.renewed))

    def take(self, machine: Machine, now: float) -> list[Command]:
        """What is to be logged now."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, path, token, renewed = heappop(self._due)
            lease = machine.lease(path)
            if lease is not None and (lease.token, lease.renewed) == (token, renewed):
                found.append(Command(Verb.EXPIRE, path, token=token, ttl=renewed))
                heappush(self._due, (now + AGAIN_SECONDS, path, token, renewed))
        return found
