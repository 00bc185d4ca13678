"""A leader that a quorum no longer answers falls completely silent.

Not only must it not commit, it must not be heard: followers that hear it would stand by it for ever although it hears nobody
(a link that works one way), and the quorum would be held hostage. So it sends nothing at all, not even the news that it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

from consensus_escalation.quorum import Config, reached_by_quorum
from consensus_escalation.types import Voter


def silent_at(config: Config, me: Voter, answered_at: Mapping[Voter, float], now: float, patience_seconds: float) -> float:
    """When this leader has to fall silent, monotonic seconds, unless more answers come. The leader always hears itself."""
    return reached_by_quorum(config, {**answered_at, me: now}) + patience_seconds
