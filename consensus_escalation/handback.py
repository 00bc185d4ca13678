"""Leadership goes back to the best, seldom.

A better-scored voter that returns gets the lead handed over, but a change of leader is a gap in the writes. So the leader gives
way only when it has proved itself (its own no-op and all demotions committed), after a minimum reign, to a voter that has the
whole log and has answered without a gap for a while; each further attempt for the same heir waits twice as long. Scores are those
in this leader's log: a rumour of a better agent moves nobody. A campaign by mandate still asks for PreVotes, and logs decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from consensus_escalation.block import Kind
from consensus_escalation.core import Core
from consensus_escalation.election import mandate_bytes
from consensus_escalation.messages import HandOver, Mandate
from consensus_escalation.replication import Leading, Progress
from consensus_escalation.types import Purpose, Voter

DOUBLINGS_MAX: Final = 6
"""With a reign of a minute, the longest pause for one heir is about an hour. Guess."""


def heir_of(
    voters: Iterable[Voter], me: Voter, worth: Callable[[Voter], tuple[bool, int]], is_ready: Callable[[Voter], bool]
) -> Voter | None:
    """The best voter that is ready and strictly better than this leader; ids break ties among heirs, but unseat nobody."""
    better = [voter for voter in voters if worth(voter) < worth(me) and is_ready(voter)]
    return min(better, key=lambda voter: (*worth(voter), voter), default=None)


class Handback:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._attempts: dict[Voter, int] = {}
        self._not_before: dict[Voter, float] = {}
        self._give_up_at = inf
        self.heir: Voter | None = None
        """While set, no new blocks are cut, so that the heir can have the whole log."""

    def reset(self) -> None:
        self.heir, self._give_up_at = None, inf

    @property
    def deadline(self) -> float:
        return self._give_up_at

    def consider(self, leading: Leading) -> None:
        """Called with every heartbeat: hand over if it is time to."""
        core = self._core
        now = core.now.monotonic
        if self.heir is not None:
            if now >= self._give_up_at:
                self.reset()
            return
        if core.commit < leading.start_index or self._demotes_above(core.commit) or core.log.config.is_joint:
            return
        worth = {voter: core.ledger.rank_key(voter)[:2] for voter in core.log.config.voters}
        if core.me not in worth or now - leading.since < self._reign(worth[core.me]):
            return
        heir = heir_of(worth, core.me, worth.__getitem__, lambda voter: self._is_ready(voter, leading))
        if heir is not None:
            attempts = self._attempts.get(heir, 0)
            self._not_before[heir] = now + core.pace.reign_seconds * 2**attempts
            self._attempts[heir] = min(attempts + 1, DOUBLINGS_MAX)
            self.begin(heir)

    def _reign(self, worth: tuple[bool, int]) -> float:
        """A demoted voter leads only because nobody better could: it gives way as soon as somebody can."""
        return 0.0 if worth[0] else self._core.pace.reign_seconds

    def _demotes_above(self, index: int) -> bool:
        return any(block.has(Kind.DEMOTE) for block in self._core.log.between(index + 1, self._core.log.last_index))

    def _is_ready(self, voter: Voter, leading: Leading) -> bool:
        core, progress = self._core, leading.progress.get(voter)
        if progress is None or progress.is_probing or core.now.monotonic < self._not_before.get(voter, -inf):
            return False
        pace, now = core.pace, core.now.monotonic
        is_steady = now - progress.steady_since >= pace.stable_seconds and now - progress.answered_at < pace.election_seconds
        return is_steady and progress.match >= core.commit

    def begin(self, heir: Voter) -> None:
        self.heir = heir
        self._give_up_at = self._core.now.monotonic + self._core.pace.election_seconds

    def proceed(self, leading: Leading) -> None:
        """Tell the heir, once it has all that was ever cut here."""
        core = self._core
        progress: Progress | None = leading.progress.get(self.heir) if self.heir is not None else None
        if self.heir is None or progress is None or progress.match < core.log.last_index:
            return
        mandate = Mandate(core.term, self.heir, b"")
        signature = core.keys.sign(Purpose.MANDATE, mandate_bytes(core.epoch, mandate))
        core.send(self.heir, HandOver(core.term, mandate._replace(signature=signature)))
