"""Log time is the leader's clock, and no further ahead of the others' than two good clocks can be."""

from __future__ import annotations

import pytest

from consensus_escalation.replication import AHEAD_MICROSECONDS
from consensus_escalation.types import Role
from tests.consensus.cluster import Cluster, Machine

YEAR = 365 * 86_400.0


def log_time(machine: Machine) -> float:
    """Seconds since the cluster began."""
    assert machine.raft is not None
    return machine.raft.ledger.time / 1e6 - 1_700_000_000


def test_a_leader_whose_clock_is_a_year_ahead_leads_no_more() -> None:
    """Its clock was log time, unchecked: all that the quorum remembers for 24 h was forgotten, and never came back."""
    cluster = Cluster(3)
    first = cluster.elect()
    cluster.skews[first.me] = YEAR
    cluster.submit(first, "late", since=cluster.now(first).wall)
    cluster.advance(3.0)
    heir = cluster.leader()
    assert heir not in (None, first)
    assert heir is not None
    cluster.submit(heir, "good")
    cluster.advance(1.0)
    for machine in cluster.machines.values():
        assert log_time(machine) < 60
        assert cluster.texts(machine) == ["good"]


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_two_good_clocks_may_be_an_hour_off_each(share: float) -> None:
    cluster = Cluster(3)
    first = cluster.elect()
    cluster.skews[first.me] = AHEAD_MICROSECONDS * share / 1e6
    cluster.submit(first, "text")
    cluster.advance(0.1)
    assert (cluster.texts(first) == ["text"]) == (share < 1)


def test_log_time_that_is_there_already_stops_nobody() -> None:
    """All wake up without their batteries: 1970 is far behind what the log says, which stands still until it is right again."""
    cluster = Cluster(3)
    first = cluster.elect()
    before = log_time(first)
    for machine in cluster.machines.values():
        cluster.skews[machine.me] = -30 * YEAR
    cluster.submit(first, "text")
    cluster.advance(1.0)
    assert cluster.leader() is first
    for machine in cluster.machines.values():
        assert cluster.texts(machine) == ["text"]
        assert log_time(machine) == before


def test_a_voter_in_1970_keeps_two_good_ones_from_nothing() -> None:
    cluster = Cluster(3)
    first = cluster.elect()
    lost = next(machine for machine in cluster.machines.values() if machine is not first)
    cluster.skews[lost.me] = -30 * YEAR
    for number in range(5):
        cluster.submit(first, f"text {number}")
        cluster.advance(1.0)
    assert cluster.leader() is first
    assert len(cluster.texts(first)) == 5
    assert first.raft is not None
    assert first.raft.role is Role.LEADER
