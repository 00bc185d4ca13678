"""Members that omit, keep back, make up or repeat what others wrote cannot keep the honest ones apart for long."""

from __future__ import annotations

import pytest

from mesh.events import RelayLied
from mesh.testing import open_mesh
from mesh.testing.hostile import turn_hostile
from tests.peer.test_endings import cut, ended_at, forked_shelf, told
from tests.peer.test_forks import branch, push


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fork_is_ended_by_all_honest_agents_though_a_third_lie(seed: int) -> None:
    with open_mesh(12, seed=seed) as mesh:
        turn_hostile(mesh, range(8, 12))
        push(mesh, 1, branch(mesh, ["one"]))
        push(mesh, 2, branch(mesh, ["two"]))
        assert mesh.run_until(lambda: ended_at(mesh, forked_shelf(mesh), range(8)), 3.0)


def test_a_hidden_delta_is_found_though_its_author_is_gone_and_a_third_lie() -> None:
    with open_mesh(12, seed=3) as mesh:
        turn_hostile(mesh, range(8, 12))
        mesh.cut([0], [1, 2, 3, 4])
        mesh.node(0).register("hidden").set(1)
        mesh.run(0.006)
        mesh.crash(0)
        mesh.heal()
        assert mesh.run_until(lambda: all(mesh.node(host).register("hidden").value == 1 for host in range(1, 8)), 3.0)


def test_whoever_lists_what_the_author_did_not_sign_is_reported_and_asked_no_more() -> None:
    with open_mesh(6, seed=4) as mesh:
        for number in range(50):
            mesh.node(0).register(f"key/{number}").set(number)
            mesh.node(0).register(f"key/{number // 2}").set(-number)
        mesh.run(2.0)
        mesh.crash(0)
        for host in range(2, 6):
            mesh.restart(host, "kept")  # deltas as they came are no longer at hand: they list
        mesh.run(3.0)
        turn_hostile(mesh, [2, 3])
        mesh.cut([1], [4, 5])
        mesh.restart(1, "lost")
        mesh.peer(1).directory.add_untrusted(mesh.memberships[0].credential, mesh.hosts[1].now())
        mesh.run(3.0)
        assert mesh.node(1).register("key/1").value is None
        mesh.heal()
        whole = mesh.peer(4).replica.state_digest()
        assert mesh.run_until(lambda: mesh.peer(1).replica.state_digest() == whole, 10.0)
        mesh.run(2.0)
        liars = {event.replica for event in told(mesh, 1, RelayLied) if isinstance(event, RelayLied)}
        assert liars <= {mesh.memberships[host].replica_id for host in (2, 3)}
        assert liars
        assert len(told(mesh, 1, RelayLied)) <= 4


def test_a_cut_is_carried_out_though_a_third_lie() -> None:
    with open_mesh(9, seed=5) as mesh:
        mesh.node(0).set("set").add("element")
        mesh.run(1.0)
        turn_hostile(mesh, [6, 7, 8])
        mesh.crash(0)
        cut(mesh, 0, heir=2, by=1)
        mesh.run(12.0)
        assert len({mesh.peer(host).replica.state_digest() for host in range(1, 6)}) == 1
        assert all("element" in mesh.node(host).set("set") for host in range(1, 6))
        replica = mesh.memberships[0].replica_id
        assert not any(shelf.startswith(replica) for host in range(1, 6) for shelf in mesh.peer(host).replica.shelves())


def test_a_claim_of_far_more_than_there_is_stops_nobody() -> None:
    """The claims of all sources were one target: a liar's made the honest source look as if it failed."""
    with open_mesh(5, seed=6) as mesh:
        turn_hostile(mesh, [3, 4])
        for number in range(20):
            mesh.node(0).register("key").set(number)
            mesh.run(0.1)
            assert mesh.node(1).register("key").value == mesh.node(2).register("key").value == number
        mesh.run(10.0)
        assert mesh.peer(1).synced
        assert mesh.peer(1).sync.puller.counters.mismatches == 0
