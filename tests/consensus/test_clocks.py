"""Log time is the leader's clock, within what a quorum's clocks have attested; and no clock stops the quorum."""

from __future__ import annotations

import pytest

from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.clocks import (
    AHEAD_MICROSECONDS,
    ASK_SECONDS,
    RENEW_MICROSECONDS,
    Statement,
    agreed,
    clock_entry,
    is_attested_untrusted,
    stamp,
    statement_bytes,
)
from consensus_escalation.core import Genesis
from consensus_escalation.effects import Received, Refused
from consensus_escalation.messages import AskClock, TellClock
from consensus_escalation.quorum import Config
from consensus_escalation.types import Purpose, Role, Voter
from tests.consensus.clock_search import OwnClocks, Rules, Search, Stuck, Unsafe, WordOfTheLog
from tests.consensus.cluster import EPOCH_MICROSECONDS, Cluster, Machine, digest, keys_of, voter

DAY, YEAR = 86_400.0, 365 * 86_400.0
AHEAD_SECONDS, RENEW_SECONDS = AHEAD_MICROSECONDS / 1e6, RENEW_MICROSECONDS / 1e6


def log_time(machine: Machine) -> float:
    """Seconds since the cluster began."""
    assert machine.raft is not None
    return machine.raft.ledger.time / 1e6 - EPOCH_MICROSECONDS / 1e6


def clocks_in_log(machine: Machine) -> int:
    assert machine.raft is not None
    log = machine.raft.log
    return sum(entry.kind is Kind.CLOCK for block in log.between(1, log.last_index) for entry in block.entries)


# ---- all behaviours, within a small bound


@pytest.mark.parametrize("jumping", [(0,), (0, 1)])
def test_clocks_that_jump_stop_no_two_voters(jumping: tuple[int, ...]) -> None:
    assert Search(2, 2, 3, Rules(), jumping).run() > 1000


def test_a_clock_that_jumps_stops_no_two_of_three_and_moves_log_time_two_hours() -> None:
    assert Search(3, 2, 2, Rules(), (0,)).run() > 10_000


def test_a_liar_moves_log_time_two_hours_and_keeps_no_others_from_agreeing() -> None:
    assert Search(3, 2, 2, Rules(), (), liar=0).run() > 5000


@pytest.mark.parametrize("voters", [2, 3])
def test_blocks_that_a_voter_refused_for_its_own_clock_stopped_the_quorum(voters: int) -> None:
    """Its voter had the longest log, so nobody else could be elected; and what it held could be stored by nobody."""
    with pytest.raises(Stuck):
        Search(voters, 2, 2, OwnClocks(), (0,)).run()


def test_voters_that_took_the_logs_word_for_the_time_could_be_led_anywhere() -> None:
    """Two hours at a time: each block made the next one believable."""
    with pytest.raises(Unsafe, match="days ahead"):
        Search(2, 1, 3, WordOfTheLog(), (), liar=0).run()


# ---- Raft itself


def test_a_leader_whose_clock_is_a_year_ahead_claims_two_hours() -> None:
    """Its clock was log time, unchecked: all that the quorum remembers for 24 h was forgotten, and never came back."""
    cluster = Cluster(3)
    first = cluster.elect()
    cluster.skews[first.me] = YEAR
    cluster.advance(1.0)
    cluster.submit(first, "good")
    cluster.advance(1.0)
    assert cluster.leader() is first
    for machine in cluster.machines.values():
        assert log_time(machine) == AHEAD_SECONDS
        assert cluster.texts(machine) == ["good"]
    late = cluster.now(first).wall
    cluster.submit(first, "of the future", since=late)
    assert [refused.reason for refused in first.take(Refused) if isinstance(refused, Refused)] == ["from the future"]


@pytest.mark.parametrize("size", [2, 3])
def test_a_leader_whose_clock_was_a_day_ahead_leads_on(size: int) -> None:
    """Simulator, seed 100132: of two voters one led with a clock a day ahead, the other stored none of its blocks, and as long as
    it had the longer log nobody could lead: not when its clock was right again either, but when that day had come."""
    cluster = Cluster(size)
    first = cluster.elect()
    cluster.skews[first.me] = DAY
    cluster.advance(0.1)
    cluster.submit(first, "one")
    cluster.advance(1.0)
    cluster.skews.clear()
    cluster.submit(first, "two")
    cluster.advance(1.0)
    for machine in cluster.machines.values():
        assert cluster.texts(machine) == ["one", "two"]


def test_clocks_that_agree_are_asked_every_half_hour() -> None:
    cluster = Cluster(3)
    first = cluster.elect()
    asked: list[AskClock] = []

    def notice(_sender: Voter, _to: Voter, message: object) -> bool:
        asked.extend([message] if isinstance(message, AskClock) else [])
        return False

    cluster.lost = notice
    for half_hours in range(1, 9):
        for machine in cluster.machines.values():
            cluster.skews[machine.me] = half_hours * (RENEW_SECONDS + 60)
        cluster.advance(ASK_SECONDS + 1)
        assert clocks_in_log(first) == half_hours
    assert len(asked) == 16
    cluster.submit(first, "text", since=cluster.now(first).wall)
    cluster.advance(0.1)
    for machine in cluster.machines.values():
        assert cluster.texts(machine) == ["text"]
        assert log_time(machine) > 8 * RENEW_SECONDS


