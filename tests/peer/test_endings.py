"""Shelves that end in a running mesh: proofs spread, authors heal, cuts are carried out, and everybody shows the same."""

from __future__ import annotations

import pytest

from crdt.ids import ReplicaId, ShelfId, replica_of, shelf_id
from mesh.events import IdentityInUse, MemberCut, ShelfClosed, ShelfForked
from mesh.testing import Link, Mesh, open_mesh
from mesh.trust.statements import STATEMENT_BYTES_MAX, fork_statement
from tests.peer.test_dissemination import equal_after
from tests.peer.test_forks import BIRTH, branch, ended, push


def forked_shelf(mesh: Mesh, host: int = 0) -> ShelfId:
    return shelf_id(mesh.memberships[host].replica_id, BIRTH)


def told(mesh: Mesh, host: int, kind: type) -> list[object]:
    return [event for event in mesh.node(host).told if isinstance(event, kind)]


def ended_at(mesh: Mesh, shelf: ShelfId, hosts: range) -> bool:
    return all(shelf in mesh.peer(host).replica.ended for host in hosts)


def clone(mesh: Mesh, host: int) -> list[bytes]:
    """A second process of this host's shelf writes on: its deltas, as they travel, from the next seq on."""
    import crdt
    from mesh.wire import cbor
    from mesh.wire.delta import delta_bytes, sign_header

    peer, identity = mesh.peer(host), mesh.memberships[host].identity
    twin = crdt.Replica(
        peer.replica.shelf,
        sign=lambda header: sign_header(identity.sign, header, peer.directory.mesh_id),
        encode=cbor.encode,
        decode=cbor.decode_untrusted,
        void_ops=peer.directory.void_ops,
    )
    twin.rights = peer.replica.rights
    other = next(number for number in mesh.running if number != host)
    listing = mesh.peer(other).replica.listing(peer.replica.shelf)
    assert listing is not None
    twin.shelf = shelf_id(identity.replica_id, 1)  # so that it takes a statement of the shelf that it is going to write
    assert twin.jump(listing.head, 0, listing.entries, listing.bodies)
    twin.begin_again(peer.replica.shelf)
    twin._draft._next_seq = listing.head.header.seq + 1
    delta = twin.write(1, ("twin",), "from the other process", now_wall=10**15)
    return [delta_bytes(delta)]


def hand_over(mesh: Mesh, host: int, author: int, raws: list[bytes]) -> None:
    from mesh.wire.frames import Frame

    for raw in raws:
        mesh.peer(host).sync.handle_untrusted(mesh.memberships[author].replica_id, Frame.DELTA, raw, mesh.hosts[host].now())
    mesh.hosts[host].wake()


def cut(mesh: Mesh, host: int, *, heir: int, by: int) -> None:
    raw = mesh.authority.cut(mesh.memberships[host].name, host=mesh.memberships[heir].name)
    mesh.peer(by).directory.add_untrusted(raw, mesh.hosts[by].now())
    mesh.hosts[by].wake()


def shelves_of(mesh: Mesh, host: int, replica: ReplicaId) -> list[ShelfId]:
    return [shelf for shelf in mesh.peer(host).replica.shelves() if replica_of(shelf) == replica]


def test_a_proof_fits_one_datagram_with_room_to_spare() -> None:
    with open_mesh(2, seed=1) as mesh:
        one, other = (branch(mesh, [value])[0].head for value in ("one", "two"))
        assert len(fork_statement(one, other)) < 500 < STATEMENT_BYTES_MAX
        assert fork_statement(one, other) == fork_statement(other, one)


def test_everybody_ends_a_forked_shelf_within_a_second() -> None:
    with open_mesh(8, seed=2) as mesh:
        push(mesh, 1, branch(mesh, ["one"]))
        push(mesh, 2, branch(mesh, ["two"]))
        assert mesh.run_until(lambda: ended_at(mesh, forked_shelf(mesh), range(8)), 1.0)
        mesh.run(0.1)
        assert all(len(told(mesh, host, ShelfForked)) == 1 for host in range(8))


