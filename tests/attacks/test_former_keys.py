"""Go on with a key that was replaced: a member's after its rotation, the authority's after its handover."""

from __future__ import annotations

import pytest

from mesh.errors import Malformed, Refused
from mesh.testing import Mesh, open_mesh
from mesh.testing.apart import replica_apart
from mesh.trust import Identity, Membership
from mesh.trust.standing import Standing
from mesh.trust.statements import Credential, Revocation, Terms, issue
from mesh.trust.succession import Succession
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame
from tests.attacks.stage import REGISTER, both, say_at_once, shows, without
from tests.peer.test_rotation import put_into_force, switch

THREAT = "former keys"
ROTATED, RELAY = 3, 1


def rotate(mesh: Mesh) -> Membership:
    """What `ROTATED` had until now, and a thief has."""
    stolen = mesh.memberships[ROTATED]
    switch(mesh, ROTATED, put_into_force(mesh, ROTATED, by=0))
    mesh.run(1.0)
    return stolen


@both
def test_a_members_former_key_writes_on(defended: bool) -> None:
    """A new shelf under the former serial, brought by a friend. Undefended: a key that counted once signs for ever."""
    with (
        without(defended, Standing, "may_sign", lambda *_: True),
        without(defended, Standing, "honours", lambda *_: True),
        open_mesh(4, seed=1) as mesh,
    ):
        program = replica_apart(mesh.memberships[ROTATED].identity, mesh.peer(0).directory, 7)
        rotate(mesh)
        raw = delta_bytes(program.write(REGISTER, ("valve",), "open", now_wall=1_800_000_000_000_000))
        if defended:
            with pytest.raises(Malformed, match="did not sign"):
                say_at_once(mesh, RELAY, 0, Frame.DELTA, raw)
        else:
            say_at_once(mesh, RELAY, 0, Frame.DELTA, raw)
        mesh.run(1.0)
        assert shows(mesh, 0, "valve") == (None if defended else "open")


@both
def test_a_members_former_key_gets_a_session(defended: bool) -> None:
    with without(defended, Standing, "open_keys", property(lambda self: self.keys)), open_mesh(4, seed=2) as mesh:
        stolen = rotate(mesh)
        admitted = mesh.peer(0).directory.admit(stolen.identity.public_key, stolen.presentation, mesh.hosts[0].now())
        assert (admitted == stolen.replica_id) == (not defended)


def hand_over(mesh: Mesh) -> Identity:
    """The authority's key until now, which a thief has."""
    stolen = mesh.authority.identity
    for raw in mesh.authority.hand_over(Identity.generate(bytes([9]) * 32)):
        mesh.peer(0).directory.add_untrusted(raw, mesh.hosts[0].now())
    mesh.hosts[0].wake()
    mesh.run(1.0)
    return stolen


def signs(mesh: Mesh, thief: Identity, content: Credential | Revocation, defended: bool) -> None:
    raw = issue(content, thief, mesh.authority.mesh_id)
    for number in mesh.running:
        if defended:
            with pytest.raises(Refused, match="replaced"):
                mesh.peer(number).directory.add_untrusted(raw, mesh.hosts[number].now())
        else:
            mesh.peer(number).directory.add_untrusted(raw, mesh.hosts[number].now())


@both
def test_the_authoritys_former_key_lets_somebody_in(defended: bool) -> None:
    """Also under a serial of long ago: what counts is on a list that the handover names."""
    with without(defended, Succession, "counts", lambda *_: True), open_mesh(4, seed=3) as mesh:
        thief = hand_over(mesh)
        for serial in (2, 99):
            friend = Identity.generate(bytes([serial]) * 32, mesh.crypto)
            everything = Terms("friend", ("**",), False, 0, None, 0)
            signs(mesh, thief, Credential(serial, friend.public_key, everything, None), defended)
            admitted = [mesh.peer(number).directory.rights(friend.replica_id) is not None for number in mesh.running]
            assert admitted == [not defended] * 4


@both
def test_the_authoritys_former_key_puts_somebody_out(defended: bool) -> None:
    with without(defended, Succession, "counts", lambda *_: True), open_mesh(4, seed=4) as mesh:
        thief = hand_over(mesh)
        victim = mesh.memberships[2].replica_id
        signs(mesh, thief, Revocation(99, victim, ()), defended)
        assert [mesh.peer(number).directory.revoked(victim) for number in mesh.running] == [not defended] * 4
