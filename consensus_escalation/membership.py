"""Who votes: 1 -> 3 -> 5, through learners that catch up and joint configurations (paper section 6, dissertation 4.2-4.3).

    voters A             +B, C as learners        A | B, C caught up        joint: A and {A, B, C}       voters A, B, C

Each arrow is a committed configuration block. Two voters tolerate no failure and twice the risk, so one goes to three directly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from consensus_escalation.quorum import Config
from consensus_escalation.types import Voter

SIZES: Final = (5, 3, 1)
"""Voters that are worth having, best first (DESIGN section 7); even numbers tolerate no more than the odd one below."""


def wanted_voters(config: Config, standby: Sequence[Voter], dead: Collection[Voter]) -> tuple[Voter, ...]:
    """Who should vote, sorted: those who do, without the dead as far as others stand by, filled up to the best size."""
    living = [voter for voter in config.voters if voter not in dead]
    pool = [*living, *(voter for voter in standby if voter not in config.voters and voter not in dead)]
    size = max(len(config.voters), next((size for size in SIZES if size <= len(pool)), 1))
    chosen = pool[:size]
    chosen += [voter for voter in config.voters if voter in dead][: size - len(chosen)]
    return tuple(sorted(chosen))


def next_config(config: Config, standby: Sequence[Voter], dead: Collection[Voter], caught_up: Collection[Voter]) -> Config | None:
    """The next step; None when nothing is to be done, or learners have to catch up. `config` is committed."""
    if config.is_joint:
        return config._replace(outgoing=())
    wanted = wanted_voters(config, standby, dead)
    newcomers = tuple(sorted(set(wanted) - set(config.voters)))
    if newcomers != config.learners:
        return config._replace(learners=newcomers)
    if wanted == config.voters or not all(voter in caught_up for voter in newcomers):
        return None
    return Config(wanted, config.voters)
