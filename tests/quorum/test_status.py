"""Who is shown to lead, by agents that vote and that do not."""

from __future__ import annotations

import pytest

from crdt.ids import ReplicaId
from mesh.testing import Mesh, open_mesh
from tests.quorum.helpers import DONE, has_voters, leader, put, replica, wait


def shown(mesh: Mesh, number: int) -> ReplicaId | None:
    """Who leads, as this host shows it."""
    status = mesh.peer(number).quorum.status
    assert status is not None
    return status.leader


@pytest.mark.parametrize("killed_first", ["the leader", "a follower"])
def test_nobody_is_shown_to_lead_when_the_quorum_is_lost(killed_first: str) -> None:
    """Regression: the last leader was, for ever, dead or cut off as it was."""
    with open_mesh(5, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        assert wait(mesh, 4, put(mesh, 4, "tasks/1", 1)).status is DONE
        assert mesh.run_until(lambda: all(shown(mesh, n) == replica(mesh, leader(mesh) or 0) for n in range(5)), 5.0)
        first = leader(mesh)
        assert first is not None
        others = [number for number in range(3) if number != first]
        dead = [first, others[0]] if killed_first == "the leader" else others
        for number in dead:
            mesh.crash(number)
        living = [number for number in range(5) if number not in dead]
        assert mesh.run_until(lambda: all(shown(mesh, number) is None for number in living), 10.0)
        mesh.run(60.0)
        assert [shown(mesh, number) for number in living] == [None] * 3
        mesh.restart(dead[1])
        assert mesh.run_until(lambda: None not in {shown(mesh, number) for number in mesh.running}, 10.0)
        assert {shown(mesh, number) for number in mesh.running} == {replica(mesh, leader(mesh) or 0)}
