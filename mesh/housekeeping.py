"""When a replica tidies its own shelf: pure timing around rules 4, 5, 6 and 8 of the design.

The rules are safe whenever they run; waiting only keeps views from flickering and the network quiet. Housekeeping
rides in an own delta when there is one, and is pushed with it. Else it goes alone, at most every `alone_seconds`, and is not
pushed: it reaches others as the next digest shows it, each by a question and an answer. So who wrote lately waits for its next
write. What others' writes made superfluous is noticed meanwhile: patience counts from then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import crdt
from mesh.effects import Now

FINISHED_SECONDS: Final = 86_400.0
"""DESIGN rule 8: after a day without news a former shelf is finished."""
RIDE_SHARE: Final = 0.2
"""Of `alone_seconds`: so long after a round the next one may ride. Guess: who writes that often sends little alone, and most
writes need not wait for a look at all that changed since the last round. So often it also notices what others covered."""
AWAITED_ROUNDS: Final = 3
"""Of `alone_seconds`: so long after an own write nothing goes alone. Guess: among 256 agents that share 50 writes a second one
in seven waits for more than 10 s between two of its own, one in 350 for more than 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidying:
    """Seconds. The defaults suit a LAN, where whoever is out of step hears of it within some digests of 5 s."""

    alone_seconds: float = 10.0
    """DESIGN section 1: alone at most every 10 s."""
    patience_seconds: float = 30.0
    """DESIGN section 1: a covered cell stays for 30 s, so that a delta on its way does not make the covering write flicker: six
    digests at their slowest."""
    settled_seconds: float = 60.0
    """A body that stands for so long will go on standing, so that to pack it pays. Guess: twice the patience."""
    retire_anyway_seconds: float = 3600.0
    """DESIGN section 1: gc_floor rises to what peers have reported, or after an hour without them."""


class Housekeeper:
    def __init__(
        self,
        replica: crdt.Replica,
        acknowledged_by_all: Callable[[int], bool],
        may_take_over: Callable[[], bool],
        pace: Tidying,
        now: Now,
    ) -> None:
        self._replica = replica
        self._may_take_over = may_take_over
        self._acknowledged_by_all = acknowledged_by_all
        self._pace = pace
        self._started = now.monotonic
        self._next = now.monotonic + pace.alone_seconds
        """When it goes alone, ..."""
        self._rides_at = now.monotonic + RIDE_SHARE * pace.alone_seconds
        """... and from when on with an own delta."""
        self._notes_at = self._rides_at
        self._marks: list[tuple[float, int]] = []

    def begin_again(self, now: Now) -> None:
        """With another shelf: what was marked of the former says nothing of it."""
        self._started = now.monotonic
        self._marks.clear()

    def hurry(self, now: Now) -> None:
        """This replica is in step now. Where its disk was older than what others hold of its former shelf, what that one had
        taken off shows again, here and everywhere, until the next takeover: that waits for no round.
        """
        self._next = self._rides_at = now.monotonic

    @property
    def deadline(self) -> float:
        return self._next

    def tick(self, now: Now, *, sealing: bool = False) -> bool:
        """Puts what is due into the replica's draft; True when there is something. `sealing`: an own delta is to be made now."""
        pace = self._pace
        rides = self._rides_at if sealing else self._next
        if sealing:
            self._next = max(self._next, now.monotonic + AWAITED_ROUNDS * pace.alone_seconds)
        if now.monotonic < rides:
            if now.monotonic >= self._notes_at:
                self._notes_at = now.monotonic + RIDE_SHARE * pace.alone_seconds
                self._replica.notice(now.monotonic)
            return False
        self._rides_at = self._notes_at = now.monotonic + RIDE_SHARE * pace.alone_seconds
        if not sealing:
            self._next = now.monotonic + pace.alone_seconds
        if not self._marks or now.monotonic >= self._marks[-1][0] + pace.alone_seconds:
            self._marks.append((now.monotonic, self._replica.floor(self._replica.shelf)))
        while len(self._marks) > 1 and self._marks[1][0] <= now.monotonic - pace.retire_anyway_seconds:
            self._marks.pop(0)
        final = now.monotonic - self._started >= FINISHED_SECONDS
        done = self._replica.take_over(final=final) if self._may_take_over() else 0
        done += self._replica.drop(now.monotonic, pace.patience_seconds)
        done += self._replica.retire(self._may_retire(now))
        done += self._replica.repack(self._settled(now))
        return done > 0

    def _settled(self, now: Now) -> int:
        """Up to where our shelf stands as it did when it had settled."""
        return next((seq for at, seq in reversed(self._marks) if at <= now.monotonic - self._pace.settled_seconds), 0)

    def _may_retire(self, now: Now) -> Callable[[int], bool]:
        at, seq = self._marks[0]
        old = seq if at <= now.monotonic - self._pace.retire_anyway_seconds else 0
        return lambda upto: upto <= old or self._acknowledged_by_all(upto)