def test_after_a_night_nothing_is_taken_for_an_entry_of_the_future() -> None:
    """The first block after an outage of more than two hours cannot carry the time yet."""
    cluster = Cluster(3)
    cluster.elect()
    for machine in cluster.machines.values():
        machine.crash()
        cluster.skews[machine.me] = DAY / 2
    for machine in cluster.machines.values():
        machine.start()
    cluster.lost = lambda _sender, _to, message: isinstance(message, TellClock)
    first = cluster.elect()
    cluster.submit(first, "early", since=cluster.now(first).wall)
    assert [refused.reason for refused in first.take(Refused) if isinstance(refused, Refused)] == ["busy"]
    cluster.heal()
    cluster.advance(1.1)
    cluster.submit(first, "text", since=cluster.now(first).wall)
    cluster.advance(1.0)
    for machine in cluster.machines.values():
        assert cluster.texts(machine) == ["text"]
        assert log_time(machine) > DAY / 2


def test_the_first_voter_knows_what_time_it_is() -> None:
    """A genesis says nothing about time: it stands for 1970."""
    cluster = Cluster(1)
    cluster.genesis = Genesis(1, Config((voter(1),)), digest(b"genesis"))
    cluster[1].start()
    first = cluster.elect()
    assert first.raft is not None
    cluster.submit(first, "text")
    cluster.advance(0.1)
    assert cluster.texts(first) == ["text"]
    assert (clocks_in_log(first), first.raft.log.last_index) == (1, 2)


def test_what_is_attested_survives_snapshots_and_restarts() -> None:
    cluster = Cluster(3)
    first = cluster.elect()
    for machine in cluster.machines.values():
        cluster.skews[machine.me] = DAY
    cluster.advance(ASK_SECONDS + 1)
    assert first.raft is not None
    held = first.raft.log.attested
    assert held > EPOCH_MICROSECONDS
    assert first.raft.ledger.attested == held
    before = first.raft.log.last_index
    first.raft.log.compact(before)
    assert (first.raft.log.attested, first.raft.log.attested_before(before)) == (held, held)
    for machine in cluster.machines.values():
        machine.crash()
        machine.start()
        assert machine.raft is not None
        assert machine.raft.log.attested == held


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


# ---- what a CLOCK block has to hold

CONFIG = Config((voter(1), voter(2), voter(3)))


def clock_block(time: int, said: dict[int, int], *, term: int = 4, base: int = 0, more: tuple[Entry, ...] = ()) -> Block:
    """As the first voter cuts it in term 4; the statements are of `term` and `base`."""
    statements = {
        voter(who): Statement(each, keys_of(voter(who)).sign(Purpose.CLOCK, statement_bytes(1, term, base, each)))
        for who, each in said.items()
    }
    entry = clock_entry(time, statements, keys_of(voter(1)))
    header = Header(1, 7, 4, bytes(16), bytes(16), 0, 0, 0, bytes(16), voter(1))
    return cut(header, time, (entry, *more), keys_of(voter(1)))


def is_attested(block: Block, attested: int = 0) -> bool:
    return is_attested_untrusted(block, CONFIG, attested, keys_of(voter(2)))


HALF_HOUR = RENEW_MICROSECONDS


def test_a_quorum_attests_what_all_of_it_have_reached() -> None:
    assert is_attested(clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR + 5}))
    assert is_attested(clock_block(2 * HALF_HOUR, {1: 2 * HALF_HOUR, 3: 2 * HALF_HOUR}, base=HALF_HOUR), HALF_HOUR)
    assert agreed(CONFIG, {voter(1): 900, voter(3): 500}) == 500
    assert stamp(900, 100, 0) == 900
    assert stamp(AHEAD_MICROSECONDS + 900, 100, 50) == AHEAD_MICROSECONDS + 50
    assert stamp(10, 100, 50) == 100


@pytest.mark.parametrize(
    "block",
    [
        clock_block(HALF_HOUR, {1: HALF_HOUR}),
        clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR - 1}),
        clock_block(HALF_HOUR, {1: HALF_HOUR, 9: HALF_HOUR}),
        clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR}, term=3),
        clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR}, base=1),
        clock_block(HALF_HOUR - 1, {1: HALF_HOUR, 3: HALF_HOUR}),
        clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR}, more=(Entry(Kind.NOOP),)),
    ],
    ids=["one voter", "too early", "a stranger", "another term", "another time before", "not worth it", "not alone"],
)
def test_what_no_quorum_said_is_not_attested(block: Block) -> None:
    assert not is_attested(block)


@pytest.mark.parametrize("evidence", [b"", b"\xff", b"\x01", b"\x81\x01", b"\x81\x83\x01\x02\x03"])
def test_evidence_that_is_none_is_refused(evidence: bytes) -> None:
    good = clock_block(HALF_HOUR, {1: HALF_HOUR, 3: HALF_HOUR})
    assert not is_attested(cut(good.header, good.time, (good.entries[0]._replace(evidence=evidence),), keys_of(voter(1))))


def test_a_voter_signs_once_a_second_at_most() -> None:
    """A leader that asks on and on would have it do nothing else."""
    cluster = Cluster(3)
    first = cluster.elect()
    assert first.raft is not None
    other = next(machine for machine in cluster.machines.values() if machine is not first)
    answers: list[TellClock] = []
    cluster.transmit = lambda _sender, _to, message: answers.extend([message] if isinstance(message, TellClock) else [])  # type: ignore[method-assign,assignment]
    for base in (0, 0, 1, 2, 0):
        other.step(Received(first.me, AskClock(first.raft.term, base)))
    assert [answer.base for answer in answers] == [0, 0, 0]
    assert len({answer.signature for answer in answers}) == 1
    assert other.raft is not None
    assert other.raft.role is Role.FOLLOWER
