"""Voters on links that are slower than the preset is made for still elect one: a slot is 60 ms here, and half of it a way."""

from __future__ import annotations

import pytest

from consensus_escalation.effects import Persist
from consensus_escalation.messages import Message
from consensus_escalation.types import Voter
from tests.consensus.cluster import Machine
from tests.consensus.storm import Storm


class Far(Storm):
    """Each message takes as long as any other; nothing else goes wrong."""

    def __init__(self, size: int, seed: int, delay_seconds: float) -> None:
        self._delay_seconds = delay_seconds
        super().__init__(size, seed)
        self.is_calm = True

    def transmit(self, sender: Machine, to: Voter, message: Message) -> None:
        self._at(self._delay_seconds, "message", sender.me, to, message)

    def writing(self, machine: Machine, persist: Persist) -> None:
        self._at(0.001, "written", machine, persist)

    def elected(self, seconds: float) -> int | None:
        """The term of who leads, once it has committed something."""
        while self.time < seconds:
            self.run(0.05)
            leader = self.leader()
            if leader is not None and leader.raft is not None and leader.raft.commit:
                return leader.raft.term
        return None


@pytest.mark.parametrize("seed", range(6))
def test_a_candidate_of_two_waits_for_the_votes_of_its_term(seed: int) -> None:
    """Regression: its time for PreVotes and votes together was shorter than their ways: it gave up each term just before
    that was won."""
    assert Far(2, seed, 0.04).elected(5.0) == 1


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_neighbours_in_rank_do_not_split_the_votes_for_ever(size: int, seed: int) -> None:
    """Regression: where a way takes longer than a slot, both have asked before they hear of the other, in each round."""
    assert Far(size, seed, 0.07).elected(20.0) is not None


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_to_wait_for_votes_does_not_bring_two_candidates_back_into_step(seed: int) -> None:
    """Regression: who waited for the votes of its term tried again after the same time as the other, however far their campaigns
    had been drawn apart."""
    assert Far(2, seed, 0.058).elected(10.0) is not None
