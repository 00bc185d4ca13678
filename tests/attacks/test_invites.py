"""Join by a token that is another's: used, run out, revoked, changed, or let in by a liar."""

from __future__ import annotations

import pytest

from crdt.ids import ReplicaId
from mesh.errors import ConfigError
from mesh.events import InviteReused
from mesh.testing import Mesh, open_mesh
from mesh.trust import Directory, Identity, Membership, read_token, redeem
from mesh.trust.contest import SETTLED_SECONDS, Contest
from mesh.trust.identity import key_id
from mesh.trust.statements import statement_id
from tests.attacks.door import knock
from tests.attacks.stage import both, told, without

THREAT = "stolen invite"


def invited(mesh: Mesh, token: str, seed: bytes, name: str | None = None) -> Membership:
    return redeem(token, Identity.generate(seed), name=name)


@both
def test_a_token_that_was_used_is_used_again_by_a_thief(defended: bool) -> None:
    """Undefended: whatever an invite's key signed comes in, whenever."""
    with open_mesh(3, seed=3) as mesh, without(defended, Directory, "_check_invite", lambda *_: None):
        token = mesh.authority.invite("guest", may_write=["guest/**"], entropy=b"t" * 32)
        guest, thief = invited(mesh, token, b"g" * 32), invited(mesh, token, b"h" * 32)
        knock(mesh, guest.identity, guest.presentation)
        mesh.hosts[0].wake()
        assert mesh.peer(0).transport.is_open(guest.replica_id)
        mesh.run(1.0)
        for number in mesh.running:
            knock(mesh, thief.identity, thief.presentation, at=number)
            mesh.hosts[number].wake()
        known = [number for number in mesh.running if mesh.peer(number).directory._ledger.contests]
        assert known == [0, 1, 2]
        contested = mesh.peer(0).directory._ledger.contests[key_id(_invite_key(token))].is_contested
        assert contested == (not defended)
        assert bool([n for n in mesh.running if told(mesh, n, InviteReused)])


def _invite_key(token: str) -> bytes:
    return read_token(token).invite_identity.public_key


@both
def test_a_liar_lets_a_thief_in_and_the_guest_stays(defended: bool) -> None:
    """The thief grinds keys until his enrolment sorts first. Undefended: no witnesses, the lowest id wins."""
    with open_mesh(4, seed=4) as mesh, without(defended, Contest, "wants_witness", lambda *_: False):
        token = mesh.authority.invite("guest", may_write=["guest/**"], entropy=b"t" * 32)
        guest = invited(mesh, token, b"g" * 32)
        knock(mesh, guest.identity, guest.presentation)
        mesh.hosts[0].wake()
        mesh.run(SETTLED_SECONDS + 5.0)
        number = 0
        thief = invited(mesh, token, bytes(32))
        while statement_id(thief.credential) > statement_id(guest.credential):
            number += 1
            thief = invited(mesh, token, number.to_bytes(32, "big"))
        mesh.peer(3).directory.add_untrusted(thief.credential, mesh.hosts[3].now())
        mesh.hosts[3].wake()
        mesh.run(5.0)
        entitled = {mesh.peer(n).directory.rights(guest.replica_id) is not None for n in mesh.running}
        assert entitled == {defended}


@both
def test_a_token_that_ran_out(defended: bool) -> None:
    with open_mesh(3, seed=5) as mesh, without(defended, Directory, "_check_invite", lambda *_: None):
        wall = mesh.hosts[0].now().wall // 1_000_000
        token = mesh.authority.invite("late", may_write=["**"], expires=wall - 10, entropy=b"t" * 32)
        late = redeem(token, Identity.generate(b"l" * 32))
        knock(mesh, late.identity, late.presentation)
        assert mesh.peer(0).transport.is_open(late.replica_id) == (not defended)


@both
def test_a_token_that_was_revoked(defended: bool) -> None:
    with open_mesh(3, seed=6) as mesh, without(defended, Directory, "_check_invite", lambda *_: None):
        token = mesh.authority.invite("late", may_write=["**"], entropy=b"t" * 32)
        revocation = mesh.authority.revoke(ReplicaId(read_token(token).invite_identity.replica_id), honoured=[])
        late = redeem(token, Identity.generate(b"l" * 32))
        now = mesh.hosts[0].now()
        mesh.peer(0).directory.add_untrusted(read_token(token).invite, now)
        mesh.peer(0).directory.add_untrusted(revocation, now)
        knock(mesh, late.identity, late.presentation)
        # Without this door it is turned away by what it is entitled to, which is nothing.
        assert not mesh.peer(0).transport.is_open(late.replica_id)
        assert (late.replica_id in mesh.peer(0).directory.replicas()) == (not defended)


def test_a_changed_token_is_no_token() -> None:
    with open_mesh(2, seed=7) as mesh:
        token = mesh.authority.invite("guest", may_write=["guest/**"], entropy=b"t" * 32)
        with pytest.raises(ConfigError):
            redeem(token[:60] + ("A" if token[60] != "A" else "B") + token[61:], Identity.generate(b"l" * 32))
