"""A member's key is replaced while the mesh runs: no write lost, no restart, also for who was away.

The former key is worth nothing afterwards.
"""

from __future__ import annotations

import pytest

import crdt
from crdt.ids import ReplicaId, birth_of, replica_of, shelf_id
from mesh.errors import ConfigError, Malformed, NotPermitted, Refused
from mesh.events import KeyReplaced, MemberDown
from mesh.swim.roster import State
from mesh.testing import Mesh, open_mesh
from mesh.trust import Identity, Membership
from mesh.trust.endings import fork_bytes
from mesh.trust.statements import FORMAT, HONOURED_MAX, honoured_of
from mesh.wire import cbor
from mesh.wire.delta import BODY_BYTES_MAX, delta_bytes, sign_header
from mesh.wire.frames import Frame
from tests.peer.test_dissemination import equal_after
from tests.peer.test_rights import revoke


def put_into_force(mesh: Mesh, host: int, *, by: int, label: int = 1) -> Membership:
    """The authority signs for a new key of `host`, and `by` hands it to the mesh. What `host` needs to go on with it."""
    former = mesh.memberships[host]
    key = Identity.generate(bytes([label, host] * 16), mesh.crypto).of_replica(former.replica_id)
    raw = mesh.authority.rotate(former.replica_id, key.public_key)
    mesh.peer(by).directory.add_untrusted(raw, mesh.hosts[by].now())
    mesh.hosts[by].wake()
    return Membership(key, former.name, former.charter, raw, (*former.statements, raw))


def switch(mesh: Mesh, host: int, membership: Membership) -> None:
    mesh.peer(host).rekey(membership, mesh.hosts[host].now())
    mesh.hosts[host].wake()
    mesh.memberships[host] = membership


def shows(mesh: Mesh, hosts: list[int], path: str, value: object) -> bool:
    return all(mesh.node(host).register(path).value == value for host in hosts)


def test_no_write_is_lost_and_nobody_restarts() -> None:
    with open_mesh(5, seed=1) as mesh:
        for number in range(40):
            mesh.node(2).register(f"n/{number}").set(number)
            mesh.run(0.01)
            if number == 15:
                new = put_into_force(mesh, 2, by=0)
            if number == 25:
                switch(mesh, 2, new)
        mesh.run(1.0)
        assert all(shows(mesh, list(range(5)), f"n/{number}", number) for number in range(40))
        shelves = [shelf for shelf in mesh.peer(0).replica.shelves() if replica_of(shelf) == new.replica_id]
        assert len(shelves) == 1, "it goes on with the shelf that it had"
        for host in (0, 1, 3, 4):
            assert mesh.peer(host).directory.public_key(new.replica_id) == new.identity.public_key
            assert not [event for event in mesh.node(host).told if isinstance(event, MemberDown)]
            assert [event for event in mesh.node(host).told if isinstance(event, KeyReplaced)]
        mesh.node(2).register("after").set("a minute later")
        mesh.run(60.0)
        assert shows(mesh, list(range(5)), "after", "a minute later")
        assert {member.state for member in mesh.node(0).members()} == {State.ALIVE}
        equal_after(mesh, 5.0)


def test_others_see_a_write_after_the_rotation_within_a_second() -> None:
    with open_mesh(5, seed=2) as mesh:
        new = put_into_force(mesh, 2, by=0)
        mesh.run(0.2)
        mesh.node(2).register("last word of the former key").set(1)
        switch(mesh, 2, new)
        mesh.node(2).register("first word of the new key").set(2)
        assert mesh.run_until(lambda: shows(mesh, [0, 1, 3, 4], "first word of the new key", 2), 1.0)
        assert shows(mesh, [0, 1, 3, 4], "last word of the former key", 1)


def test_a_member_that_was_away_hears_all_of_it() -> None:
    """Down, and cut off: both have only ever known the former key."""
    with open_mesh(5, seed=3) as mesh:
        mesh.crash(4)
        mesh.cut([3], name="cut")
        mesh.node(2).register("before").set("former")
        new = put_into_force(mesh, 2, by=0)
        mesh.run(0.5)
        switch(mesh, 2, new)
        mesh.node(2).register("after").set("new")
        mesh.run(60.0)
        mesh.mend("cut")
        mesh.restart(4)
        assert mesh.run_until(lambda: shows(mesh, [3, 4], "before", "former") and shows(mesh, [3, 4], "after", "new"), 20.0)
        equal_after(mesh, 10.0)


