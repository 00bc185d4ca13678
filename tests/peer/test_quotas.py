"""What one author may hold, and how often it may begin anew: bounds that everybody draws at the same place."""

from __future__ import annotations

import pytest

import crdt
from crdt.ids import shelf_id
from mesh.errors import QuotaExceeded
from mesh.sync.births import BIRTHS_BURST
from mesh.testing import Mesh, open_mesh
from mesh.trust.limits import Limits
from tests.peer.test_dissemination import equal_after
from tests.peer.test_forks import branch, push


def bound(mesh: Mesh, limits: Limits) -> None:
    """A newer charter says how much an author may hold."""
    mesh.peer(0).directory.add_untrusted(mesh.authority.amend(limits=limits), mesh.hosts[0].now())
    mesh.hosts[0].wake()
    mesh.run(0.5)


def test_an_author_that_holds_too_much_is_told_and_removing_makes_room() -> None:
    with open_mesh(3, seed=1) as mesh:
        bound(mesh, Limits(shelf_ops_max=20))
        for number in range(20):
            mesh.node(0).register(f"key/{number}").set(number)
            mesh.run(0.02)
        with pytest.raises(QuotaExceeded, match="20 keys"):
            mesh.node(0).register("one/more").set(1)
        for number in range(10):
            mesh.node(0).register(f"key/{number}").clear()
        mesh.run(120.0)
        mesh.node(0).register("one/more").set(1)
        equal_after(mesh, 5.0)
        assert mesh.node(2).register("one/more").value == 1


@pytest.mark.interpreted
def test_an_author_that_goes_on_all_the_same_stands_still_at_one_place_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.peer.check_quota", lambda replica: None)
    with open_mesh(4, seed=2) as mesh:
        bound(mesh, Limits(shelf_bytes_max=2000))
        for number in range(60):
            mesh.node(0).register(f"key/{number}").set("x" * 100)
            mesh.node(1).register(f"honest/{number % 3}").set(number)
            mesh.run(0.05)
        mesh.run(3.0)
        shelf = mesh.peer(0).replica.shelf
        floors = {mesh.peer(host).replica.floor(shelf) for host in (1, 2, 3)}
        assert len(floors) == 1
        assert floors < {mesh.peer(0).replica.floor(shelf)} | floors
        assert mesh.peer(0).replica.floor(shelf) not in floors
        assert len({mesh.peer(host).replica.state_digest() for host in (1, 2, 3)}) == 1
        assert mesh.node(3).register("honest/0").value == 57


def test_births_beyond_the_budget_wait() -> None:
    """Each of them takes the former shelf over, which costs every member a look at all of it."""
    with open_mesh(3, seed=3) as mesh:
        author = mesh.memberships[0].replica_id
        for birth in range(40):
            push(mesh, 1, branch(mesh, ["value"], birth=birth))
        assert mesh.peer(1).sync.counters.births_late >= 40 - BIRTHS_BURST
        mesh.peer(0).replica.end(shelf_id(author, 0))
        assert len(mesh.peer(1).replica.shelves()) <= crdt.limits.SHELVES_MAX + 3
