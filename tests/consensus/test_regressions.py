"""Bugs that users of other systems reported, each tried here. The rules themselves have tests of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus_escalation.block import Entry
from consensus_escalation.clocks import ASK_SECONDS
from consensus_escalation.core import PATIENCE_MAX
from consensus_escalation.effects import Committed, Received, Submit
from consensus_escalation.machine import Machine as StateMachine
from consensus_escalation.machine import Outcome
from consensus_escalation.messages import Accepted, AskVote, Message, Vote
from consensus_escalation.sessions import NAMED
from consensus_escalation.types import Position, Role, Voter
from mesh.wire.cbor import decode_untrusted
from tests.consensus.blocks import ALICE, WALL, Author, swap
from tests.consensus.cluster import Cluster, Machine
from tests.consensus.storm import Storm


def applied(machine: Machine) -> tuple[StateMachine, list[Outcome]]:
    """The state machine of this voter, and the outcome of every client's entry."""
    state, outcomes = StateMachine(), list[Outcome]()
    for notice in machine.notices:
        if isinstance(notice, Committed):
            done = state.apply(notice.block)
            outcomes += [outcome for entry, outcome in zip(notice.block.entries, done, strict=True) if entry.author]
    return state, outcomes


def value(state: StateMachine) -> object:
    cell = state.cell(("tasks", "42", "owner"))
    return decode_untrusted(cell.value) if cell else None


def test_the_best_voter_is_stale_and_the_other_has_a_low_score() -> None:
    """morphium#312: a priority election refuses the stale one for its log and the other for its priority, for ever."""
    cluster = Cluster(3)
    cluster.give_scores(cluster.elect(), {1: 9, 2: 8, 3: 3})
    cluster[1].crash()
    leader = cluster.elect()
    cluster.submit(leader, "1 lacks this")
    cluster.advance(0.1)
    cluster[2].crash()
    cluster[1].start()
    survivor = cluster.elect(2.0)
    assert survivor is cluster[3]
    assert cluster.texts(cluster[1]) == ["1 lacks this"]


@pytest.mark.parametrize("size", [3, 5])
def test_a_leader_that_hears_nobody_keeps_nobody_hostage(size: int) -> None:
    """openraft#2080: its heartbeats still arrive, so the voters stand by a leader that can commit nothing, for ever."""
    cluster = Cluster(size)
    leader = cluster.elect()
    cluster.lost = lambda _sender, to, _message: to == leader.me
    following = cluster.elect(2.0)
    assert following is not leader
    cluster.submit(following, "it goes on")
    cluster.advance(0.1)
    assert cluster.texts(following) == ["it goes on"]
    assert leader.raft is not None
    assert leader.raft.role is not Role.LEADER, "it fell silent"


def test_nobody_stands_by_a_leader_that_fell_silent() -> None:
    """`mesh sim` seed 75298: it had no answers, fell silent and asked to be elected again. That was taken for a sign that it had
    lived all the time, so all waited longer the next time, and the last time they stood for 2.4 s by the very one that asked."""
    cluster = Cluster(5)
    leader = cluster.elect()
    for _ in range(5):
        cluster.lost = lambda _sender, to, message: to == leader.me and isinstance(message, Accepted)
        while cluster.leader() is not None:
            cluster.advance(0.01)
        cluster.heal()
        assert cluster.elect(cluster.pace.election_seconds + cluster.pace.slot_seconds) is leader
    leader.crash()
    cluster.advance(0.3)
    assert cluster.leader() is not None, "nobody has learned to wait"


def test_nobody_waits_out_the_silence_of_a_leader_that_gave_up() -> None:
    """It hears nobody, but is heard: it asks for a later term, and all campaign in their slots from then on, however long false
    alarms have taught them to wait."""
    cluster = Cluster(5)
    leader = cluster.elect()
    for machine in cluster.machines.values():
        if machine is not leader and machine.raft is not None:
            machine.raft._core.patience = PATIENCE_MAX
    cluster.advance(0.1)
    cluster.lost = lambda _sender, to, _message: to == leader.me
    while cluster.leader() is leader:
        cluster.advance(0.01)
    assert cluster.elect(2 * cluster.pace.election_seconds) is not leader


