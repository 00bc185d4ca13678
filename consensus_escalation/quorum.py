"""Who has to agree: a majority, or a majority of both voter sets while one gives way to the other (paper section 6)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from consensus_escalation.types import Voter
from crdt.errors import Malformed

CONFIG_SIZE_MAX = 16
"""Voters, outgoing voters or learners in one configuration. Five vote (DESIGN section 7); a block has to hold all of them."""


class Config(NamedTuple):
    """A configuration, each part sorted. `outgoing` is the former voter set while two must agree (joint), else empty."""

    voters: tuple[Voter, ...]
    outgoing: tuple[Voter, ...] = ()
    learners: tuple[Voter, ...] = ()

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def electorate(self) -> tuple[Voter, ...]:
        """All who vote, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing})) if self.outgoing else self.voters

    @property
    def everyone(self) -> tuple[Voter, ...]:
        """All to whom the log goes, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))


def majority(size: int) -> int:
    return size // 2 + 1


def _agreed(voters: tuple[Voter, ...], yes: Container[Voter]) -> bool:
    return len([voter for voter in voters if voter in yes]) >= majority(len(voters))


def has_quorum(config: Config, yes: Container[Voter]) -> bool:
    """Whether those in `yes` may decide: in a joint configuration a majority of each set."""
    return _agreed(config.voters, yes) and (not config.outgoing or _agreed(config.outgoing, yes))


def _reached(voters: tuple[Voter, ...], values: Mapping[Voter, float]) -> float:
    ordered = sorted([values.get(voter, 0) for voter in voters], reverse=True)
    return ordered[majority(len(voters)) - 1]


def reached_by_quorum(config: Config, values: Mapping[Voter, float]) -> float:
    """The highest value that a quorum has reached; who is missing in `values` stands at 0."""
    reached = _reached(config.voters, values)
    return min(reached, _reached(config.outgoing, values)) if config.outgoing else reached


def config_to_value(config: Config) -> list[list[Voter]]:
    return [list(config.voters), list(config.outgoing), list(config.learners)]


def config_from_value_untrusted(value: object) -> Config:
    """Raises Malformed."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise Malformed("a configuration has three parts")
    parts = []
    for part in value:
        if (
            not isinstance(part, list | tuple)
            or len(part) > CONFIG_SIZE_MAX
            or not all(type(v) is bytes and len(v) == 8 for v in part)
        ):
            raise Malformed("a configuration lists voters")
        if list(part) != sorted(set(part)):
            raise Malformed("voters are sorted and named once")
        parts.append(tuple(Voter(voter) for voter in part))
    if not parts[0]:
        raise Malformed("somebody has to vote")
    return Config(*parts)
