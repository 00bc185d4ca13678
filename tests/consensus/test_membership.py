"""Voters come and go, one committed step after the other, and never two majorities at once."""

from __future__ import annotations

import pytest

from consensus_escalation.effects import Standby
from consensus_escalation.membership import Silent, leaving, next_config, wanted_voters
from consensus_escalation.quorum import Config
from consensus_escalation.types import Pace, Role, Voter
from tests.consensus.cluster import Cluster, Machine, voter

A, B, C, D, E, F = (voter(number) for number in range(1, 7))


def test_one_goes_to_three_and_five_and_never_rests_between() -> None:
    assert wanted_voters(Config((A,)), [B], ()) == (A,), "two voters tolerate nothing"
    assert wanted_voters(Config((A,)), [B, C], ()) == (A, B, C)
    assert wanted_voters(Config((A,)), [B, C, D], ()) == (A, B, C)
    assert wanted_voters(Config((A, B, C)), [D], ()) == (A, B, C)
    assert wanted_voters(Config((A, B, C)), [D, E, F], ()) == (A, B, C, D, E)


def test_the_dead_stay_voters_until_somebody_can_replace_them() -> None:
    assert wanted_voters(Config((A, B, C)), [], (C,)) == (A, B, C)
    assert wanted_voters(Config((A, B, C)), [D], (C,)) == (A, B, D)
    assert wanted_voters(Config((A, B, C)), [C, D], (C,)) == (A, B, D)


def test_the_dismissed_leave_whether_or_not_somebody_can_replace_them() -> None:
    assert wanted_voters(Config((A, B, C)), [A, B], (), (C,)) == (A, B)
    assert wanted_voters(Config((A, B, C)), [A, B, D], (), (C,)) == (A, B, D)
    assert wanted_voters(Config((A, B, C)), [A, D], (B,), (C,)) == (A, D)
    assert wanted_voters(Config((A, B, C)), [A], (B,), (C,)) == (A, B), "the dead one still counts"
    assert wanted_voters(Config((A, B, C, D, E)), [A, B, C, D], (), (E,)) == (A, B, C, D)
    assert wanted_voters(Config((A, B, C, D, E)), [A, B, C], (), (D, E)) == (A, B, C)
    assert wanted_voters(Config((A,)), [], (), (A,)) == (A,), "somebody has to vote"
    assert next_config(Config((A, B, C)), [], (), set(), [C]) == Config((A, B), (A, B, C))
    assert leaving(Config((A, B), (A, B, C))) == (C,)
    assert leaving(Config((A, B))) == ()


def test_newcomers_learn_first_then_both_sets_agree() -> None:
    config = Config((A,))
    steps = []
    while (following := next_config(config, [B, C], (), {B, C})) is not None:
        steps.append(following)
        config = following
    assert steps == [Config((A,), (), (B, C)), Config((A, B, C), (A,)), Config((A, B, C))]
    assert next_config(Config((A,), (), (B, C)), [B, C], (), {B}) is None, "C lags behind"
    assert next_config(Config((A,), (), (B, C)), [], (), set()) == Config((A,)), "learners that left are let go"


def grown(size: int, pace: Pace | None = None) -> tuple[Cluster, Machine]:
    cluster = Cluster(size, voters=1, pace=pace)
    leader = cluster.elect(0.1)
    cluster.submit(leader, "alone")
    leader.step(Standby(tuple(cluster.names)))
    cluster.advance(1.0)
    return cluster, leader


def voters(machine: Machine) -> tuple[Voter, ...]:
    assert machine.raft is not None
    assert not machine.raft.log.config.is_joint
    return machine.raft.log.config.voters


def test_the_first_voter_starts_alone_and_five_take_over() -> None:
    cluster, leader = grown(5)
    assert all(voters(machine) == tuple(cluster.names) for machine in cluster.machines.values())
    leader.crash()
    following = cluster.elect(1.0)
    cluster.submit(following, "without the first")
    cluster.advance(0.1)
    assert cluster.texts(following) == ["alone", "without the first"]


def test_each_change_is_certified_by_those_before() -> None:
    cluster, leader = grown(5)
    cluster.submit(leader, "after the change")
    cluster.advance(0.1)
    assert cluster.trail.newest[1] == Config(tuple(cluster.names)), "a stranger who knows the genesis knows the voters"


def test_a_voter_that_stays_dead_is_replaced() -> None:
    cluster = Cluster(4, voters=3, pace=Pace(replace_seconds=5.0))
    leader = cluster.elect()
    dead = next(machine for number in (1, 2, 3) if (machine := cluster[number]) is not leader)
    dead.crash()
    leader.step(Standby((voter(4),)))
    cluster.advance(4.0)
    assert voter(4) not in voters(leader)
    cluster.advance(3.0)
    assert voter(4) in voters(leader)
    assert dead.me not in voters(leader)


