"""Restarts with the disk, without it, from an old copy: no write that anybody had seen is lost, nothing forks."""

from __future__ import annotations

import pytest

from mesh.housekeeping import AWAITED_ROUNDS, Tidying
from mesh.testing import Mesh, open_mesh
from mesh.testing.mesh import DiskFate
from tests.peer.test_dissemination import equal_after, replicas


def faults(mesh: Mesh) -> list[str]:
    return [fault.kind for replica in replicas(mesh) for fault in replica.faults]


@pytest.mark.parametrize("disk", ["kept", "lost", "old"])
def test_a_restart_loses_nothing_that_anybody_had_seen(disk: DiskFate) -> None:
    with open_mesh(4, seed=1) as mesh:
        mesh.node(0).register("before").set(1)
        mesh.run(1.0)
        mesh.back_up(0)
        mesh.node(0).register("after the copy").set(2)
        mesh.node(0).counter("count").add(3)
        mesh.run(0.05)  # received by all, perhaps not on the own disk
        mesh.crash(0)
        mesh.run(1.0)
        mesh.restart(0, disk)
        mesh.node(0).counter("count").add(4)
        equal_after(mesh, 5.0)
        assert mesh.node(0).register("before").value == 1
        assert mesh.node(0).register("after the copy").value == 2
        assert mesh.node(3).counter("count").value == 7
        assert not faults(mesh)


def test_an_old_copy_of_a_disk_brings_nothing_back_that_was_removed() -> None:
    """Regression: where the removal had been tidied away, what it removed was there again at everybody for up to ten seconds,
    until the next round of housekeeping.
    """
    with open_mesh(4, seed=1) as mesh:
        mesh.node(0).set("set").add("removed")
        mesh.run(1.0)
        mesh.back_up(0)
        mesh.node(0).set("set").remove("removed")
        mesh.node(0).set("set").add("stays")
        mesh.run(Tidying().patience_seconds + (AWAITED_ROUNDS + 2) * Tidying().alone_seconds)
        mesh.crash(0)
        mesh.run(1.0)
        mesh.restart(0, "old")
        assert mesh.run_until(lambda: mesh.peer(0).synced, 1.0)
        mesh.run(0.2)
        assert [set(mesh.node(number).set("set").value) for number in range(4)] == [{"stays"}] * 4


def test_many_restarts_leave_one_shelf() -> None:
    with open_mesh(3, seed=2) as mesh:
        for number in range(10):
            mesh.node(0).register(f"key/{number}").set(number)
            mesh.run(1.0)
            mesh.crash(0)
            mesh.run(0.5)
            mesh.restart(0, "kept")
        equal_after(mesh, 10.0)
        mesh.run(30.0)
        assert {len(replica.shelves()) for replica in replicas(mesh)} == {1}
        assert [mesh.node(2).register(f"key/{number}").value for number in range(10)] == list(range(10))


def test_a_takeover_reaches_a_replica_that_was_away_meanwhile() -> None:
    """It had every delta of the new shelf, but not the former one as it was: only a statement helps, and was never asked for."""
    with open_mesh(3, seed=3) as mesh:
        mesh.node(0).register("key/0").set(0)
        mesh.run(1.0)
        mesh.cut([2], [0, 1])
        for number in range(1, 4):
            mesh.node(0).register(f"key/{number}").set(number)
            mesh.run(0.2)
        mesh.crash(0)
        mesh.restart(0, "kept")
        mesh.run(1.0)
        mesh.heal()
        mesh.node(0).register("key/4").set(4)
        assert equal_after(mesh, 5.0) < 2.0
        assert [mesh.node(2).register(f"key/{number}").value for number in range(5)] == list(range(5))


def test_a_whole_mesh_that_restarts_finds_itself_again() -> None:
    with open_mesh(8, seed=4) as mesh:
        for number in range(8):
            mesh.node(number).register(f"key/{number}").set(number)
        mesh.run(1.0)
        for number in range(8):
            mesh.crash(number)
        mesh.run(60.0)
        for number in range(8):
            mesh.restart(number, "kept")
        equal_after(mesh, 10.0)
        assert [mesh.node(0).register(f"key/{number}").value for number in range(8)] == list(range(8))
        assert not faults(mesh)


def test_rights_of_a_shelf_that_was_pulled_from_peers_are_not_inherited() -> None:
    """The disk was lost; the next start pulled its former shelf from a peer and crashed. The one after took that shelf for one
    that had run on this disk, and could spend what the lost disk may have spent.
    """
    with open_mesh(3, seed=5) as mesh:
        mesh.node(0).bounded_counter("stock").add(5)
        mesh.run(1.0)
        mesh.crash(0)
        mesh.restart(0, "lost")
        mesh.run(3.0)
        mesh.crash(0)
        mesh.restart(0, "kept")
        mesh.run(3.0)
        assert mesh.node(0).bounded_counter("stock").value == 5
        assert mesh.node(0).bounded_counter("stock").rights == 0


def test_rights_of_the_own_disk_are_inherited_from_start_to_start() -> None:
    with open_mesh(3, seed=6) as mesh:
        mesh.node(0).bounded_counter("stock").add(5)
        mesh.run(1.0)
        for _ in range(3):
            mesh.crash(0)
            mesh.restart(0, "kept")
            mesh.run(3.0)
        assert mesh.node(0).bounded_counter("stock").rights == 5