def test_an_agent_that_is_cut_off_writes_on_with_its_former_key_and_loses_nothing() -> None:
    with open_mesh(4, seed=4) as mesh:
        mesh.cut([2])
        new = put_into_force(mesh, 2, by=0)
        for number in range(5):
            mesh.node(2).register(f"alone/{number}").set(number)
            mesh.run(1.0)
        mesh.heal()
        assert mesh.run_until(lambda: mesh.peer(2).directory.public_key(new.replica_id) == new.identity.public_key, 20.0)
        assert [event for event in mesh.node(2).told if isinstance(event, KeyReplaced)]
        mesh.node(2).register("still the former key").set(1)
        switch(mesh, 2, new)
        mesh.node(2).register("the new key").set(2)
        mesh.run(3.0)
        everybody = [0, 1, 2, 3]
        assert shows(mesh, everybody, "still the former key", 1)
        assert shows(mesh, everybody, "the new key", 2)
        assert all(shows(mesh, everybody, f"alone/{number}", number) for number in range(5))


def test_both_restart_after_a_rotation() -> None:
    with open_mesh(4, seed=5) as mesh:
        mesh.node(2).register("before").set(1)
        mesh.run(1.0)
        new = put_into_force(mesh, 2, by=0)
        switch(mesh, 2, new)
        mesh.node(2).register("after").set(2)
        mesh.run(1.0)
        mesh.restart(2)
        mesh.restart(0, "lost")
        mesh.node(2).register("restarted").set(3)
        mesh.run(10.0)
        for path, value in (("before", 1), ("after", 2), ("restarted", 3)):
            assert shows(mesh, [0, 1, 2, 3], path, value)
        equal_after(mesh, 10.0)


def test_several_rotations_one_after_the_other() -> None:
    with open_mesh(3, seed=6) as mesh:
        for label in range(1, 5):
            mesh.node(1).register(f"n/{label}").set(label)
            switch(mesh, 1, put_into_force(mesh, 1, by=0, label=label))
            mesh.run(0.3)
        mesh.run(2.0)
        mesh.restart(0, "lost")
        mesh.run(10.0)
        assert all(shows(mesh, [0, 1, 2], f"n/{label}", label) for label in range(1, 5))
        equal_after(mesh, 10.0)


def test_what_former_starts_wrote_counts_after_a_rotation() -> None:
    """Its former shelves live on in the one that took them over. With more of them than one statement lists, too."""
    with open_mesh(3, seed=12) as mesh:
        for start in range(HONOURED_MAX + 2):
            mesh.node(2).register(f"start/{start}").set(start)
            mesh.run(0.3)
            mesh.restart(2)
            mesh.run(0.7)
        new = put_into_force(mesh, 2, by=0)
        mesh.run(1.0)
        switch(mesh, 2, new)
        mesh.run(3.0)
        assert not mesh.peer(2).directory.has_open_former_keys(new.identity)
        mesh.restart(1, "lost")
        mesh.run(5.0)
        for start in range(HONOURED_MAX + 2):
            assert shows(mesh, [0, 1, 2], f"start/{start}", start), start


def test_an_agent_that_lost_its_disk_closes_nothing_before_it_knows_what_it_wrote() -> None:
    with open_mesh(3, seed=13) as mesh:
        mesh.node(2).register("before").set(1)
        mesh.run(1.0)
        mesh.crash(2)
        mesh.memberships[2] = put_into_force(mesh, 2, by=0)
        mesh.run(1.0)
        mesh.restart(2, "lost")
        mesh.run(5.0)
        assert shows(mesh, [0, 1, 2], "before", 1)
        assert not mesh.peer(2).directory.has_open_former_keys(mesh.memberships[2].identity)


def forged(mesh: Mesh, key: Identity, shelf_birth: int, like: crdt.Replica | None) -> bytes:
    """A delta that a thief of `key` makes: the next one of a shelf that it has a copy of, or the first of a new shelf."""
    replica = ReplicaId(key.replica_id)
    thief = crdt.Replica(
        shelf_id(replica, shelf_birth),
        sign=lambda header: sign_header(key.sign, header, mesh.authority.mesh_id),
        encode=cbor.encode,
        decode=cbor.decode_untrusted,
        body_bytes_max=BODY_BYTES_MAX,
    )
    thief.rights = mesh.peer(0).directory.rights(replica) or thief.rights
    deltas = []
    for number in range(1 if like is None else like.floor(thief.shelf) + 1):
        thief.draft(1, ("stolen",), number, now_wall=1_800_000_000_000_000)
        deltas += thief.seal()
    return delta_bytes(deltas[-1])


