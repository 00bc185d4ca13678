"""Linearizable reads: what was committed before is seen, and a leader that may have been replaced answers nothing."""

from __future__ import annotations

from consensus_escalation.effects import Read, ReadFailed, ReadReady
from tests.consensus.cluster import Cluster


def test_any_voter_can_read() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.submit(leader, "seen")
    cluster.advance(0.1)
    for number, machine in enumerate(cluster.machines.values()):
        machine.step(Read(number))
        cluster.deliver()
        assert machine.take(ReadReady) == [ReadReady(number, leader.applied)]


def test_a_leader_that_was_cut_off_does_not_answer() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.lost = lambda sender, to, _message: leader.me in (sender, to)
    leader.step(Read(1))
    cluster.advance(0.1)
    assert leader.take(ReadReady) == []
    cluster.advance(1.0)
    assert leader.take(ReadFailed) == [ReadFailed(1)]
    assert cluster.elect(0.0) is not leader


def test_a_new_leader_waits_for_its_own_no_op() -> None:
    """Dissertation 6.4, step 1: before, it does not know what is committed."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.submit(leader, "committed, but who knows")
    cluster.deliver()
    leader.crash()
    cluster.lost = lambda _sender, to, message: type(message).__name__ == "Accepted"
    following = next(m for m in cluster.machines.values() if m.raft is not None)
    while cluster.leader() is None:
        cluster.advance(0.05)
    following = cluster.elect(0.0)
    following.step(Read(7))
    cluster.deliver()
    assert following.take(ReadReady) == []
    cluster.heal()
    cluster.advance(0.05)
    assert following.take(ReadReady) == [ReadReady(7, 3)]


def test_many_reads_share_a_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    leader.cluster.inbox.clear()
    for number in range(50):
        leader.step(Read(number))
    cluster.advance(0.01)
    assert len(leader.take(ReadReady)) == 50
