"""`mesh.testing.open_mesh`: whole meshes for users' own tests."""

from __future__ import annotations

import time

import pytest

from mesh.events import MemberDown, MemberUp
from mesh.testing import Link, Mesh, Setup, Uniform, open_mesh


def test_a_write_is_everywhere_and_no_time_passes() -> None:
    with open_mesh(4, seed=1) as mesh:
        before = time.monotonic()
        mesh.node(0).register("robots/0/pose").set([1.0, 2.0])
        assert mesh.node(0).register("robots/0/pose").value == [1.0, 2.0], "at once where it was written"
        assert mesh.node(3).register("robots/0/pose").value is None
        mesh.run(0.1)
        assert [mesh.node(number).register("robots/0/pose").value for number in range(4)] == [[1.0, 2.0]] * 4
        assert mesh.converged()
        mesh.run(30.0)
        assert time.monotonic() - before < 20.0, "30 virtual seconds"


def test_two_runs_of_one_seed_are_one_run() -> None:
    def run(seed: int) -> str:
        with open_mesh(5, seed=seed, link=Link(delay=Uniform(1_000, 9_000), loss=0.1)) as mesh:
            for number in range(5):
                mesh.node(number).counter("n").add(number)
                mesh.run(0.1)
            mesh.restart(2)
            mesh.run(3.0)
            return mesh.digest

    assert run(1) == run(1) != run(2)


def test_two_halves_meet_again() -> None:
    with open_mesh(5, seed=2) as mesh:
        mesh.cut({0, 1})
        mesh.node(0).set("found").add("crate")
        mesh.node(4).set("found").add("stairs")
        mesh.run(1.0)
        assert mesh.node(1).set("found").value == {"crate"}
        assert not mesh.converged()
        mesh.heal()
        assert mesh.run_until(mesh.converged, 10.0)
        assert mesh.node(2).set("found").value == {"crate", "stairs"}


def test_what_was_flushed_survives_a_crash_of_all() -> None:
    with open_mesh(3, seed=3) as mesh:
        mesh.node(1).register("a").set("flushed")
        assert not mesh.node(1).is_flushed()
        assert mesh.run_until(mesh.node(1).is_flushed, 1.0)
        for number in range(3):
            mesh.crash(number)
        for number in range(3):
            mesh.restart(number)
        mesh.run(3.0)
        assert [mesh.node(number).register("a").value for number in range(3)] == ["flushed"] * 3


def test_a_lost_disk_is_filled_by_the_others() -> None:
    with open_mesh(3, seed=4) as mesh:
        mesh.node(1).counter("visits").add(5)
        assert mesh.run_until(lambda: mesh.node(1).copies() == 2, 10.0)
        mesh.restart(1, disk="lost")
        assert mesh.node(1).counter("visits").value == 0
        assert mesh.run_until(mesh.converged, 10.0)
        mesh.node(1).counter("visits").add(1)
        mesh.run(1.0)
        assert [mesh.node(number).counter("visits").value for number in range(3)] == [6, 6, 6]


def test_an_old_disk_does_not_fork() -> None:
    with open_mesh(3, seed=5) as mesh:
        mesh.node(1).register("a").set(1)
        mesh.run(1.0)
        mesh.back_up(1)
        mesh.node(1).register("a").set(2)
        mesh.run(1.0)
        mesh.restart(1, disk="old")
        mesh.node(1).register("b").set(3)
        assert mesh.run_until(mesh.converged, 10.0)
        assert [mesh.node(number).register("a").value for number in range(3)] == [2, 2, 2]
        assert [mesh.node(number).register("b").value for number in range(3)] == [3, 3, 3]


def test_a_crash_is_an_event_and_so_is_the_return() -> None:
    with open_mesh(4, seed=6) as mesh:
        gone = mesh.node(3).replica_id
        mesh.node(0).told.clear()
        mesh.crash(3)
        assert mesh.run_until(
            lambda: any(isinstance(event, MemberDown) and event.replica == gone for event in mesh.node(0).told), 10.0
        )
        with pytest.raises(ValueError, match="down"):
            mesh.node(3).register("a")._store.shelves()
        mesh.node(0).told.clear()
        mesh.restart(3)
        assert mesh.run_until(
            lambda: any(isinstance(event, MemberUp) and event.replica == gone for event in mesh.node(0).told), 10.0
        )


def test_a_graceful_leave_ends_the_process() -> None:
    with open_mesh(3, seed=7) as mesh:
        mesh.leave(2)
        assert mesh.run_until(lambda: mesh.running == [0, 1], 5.0)


def test_a_machine_that_roams_is_found_at_its_new_address() -> None:
    with open_mesh(3, seed=8) as mesh:
        mesh.move(2, "192.168.4.4")
        mesh.run(20.0)
        addresses = {member.address for member in mesh.node(0).members() if member.replica == mesh.node(2).replica_id}
        assert addresses == {("192.168.4.4", 7946)}
        mesh.node(2).register("a").set(1)
        mesh.run(1.0)
        assert mesh.node(0).register("a").value == 1


def test_without_disks_a_restart_begins_with_nothing() -> None:
    mesh = Mesh(2, seed=9, setup=Setup(durable=False))
    mesh.start()
    mesh.run(2.0)
    mesh.node(0).register("a").set(1)
    assert mesh.node(0).is_flushed() or mesh.run_until(mesh.node(0).is_flushed, 1.0)
    for number in (0, 1):
        mesh.crash(number)
    for number in (0, 1):
        mesh.restart(number)
    mesh.run(2.0)
    assert mesh.node(0).register("a").value is None


def test_a_warm_mesh_knows_itself_from_its_disks() -> None:
    mesh = Mesh(6, seed=10, setup=Setup(warm=True))
    mesh.start()
    assert mesh.run_until(lambda: all(len(mesh.peer(number).swim.alive()) == 5 for number in range(6)), 3.0)


def test_an_introduced_mesh_starts_without_a_storm() -> None:
    """As a mesh that has been running: everybody knows everybody's newest word, and few datagrams are needed."""
    sent = []
    for introduced in (False, True):
        mesh = Mesh(40, seed=4, setup=Setup(durable=False, warm=True, introduced=introduced))
        mesh.start()
        mesh.run(0.5)
        assert all(len(mesh.peer(number).swim.alive()) == 39 for number in mesh.running)
        sent.append(sum(host.datagrams_sent for host in mesh.hosts))
        mesh.node(0).register("a").set(1)
        assert mesh.run_until(lambda mesh=mesh: all(mesh.node(n).register("a").value == 1 for n in mesh.running), 2.0)  # type: ignore[misc]
    assert sent[1] < sent[0] / 2, sent