@pytest.mark.parametrize("learns", [True, False], ids=["until it knows better", "for ever"])
def test_what_a_majority_does_not_store_keeps_nobody_from_leading(learns: bool) -> None:
    """`mesh sim` seed 80622: three of five did not store a block, since its evidence was lost with the power. They voted for the
    two that had it, whose logs were longer, followed them, and stored nothing: a term each half second, for ever."""
    cluster = Cluster(5)
    leader = cluster.elect()
    refusing = [machine for machine in cluster.machines.values() if machine is not leader][1:]
    is_known = False
    for machine in refusing:
        assert machine.raft is not None
        machine.raft._evidence._is_signed = lambda batch: is_known or batch[0].body != b"by a stranger"
    cluster.submit(leader, "by a stranger")
    if learns:
        cluster.advance(0.2)
        is_known = True
    cluster.advance(1.5)
    cluster.submit(cluster.elect(0.5), "it goes on")
    cluster.advance(0.2)
    for machine in refusing:
        assert cluster.texts(machine) == (["by a stranger", "it goes on"] if learns else ["it goes on"])


def test_who_alone_does_not_store_something_stands_in_the_way_for_a_while_only() -> None:
    """By then it may be that all others have agreed on it, and nobody could lead without this one."""
    cluster = Cluster(3)
    leader = cluster.elect()
    other, stubborn = (machine for machine in cluster.machines.values() if machine is not leader)
    assert stubborn.raft is not None
    stubborn.raft._is_signed = lambda batch: batch[0].body != b"by a stranger"
    cluster.submit(leader, "by a stranger")
    cluster.advance(0.3)
    assert cluster.texts(other) == ["by a stranger"]
    leader.crash()
    cluster.advance(4.0)
    assert other.me in [change.leader for change in cluster.leaders_seen()]


def test_a_name_that_the_log_has_forgotten_may_be_used_again() -> None:
    """`mesh sim` seed 111027: the leader remembered in its own books that it had taken the name, so its user heard "repeated",
    found nothing in the log, and asked again, for ever."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.submit(leader, "one", number=NAMED | 7)
    cluster.advance(0.1)
    for machine in cluster.machines.values():
        cluster.skews[machine.me] = 25 * 3600.0
    cluster.advance(ASK_SECONDS + 1)
    cluster.submit(leader, "two", number=NAMED | 7, since=cluster.now(leader).wall)
    cluster.advance(0.1)
    assert cluster.texts(leader) == ["one", "two"]


@pytest.mark.parametrize("before", [True, False], ids=["killed before the write", "killed after the write"])
def test_a_vote_is_on_the_disk_before_it_is_given(before: bool) -> None:
    """PySyncObj#202: neither term nor vote are stored, so whoever restarts votes twice in one term."""
    cluster = Cluster(3)
    cluster.elect()
    one = next(machine for machine in cluster.machines.values() if machine.raft and machine.raft.role is not Role.LEADER)
    cluster.lost = lambda _sender, _to, _message: True
    cluster.advance(5.0)
    term = one.disk.term + 5
    others = [name for name in cluster.names if name != one.me]
    assert one.raft is not None
    last = Position(one.raft.term, one.raft.log.last_index + 5)
    sent: list[tuple[object, object]] = []

    def lose(_sender: Voter, to: Voter, message: Message) -> bool:
        sent.append((to, message))
        return True

    cluster.lost = lose
    if before:
        cluster.slow_disks.add(one.me)
    one.step(Received(others[0], AskVote(term, last, None, b"")))
    cluster.deliver()
    if before:
        assert not [message for _, message in sent if isinstance(message, Vote) and message.granted], "nothing left"
        cluster.slow_disks.clear()
    one.crash()
    one.start()
    one.step(Received(others[1], AskVote(term, last, None, b"")))
    one.step(Received(others[0], AskVote(term, last, None, b"")))
    cluster.deliver()
    granted = {to for to, message in sent if isinstance(message, Vote) and message.granted and message.term == term}
    assert len(granted) == 1
    assert granted == {others[1] if before else others[0]}


