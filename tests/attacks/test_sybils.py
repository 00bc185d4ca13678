"""Bring many agents of one's own: keys cost nothing, members do."""

from __future__ import annotations

from typing import Any

from crdt.ids import ReplicaId
from mesh.testing import Mesh, open_mesh
from mesh.trust import Directory, Identity
from mesh.trust.identity import key_id
from mesh.trust.membership import present
from tests.attacks.door import knock
from tests.attacks.stage import both, without

THREAT = "Sybil flood"
SYBILS = 12


def foreign_credential(mesh: Mesh, identity: Identity) -> bytes:
    """What somebody makes who has no authority: signed by himself, and named as the authority would."""
    other = mesh.authority.generate(entropy=b"o" * 48)
    return present([other.enrol(identity, name="sybil", may_write=["**"]).credential])


@both
def test_a_flood_of_identities_without_a_credential(defended: bool) -> None:
    """Keys cost nothing; members do. Undefended, whoever knocks is let in under the id of its key."""

    def welcome(self: Directory, public_key: bytes, _presentation: bytes, _now: Any) -> ReplicaId:
        return ReplicaId(key_id(public_key))

    with without(defended, Directory, "admit", welcome), open_mesh(3, seed=1) as mesh:
        identities = [Identity.generate(bytes((number,)) * 32) for number in range(1, SYBILS + 1)]
        for identity in identities:
            knock(mesh, identity, foreign_credential(mesh, identity))
        let_in = [identity for identity in identities if mesh.peer(0).transport.is_open(identity.replica_id)]
        assert len(let_in) == (0 if defended else SYBILS)
        assert len(mesh.peer(0).directory.replicas()) == 3
        mesh.run(2.0)
        assert len(mesh.peer(0).swim.alive()) == 2


@both
def test_a_stranger_with_the_credential_of_a_member(defended: bool) -> None:
    """Credentials are no secret: everybody has everybody's. What counts is the key."""

    def any_credential(self: Directory, public_key: bytes, presentation: bytes, now: Any) -> ReplicaId:
        return ReplicaId(key_id(public_key))

    with open_mesh(3, seed=2) as mesh, without(defended, Directory, "admit", any_credential):
        mesh.peer(0).transport._admit = mesh.peer(0).directory.admit
        stranger = Identity.generate(b"s" * 32)
        knock(mesh, stranger, mesh.memberships[1].presentation)
        assert mesh.peer(0).transport.is_open(stranger.replica_id) == (not defended)