def test_a_newcomer_and_a_restarted_agent_know_of_the_fork() -> None:
    with open_mesh(4, seed=3) as mesh:
        mesh.crash(3)
        push(mesh, 1, branch(mesh, ["one"]))
        push(mesh, 2, branch(mesh, ["two"]))
        mesh.crash(0)
        mesh.run(1.5)
        mesh.restart(3, "lost")
        mesh.restart(2, "kept")
        assert forked_shelf(mesh) in mesh.peer(2).replica.ended
        assert mesh.run_until(lambda: ended_at(mesh, forked_shelf(mesh), range(1, 4)), 3.0)


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_an_author_closes_its_forked_shelf_and_all_show_the_same(loss: float) -> None:
    with open_mesh(5, seed=4, link=Link(loss=loss)) as mesh:
        push(mesh, 1, branch(mesh, ["one"]))
        push(mesh, 2, branch(mesh, ["two", "three"]))
        mesh.node(3).register("other").set("goes on")
        mesh.run(12.0)
        equal_after(mesh, 5.0)
        assert {mesh.node(host).register("key").value for host in range(5)} == {"three"}
        assert {mesh.node(host).register("other").value for host in range(5)} == {"goes on"}
        assert all(forked_shelf(mesh) not in mesh.peer(host).replica.shelves() for host in range(5))
        assert len(told(mesh, 0, ShelfClosed)) == 1


def test_a_running_author_whose_own_shelf_forked_goes_on_with_a_new_one() -> None:
    with open_mesh(5, seed=5) as mesh:
        mesh.node(0).register("before").set(1)
        mesh.run(1.0)
        former, raws = mesh.peer(0).replica.shelf, clone(mesh, 0)
        mesh.cut([0, 1], [2, 3, 4])
        mesh.node(0).register("mine").set(2)
        mesh.run(0.2)
        hand_over(mesh, 2, 0, raws)
        mesh.run(0.2)
        mesh.heal()
        mesh.run(12.0)
        mesh.node(0).register("after").set(3)
        equal_after(mesh, 5.0)
        assert mesh.peer(0).replica.shelf != former
        for host in range(5):
            shown = [mesh.node(host).register(path).value for path in ("before", "mine", "twin", "after")]
            assert shown == [1, 2, "from the other process", 3]
            assert former not in mesh.peer(host).replica.shelves()
        mesh.crash(0)
        mesh.restart(0, "kept")
        mesh.node(0).register("later").set(4)
        equal_after(mesh, 5.0)
        assert mesh.node(4).register("later").value == 4


def test_an_author_hears_that_somebody_else_writes_its_shelf() -> None:
    """No fork yet: the other one went on where this one stopped."""
    with open_mesh(4, seed=6) as mesh:
        mesh.node(0).register("before").set(1)
        mesh.run(1.0)
        former = mesh.peer(0).replica.shelf
        hand_over(mesh, 1, 0, clone(mesh, 0))
        mesh.run(15.0)
        mesh.node(0).register("after").set(3)
        equal_after(mesh, 5.0)
        assert mesh.peer(0).replica.shelf != former
        assert {mesh.node(host).register("twin").value for host in range(4)} == {"from the other process"}
        assert {mesh.node(host).register("after").value for host in range(4)} == {3}


@pytest.mark.parametrize("gone", [True, False])
def test_a_cut_ends_a_replica_and_its_host_takes_over(gone: bool) -> None:
    with open_mesh(5, seed=7) as mesh:
        for number in range(40):
            mesh.node(4).register(f"key/{number}").set(number)
        mesh.node(4).set("set").add("element")
        mesh.run(1.0)
        mesh.node(1).register("key/1").set("over")
        mesh.run(1.0)
        if gone:
            mesh.crash(4)
        cut(mesh, 4, heir=2, by=0)
        mesh.run(0.5)
        replica = mesh.memberships[4].replica_id
        assert all(mesh.peer(host).directory.revoked(replica) for host in range(4))
        assert told(mesh, 1, MemberCut)
        mesh.run(8.0)
        for host in range(4):
            assert not shelves_of(mesh, host, replica)
            assert mesh.node(host).register("key/7").value == 7
            assert mesh.node(host).register("key/1").value == "over"
            assert "element" in mesh.node(host).set("set")
        assert len({mesh.peer(host).replica.state_digest() for host in range(4)}) == 1
        mesh.node(3).register("key/7").set("mine now")
        mesh.run(1.0)
        assert {mesh.node(host).register("key/7").value for host in range(4)} == {"mine now"}


