"""A mesh that starts as if it had been running, from one picture that all share."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from mesh.errors import ConfigError
from mesh.events import MemberDown, MemberUp
from mesh.store.rows import Restored
from mesh.swim.roster import BUCKETS, RECORD, Picture, Record, Roster
from mesh.testing import Mesh, Setup, open_mesh
from mesh.testing.streams import stream
from mesh.testing.world import Boot
from mesh.wire.frames import Frame
from tools.sim.checks import CheckFailure, Inspector

INTRODUCED: dict[str, Any] = {"durable": False, "warm": True, "introduced": True}
NOT_COMPARED = {"credit", "since"}
"""What says nothing before something happens: nobody was suspected, and nobody's state has changed."""


def believed(roster: Roster) -> dict[str, object]:
    return {
        "living": list(roster.living),
        "suspects": list(roster.suspects),
        "dead": list(roster.dead),
        "digest": roster.digest,
        "buckets": roster.bucket_digests(),
        "ranks": roster.ranks((1 << BUCKETS) - 1),
        "records": {record.replica: facts(record) for record in roster.in_order()},
        "length": len(roster),
    }


def facts(record: Record) -> dict[str, object]:
    return {name: repr(getattr(record, name)) for name in RECORD if name not in NOT_COMPARED}


def frozen(picture: Picture) -> str:
    return repr([(replica, facts(record)) for replica, record in picture.records.items()]) + repr(list(picture.living))


def test_it_is_what_everybody_would_have_heard() -> None:
    """Against an agent that hears each claim itself."""
    mesh = Mesh(20, seed=3, setup=Setup(**INTRODUCED))
    mesh.start()
    for number in (0, 7, 19):
        host, told = mesh.hosts[number], Restored(statements=[each.credential for each in mesh.memberships], incarnation=1)
        born, incarnation = mesh.peer(number).swim._myself.birth, mesh.peer(number).swim.incarnation
        listener = mesh._start_peer(Boot(number, host.address, told, None, stream(1, "listener"), host.now()))
        listener.swim._roster.set_mine(incarnation, born, left=False)  # the same start as the one in the picture
        for other in mesh.running:
            if other != number:
                claim = mesh.peer(other).swim.own_claim
                listener.swim.handle_untrusted(mesh.memberships[other].replica_id, Frame.CLAIM, claim, host.now())
        assert believed(mesh.peer(number).swim._roster) == believed(listener.swim._roster)


def test_nothing_that_happens_changes_what_is_shared() -> None:
    """One dies, one leaves, one comes back, one has a new address; the picture stays, and all agree."""
    with open_mesh(12, seed=4, settle=0.5, **INTRODUCED) as mesh:
        assert mesh.picture is not None
        before = frozen(mesh.picture)
        for number in (3, 4):
            mesh.crash(number)
        mesh.leave(5)
        mesh.move(6, "10.1.1.1")
        mesh.pause(7, 0.8)
        mesh.run(8.0)
        mesh.restart(3)
        mesh.run(8.0)
        assert frozen(mesh.picture) == before
        states = {member.name: member.state.value for member in mesh.node(0).members()}
        assert {name for name, state in states.items() if state != "alive"} == {"node-4", "node-5"}
        assert len({mesh.peer(number).swim.list_digest for number in mesh.running}) == 1
        assert mesh.node(0).peer.swim.address_of(mesh.memberships[6].replica_id) == mesh.hosts[6].address


def test_a_picture_of_another_start_is_refused() -> None:
    with open_mesh(3, seed=5, settle=0.1, **INTRODUCED) as mesh:
        assert mesh.picture is not None
        mesh.peer(0).begin_again(mesh.hosts[0].now())
        with pytest.raises(ValueError, match="another start"):
            mesh.peer(0).swim.adopt(mesh.picture)
        mesh.crash(2)
        mesh.run(5.0)
        with pytest.raises(ValueError, match="not simply alive"):
            mesh.peer(0).swim.picture(mesh.peer(1).swim)


def test_without_keys_nobody_is_introduced() -> None:
    with pytest.raises(ConfigError, match="introduced without warm"):
        Mesh(3, setup=Setup(introduced=True))


def test_the_checker_knows_whom_all_knew_at_the_start() -> None:
    """They are told of nobody: that one who is buried comes back with the incarnation of the picture must show all the same."""
    mesh = Mesh(4, seed=6, setup=Setup(**INTRODUCED))
    inspector = Inspector(mesh)
    mesh.start()
    host, one = mesh.hosts[0], mesh.memberships[2]
    accusers = (mesh.memberships[1].replica_id,)
    inspector.membership.turned(host, [MemberDown(one.replica_id, one.name, accusers)], [])
    with pytest.raises(CheckFailure, match="back from the dead"):
        inspector.membership.turned(host, [MemberUp(one.replica_id, one.name, mesh.hosts[2].address, 1)], [])


def started_bytes(count: int) -> int:
    """What a mesh of so many takes once it has started."""
    gc.collect()
    tracemalloc.start()
    try:
        mesh = Mesh(count, seed=7, setup=Setup(**INTRODUCED))
        mesh.start()
        assert len(mesh.running) == count
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_what_all_know_alike_is_held_once() -> None:
    """At the start a pair of agents costs a place or two in lists, not the 3 kB of two records: what grows with the square."""
    few, many = 80, 240
    for_each_pair = (started_bytes(many) / many - started_bytes(few) / few) / (many - few)
    assert for_each_pair < 40


def test_a_record_of_ones_own_is_for_whom_one_has_to_do_with() -> None:
    mesh = Mesh(80, seed=7, setup=Setup(**INTRODUCED))
    mesh.start()
    mesh.run(1.0)
    own = [len(mesh.peer(number).swim._roster.records._own) for number in mesh.running]
    assert 5 < sum(own) / len(own) < 40
    assert len({id(mesh.peer(number).directory._ledger) for number in mesh.running}) == 1


def test_who_learns_more_of_keys_than_the_others_has_its_own_directory() -> None:
    with open_mesh(4, seed=8, settle=0.2, **INTRODUCED) as mesh:
        statement = mesh.authority.revoke(mesh.memberships[3].replica_id, honoured=[])
        assert mesh.peer(0).directory.add_untrusted(statement, mesh.hosts[0].now()) is not None
        assert not mesh.peer(1).directory.revoked(mesh.memberships[3].replica_id)
        mesh.hosts[0].wake()
        mesh.run(1.0)
        assert all(mesh.peer(number).directory.revoked(mesh.memberships[3].replica_id) for number in range(3))
        assert [member.name for member in mesh.node(1).members()] == ["node-0", "node-2"]