@pytest.mark.parametrize("own_shelf", [True, False])
def test_the_former_key_speaks_for_nobody_once_it_is_closed(own_shelf: bool) -> None:
    """Neither further along the shelf that it wrote, nor on a new one, nor for a session: under whatever rights it claims."""
    with open_mesh(3, seed=7) as mesh:
        mesh.node(2).register("before").set(1)
        mesh.run(1.0)
        stolen = mesh.memberships[2]
        switch(mesh, 2, put_into_force(mesh, 2, by=0))
        mesh.run(1.0)
        shelf = mesh.peer(2).replica.shelf
        held = mesh.peer(0).replica
        raw = forged(mesh, stolen.identity, birth_of(shelf) if own_shelf else 77, held if own_shelf else None)
        with pytest.raises(Malformed, match="did not sign"):
            mesh.peer(0).sync.handle_untrusted(mesh.memberships[1].replica_id, Frame.DELTA, raw, mesh.hosts[0].now())
        now = mesh.hosts[0].now()
        assert mesh.peer(0).directory.admit(stolen.identity.public_key, stolen.presentation, now) is None
        assert shows(mesh, [0, 1, 2], "stolen", None)
        equal_after(mesh, 5.0)


@pytest.mark.parametrize("before", [True, False])
def test_a_former_key_cannot_invent_shelves_that_forked(before: bool) -> None:
    """Nine of them end a replica as a whole: rotation would be no way out of a theft."""
    with open_mesh(3, seed=14) as mesh:
        mesh.run(1.0)
        stolen, replica = mesh.memberships[2].identity, mesh.memberships[2].replica_id
        known = mesh.peer(0).directory
        proofs = [fork_of(stolen, replica, birth, mesh.authority.mesh_id) for birth in range(7)]
        if before:  # as long as it is in force, its word counts
            for raw in proofs:
                known.add_untrusted(raw, mesh.hosts[0].now())
            assert len(known.endings.forked()) == 7
        switch(mesh, 2, put_into_force(mesh, 2, by=0))
        mesh.run(2.0)
        if not before:
            for raw in proofs:
                with pytest.raises(Refused):
                    known.add_untrusted(raw, mesh.hosts[0].now())
        assert known.endings.forked() == []
        assert known.endings.ended_replicas() == []
        mesh.run(2.0)
        assert len({mesh.peer(host).directory.digest for host in range(3)}) == 1
        mesh.node(2).register("goes on").set(1)
        mesh.run(1.0)
        assert shows(mesh, [0, 1, 2], "goes on", 1)


def fork_of(key: Identity, replica: ReplicaId, birth: int, mesh_id: bytes) -> bytes:
    """A proof that a shelf of the replica forked, made by whoever holds `key`."""
    heads = []
    for number in range(2):
        author = crdt.Replica(
            shelf_id(replica, birth),
            sign=lambda header: sign_header(key.sign, header, mesh_id),
            encode=cbor.encode,
            decode=cbor.decode_untrusted,
            body_bytes_max=BODY_BYTES_MAX,
        )
        author.draft(1, ("forged",), number, now_wall=1_800_000_000_000_000)
        heads.append(author.seal()[0].head)
    return fork_bytes(FORMAT, *heads)


def test_a_stolen_key_is_closed_at_once_where_the_agent_is_away() -> None:
    """The operator says what still counts; the agent itself, with the former key, is told that it cannot write any more."""
    with open_mesh(4, seed=8) as mesh:
        mesh.node(2).register("before").set(1)
        mesh.run(1.0)
        mesh.cut([2])
        replica = mesh.memberships[2].replica_id
        key = Identity.generate(bytes(32), mesh.crypto).of_replica(replica)
        honoured = honoured_of(mesh.peer(0).replica.written_by(replica))
        raw = mesh.authority.rotate(replica, key.public_key, honoured=honoured)
        mesh.peer(0).directory.add_untrusted(raw, mesh.hosts[0].now())
        mesh.hosts[0].wake()
        mesh.node(2).register("thief").set(1)
        mesh.run(2.0)
        mesh.heal()
        mesh.run(20.0)
        assert shows(mesh, [0, 1, 3], "before", 1)
        assert shows(mesh, [0, 1, 3], "thief", None)