def test_what_members_hold_differs_and_the_host_collects_it() -> None:
    with open_mesh(5, seed=8) as mesh:
        mesh.node(4).register("all").set(1)
        mesh.run(1.0)
        mesh.cut([4, 3], [0, 1, 2])
        for number in range(30):
            mesh.node(4).register(f"few/{number}").set(number)
        mesh.run(0.5)
        mesh.crash(4)
        mesh.cut([3], [0, 1, 2], name="other")
        cut(mesh, 4, heir=0, by=1)
        mesh.run(0.4)
        mesh.heal()
        mesh.run(15.0)
        assert len({mesh.peer(host).replica.state_digest() for host in range(4)}) == 1
        assert {mesh.node(host).register("all").value for host in range(4)} == {1}


def test_a_host_that_restarts_in_between_still_carries_the_cut_out() -> None:
    with open_mesh(4, seed=9) as mesh:
        mesh.node(3).register("key").set("kept")
        mesh.run(1.0)
        mesh.crash(3)
        cut(mesh, 3, heir=0, by=1)
        mesh.run(0.3)
        mesh.crash(0)
        mesh.run(1.0)
        mesh.restart(0, "kept")
        mesh.run(10.0)
        equal_after(mesh, 5.0)
        replica = mesh.memberships[3].replica_id
        assert not any(shelves_of(mesh, host, replica) for host in range(3))
        assert {mesh.node(host).register("key").value for host in range(3)} == {"kept"}


def test_a_takeover_without_a_cut_is_void_everywhere() -> None:
    with open_mesh(4, seed=10) as mesh:
        mesh.node(3).register("key").set("mine")
        mesh.run(1.0)
        shelf = mesh.peer(3).replica.shelf
        mesh.peer(1).replica.end(shelf)
        mesh.peer(1).replica.close(shelf, [])
        mesh.peer(1).seal_soon(mesh.hosts[1].now())
        mesh.hosts[1].wake()
        mesh.run(2.0)
        assert {mesh.node(host).register("key").value for host in (0, 2, 3)} == {"mine"}


def test_a_member_that_forks_too_often_is_ended_as_a_whole() -> None:
    with open_mesh(3, seed=11) as mesh:
        peer, now = mesh.peer(1), mesh.hosts[1].now()
        for birth in range(30):
            heads = [branch(mesh, [value], birth=birth)[0].head for value in ("one", "two")]
            peer.directory.add_untrusted(fork_statement(*heads), now)
        mesh.hosts[1].wake()
        mesh.run(1.0)
        replica = mesh.memberships[0].replica_id
        for host in (1, 2):
            assert replica in mesh.peer(host).replica.ended.replicas
            assert len(mesh.peer(host).directory.endings.forked()) == 9


def test_two_living_agents_with_one_identity_are_told_though_they_know_nobody_else() -> None:
    """A copied directory whose only seed is the original: both refused each other's handshakes and said nothing."""
    with open_mesh(2, seed=13) as mesh:
        mesh.crash(1)
        mesh.memberships[1] = mesh.memberships[0]
        mesh.restart(1, "lost")
        mesh.run(5.0)
        for host in (0, 1):
            assert len(told(mesh, host, IdentityInUse)) == 1


def test_nothing_is_taken_over_while_another_one_lives_with_the_same_identity() -> None:
    with open_mesh(3, seed=14) as mesh:
        mesh.node(0).register("key").set("original")
        mesh.run(1.0)
        mesh.crash(2)
        mesh.memberships[2] = mesh.memberships[0]
        mesh.restart(2, "lost")
        mesh.run(25.0)
        assert told(mesh, 0, IdentityInUse)
        assert told(mesh, 2, IdentityInUse)
        mesh.node(0).register("key").set("still there")
        mesh.crash(2)
        mesh.run(70.0)
        equal_after(mesh, 5.0)
        assert mesh.node(1).register("key").value == "still there"


def test_ended_is_what_it_was() -> None:
    with open_mesh(3, seed=12) as mesh:
        push(mesh, 1, branch(mesh, ["same", "one"]))
        push(mesh, 2, branch(mesh, ["same", "two", "three"]))
        mesh.run(3.0)
        assert ended(mesh) == [True, True]
