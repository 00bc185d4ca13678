"""Of three voters one hears of a write when it is committed, unless the other is slow."""

from __future__ import annotations

import pytest

from consensus_escalation.block import Entry, Kind
from consensus_escalation.effects import Standby, Submit, Transfer
from consensus_escalation.messages import Append, Message
from consensus_escalation.quorum import Config
from consensus_escalation.sessions import NAMED
from consensus_escalation.thrift import GENEROUS_SECONDS, SPARE_SECONDS, Thrift
from consensus_escalation.types import Role, Voter
from tests.consensus.cluster import EPOCH_MICROSECONDS, Cluster, voter
from tests.consensus.test_membership import Dismissing
from tools.measure.critical import virtual_failover

A, B, C, D, E = map(voter, range(1, 6))


class Watched:
    """A cluster that 1 leads, in which lower numbers are worth more; `sent`: whom it sent how many blocks since asked last."""

    def __init__(self, size: int = 3) -> None:
        self.cluster = Cluster(size, seed=1)
        leader = self.cluster.elect()
        self.cluster.give_scores(leader, {number: 15 - number for number in range(1, size + 1)})
        if leader.me != A:
            leader.step(Transfer(A))
            self.cluster.advance(0.5)
        self.leader = self.cluster[1]
        assert self.leader.raft is not None
        assert self.leader.raft.role is Role.LEADER
        self.cluster.advance(GENEROUS_SECONDS + 1.0)
        self._sent: list[tuple[Voter, int]] = []
        self.deaf: set[Voter] = set()
        self.cluster.lost = self._lost

    def _lost(self, _sender: Voter, to: Voter, message: Message) -> bool:
        if isinstance(message, Append) and message.blocks:
            self._sent.append((to, len(message.blocks)))
        return to in self.deaf

    def write(self, *texts: str) -> None:
        """One after the other, each a block of its own."""
        for text in texts:
            self.cluster.submit(self.leader, text)
            self.cluster.deliver()

    def sent(self) -> list[tuple[Voter, int]]:
        sent, self._sent = self._sent, []
        return sent

    def has_committed(self, text: str) -> bool:
        return text in self.cluster.texts(self.leader)


def test_a_quorum_hears_of_each_write_and_the_others_of_several() -> None:
    all_ = Watched(5)
    all_.write("a", "b", "c")
    assert all_.has_committed("c")
    assert sorted(all_.sent()) == [(B, 1)] * 3 + [(C, 1)] * 3, "the best two of the others"
    all_.cluster.advance(SPARE_SECONDS)
    assert all_.sent() == [(D, 3), (E, 3)]
    all_.cluster.advance(0.1)
    assert all_.sent() == []
    assert [all_.cluster.texts(all_.cluster[number]) for number in range(2, 6)] == [["a", "b", "c"]] * 4


def test_one_that_does_not_answer_is_waited_for_once() -> None:
    """Not with each write: a link that loses datagrams would cost a wait every time."""
    all_ = Watched()
    all_.deaf = {B}
    all_.write("a")
    assert not all_.has_committed("a")
    all_.cluster.advance(SPARE_SECONDS)
    assert all_.has_committed("a")
    all_.write("b")
    assert all_.has_committed("b")
    all_.deaf = set()
    all_.cluster.advance(GENEROUS_SECONDS)
    all_.sent()
    all_.write("c")
    assert all_.sent() == [(B, 1)]
    assert all_.has_committed("c")


def test_who_is_far_behind_is_fed_without_a_pause() -> None:
    """An answer of somebody who lacks more than the newest blocks is followed by more of them at once."""
    all_ = Watched()
    all_.deaf = {C}
    assert all_.leader.raft is not None
    texts = [f"text {number}" for number in range(3 * all_.cluster.pace.window_blocks)]
    all_.write(*texts)
    all_.cluster.advance(SPARE_SECONDS)
    all_.deaf = set()
    all_.cluster.advance(all_.cluster.pace.heartbeat_seconds)
    assert all_.cluster[3].raft is not None
    assert all_.cluster[3].raft.log.last_index == all_.leader.raft.log.last_index


def test_a_voter_waits_for_its_own_write_no_longer_than_others_for_theirs() -> None:
    """The proof came before the block, so it asked for that and got it twice: a client there waited a third longer."""
    all_ = Watched()
    all_.leader.step(Submit(Entry(Kind.COMMAND, C, EPOCH_MICROSECONDS, NAMED | 1, b"from C")))
    all_.cluster.deliver()
    assert all_.sent() == [(B, 1), (C, 1)]
    all_.write("from elsewhere")
    assert all_.sent() == [(B, 1)]
    all_.cluster.advance(SPARE_SECONDS)
    assert all_.sent() == [(C, 1)]


@pytest.mark.parametrize(
    "config",
    [Config((A, B, C), (A, B)), Config((A, B, C), learners=(D,)), Config((B, C, D))],
    ids=["joint", "learner", "leaving"],
)
def test_all_hear_of_a_change_of_voters_at_once(config: Config) -> None:
    thrift = Thrift()
    thrift.choose(Config((A, B, C)), A, [B, C])
    assert not thrift.is_due(C, 1, 0.0)
    thrift.choose(config, A, [B, C, D])
    assert thrift.is_due(C, 1, 0.0)
    assert thrift.is_due(D, 1, 0.0)


@pytest.mark.interpreted
def test_those_who_leave_are_not_counted_on_for_that() -> None:
    """The best follower was told at once of the configuration without it, and those who had to agree 25 ms later."""
    all_ = Watched(5)
    assert all_.leader.raft is not None
    all_.leader.raft._authority = Dismissing(B)
    began = all_.cluster.time
    all_.leader.step(Standby((A, C, D, E)))
    while all_.leader.raft.log.config != Config((A, C, D, E)) or all_.leader.raft.commit < all_.leader.raft.log.config_index:
        all_.cluster.advance(0.001)
    assert all_.cluster.time - began < all_.cluster.pace.heartbeat_seconds + SPARE_SECONDS / 2


def test_a_dead_leader_is_not_counted_on_by_the_next_one() -> None:
    """It is the best of all, so it would get all at once, and each write wait for the others' turn."""
    all_ = Watched(5)
    all_.leader.crash()
    all_.leader = all_.cluster[2]
    all_.cluster.advance(0.5)
    assert all_.cluster.leader() is all_.leader
    all_.sent()
    all_.write("a")
    assert all_.has_committed("a")
    assert [to for to, _ in all_.sent()] == [C, D]


@pytest.mark.parametrize("seed", [87, 94])
def test_who_lacks_a_block_gets_it_without_another_write(seed: int) -> None:
    """A voter that answered the first heartbeat before it had the new leader's first block was left waiting for the next one."""
    milliseconds, best_leads = virtual_failover(seed)
    assert milliseconds < 500
    assert best_leads
