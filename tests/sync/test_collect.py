"""Collecting an ended shelf from members that answer badly: it ends, and takes nothing that its author did not sign."""

from __future__ import annotations

import pytest

from mesh.effects import Now
from mesh.errors import Malformed
from mesh.peer import Peer
from mesh.sync.collect import COLLECT_SECONDS, HASHES_MAX, Holding, holding_of
from mesh.testing import Mesh, open_mesh
from mesh.wire import cbor
from mesh.wire.frames import Frame


def written(mesh: Mesh, count: int = 30) -> None:
    for number in range(count):
        mesh.node(0).register(f"key/{number}").set("x" * 400)
        mesh.run(0.05)


def collecting(mesh: Mesh) -> Peer:
    """Host 1 collects the shelf of host 0, which is gone."""
    written(mesh)
    shelf = mesh.peer(0).replica.shelf
    mesh.crash(0)
    peer = mesh.peer(1)
    peer.replica.end(shelf)
    living = [each for each in peer.swim.alive() if each != mesh.memberships[0].replica_id]
    peer.sync.collector.begin(shelf, living, mesh.hosts[1].now())
    return peer


def test_what_a_member_holds_fits_one_datagram_however_long_the_chain() -> None:
    with open_mesh(2, seed=1) as mesh:
        written(mesh, 300)
        replica = mesh.peer(1).replica
        holding = holding_of(replica, mesh.peer(0).replica.shelf)
        assert len(holding.encode()) < 1000
        assert len(holding.known()) == HASHES_MAX
        assert Holding.decode_untrusted(holding.encode()) == holding


def test_where_all_hold_the_same_one_round_trip_is_enough() -> None:
    with open_mesh(5, seed=2) as mesh:
        peer = collecting(mesh)
        current = peer.sync.collector.current
        assert current is not None
        mesh.hosts[1].wake()
        mesh.run(0.05)
        assert current.is_complete
        assert all(branch.incoming is None for branch in current.branches.values()), "no list was asked for"


def test_what_only_others_have_is_fetched_and_checked() -> None:
    with open_mesh(4, seed=3) as mesh:
        written(mesh)
        shelf = mesh.peer(0).replica.shelf
        mesh.cut([1], [0, 2, 3])
        for number in range(60):
            mesh.node(0).register(f"key/{number}").set("y" * 400)
            mesh.run(0.05)
        mesh.crash(0)
        for host in (1, 2, 3):
            mesh.peer(host).replica.end(shelf)
        mesh.heal()
        mesh.run(2.0)
        peer = mesh.peer(1)
        peer.sync.collector.begin(shelf, peer.swim.alive(), mesh.hosts[1].now())
        mesh.hosts[1].wake()
        current = peer.sync.collector.current
        assert current is not None
        assert mesh.run_until(lambda: current.is_complete or peer.sync.collector.current is None, 3.0)
        newest = max((copy for copy in current.copies() if copy.is_base), key=lambda copy: copy.head.header.seq)
        assert newest.head.header.seq == mesh.peer(2).replica.floor(shelf) > peer.replica.floor(shelf)
        assert len(newest.cells) == 60


def test_who_is_silent_is_left_out_after_a_while() -> None:
    with open_mesh(4, seed=4) as mesh:
        peer = collecting(mesh)
        mesh.cut([1], [2, 3])
        mesh.run(COLLECT_SECONDS - 0.5)
        assert peer.sync.collector.current is not None
        mesh.run(1.0)
        assert peer.sync.collector.current is None


def test_who_goes_with_something_loose_leaves_nothing_to_wake_up_for() -> None:
    """Regression: when it was to be asked again stood in the past until the collection was over, and the core spun."""
    with open_mesh(4, seed=7) as mesh:
        peer = collecting(mesh)
        collector, member, now = peer.sync.collector, mesh.memberships[2].replica_id, mesh.hosts[1].now()
        current = collector.current
        assert current is not None
        collector.holding_untrusted(member, Holding(current.shelf, b"", b"", 0, b"", (1000,)).encode(), now)
        assert member in current.asked_loose
        collector.lost(member)
        later = Now(now.monotonic + 1.0, now.wall)
        collector.tick(later)
        assert collector.deadline > later.monotonic


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (bytes(12), b"", b"", 0, b""),
        (bytes(11), b"", b"", 0, b"", ()),
        (bytes(12), b"", b"", -1, b"", ()),
        (bytes(12), b"", b"", 0, b"abc", ()),
        (bytes(12), b"", b"", 0, b"", tuple(range(1, 100))),
        (bytes(12), b"", b"", 0, b"", (0,)),
        (bytes(12), 1, b"", 0, b"", ()),
    ],
)
def test_a_holding_that_cannot_be_is_refused(fields: tuple[object, ...]) -> None:
    with pytest.raises(Malformed):
        Holding.decode_untrusted(cbor.encode(fields))


def test_a_head_that_its_author_did_not_sign_counts_for_nothing() -> None:
    with open_mesh(3, seed=5) as mesh:
        peer = collecting(mesh)
        current = peer.sync.collector.current
        assert current is not None
        liar = mesh.memberships[2].replica_id
        true = holding_of(mesh.peer(2).replica, current.shelf)
        with pytest.raises(Malformed):
            peer.sync.handle_untrusted(liar, Frame.HOLDING, true._replace(signature=bytes(64)).encode(), mesh.hosts[1].now())
        assert current.branches == {}
        assert liar in current.silent


def test_who_is_gone_is_waited_for_no_more() -> None:
    """What it had been asked for stayed due: the driver turned without a pause until the collecting was over."""
    with open_mesh(4, seed=6) as mesh:
        collector, now = collecting(mesh).sync.collector, mesh.hosts[1].now()
        current = collector.current
        assert current is not None
        gone = mesh.memberships[2].replica_id
        current.silent.clear()
        current.branches.clear()
        current.wanted[gone], current.asked_loose[gone] = {7}, now.monotonic - 10.0
        assert collector.deadline < now.monotonic
        collector.lost(gone)
        assert collector.deadline == current.until > now.monotonic
