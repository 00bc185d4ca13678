"""Who may write where, on every replica alike, and what a revocation does to a running mesh."""

from __future__ import annotations

import pytest

from mesh.errors import NotPermitted
from mesh.events import Event, NotAdmitted
from mesh.swim.roster import State
from mesh.testing import Mesh, open_mesh
from mesh.trust.statements import honoured_of
from tests.peer.test_dissemination import equal_after


def revoke(mesh: Mesh, host: int, *, by: int) -> None:
    """The authority signs, and one member hands it to the mesh."""
    replica = mesh.memberships[host].replica_id
    honoured = honoured_of(mesh.peer(by).replica.written_by(replica))
    mesh.peer(by).directory.add_untrusted(mesh.authority.revoke(replica, honoured=honoured), mesh.hosts[by].now())
    mesh.hosts[by].wake()


def test_a_write_outside_the_rights_is_an_error_at_its_author() -> None:
    with open_mesh(2, seed=1, may_write=("robots/*/pose",)) as mesh:
        mesh.node(0).register("robots/7/pose").set(1)
        with pytest.raises(NotPermitted, match="robots/7/battery"):
            mesh.node(0).register("robots/7/battery").set(1)
        mesh.run(1.0)
        assert mesh.node(1).register("robots/7/pose").value == 1
        assert mesh.node(1).register("robots/7/battery").value is None


@pytest.mark.interpreted
def test_an_author_that_writes_there_all_the_same_is_void_on_every_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_mesh(3, seed=2, may_write=("robots/**",)) as mesh:
        monkeypatch.setattr(mesh.peer(0), "_check_write", lambda path, now: None)
        mesh.node(0).register("valves/main").set("open")
        mesh.node(0).register("robots/7").set("honest")
        mesh.run(1.0)
        for host in (1, 2):
            assert mesh.node(host).register("valves/main").value is None
            assert mesh.node(host).register("robots/7").value == "honest"
        equal_after(mesh, 5.0)


def test_a_revoked_member_is_out_everywhere_and_knows_it() -> None:
    with open_mesh(5, seed=3) as mesh:
        mesh.node(4).register("key").set("before")
        mesh.run(1.0)
        revoke(mesh, 4, by=0)
        mesh.run(0.1)
        with pytest.raises(NotPermitted, match="revoked"):
            mesh.node(4).register("key").set("after")
        for host in range(4):
            assert mesh.peer(host).directory.revoked(mesh.memberships[4].replica_id)
            assert mesh.node(host).register("key").value == "before"
        mesh.run(20.0)
        states = {member.name: member.state for member in mesh.node(0).members()}
        assert states.get("node-4", State.DEAD) is not State.ALIVE


def test_a_revocation_honours_what_was_written_before_the_last_start() -> None:
    """Its former shelves live on in the one that took them over, and were not in the list: all that they held was lost."""
    with open_mesh(3, seed=6) as mesh:
        mesh.node(2).register("first start").set(1)
        mesh.run(1.0)
        mesh.restart(2)
        mesh.run(5.0)
        mesh.node(2).register("second start").set(2)
        mesh.run(1.0)
        revoke(mesh, 2, by=0)
        mesh.run(5.0)
        for host in (0, 1):
            assert mesh.node(host).register("first start").value == 1
            assert mesh.node(host).register("second start").value == 2


def test_a_member_that_was_away_learns_of_a_revocation_before_it_believes_the_revoked() -> None:
    with open_mesh(4, seed=4) as mesh:
        mesh.cut([3], [0, 1, 2])
        revoke(mesh, 2, by=0)
        mesh.run(5.0)
        mesh.heal()
        mesh.run(5.0)
        assert mesh.peer(3).directory.revoked(mesh.memberships[2].replica_id)


@pytest.mark.interpreted
def test_an_agent_that_is_not_let_in_is_told_so() -> None:
    """It believed that it was alone and well, and its writes went nowhere."""
    with open_mesh(3, seed=5) as mesh:
        mesh.crash(2)
        revoke(mesh, 2, by=0)
        mesh.run(1.0)
        mesh.restart(2, "lost")
        told: list[Event] = []
        mesh.peer(2).notify = told.append  # type: ignore[method-assign, assignment]
        mesh.run(30.0)
        complaints = [event for event in told if isinstance(event, NotAdmitted)]
        assert len(complaints) == 1
        assert complaints[0].address in {mesh.hosts[0].address, mesh.hosts[1].address}