def test_a_removed_voter_that_returns_disturbs_nobody() -> None:
    """Dissertation 4.2.3: it does not know that it was removed, and campaigns."""
    cluster = Cluster(4, voters=3, pace=Pace(replace_seconds=1.0))
    leader = cluster.elect()
    removed = next(machine for number in (1, 2, 3) if (machine := cluster[number]) is not leader)
    removed.crash()
    leader.step(Standby((voter(4),)))
    cluster.advance(3.0)
    removed.start()
    assert leader.raft is not None
    term = leader.raft.term
    cluster.advance(3.0)
    assert (leader.raft.role, leader.raft.term) == (Role.LEADER, term)


def test_a_learner_that_is_down_holds_nothing_up() -> None:
    cluster = Cluster(3, voters=1)
    leader = cluster.elect(0.1)
    cluster[3].crash()
    leader.step(Standby(tuple(cluster.names)))
    cluster.submit(leader, "goes on")
    cluster.advance(1.0)
    assert voters(leader) == (voter(1),)
    assert cluster.texts(leader) == ["goes on"]
    cluster[3].start()
    cluster.advance(1.0)
    assert voters(leader) == tuple(cluster.names)


def test_what_only_a_removed_voter_could_prove_is_not_waited_for() -> None:
    """The first voter alone decides about the first changes. When it has left for ever, a later leader kept asking for proofs of
    them, and kept all acknowledgements that came meanwhile: found by `mesh sim --seed 64115 --critical 15` with dismissals."""
    cluster = Cluster(4, voters=1, pace=Pace(replace_seconds=1.0))
    first = cluster.elect(0.1)
    first.step(Standby((voter(1), voter(2), voter(3))))
    cluster.advance(1.0)
    first.crash()
    leader = cluster.elect(1.0)
    leader.step(Standby((voter(2), voter(3), voter(4))))
    cluster.advance(3.0)
    assert voters(leader) == (voter(2), voter(3), voter(4))
    assert leader.raft is not None
    leading = leader.raft._replication.leading
    assert leading is not None
    for number in range(20):
        cluster.submit(leader, f"entry {number}")
    cluster.advance(0.1)
    assert leading.acks._wanted == []
    assert max(map(len, leading.acks._acks.values())) <= 3


class Dismissing(Silent):
    """Takes the votes of these."""

    def __init__(self, *voters: Voter) -> None:
        self._voters = voters

    def is_dismissed(self, voter: Voter) -> bool:
        return voter in self._voters


@pytest.mark.interpreted
def test_those_who_leave_agree_on_it() -> None:
    """The last step of a change is agreed on by both sets, too. It went to those who stay only, so where these are no majority of
    the former set, nothing was ever committed again: found by `mesh sim --seed 64212 --critical 15` with dismissals."""
    cluster = Cluster(5, voters=4)
    leader = cluster.elect()
    gone = [name for name in cluster.names[:4] if name != leader.me][:2]
    assert leader.raft is not None
    leader.raft._authority = Dismissing(*gone)
    leader.step(Standby(tuple(name for name in cluster.names if name not in gone)))
    cluster.advance(1.0)
    assert voters(leader) == tuple(name for name in cluster.names if name not in gone)
    cluster.submit(leader, "goes on")
    cluster.advance(0.2)
    assert cluster.texts(leader) == ["goes on"]
    assert set(leader.raft._replication.leading.progress) == set(voters(leader)) - {leader.me}  # type: ignore[union-attr]
    cluster.advance(3.0)
    assert leader.raft.role is Role.LEADER, "and who has left disturbs nobody"


def dismissed(cluster: Cluster, leader: Machine, *gone: Voter) -> None:
    """The authority has said so to all who are up."""
    for machine in cluster.machines.values():
        if machine.raft is not None:
            machine.raft._authority = Dismissing(*gone)
    leader.step(Standby(tuple(name for name in cluster.names if name not in gone)))


@pytest.mark.interpreted
@pytest.mark.parametrize("leader_lives", [False, True])
def test_who_is_dismissed_campaigns_until_that_is_committed(leader_lives: bool) -> None:
    """`mesh sim` seed 1137035: two of three were dismissed while the third was down. They alone got the configuration without
    them, so the third could not be elected, and they were no candidates any more (dissertation 4.2.2)."""
    cluster = Cluster(3)
    leader = cluster.elect()
    third = next(machine for machine in reversed(cluster.machines.values()) if machine is not leader)
    gone = [name for name in cluster.names if name != third.me]
    third.crash()
    dismissed(cluster, leader, *gone)
    cluster.advance(1.0)
    former = [machine for machine in cluster.machines.values() if machine is not third]
    assert [machine.raft.log.config for machine in former if machine.raft is not None] == [Config((third.me,))] * 2
    if not leader_lives:
        leader.crash()
    else:  # so that it has to be elected again
        cluster.lost = lambda _sender, _to, _message: True
        cluster.advance(2.0)
        assert cluster.leader() is None
        cluster.heal()
    third.start()
    assert cluster.elect(5.0) is third
    cluster.submit(third, "goes on alone")
    cluster.advance(0.2)
    assert cluster.texts(third) == ["goes on alone"]
    assert [machine.raft.role for machine in former if machine.raft is not None] == [Role.FOLLOWER] * (1 + leader_lives)
