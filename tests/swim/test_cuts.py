"""Cuts: each side goes on, and when the link returns everybody is back within two seconds, whatever the length of the cut."""

from __future__ import annotations

import pytest

from mesh.events import MemberDown, MemberUp
from mesh.presets import LAN
from mesh.swim.roster import State
from tests.swim.harness import Mesh, replica

HEALED_SECONDS = 2.0


def cut_and_heal(mesh: Mesh, side: list[int], seconds: float) -> float:
    """Seconds from the link's return until all lists say again that all are alive."""
    mesh.settle(60.0)
    mesh.run(5.0)
    mesh.cut(side)
    mesh.run(seconds)
    mesh.heal()
    return mesh.run_until(lambda: mesh.all_alive() and mesh.lists_equal(), 30.0, 0.02)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 4.0, 30.0])
def test_a_30_70_cut_heals(seconds: float) -> None:
    mesh = Mesh(20, seed=2)
    assert cut_and_heal(mesh, list(range(14, 20)), seconds) < HEALED_SECONDS


def test_a_long_cut_under_loss_heals() -> None:
    mesh = Mesh(20, seed=3, loss=0.1)
    assert cut_and_heal(mesh, list(range(14, 20)), 60.0) < HEALED_SECONDS


@pytest.mark.parametrize(("size", "side"), [(2, [1]), (3, [2]), (4, [2, 3]), (5, [4])])
def test_small_meshes_heal(size: int, side: list[int]) -> None:
    """The last one also when it sat alone, with nobody to confirm its accusations."""
    mesh = Mesh(size, seed=4)
    assert cut_and_heal(mesh, side, 40.0) < HEALED_SECONDS
    assert len(mesh.events_of(MemberDown)) == 2 * len(side) * (size - len(side))


def test_during_a_cut_each_side_buries_the_other_and_keeps_its_own() -> None:
    mesh = Mesh(12, seed=6)
    mesh.settle()
    mesh.cut(range(8, 12))
    mesh.run(20.0)
    for viewer in range(12):
        for subject in range(12):
            if viewer != subject:
                same = (viewer < 8) == (subject < 8)
                assert mesh.state(viewer, subject) is (State.ALIVE if same else State.DEAD)


def test_healing_alarms_nobody() -> None:
    """Each side brings accusations against members of the other one. They refute; nobody is suspected on its own side."""
    mesh = Mesh(16, seed=7)
    cut_and_heal(mesh, list(range(11, 16)), 30.0)
    healed = mesh.time
    mesh.run(10.0)
    late = [event for time, _, event in mesh.events_of(MemberDown) if time > healed - HEALED_SECONDS]
    assert not late
    ups = [event for time, number, event in mesh.events_of(MemberUp) if time > 30.0 and number == 0]
    assert sorted(event.replica for event in ups if isinstance(event, MemberUp)) == sorted(
        replica(number) for number in range(11, 16)
    )


def test_a_member_that_was_away_for_long_is_still_called() -> None:
    """With decay, but for ever: partitions always heal (metallb#589, serf#605)."""
    mesh = Mesh(3, seed=8, probe_interval_seconds=1.0)
    mesh.settle()
    mesh.cut([2])
    mesh.run(1800.0)
    mesh.heal()
    assert mesh.run_until(mesh.all_alive, 10.0, 0.02) < 2 * HEALED_SECONDS  # four times the interval of `lan`


def test_one_way_out_is_enough() -> None:
    """Datagrams of only one pair pass the cut: everybody hears of everybody, and what they cannot reach is vouched for."""
    mesh = Mesh(10, seed=9)
    mesh.settle()
    left, right = range(5), range(5, 10)
    across = {(one, other) for one in left for other in right} | {(other, one) for one in left for other in right}
    mesh.network.blocked = set(across)
    mesh.run(15.0)
    assert mesh.state(0, 5) is State.DEAD
    mesh.network.blocked = across - {(0, 5), (5, 0)}
    mesh.run_until(lambda: mesh.state(0, 5) is State.ALIVE and mesh.state(5, 0) is State.ALIVE, 5.0)


def test_a_whole_mesh_that_restarts_finds_itself_again_without_seeds() -> None:
    """From the rows on the disk of each."""
    mesh = Mesh(12, seed=10)
    mesh.settle()
    rows = {number: (mesh.agents[number].swim.incarnation, mesh.agents[number].swim.snapshot()) for number in range(12)}
    for number in range(12):
        mesh.crash(number)
    mesh.run(60.0)
    mesh.seeds = []
    for number, (incarnation, known) in rows.items():
        mesh.start(number, incarnation=incarnation, known=known)
    mesh.run(0.01)
    assert mesh.settle(20.0) < 5.0


def test_calling_costs_little() -> None:
    mesh = Mesh(16, seed=11)
    mesh.settle()
    mesh.run(20.0)
    idle = mesh.bytes_per_second(5.0)
    mesh.crash(9)
    mesh.run(10.0)
    assert mesh.bytes_per_second(10.0) < idle + 100
    assert LAN.swim.reconnect_interval_seconds == 0.125