def test_an_agent_whose_key_was_replaced_without_it_is_told_so() -> None:
    with open_mesh(3, seed=9) as mesh:
        replica = mesh.memberships[2].replica_id
        key = Identity.generate(bytes(32), mesh.crypto)
        raw = mesh.authority.rotate(replica, key.public_key, honoured=[])
        mesh.peer(2).directory.add_untrusted(raw, mesh.hosts[2].now())
        with pytest.raises(NotPermitted, match="replaced"):
            mesh.node(2).register("key").set(1)


@pytest.mark.parametrize("revoked_first", [True, False])
def test_a_revocation_that_races_a_rotation_is_decided_by_serials_alone(revoked_first: bool) -> None:
    """Two members tell the mesh at the same moment: every member ends with the same, whatever it heard first."""
    with open_mesh(4, seed=10) as mesh:
        replica = mesh.memberships[2].replica_id
        mesh.cut([0], [3], name="cut")
        if revoked_first:
            revoke(mesh, 2, by=0)
            with pytest.raises(ConfigError, match="no member"):
                mesh.authority.rotate(replica, Identity.generate(bytes(32)).public_key)
        else:
            new = put_into_force(mesh, 2, by=3)
            revoke(mesh, 2, by=0)
            mesh.run(0.3)
            switch(mesh, 2, new)
        mesh.run(1.0)
        mesh.heal()
        mesh.run(5.0)
        assert all(mesh.peer(host).directory.revoked(replica) for host in (0, 1, 3))
        with pytest.raises(NotPermitted):
            mesh.node(2).register("key").set("after")


def test_a_key_that_nobody_put_into_force_is_refused_and_the_former_goes_on() -> None:
    with open_mesh(2, seed=11) as mesh:
        mine = mesh.memberships[1]
        key = Identity.generate(bytes(32), mesh.crypto).of_replica(mine.replica_id)
        with pytest.raises(ConfigError, match="into force"):
            mesh.peer(1).rekey(Membership(key, mine.name, mine.charter, mine.credential, mine.statements), mesh.hosts[1].now())
        mesh.node(1).register("key").set(1)
        mesh.run(0.5)
        assert shows(mesh, [0], "key", 1)


def test_the_authoritys_key_is_replaced_while_a_member_is_away_and_one_is_down() -> None:
    """Nobody loses a right or a write, and all end with the same set; the new key can revoke."""
    with open_mesh(5, seed=15) as mesh:
        mesh.cut([3])
        mesh.crash(4)
        mesh.node(3).register("alone").set(1)
        for raw in mesh.authority.hand_over(Identity.generate(bytes(32))):
            mesh.peer(0).directory.add_untrusted(raw, mesh.hosts[0].now())
        mesh.hosts[0].wake()
        for number in range(20):
            mesh.node(1).register(f"n/{number}").set(number)
            mesh.run(0.1)
        mesh.heal()
        mesh.restart(4)
        mesh.run(10.0)
        assert len({mesh.peer(host).directory.digest for host in range(5)}) == 1
        assert mesh.peer(3).directory.authority_key == mesh.authority.identity.public_key
        everybody = [0, 1, 2, 3, 4]
        assert shows(mesh, everybody, "alone", 1)
        assert all(shows(mesh, everybody, f"n/{number}", number) for number in range(20))
        assert not any(
            isinstance(event, MemberDown) for event in mesh.node(0).told if getattr(event, "name", "") in ("node-1", "node-2")
        )
        revoke(mesh, 2, by=3)
        mesh.run(1.0)
        assert all(mesh.peer(host).directory.revoked(mesh.memberships[2].replica_id) for host in (0, 1, 3, 4))
        equal_after(mesh, 5.0)


def test_a_revocation_is_in_force_everywhere_within_a_second() -> None:
    with open_mesh(16, seed=16) as mesh:
        replica = mesh.memberships[7].replica_id
        revoke(mesh, 7, by=0)
        others = [host for host in range(16) if host != 7]
        assert mesh.run_until(lambda: all(mesh.peer(host).directory.revoked(replica) for host in others), 1.0)
