"""A voter whose leader was silent and yet alive waits longer the next time; a dead one costs no more than before."""

from __future__ import annotations

from mesh.testing import Mesh, open_mesh
from tests.quorum.helpers import has_voters, leader, put, shown_with_proof, wait

CRITICAL = ("tasks/**",)


def terms(mesh: Mesh) -> int:
    return max(status.term for n in mesh.running if (status := mesh.peer(n).quorum.status) is not None)


def stall(mesh: Mesh, seconds: float) -> None:
    first = leader(mesh)
    assert first is not None
    mesh.pause(first, seconds)
    mesh.run(3.0)
    assert mesh.run_until(lambda: leader(mesh) is not None, 5.0)


def test_stalls_change_the_leader_a_few_times_and_then_no_more() -> None:
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        before = terms(mesh)
        for _ in range(12):
            stall(mesh, 0.4)
        learned = terms(mesh)
        assert learned > before
        for _ in range(6):
            stall(mesh, 0.4)
        assert terms(mesh) == learned
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/1", 1), 1.0)


def test_calm_brings_the_pace_back() -> None:
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        for _ in range(8):
            stall(mesh, 0.4)
        mesh.run(31.0)
        first = leader(mesh)
        assert first is not None
        mesh.crash(first)
        start = mesh.now
        assert mesh.run_until(lambda: leader(mesh) is not None, 5.0)
        assert mesh.now - start < 1.0