def claim(number: int) -> Entry:
    return Author().entry(swap(("tasks", "42", "owner"), None, "r7"), ALICE, NAMED | number, WALL)


def test_a_retry_after_the_leader_died_is_the_same_write() -> None:
    """etcd#18424: the client never hears of its commit, asks the next leader again, and the compare-and-set that it won tells it
    that it lost; or, where keys are per connection, a counter counts twice."""
    cluster = Cluster(3)
    first = cluster.elect()
    first.step(Submit(claim(1)))
    cluster.deliver()
    first.crash()  # the client's answer is lost with it
    second = cluster.elect()
    second.step(Submit(claim(1)))
    cluster.advance(0.1)
    state, outcomes = applied(second)
    assert value(state) == "r7"
    assert not any(outcome.reason for outcome in outcomes)
    entry = claim(1)
    known = state.recall(entry)
    assert known is not None
    assert (known.reason, known.repeated) == ("", True), "it is told that it won"


def test_a_retry_that_overtakes_the_first_try_is_the_same_write() -> None:
    """etcd#18424 again: both tries are in the log, because the second leader did not know the first's uncommitted blocks."""
    cluster = Cluster(3)
    first = cluster.elect()
    third = next(machine for machine in cluster.machines.values() if machine is not first)
    first.step(Submit(claim(1)))
    first.step(Submit(claim(1)))
    cluster.advance(0.2)
    for machine in (first, third):
        state, outcomes = applied(machine)
        assert [outcome.repeated for outcome in outcomes] in ([False, True], [False])
        assert value(state) == "r7"


def test_the_preferred_leader_leads() -> None:
    """etcd#10201, NuRaft#545: an operator wants the strongest machine to lead, and others only while it cannot."""
    storm = Storm(5, 1)
    storm.loss = storm.crash_at_write = 0.0
    storm.run(1.0)
    leader = storm.leader()
    assert leader is not None
    storm.give_scores(leader, {1: 3, 2: 9, 3: 5, 4: 5, 5: 5})
    storm.run(70.0)
    preferred = storm.leader()
    assert preferred is storm[2], "it got the lead within a reign"
    storm[2].crash()
    storm.run(1.0)
    assert storm.leader() not in (None, storm[2])
    storm[2].start()
    storm.stepped(storm[2])
    storm.run(75.0)
    assert storm.leader() is storm[2], "and again"


Lost = Callable[[Voter, Voter, Message], bool]
LOSSES: dict[str, Callable[[set[Voter]], Lost]] = {
    "crash": lambda _gone: lambda _sender, _to, _message: False,
    "cut": lambda gone: lambda sender, to, _message: (sender in gone) != (to in gone),
    "deaf": lambda gone: lambda _sender, to, _message: to in gone,
    "mute": lambda gone: lambda sender, _to, _message: sender in gone,
}


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_connected_majority_is_never_leaderless_for_two_seconds(seed: int) -> None:
    """One thing after another goes wrong and stays so; a majority is up and connected all the time, with delays and some loss."""
    storm = Storm(5, seed)
    storm.loss, storm.crash_at_write = storm.rng.choice([0, 0.02, 0.1]), 0.0
    storm.run(2.0)
    for _ in range(8):
        gone = set(storm.rng.sample(storm.names, storm.rng.randint(0, 2)))
        what = storm.rng.choice(sorted(LOSSES))
        for name in sorted(gone) if what == "crash" else []:
            storm.kill(storm.machines[name])
        storm.lost = LOSSES[what](gone)
        apart = set() if what == "crash" else gone  # the crashed come back and may lead
        leaderless = 0
        for _ in range(80):
            storm.run(0.05)
            leading = {m.me for m in storm.machines.values() if m.raft and m.raft.role is Role.LEADER}
            leaderless = 0 if leading - apart else leaderless + 1
            assert leaderless < 40, (
                f"seed {seed}: no leader for two seconds after: {what} {[name.hex() for name in sorted(gone)]}"
            )
