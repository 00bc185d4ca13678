"""Which wall clock comes into the log."""

from __future__ import annotations

import pytest

from mesh.effects import Now
from mesh.quorum.log_clock import SETTLE_SECONDS, LogClock
from mesh.testing import open_mesh
from tests.quorum.helpers import DONE, has_voters, leader, put, wait

HOUR = 3600 * 1_000_000


def test_an_outvoted_clock_is_corrected() -> None:
    offset: list[int | None] = [None]
    clock = LogClock(lambda _limit, _now: offset[0], lambda _now: offset[0])
    assert clock.at(Now(0.0, HOUR)).wall == HOUR
    offset[0] = -5 * HOUR
    assert clock.at(Now(2.0, HOUR + 2_000_000)).wall == 2_000_000 - 4 * HOUR


def test_a_clock_that_was_just_set_is_believed_when_nobody_objects() -> None:
    clock = LogClock(lambda _limit, _now: None, lambda _now: None)
    clock.at(Now(0.0, 10 * HOUR))
    assert clock.at(Now(1.0, 90 * HOUR)).wall == 10 * HOUR + 1_000_000
    assert clock.at(Now(0.9 + SETTLE_SECONDS, 90 * HOUR)).wall == 10 * HOUR + int((0.9 + SETTLE_SECONDS) * 1e6)
    assert clock.at(Now(1.1 + SETTLE_SECONDS, 90 * HOUR)).wall == 90 * HOUR
    assert clock.at(Now(2.0 + SETTLE_SECONDS, 91 * HOUR)).wall < 91 * HOUR, "set once more"


def test_a_clock_that_was_just_set_is_not_believed_against_the_only_peer() -> None:
    """Simulator, seed 111027: two of three were up, neither outvoted the other, and the one whose clock had jumped by a day was
    the quorum: its log forgot a day of keys."""
    median: list[int | None] = [0]
    clock = LogClock(lambda _limit, _now: None, lambda _now: median[0])
    clock.at(Now(0.0, 10 * HOUR))
    median[0] = -24 * HOUR
    for second in range(1, 100):
        assert clock.at(Now(second, 34 * HOUR + second * 1_000_000)).wall == 10 * HOUR + second * 1_000_000
    median[0] = 0
    assert clock.at(Now(101, 10 * HOUR + 101_000_000)).wall == 10 * HOUR + 101_000_000, "set right"
    median[0] = -24 * HOUR
    assert clock.at(Now(102, 10 * HOUR + 102_000_000)).wall == 10 * HOUR + 102_000_000, "the peer's jumped"


@pytest.mark.parametrize("peers", [-24 * HOUR, 0, None], ids=["contradict", "agree", "are away"])
def test_a_voter_that_starts_again_says_what_time_it_is_when_peers_had_time_to_contradict(peers: int | None) -> None:
    """Simulator, seed 111063: a first voter alone, started again with a clock a day ahead, made that log time at once."""
    median: list[int | None] = [None]
    clock = LogClock(lambda _limit, _now: None, lambda _now: median[0])
    clock.began(10 * HOUR, Now(5.0, 34 * HOUR))
    began = Now(5.0, 34 * HOUR)
    assert not clock.is_sure(began)
    median[0] = peers
    assert not clock.is_sure(began), "sure of what `at` says"
    later = Now(5.1, 34 * HOUR + 100_000)
    assert clock.is_sure(later) == (peers is not None)
    assert clock.at(later).wall == later.wall + (peers or 0)
    assert clock.is_sure(Now(5.0 + SETTLE_SECONDS, 34 * HOUR)), "there may be nobody"


def test_a_voter_that_was_away_for_an_hour_is_sure() -> None:
    clock = LogClock(lambda _limit, _now: None, lambda _now: None)
    clock.began(10 * HOUR, Now(5.0, 11 * HOUR))
    assert clock.is_sure(Now(5.0, 11 * HOUR))


def test_a_leader_whose_clock_is_set_wrong_goes_on_leading() -> None:
    """Its wrong clock became log time: a year later, every key that was asked for before was too old."""
    with open_mesh(4, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        mesh.run(5.0)
        first = leader(mesh)
        assert first is not None
        mesh.hosts[first].clock.jump(365 * 86_400)
        for number in range(4):
            assert wait(mesh, 3, put(mesh, 3, f"tasks/{number}", number)).status is DONE
            mesh.run(5.0)
        assert leader(mesh) == first
        chain = mesh.peer(3).quorum.chain
        assert chain is not None
        assert abs(chain.ledger.time - mesh.hosts[3].now().wall) < HOUR


def test_a_voter_whose_clock_is_a_day_behind_follows_what_a_majority_agreed_on() -> None:
    """After a restart it took its peers' clocks ten seconds and more to come round; until then it heard no leader."""
    with open_mesh(4, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        first = leader(mesh)
        assert first is not None
        behind = next(number for number in range(3) if number != first and mesh.peer(number).quorum.raft is not None)
        mesh.crash(behind)
        mesh.hosts[behind].clock.jump(-86_400)
        assert wait(mesh, 3, put(mesh, 3, "tasks/1", 1)).status is DONE
        mesh.restart(behind)
        mesh.run(2.0)
        for number in range(5):
            assert wait(mesh, 3, put(mesh, 3, f"tasks/{number}", number)).status is DONE
        mesh.run(1.0)
        raft, leading = mesh.peer(behind).quorum.raft, mesh.peer(first).quorum.raft
        assert raft is not None
        assert leading is not None
        assert raft.commit == leading.commit
