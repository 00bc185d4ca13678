"""Raft's five properties hold in random runs, and the same runs find bugs that are planted."""

from __future__ import annotations

from collections import Counter

import pytest

from consensus_escalation import election, replication
from consensus_escalation.log import Log
from tests.consensus.storm import one


def test_raft_keeps_its_properties() -> None:
    total: Counter[str] = Counter()
    for seed in range(1, 21):
        storm = one(seed)
        total.update(storm.happened)
        total.update(storm.witness.counts)
    assert (
        min(total[what] for what in ("crashes", "partitions", "one-way cuts", "elections", "commits", "certificates", "reads"))
        > 50
    ), "a vacuous run"


def runs_until_found(seeds: int) -> None:
    for seed in range(1, seeds):
        one(seed)


@pytest.mark.interpreted
def test_a_vote_for_a_shorter_log_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "is_up_to_date", lambda candidate, mine: True)
    with pytest.raises(AssertionError):
        runs_until_found(100)


@pytest.mark.interpreted
def test_a_minority_that_commits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(log: Log, match: dict[bytes, float], commit: int, term_start: int) -> int:
        return max(commit, int(max(match.values())))

    monkeypatch.setattr(replication, "may_commit", eager)
    with pytest.raises(AssertionError):
        runs_until_found(100)
