"""Who votes: 1 -> 3 -> 5, through learners that catch up and joint configurations (paper section 6, dissertation 4.2-4.3).

    voters A             +B, C as learners        A | B, C caught up        joint: A and {A, B, C}       voters A, B, C

Each arrow is a committed configuration block. Two voters tolerate no failure and twice the risk, so one goes to three directly.

A voter leaves when it has been dead for long and another stands by, or at once when the authority says that it votes no longer.
What the authority signed stands in the block then: the removal is countersigned, for anybody to see.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from consensus_escalation.quorum import Config
from consensus_escalation.types import Voter

SIZES: Final = (5, 3, 1)
"""Voters that are worth having, best first (DESIGN section 7); even numbers tolerate no more than the odd one below."""


class Authority(Protocol):
    """What it says about voters, as far as is known here."""

    def is_dismissed(self, voter: Voter) -> bool:
        """Whether it has taken the vote away."""

    def warrant(self, voters: Sequence[Voter], room: int) -> bytes:
        """Its signed words about the dismissal of these, in at most so many bytes; empty where they cannot be had."""

    def is_warrant_untrusted(self, evidence: bytes, voters: Collection[Voter]) -> bool:
        """Whether these are its words, and about the dismissal of some of these voters only."""


class Silent:
    """An authority that says nothing."""

    def is_dismissed(self, _voter: Voter) -> bool:
        return False

    def warrant(self, _voters: Sequence[Voter], _room: int) -> bytes:
        return b""

    def is_warrant_untrusted(self, _evidence: bytes, _voters: Collection[Voter]) -> bool:
        return False


def wanted_voters(
    config: Config, standby: Sequence[Voter], dead: Collection[Voter], dismissed: Collection[Voter] = ()
) -> tuple[Voter, ...]:
    """Who should vote, sorted: those who do, without the dismissed, and without the dead as far as others stand by, filled up to
    the best size."""
    staying = [voter for voter in config.voters if voter not in dismissed]
    living = [voter for voter in staying if voter not in dead]
    if not staying:
        return config.voters  # somebody has to, and the authority has a way out (a new epoch)
    pool = [*living, *(voter for voter in standby if voter not in config.voters and voter not in dead and voter not in dismissed)]
    size = max(len(staying), next((size for size in SIZES if size <= len(pool)), 1))
    chosen = pool[:size]
    chosen += [voter for voter in staying if voter in dead][: size - len(chosen)]
    return tuple(sorted(chosen))


def leaving(config: Config) -> tuple[Voter, ...]:
    """Whose vote this configuration takes away, sorted: the joint one decides that."""
    return tuple(voter for voter in config.outgoing if voter not in config.voters)


def next_config(
    config: Config,
    standby: Sequence[Voter],
    dead: Collection[Voter],
    caught_up: Collection[Voter],
    dismissed: Collection[Voter] = (),
) -> Config | None:
    """The next step; None when nothing is to be done, or learners have to catch up. `config` is committed."""
    if config.is_joint:
        return config._replace(outgoing=())
    wanted = wanted_voters(config, standby, dead, dismissed)
    newcomers = tuple(sorted(set(wanted) - set(config.voters)))
    if newcomers != config.learners:
        return config._replace(learners=newcomers)
    if wanted == config.voters or not all(voter in caught_up for voter in newcomers):
        return None
    return Config(wanted, config.voters)
