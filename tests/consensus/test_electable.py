"""There is always somebody who can be elected, whatever the logs, scores and survivors; a rule that lets scores refuse votes
fails that.

The naive rule: A(9) goes down while B(8) and C(3) commit, then B dies and A returns without what they committed. A is refused for
its log, C for its score, for ever (morphium#312: priority elections leave clusters leaderless).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, combinations_with_replacement, product
from typing import NamedTuple

import pytest

from consensus_escalation.election import may_grant_prevote, may_grant_vote
from consensus_escalation.quorum import Config, has_quorum, majority
from consensus_escalation.types import Position
from tests.consensus.cluster import voter

LOGS = [Position(1, 1), Position(1, 2), Position(2, 2)]
SCORES = [0, 3, 9]


class Agent(NamedTuple):
    log: Position
    score: int


State = tuple[tuple[Agent, ...], tuple[int, ...]]
"""Agents, and which of them are up."""


def ours(state: State, judge: int, candidate: int) -> bool:
    agents, _ = state
    granted = may_grant_vote(
        term=2,
        voted=None,
        mine=agents[judge].log,
        candidate=voter(candidate + 1),
        asked_term=3,
        candidate_last=agents[candidate].log,
    )
    assert granted == may_grant_prevote(
        term=2, mine=agents[judge].log, asked_term=3, candidate_last=agents[candidate].log, leader_near=False
    )
    return granted


def naive(state: State, judge: int, candidate: int) -> bool:
    return ours(state, judge, candidate) and state[0][judge].score <= state[0][candidate].score


def electable(state: State, rule: Callable[[State, int, int], bool]) -> list[int]:
    agents, up = state
    config = Config(tuple(voter(number + 1) for number in range(len(agents))))
    return [c for c in up if has_quorum(config, {voter(judge + 1) for judge in up if rule(state, judge, c)})]


def states(size: int) -> Iterator[State]:
    """All of them; of five agents those that are equal but for the order of names are looked at once."""
    kinds = [Agent(log, score) for log, score in product(LOGS, SCORES)]
    for agents in product(kinds, repeat=size) if size == 3 else combinations_with_replacement(kinds, size):
        for count in range(majority(size), size + 1):
            for up in combinations(range(size), count):
                yield agents, up


@pytest.mark.parametrize(("size", "count"), [(3, 2916), (5, 20592)])
def test_somebody_can_always_be_elected(size: int, count: int) -> None:
    looked_at = stuck = 0
    for state in states(size):
        looked_at += 1
        assert electable(state, ours), f"nobody can lead in {state}"
        stuck += not electable(state, naive)
    assert looked_at == count
    assert stuck > looked_at // 20, "the naive rule passes: this test proves nothing"


def test_the_story_of_the_naive_rule() -> None:
    state = ((Agent(LOGS[0], 9), Agent(LOGS[1], 8), Agent(LOGS[1], 3)), (0, 2))
    assert electable(state, naive) == []
    assert electable(state, ours) == [2]
