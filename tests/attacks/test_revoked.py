"""Go on with a key that was revoked: write, connect, speak of members, be believed by somebody who was away."""

from __future__ import annotations

from typing import Any

import pytest

from crdt.ids import birth_of, replica_of
from mesh.errors import NotPermitted
from mesh.sync import statements
from mesh.testing import Link, Mesh, open_mesh
from mesh.trust.directory import Directory
from mesh.trust.standing import Admission, Standing
from mesh.wire.frames import Frame
from tests.attacks.stage import Author, both, honest, say_at_once, shows, without

THREAT = "revoked key"
REVOKED = 3


def revoke(mesh: Mesh, *, by: int = 0) -> None:
    replica = mesh.memberships[REVOKED].replica_id
    held = mesh.peer(by).replica
    honoured = [(birth_of(shelf), held.floor(shelf)) for shelf in held.shelves() if replica_of(shelf) == replica]
    mesh.peer(by).directory.add_untrusted(mesh.authority.revoke(replica, honoured=honoured), mesh.hosts[by].now())
    mesh.hosts[by].wake()


@both
def test_what_it_writes_afterwards_counts_nowhere(defended: bool) -> None:
    """By way of a friend that passes its deltas on. Undefended: what was granted once counts for ever."""
    with without(defended, Standing, "honours", lambda *_: True), open_mesh(4, seed=1) as mesh:
        author = Author(mesh, REVOKED, birth=7)
        author.tell(0, author.write("key", "before"))
        mesh.run(1.0)
        revoke(mesh)
        mesh.run(1.0)
        after = author.write("valve", "open")
        for number in honest(mesh, REVOKED):
            say_at_once(mesh, 1 if number != 1 else 0, number, Frame.DELTA, after)
        mesh.run(1.0)
        for number in honest(mesh, REVOKED):
            assert shows(mesh, number, "key") == "before"
            assert shows(mesh, number, "valve") == (None if defended else "open")


@both
def test_it_dates_what_it_writes_back(defended: bool) -> None:
    """A new shelf, "begun before" the revocation: no clock and no order tells, so only what the revocation lists counts."""

    def any_birth(self: Standing, shelf: Any, seq: int, serial: int) -> bool:
        return all(seq <= each.honoured.get(birth_of(shelf), 1 << 40) for each in self.narrowings if each.serial > serial)

    with without(defended, Standing, "honours", any_birth), open_mesh(4, seed=2) as mesh:
        mesh.node(REVOKED).register("key").set("before")
        mesh.run(1.0)
        author = Author(mesh, REVOKED, birth=99)
        revoke(mesh)
        mesh.run(1.0)
        raw = author.write("valve", "open", wall=1_000_000)
        say_at_once(mesh, 1, 0, Frame.DELTA, raw)
        mesh.run(1.0)
        assert shows(mesh, 0, "valve") == (None if defended else "open")
        assert shows(mesh, 0, "key") == "before"


@both
def test_it_gets_no_session(defended: bool) -> None:
    with without(defended, Standing, "admission", lambda *_: Admission.MEMBER), open_mesh(4, seed=3) as mesh:
        revoke(mesh)
        mesh.run(1.0)
        mesh.restart(REVOKED, "lost")
        mesh.run(10.0)
        replica = mesh.memberships[REVOKED].replica_id
        open_at = [number for number in honest(mesh, REVOKED) if mesh.peer(number).transport.is_open(replica)]
        assert bool(open_at) == (not defended)


@both
def test_its_word_about_members_is_worth_nothing(defended: bool) -> None:
    with open_mesh(5, seed=4) as mesh, without(defended, Directory, "revoked", lambda *_: False):
        revoke(mesh)
        mesh.run(0.5)
        peer = mesh.peer(0)
        from mesh.swim.claims import PURPOSE_CLAIM
        from mesh.wire.cose import to_be_signed

        signature = mesh.memberships[REVOKED].identity.sign(to_be_signed(b"a claim", PURPOSE_CLAIM, mesh.authority.mesh_id))
        believed = peer.notary.verify_claim(mesh.memberships[REVOKED].replica_id, PURPOSE_CLAIM, b"a claim", signature)
        assert believed == (not defended)


@both
def test_somebody_who_was_away_hears_of_it_before_it_believes(defended: bool) -> None:
    """Statements are compared in every digest, before deltas. Undefended: their hash is left out of the comparison."""
    from mesh.sync.statements import StatementExchange

    with open_mesh(4, seed=5) as mesh:
        mesh.cut([2], name="away")
        revoke(mesh)
        mesh.run(4.0)
        with (
            without(defended, StatementExchange, "digest", lambda _self: bytes(8)),
            without(defended, StatementExchange, "offer", lambda *_: None),
            without(defended, StatementExchange, "spread", lambda *_: None),
        ):
            mesh.mend("away")
            mesh.run(4.0)
            known = mesh.peer(2).directory.revoked(mesh.memberships[REVOKED].replica_id)
        assert known == defended


def test_its_own_node_says_so() -> None:
    with open_mesh(4, seed=6) as mesh:
        revoke(mesh)
        mesh.run(0.2)
        with pytest.raises(NotPermitted, match="revoked"):
            mesh.node(REVOKED).register("key").set("after")


@both
def test_a_lossy_network_keeps_the_revocation_from_hardly_anybody(defended: bool) -> None:
    """It goes straight to all, once; at 30% loss a third would wait for a digest. Everybody who hears of it passes it on."""
    known = 0
    for seed in range(4):
        with without(defended, statements, "RELAYED_TO", 0), open_mesh(16, seed=seed, link=Link(loss=0.3)) as mesh:
            revoke(mesh)
            mesh.run(0.05)
            replica = mesh.memberships[REVOKED].replica_id
            known += sum(mesh.peer(number).directory.revoked(replica) for number in honest(mesh, REVOKED))
    assert (known >= 54) == defended, f"{known} of 60"
