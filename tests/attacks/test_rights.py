"""Write where one may not: outside one's patterns, under critical prefixes, on another's shelf, with no checks of one's own."""

from __future__ import annotations

from typing import Any

import crdt
from crdt import delta as crdt_delta
from crdt.digest import digest_16
from crdt.ids import replica_of, shelf_id
from mesh.events import ShelfFault
from mesh.testing import Mesh, open_mesh
from mesh.trust.ledger import Ledger
from mesh.trust.standing import Standing
from mesh.wire.cose import split1_untrusted
from mesh.wire.delta import delta_bytes, sign_header
from mesh.wire.frames import Frame
from tests.attacks.stage import REGISTER, Author, both, honest, say, shows, told, without

THREAT = "writes outside the author's patterns"
LIAR = 2


def nothing_is_void(self: Ledger, *_: Any) -> int:
    return 0


@both
def test_outside_its_patterns(defended: bool) -> None:
    with without(defended, Ledger, "void_ops", nothing_is_void), open_mesh(4, seed=1, may_write=("robots/**",)) as mesh:
        author = Author(mesh, LIAR, birth=7)
        raws = [author.write("valves/main", "open"), author.write("robots/2", "fine")]
        author.tell(0, *raws)
        mesh.run(3.0)
        for number in honest(mesh, LIAR):
            assert shows(mesh, number, "valves/main") == (None if defended else "open")
            assert shows(mesh, number, "robots/2") == "fine"  # the rest of its shelf goes on, and digests hold
        assert bool(told(mesh, 0, ShelfFault)) == defended


def test_nobody_is_blamed_for_rights_that_are_not_known_here_yet() -> None:
    """`mesh sim` seed 95090: who wrote again, under a newer credential, what its former shelf had was blamed where that one had
    not arrived. Nor is it silent: it is counted under a reason of its own."""
    with open_mesh(2, seed=1) as mesh:
        mesh.node(1).register("key").set(1)
        mesh.run(1.0)
        peer, shelf = mesh.peer(0), mesh.peer(1).replica.shelf
        (op,) = peer.replica.cells((REGISTER, ("key",)))
        for rights in (op.rights._replace(credential=99), op.rights):
            assert not told(mesh, 0, ShelfFault)
            peer.replica.faults.append(crdt.Fault(shelf, "void", "", claims=((replica_of(shelf), rights),)))
            mesh.run(5.0)
        assert told(mesh, 0, ShelfFault)
        assert peer.drops["fault_unsure"] == 1
        assert peer.drops["fault_repeated"] == 0


@both
def test_under_a_critical_prefix(defended: bool) -> None:
    """Only the quorum writes there: not even who may write everywhere."""
    with without(defended, Ledger, "void_ops", nothing_is_void), open_mesh(3, seed=2) as mesh:
        charter = mesh.authority.amend(critical=["tasks/**"])
        for number in mesh.running:
            mesh.peer(number).directory.add_untrusted(charter, mesh.hosts[number].now())
            mesh.hosts[number].wake()
        mesh.run(1.0)
        author = Author(mesh, LIAR, birth=7)
        author.tell(0, author.write("tasks/1/owner", "me"))
        mesh.run(2.0)
        for number in honest(mesh, LIAR):
            assert shows(mesh, number, "tasks/1/owner") == (None if defended else "me")


@both
def test_under_rights_of_long_ago(defended: bool) -> None:
    """Its credential was narrowed; it names the old one. Undefended: old rights are good for ever."""
    with without(defended, Standing, "honours", lambda *_: True), open_mesh(3, seed=3) as mesh:
        author = Author(mesh, LIAR, birth=7)
        before = author.write("valves/old", "shut")
        author.tell(0, before)
        mesh.run(1.0)
        member = mesh.memberships[LIAR]
        shelf = crdt.ShelfId(author.shelf)
        narrowed = mesh.authority.reissue("node-2", may_write=["robots/**"], honoured=[(7, mesh.peer(0).replica.floor(shelf))])
        mesh.peer(0).directory.add_untrusted(narrowed, mesh.hosts[0].now())
        mesh.hosts[0].wake()
        mesh.run(1.0)
        author.tell(0, author.write("valves/main", "open"))
        mesh.run(2.0)
        assert mesh.peer(0).directory.rights(member.replica_id) != author.replica.rights
        for number in honest(mesh, LIAR):
            assert shows(mesh, number, "valves/old") == "shut"
            assert shows(mesh, number, "valves/main") == (None if defended else "open")


@both
def test_on_the_shelf_of_another(defended: bool) -> None:
    """A delta of somebody else's, signed by itself."""
    with open_mesh(3, seed=4) as mesh:
        _sign_for_another(mesh, defended)


def _sign_for_another(mesh: Mesh, defended: bool) -> None:
    victim, liar = mesh.memberships[1], mesh.memberships[LIAR].identity
    rights = mesh.peer(1).directory.rights(victim.replica_id)
    assert rights is not None
    replica = crdt.Replica(
        shelf_id(victim.replica_id, 99), sign=lambda header: sign_header(liar.sign, header, mesh.authority.mesh_id)
    )
    replica.rights = rights
    delta = replica.write(REGISTER, ("key",), "not mine", now_wall=1_800_000_000_000_000)
    with without(defended, mesh.peer(0).sync, "_verify_delta", lambda _delta: True):
        say(mesh, LIAR, 0, Frame.DELTA, delta_bytes(delta))
        mesh.run(0.01)
    assert shows(mesh, 0, "key") == (None if defended else "not mine")


@both
def test_another_body_under_a_signed_header(defended: bool) -> None:
    """The signature covers the header; the header names its body by a hash."""
    with open_mesh(3, seed=5) as mesh:
        genuine, other = Author(mesh, 1, birth=7).write("key", "genuine"), Author(mesh, 1, birth=7).write("key", "changed")
        assert len(genuine) == len(other)
        body = other[split1_untrusted(other)[-1] :]
        spliced = genuine[: split1_untrusted(genuine)[-1]] + body
        hash_of_genuine = digest_16(genuine[split1_untrusted(genuine)[-1] :])
        with without(defended, crdt_delta, "digest_16", lambda raw: hash_of_genuine if raw == body else digest_16(raw)):
            say(mesh, LIAR, 0, Frame.DELTA, spliced)
            mesh.run(0.01)
        assert shows(mesh, 0, "key") == (None if defended else "changed")
